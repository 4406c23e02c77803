//! The rows that say where blocks are and how many pins count on them, and how they change.
//!
//! **Invariant:** a block that no pin counts on has one row in [`CACHED`], any other block none;
//! live bytes and totals change in the same transaction as the rows they sum up.

use std::collections::BTreeMap;

use crate::block::StoreError;
use crate::db::{Error, Snapshot, Table, Transaction};

use super::record::{self, Key};
use super::segments::Location;

/// Multihash → [`Row`].
pub(super) const BLOCKS: Table = Table::new("blocks");
/// (time of last use u32 BE, multihash) → nothing: the order of eviction.
pub(super) const CACHED: Table = Table::new("cached");
/// Segment u32 BE → [`SegmentRow`].
pub(super) const SEGMENTS: Table = Table::new("segments");
/// One row under [`TOTALS_KEY`].
const TOTALS: Table = Table::new("store");
const TOTALS_KEY: &[u8] = b"totals";

/// The segment of blocks that are lost: a check found their records damaged while pins count on
/// them. Their rows keep the counts; whoever writes such a block again brings it back.
pub(super) const LOST: Location = Location { segment: u32::MAX, offset: 0 };

/// A block at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) at: Location,
    /// Bytes of the block.
    pub(super) length: u32,
    /// Counts of pins; at `u32::MAX` it stays for ever.
    pub(super) pins: u32,
    /// When it was last read or written, in seconds since 1970; coarse, kept for cached blocks.
    pub(super) used: u32,
}

impl Row {
    pub(super) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let fields = [self.at.segment, self.at.offset, self.length, self.pins, self.used];
        for (to, field) in bytes.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = bytes.chunks_exact(4).map(u32_le);
        let mut next = || fields.next().ok_or_else(|| damaged("blocks"));
        let at = Location { segment: next()?, offset: next()? };
        Ok(Self { at, length: next()?, pins: next()?, used: next()? })
    }

    /// Whether its bytes are gone.
    pub(super) fn is_lost(&self) -> bool {
        self.at == LOST
    }

    /// Bytes of its record.
    pub(super) fn record_bytes(&self, key: &Key) -> u32 {
        record::size(key.length(), self.length)
    }
}

/// What is known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SegmentRow {
    /// Bytes of the file that were synced.
    pub(super) length: u32,
    /// Bytes of the records that index rows point to.
    pub(super) live: u32,
}

impl SegmentRow {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = bytes.chunks_exact(4).map(u32_le);
        let mut next = || fields.next().ok_or_else(|| damaged("segments"));
        Ok(Self { length: next()?, live: next()? })
    }

    fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..].copy_from_slice(&self.live.to_le_bytes());
        bytes
    }
}

/// Sums over the rows, and the next number for a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) cached_blocks: u64,
    pub(super) cached_bytes: u64,
    pub(super) next_manifest: u64,
}

impl Totals {
    fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let fields =
            [self.blocks, self.bytes, self.cached_blocks, self.cached_bytes, self.next_manifest];
        for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = bytes
            .chunks_exact(8)
            .map(|field| field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        let mut next = || fields.next().ok_or_else(|| damaged("store"));
        Ok(Self {
            blocks: next()?,
            bytes: next()?,
            cached_blocks: next()?,
            cached_bytes: next()?,
            next_manifest: next()?,
        })
    }
}

fn u32_le(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

pub(super) fn damaged(table: &str) -> Error {
    Error::Store(StoreError::Io(
        format!("a row of the table {table} is damaged; run estuary fsck --repair").into(),
    ))
}

/// The key under which a block that no pin counts on waits for its eviction.
pub(super) fn cached_key(used: u32, key: &Key) -> Vec<u8> {
    [&used.to_be_bytes(), key.as_bytes()].concat()
}

/// What a key of [`CACHED`] says.
pub(super) fn parse_cached_key(bytes: &[u8]) -> Option<(u32, Key)> {
    let (used, key) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*used), Key::from_bytes(key)?))
}

/// The row of a block, as of a snapshot.
pub(super) fn find(snapshot: &Snapshot, key: &Key) -> Result<Option<Row>, Error> {
    snapshot.get(BLOCKS, key.as_bytes())?.map(|bytes| Row::from_bytes(&bytes)).transpose()
}

/// The sums, as of a snapshot; none in a database that never held blocks.
pub(super) fn totals(snapshot: &Snapshot) -> Result<Option<Totals>, Error> {
    snapshot.get(TOTALS, TOTALS_KEY)?.map(|bytes| Totals::from_bytes(&bytes)).transpose()
}

