//! Append-only segment files: one appender, positioned reads, shared syncs.
//!
//! **Invariant:** a file's bytes up to `end` are whole records, written; up to `synced`, on disk.
//! After a sync that failed nothing more is written: the kernel may have dropped the dirty pages.

mod append;
mod sync;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use tokio::time::Instant;

use crate::block::StoreError;

pub(super) use append::Floor;

use super::disk::Disk;
use super::{Metrics, Sizes};

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// The segment files.
#[derive(Debug)]
pub(super) struct Segments {
    disk: Disk,
    sizes: Sizes,
    free_bytes_min: u64,
    metrics: Metrics,
    tail: Mutex<Tail>,
    slots: RwLock<BTreeMap<u32, Slot>>,
    /// Held while syncing, by the thread that does it: a failure must be seen by everyone who
    /// relies on these bytes, and the kernel tells it once.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// A file was made since the directory was last synced.
    directory_dirty: AtomicBool,
    /// Bytes written and not synced.
    dirty: AtomicU64,
    failed: OnceLock<Arc<str>>,
    reads: AtomicU64,
}

/// The end where records are appended.
#[derive(Debug)]
struct Tail {
    active: Option<(u32, Arc<File>)>,
    next: u32,
    free_bytes: u64,
    appended_since: u64,
    checked: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    file: Option<Arc<File>>,
    end: u32,
    synced: u32,
    /// Records here whose index rows are not committed.
    pending: u32,
    /// When it was last read, in reads.
    used: AtomicU64,
}

/// Records that were appended and have no index rows yet. While it lives, their segments stay.
#[derive(Debug)]
pub(super) struct Appended {
    segments: Arc<Segments>,
    /// By segment: how many, and where the last one ends.
    marks: BTreeMap<u32, (u32, u32)>,
}

impl Segments {
    /// Opens the files of these numbers, cut to these lengths. Other segment files go.
    pub(super) fn open(
        disk: Disk,
        sizes: Sizes,
        free_bytes_min: u64,
        metrics: Metrics,
        lengths: &BTreeMap<u32, u32>,
    ) -> io::Result<Self> {
        let mut next = lengths.last_key_value().map_or(0, |(id, _)| id + 1);
        for id in disk.list()? {
            next = next.max(id + 1);
            if !lengths.contains_key(&id) {
                disk.remove(id)?;
            }
        }
        let mut slots = BTreeMap::new();
        let mut active = None;
        for (&id, &end) in lengths {
            slots.insert(id, Slot::new(None, end));
            active = match disk.open_file(id) {
                Ok(file) => {
                    let bytes = file.metadata()?.len();
                    if bytes > u64::from(end) {
                        disk.cut(id, &file, end.into())?;
                    }
                    if bytes < u64::from(end) {
                        tracing::warn!(segment = id, bytes, end, "a segment file is too short");
                    }
                    let room = bytes >= u64::from(end) && end < sizes.segment_bytes_max;
                    room.then(|| (id, Arc::new(file)))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(segment = id, "a segment file is missing");
                    None
                }
                Err(error) => return Err(error),
            };
        }
        // A file with dirty pages keeps its handle, through which the kernel reports what it lost.
        if let Some((id, file)) = &active {
            slots.insert(*id, Slot::new(Some(Arc::clone(file)), lengths[id]));
        }
        let tail = Tail { active, next, free_bytes: 0, appended_since: 0, checked: None };
        Ok(Self {
            disk,
            sizes,
            free_bytes_min,
            metrics,
            tail: Mutex::new(tail),
            slots: RwLock::new(slots),
            turn: Arc::default(),
            directory_dirty: AtomicBool::new(false),
            dirty: AtomicU64::new(0),
            failed: OnceLock::new(),
            reads: AtomicU64::new(0),
        })
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Whether it still takes writes.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.failed.get() {
            None => Ok(()),
            Some(reason) => Err(StoreError::ReadOnly(Arc::clone(reason))),
        }
    }

    /// How much of a segment is on disk, in bytes.
    pub(super) fn synced(&self, id: u32) -> u32 {
        self.read_slots().get(&id).map_or(0, |slot| slot.synced)
    }

