//! Append-only segment files: one appender, positioned reads, shared syncs.
//!
//! **Invariant:** a file's bytes up to `end` are whole records, written; up to `synced`, on disk.
//! After a sync that failed nothing more is written: the kernel may have dropped the dirty pages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::block::StoreError;

use super::disk::{Disk, store_error};
use super::record::{HEADER_BYTES, Header, KEY_BYTES_MAX, Key};
use super::{Metrics, Sizes, blocking};

/// Segment files held open at once; the one not read for longest is closed.
const FILES_OPEN_MAX: usize = 256;
/// Free space is asked for again after so many appended bytes, or after [`SPACE_CHECK_EVERY`].
const SPACE_CHECK_BYTES: u64 = 16 << 20;
/// See [`SPACE_CHECK_BYTES`].
const SPACE_CHECK_EVERY: Duration = Duration::from_millis(100);

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

    /// Appends records, all or none of them. Blocks. `floor` is what stays free on the disk.
    pub(super) fn append(
        self: &Arc<Self>,
        records: &[(Key, Bytes)],
        floor: Floor,
    ) -> Result<(Vec<Location>, Appended), StoreError> {
        let heads: Vec<Head> = records.iter().map(|(key, data)| Head::new(key, data)).collect();
        let mut appended = Appended { segments: Arc::clone(self), marks: BTreeMap::new() };
        let mut locations = Vec::with_capacity(records.len());
        let mut tail = self.lock_tail();
        self.check()?;
        while locations.len() < records.len() {
            let from = locations.len();
            let (id, file, end) = self.active(&mut tail, heads[from].record_bytes)?;
            let mut to = from;
            let mut bytes = 0;
            while let Some(head) = heads.get(to)
                && (to == from || end + bytes + head.record_bytes <= self.sizes.segment_bytes_max)
            {
                locations.push(Location { segment: id, offset: end + bytes });
                bytes += head.record_bytes;
                to += 1;
            }
            self.check_space(&mut tail, bytes.into(), floor)?;
            let mut slices: Vec<IoSlice<'_>> = std::iter::zip(&heads[from..to], &records[from..to])
                .flat_map(|(head, (_, data))| [IoSlice::new(head.as_bytes()), IoSlice::new(data)])
                .collect();
            if let Err(error) = self.disk.write(id, &file, end.into(), &mut slices) {
                // What was torn is cut to give its space back; the next append would overwrite it.
                self.disk.cut(id, &file, end.into()).ok();
                tail.checked = None;
                return Err(self.write_error(&error));
            }
            let count = u32::try_from(to - from).unwrap_or(u32::MAX);
            appended.marks.insert(id, (count, end + bytes));
            if let Some(slot) = self.write_slots().get_mut(&id) {
                slot.end = end + bytes;
                slot.pending += count;
            }
            self.dirty.fetch_add(bytes.into(), Ordering::Relaxed);
            self.metrics.written_blocks.inc_by(count.into());
            self.metrics.written_bytes.inc_by(bytes.into());
        }
        Ok((locations, appended))
    }

    /// The file to append to, with its end: a new one where a record of so many bytes does not fit.
    fn active(
        &self,
        tail: &mut Tail,
        record_bytes: u32,
    ) -> Result<(u32, Arc<File>, u32), StoreError> {
        if let Some((id, file)) = &tail.active {
            let end = self.read_slots().get(id).map_or(0, |slot| slot.end);
            if end == 0 || end + record_bytes <= self.sizes.segment_bytes_max {
                return Ok((*id, Arc::clone(file), end));
            }
        }
        let id = tail.next;
        let file = self.disk.create(id).map_err(|error| self.write_error(&error))?;
        let file = Arc::new(file);
        // Synced before anything in it is acknowledged, together with the file.
        self.directory_dirty.store(true, Ordering::SeqCst);
        self.write_slots().insert(id, Slot::new(Some(Arc::clone(&file)), 0));
        tail.next += 1;
        tail.active = Some((id, Arc::clone(&file)));
        Ok((id, file, 0))
    }

    fn check_space(&self, tail: &mut Tail, bytes: u64, floor: Floor) -> Result<(), StoreError> {
        let floor = match floor {
            Floor::Writing => self.free_bytes_min,
            Floor::Compaction => self.free_bytes_min / 2,
        };
        let fresh = tail.checked.is_some_and(|then| then.elapsed() < SPACE_CHECK_EVERY)
            && tail.appended_since < SPACE_CHECK_BYTES
            && tail.free_bytes >= floor + tail.appended_since + bytes;
        if !fresh {
            tail.free_bytes = self.disk.free_bytes().map_err(|error| store_error(&error))?;
            tail.appended_since = 0;
            tail.checked = Some(Instant::now());
            self.metrics.free_bytes.set(gauge(tail.free_bytes));
        }
        if tail.free_bytes < floor + tail.appended_since + bytes {
            return Err(StoreError::Full { available_bytes: tail.free_bytes });
        }
        tail.appended_since += bytes;
        Ok(())
    }

    fn write_error(&self, error: &io::Error) -> StoreError {
        match store_error(error) {
            StoreError::Full { .. } => {
                StoreError::Full { available_bytes: self.disk.free_bytes().unwrap_or(0) }
            }
            other => other,
        }
    }

    /// Returns when all these records are on disk. Those who wait share one sync.
    pub(super) async fn sync(self: &Arc<Self>, appended: &Appended) -> Result<(), StoreError> {
        if self.covers(appended) {
            return self.check();
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.check()?;
        if self.covers(appended) {
            return Ok(());
        }
        let segments = Arc::clone(self);
        blocking(move || segments.sync_all(turn)).await?
    }

    /// Begins to write back when much is dirty, and waits when too much is.
    pub(super) async fn keep_pace(self: &Arc<Self>) -> Result<(), StoreError> {
        let dirty = || self.dirty.load(Ordering::Relaxed);
        if dirty() < self.sizes.write_back_bytes {
            return Ok(());
        }
        let turn = Arc::clone(&self.turn);
        let turn = if dirty() < self.sizes.dirty_bytes_max {
            let Ok(turn) = turn.try_lock_owned() else { return Ok(()) };
            turn
        } else {
            turn.lock_owned().await
        };
        self.check()?;
        if dirty() < self.sizes.write_back_bytes {
            return Ok(());
        }
        let segments = Arc::clone(self);
        let sync = blocking(move || segments.sync_all(turn));
        if dirty() < self.sizes.dirty_bytes_max {
            drop(sync); // It goes on; a failure is remembered.
            return Ok(());
        }
        sync.await?
    }

    fn sync_all(&self, turn: OwnedMutexGuard<()>) -> Result<(), StoreError> {
        let _turn = turn;
        self.check()?;
        let started = Instant::now();
        let dirty: Vec<_> = self
            .read_slots()
            .iter()
            .filter(|(_, slot)| slot.synced < slot.end)
            .filter_map(|(id, slot)| Some((*id, Arc::clone(slot.file.as_ref()?), slot.end)))
            .collect();
        // After the files were listed: whichever is listed was made before.
        if self.directory_dirty.swap(false, Ordering::SeqCst) {
            self.disk.sync_directory().map_err(|error| self.fail(&error))?;
        }
        for (id, file, end) in dirty {
            self.disk.sync(id, &file).map_err(|error| self.fail(&error))?;
            if let Some(slot) = self.write_slots().get_mut(&id) {
                self.dirty.fetch_sub((end - slot.synced).into(), Ordering::Relaxed);
                slot.synced = end;
            }
        }
        self.metrics.syncs.inc();
        self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn fail(&self, error: &io::Error) -> StoreError {
        let reason = self.failed.get_or_init(|| {
            tracing::error!(%error, "a sync failed: the store is read-only until it is opened anew");
            error.to_string().into()
        });
        StoreError::ReadOnly(Arc::clone(reason))
    }

    fn covers(&self, appended: &Appended) -> bool {
        let slots = self.read_slots();
        appended
            .marks
            .iter()
            .all(|(id, (_, end))| slots.get(id).is_some_and(|slot| slot.synced >= *end))
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
        let open = slots.values().filter(|slot| slot.file.is_some()).count();
        if open >= FILES_OPEN_MAX {
            let idle = slots.values_mut().filter(|slot| slot.file.is_some() && slot.is_clean());
            let oldest = idle.min_by_key(|slot| slot.used.load(Ordering::Relaxed));
            if let Some(slot) = oldest {
                slot.file = None;
            }
        }
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

/// How much of the disk an append leaves free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floor {
    /// What the configuration says.
    Writing,
    /// Half of it: compaction takes space to give more back.
    Compaction,
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

/// Header and multihash of a record.
struct Head {
    bytes: [u8; HEADER_BYTES + KEY_BYTES_MAX],
    length: usize,
    record_bytes: u32,
}

impl Head {
    fn new(key: &Key, data: &[u8]) -> Self {
        let header = Header::new(key, data);
        let length = HEADER_BYTES + key.as_bytes().len();
        let mut bytes = [0; HEADER_BYTES + KEY_BYTES_MAX];
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes[HEADER_BYTES..length].copy_from_slice(key.as_bytes());
        Self { bytes, length, record_bytes: header.record_bytes() }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A number for a gauge.
pub(super) fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