/// The segments, as of a snapshot.
pub(super) fn segments(snapshot: &Snapshot) -> Result<BTreeMap<u32, SegmentRow>, Error> {
    use std::ops::Bound::Unbounded;
    let rows = snapshot.range(SEGMENTS, Unbounded, Unbounded)?;
    rows.map(|row| {
        let (id, row) = row?;
        let id = id.try_into().map_err(|_| damaged("segments"))?;
        Ok((u32::from_be_bytes(id), SegmentRow::from_bytes(&row)?))
    })
    .collect()
}

/// Changes of the index within one transaction. Nothing holds before [`Self::finish`].
pub(super) struct Edit<'a, 't> {
    pub(super) tx: &'a mut Transaction<'t>,
    pub(super) totals: Totals,
    segments: BTreeMap<u32, SegmentRow>,
}

impl<'a, 't> Edit<'a, 't> {
    pub(super) fn begin(tx: &'a mut Transaction<'t>) -> Result<Self, Error> {
        let totals = tx.get(TOTALS, TOTALS_KEY)?;
        let totals = totals.map(|bytes| Totals::from_bytes(&bytes)).transpose()?;
        Ok(Self { tx, totals: totals.unwrap_or_default(), segments: BTreeMap::new() })
    }

    pub(super) fn find(&self, key: &Key) -> Result<Option<Row>, Error> {
        self.tx.get(BLOCKS, key.as_bytes())?.map(|bytes| Row::from_bytes(&bytes)).transpose()
    }

    /// Puts `new` in place of `old`, which is what [`Self::find`] gave, with all that follows.
    pub(super) fn set(
        &mut self,
        key: &Key,
        old: Option<Row>,
        new: Option<Row>,
    ) -> Result<(), Error> {
        // What is lost is remembered for those who count on it alone.
        let new = new.filter(|new| !new.is_lost() || new.pins > 0);
        let waits = |row: Option<Row>| {
            row.filter(|row| row.pins == 0 && !row.is_lost()).map(|row| row.used)
        };
        if let Some(old) = old.filter(|old| !old.is_lost()) {
            let segment = self.segment(old.at.segment)?;
            segment.live = segment.live.saturating_sub(old.record_bytes(key));
            self.totals.blocks = self.totals.blocks.saturating_sub(1);
            self.totals.bytes = self.totals.bytes.saturating_sub(old.length.into());
        }
        if let Some(new) = new.filter(|new| !new.is_lost()) {
            let segment = self.segment(new.at.segment)?;
            segment.live = segment.live.saturating_add(new.record_bytes(key));
            self.totals.blocks += 1;
            self.totals.bytes += u64::from(new.length);
        }
        if let (Some(used), Some(old)) = (waits(old), old) {
            self.totals.cached_blocks = self.totals.cached_blocks.saturating_sub(1);
            self.totals.cached_bytes = self.totals.cached_bytes.saturating_sub(old.length.into());
            if waits(new) != Some(used) {
                self.tx.remove(CACHED, &cached_key(used, key))?;
            }
        }
        if let (Some(used), Some(new)) = (waits(new), new) {
            self.totals.cached_blocks += 1;
            self.totals.cached_bytes += u64::from(new.length);
            if waits(old) != Some(used) {
                self.tx.put(CACHED, &cached_key(used, key), &[])?;
            }
        }
        match new {
            Some(new) => self.tx.put(BLOCKS, key.as_bytes(), &new.to_bytes()),
            None => self.tx.remove(BLOCKS, key.as_bytes()),
        }
    }

    /// Takes one count off a block. `used` is when it became a cached one.
    pub(super) fn release(&mut self, key: &Key, row: Row, used: u32) -> Result<Row, Error> {
        let pins = if row.pins == u32::MAX { u32::MAX } else { row.pins.saturating_sub(1) };
        let used = if row.pins > 0 && pins == 0 { used } else { row.used };
        let new = Row { pins, used, ..row };
        self.set(key, Some(row), Some(new))?;
        Ok(new)
    }

    /// What is known of a segment, to be changed.
    pub(super) fn segment(&mut self, id: u32) -> Result<&mut SegmentRow, Error> {
        use std::collections::btree_map::Entry;
        match self.segments.entry(id) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let row = self.tx.get(SEGMENTS, &id.to_be_bytes())?;
                let row = row.map(|bytes| SegmentRow::from_bytes(&bytes)).transpose()?;
                Ok(entry.insert(row.unwrap_or_default()))
            }
        }
    }

    /// Forgets a segment.
    pub(super) fn forget_segment(&mut self, id: u32) -> Result<(), Error> {
        self.segments.remove(&id);
        self.tx.remove(SEGMENTS, &id.to_be_bytes())
    }

    /// Writes the sums.
    pub(super) fn finish(self) -> Result<(), Error> {
        for (id, row) in &self.segments {
            self.tx.put(SEGMENTS, &id.to_be_bytes(), &row.to_bytes())?;
        }
        self.tx.put(TOTALS, TOTALS_KEY, &self.totals.to_bytes())
    }
}
