//! Blocks that were appended or found, and have to be counted on by the next transaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{Block, StoreError};
use crate::db::Error;

use super::holds::Held;
use super::index::{self, Edit, Row};
use super::record::Key;
use super::segments::{Appended, Floor, Location};
use super::{Inner, Told};

/// See the module. While it lives nothing of it is collected; dropped, it leaves dead bytes.
#[derive(Debug)]
pub(super) struct Batch {
    inner: Arc<Inner>,
    entries: BTreeMap<Key, Entry>,
    held: Held,
    appended: Appended,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where it was appended; none when the store had it.
    at: Option<Location>,
    length: u32,
}

/// What becomes of the blocks of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Each is counted on once more.
    Pinned,
    /// Those that are new become cached ones.
    Cached,
}

/// A block that was counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) key: Key,
    /// The store had it not before.
    pub(super) new: bool,
}

impl Batch {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            entries: BTreeMap::new(),
            held: inner.holds.none(),
            appended: Appended::none(&inner.segments),
            bytes: 0,
        }
    }

    /// Takes out what is in, and leaves an empty one.
    pub(super) fn take(&mut self) -> Self {
        let empty = Self::new(&self.inner);
        std::mem::replace(self, empty)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of its blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends the blocks that the store has not. All are in afterwards, or none after an error.
    /// Blocks.
    pub(super) fn add(&mut self, blocks: &[Block]) -> Result<(), StoreError> {
        let mut met = HashSet::new();
        let fresh: Vec<(Key, Bytes)> = blocks
            .iter()
            .filter_map(|block| Some((Key::of(block.cid().hash())?, block.data().clone())))
            .filter(|(key, _)| !self.entries.contains_key(key) && met.insert(*key))
            .collect();
        // First held, then looked up: see the module `holds`.
        let (held, going) = self.inner.holds.hold(fresh.iter().map(|(key, _)| *key).collect());
        let snapshot = self.inner.db.read()?;
        let (mut absent, mut found) = (Vec::new(), Vec::new());
        for (key, data) in fresh {
            let row = index::find(&snapshot, &key)?;
            let intact = row
                .is_some_and(|row| !going.contains(&key) && !self.inner.holds.is_void(&key, &row));
            if intact { &mut found } else { &mut absent }.push((key, data));
        }
        drop(snapshot);
        let (locations, appended) = self.inner.segments.append(&absent, Floor::Writing)?;
        self.held.join(held);
        self.appended.join(appended);
        let appended = absent.iter().zip(locations.into_iter().map(Some));
        for ((key, data), at) in appended.chain(found.iter().map(|block| (block, None))) {
            // Its length is bounded by `BLOCK_BYTES_MAX`.
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            self.entries.insert(*key, Entry { at, length });
            self.bytes += u64::from(length);
        }
        Ok(())
    }

    /// Returns when all that was appended is on disk.
    pub(super) async fn sync(&self) -> Result<(), StoreError> {
        self.inner.segments.sync(&self.appended).await
    }

    /// Makes the index rows. All that was appended must have been synced.
    pub(super) fn apply(
        &self,
        edit: &mut Edit<'_, '_>,
        count: Count,
    ) -> Result<Vec<Counted>, Error> {
        let now = self.inner.now();
        for id in self.appended.segments() {
            let synced = self.inner.segments.synced(id);
            let segment = edit.segment(id)?;
            segment.length = segment.length.max(synced);
        }
        let mut counted = Vec::with_capacity(self.entries.len());
        for (key, entry) in &self.entries {
            let old = edit.find(key)?;
            let mut row = match (old, entry.at) {
                (Some(row), Some(at)) if self.inner.holds.is_void(key, &row) => {
                    self.inner.holds.mended(key);
                    Row { at, length: entry.length, ..row }
                }
                (Some(row), _) if !row.is_lost() => row,
                (None, Some(at)) => Row { at, length: entry.length, pins: 0, used: now },
                (_, _) => {
                    let lost = format!("block {key} went away while it was held");
                    return Err(StoreError::Io(lost.into()).into());
                }
            };
            if count == Count::Pinned {
                row.pins = row.pins.saturating_add(1);
            }
            if old != Some(row) {
                edit.set(key, old, Some(row))?;
            }
            counted.push(Counted { key: *key, new: old.is_none() });
        }
        Ok(counted)
    }

    /// Tells of its blocks: their rows were committed.
    pub(super) fn committed(&self) {
        if let Some(Told(told)) = self.inner.told.get() {
            let block = |(key, entry): (&Key, &Entry)| Some((key.multihash()?, entry.length));
            told(&mut self.entries.iter().filter_map(block));
        }
    }
}