    /// The file, if it is open already: takes no waiting.
    pub(super) fn opened(&self, id: u32) -> Option<Arc<File>> {
        let slots = self.read_slots();
        let slot = slots.get(&id)?;
        slot.used.store(self.reads.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        slot.file.clone()
    }

    /// The file. None when the segment is no more. Blocks.
    pub(super) fn file(&self, id: u32) -> io::Result<Option<Arc<File>>> {
        if let Some(file) = self.opened(id) {
            return Ok(Some(file));
        }
        if !self.read_slots().contains_key(&id) {
            return Ok(None);
        }
        let opened = match self.disk.open_file(id) {
            Ok(file) => Arc::new(file),
            Err(error) if !self.read_slots().contains_key(&id) => {
                tracing::debug!(%error, segment = id, "a segment went away");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut slots = self.write_slots();
        make_room(&mut slots, self.sizes.files_open_max);
        // A segment that went away meanwhile must not come back.
        let Some(slot) = slots.get_mut(&id) else { return Ok(None) };
        Ok(Some(Arc::clone(slot.file.get_or_insert(opened))))
    }

    /// Segments that are not written to and all of whose records have index rows or never will,
    /// with their lengths.
    pub(super) fn idle(&self) -> Vec<(u32, u32)> {
        // Under the appender's lock: a segment that was just made has no pending records yet.
        let tail = self.lock_tail();
        let active = tail.active.as_ref().map(|(id, _)| *id);
        let slots = self.read_slots();
        let idle = slots.iter().filter(|(id, slot)| slot.pending == 0 && Some(**id) != active);
        idle.map(|(id, slot)| (*id, slot.end)).collect()
    }

    /// The segment that is written to, with its length.
    pub(super) fn active_segment(&self) -> Option<(u32, u32)> {
        let id = self.lock_tail().active.as_ref().map(|(id, _)| *id)?;
        self.read_slots().get(&id).map(|slot| (id, slot.end))
    }

    /// Begins a new segment with the next record, so that this one can be compacted.
    pub(super) fn roll(&self, id: u32) {
        let mut tail = self.lock_tail();
        tail.active.take_if(|(active, _)| *active == id);
    }

    /// Takes a segment away. Whoever reads it at this moment finishes.
    pub(super) fn remove(&self, id: u32) -> io::Result<u64> {
        let Some(slot) = self.write_slots().remove(&id) else { return Ok(0) };
        self.dirty.fetch_sub((slot.end - slot.synced).into(), Ordering::Relaxed);
        match self.disk.remove(id) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(slot.end.into()),
        }
    }

    /// Files held open.
    #[cfg(test)]
    pub(super) fn files_open(&self) -> usize {
        self.read_slots().values().filter(|slot| slot.file.is_some()).count()
    }

    /// Bytes of all segments.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.read_slots().values().map(|slot| u64::from(slot.end)).sum()
    }

    fn lock_tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_slots(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_slots(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Slot>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the file that was not read for longest, where one more would be too many. Those with
/// bytes to be synced stay open: through their handles the kernel tells what it lost.
fn make_room(slots: &mut BTreeMap<u32, Slot>, files_open_max: usize) {
    let open = slots.values().filter(|slot| slot.file.is_some()).count();
    if open >= files_open_max {
        let idle = slots.values_mut().filter(|slot| slot.file.is_some() && slot.is_clean());
        let oldest = idle.min_by_key(|slot| slot.used.load(Ordering::Relaxed));
        if let Some(slot) = oldest {
            slot.file = None;
        }
    }
}

impl Slot {
    fn new(file: Option<Arc<File>>, end: u32) -> Self {
        Self { file, end, synced: end, pending: 0, used: AtomicU64::new(0) }
    }

    fn is_clean(&self) -> bool {
        self.synced == self.end
    }
}

impl Appended {
    /// Nothing appended yet.
    pub(super) fn none(segments: &Arc<Segments>) -> Self {
        Self { segments: Arc::clone(segments), marks: BTreeMap::new() }
    }

    /// Takes what was appended later to itself.
    pub(super) fn join(&mut self, mut later: Self) {
        for (id, (count, end)) in std::mem::take(&mut later.marks) {
            let mark = self.marks.entry(id).or_default();
            *mark = (mark.0 + count, end);
        }
    }

    /// The segments that hold these records.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> + '_ {
        self.marks.keys().copied()
    }
}

impl Drop for Appended {
    fn drop(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        let mut slots = self.segments.write_slots();
        for (id, (count, _)) in &self.marks {
            if let Some(slot) = slots.get_mut(id) {
                slot.pending = slot.pending.saturating_sub(*count);
            }
        }
    }
}

/// A number for a gauge.
pub(super) fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
