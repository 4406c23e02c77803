//! Blocks from disk.
//!
//! The index is asked on the spot, and so is the record when the kernel has its pages: measured,
//! 1 to 4 µs together for a small block with up to 10^6 blocks, and 50 µs for 256 KiB, where handing
//! work to another thread and back takes about 20 µs by itself. An index page that nobody has in
//! memory costs one small read of the disk here. What of the record the kernel would have to wait
//! for is read on a blocking thread, a bounded number of them at once.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::block::{BLOCK_BYTES_MAX, Block, Cid, IDENTITY, StoreError};
use crate::db::{Error, Transaction};

use super::disk::{read_at_once, store_error};
use super::index::{self, Edit, Row};
use super::record::{self, HEADER_BYTES, KEY_BYTES_MAX, Key};
use super::{Inner, blocking, lock};

/// How often a block is looked up anew because compaction moved it while it was read.
const TRIES_MAX: usize = 8;
/// A cached block's time of use is written at most once in so many seconds.
const TOUCH_EVERY_S: u32 = 3600;
/// Blocks whose times of use wait to be written; those of others are not.
const TOUCHED_MAX: usize = 4096;

/// What came of reading a record.
#[derive(Debug)]
enum Record {
    Data(Bytes),
    Damaged,
    /// Its segment is no more.
    Gone,
}

impl Inner {
    pub(super) async fn get(self: &Arc<Self>, cid: &Cid) -> Result<Option<Block>, StoreError> {
        if let Some(block) = Block::from_identity(cid) {
            return Ok(Some(block));
        }
        let Some(key) = Key::of(cid.hash()) else { return Ok(None) };
        let started = Instant::now();
        for _ in 0..TRIES_MAX {
            let Some(row) = self.find(&key)? else { return Ok(None) };
            match self.read(key, row).await? {
                Record::Data(data) => {
                    self.metrics.read_blocks.inc();
                    self.metrics.read_bytes.inc_by(data.len() as u64);
                    self.metrics.read_seconds.observe(started.elapsed().as_secs_f64());
                    self.touch(key, row);
                    return Ok(Some(Block::from_checked_record(*cid, data)));
                }
                Record::Damaged => {
                    self.damaged(key, row);
                    return Ok(None);
                }
                Record::Gone => {}
            }
        }
        Err(StoreError::Io(format!("block {key} moved {TRIES_MAX} times while it was read").into()))
    }

    pub(super) fn has(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.size(cid)?.is_some())
    }

    pub(super) fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        if cid.hash().code() == IDENTITY {
            return Ok(Some(cid.hash().size().into()));
        }
        let Some(key) = Key::of(cid.hash()) else { return Ok(None) };
        Ok(self.find(&key)?.map(|row| row.length.into()))
    }

    pub(super) fn is_pinned(&self, cid: &Cid) -> Result<bool, StoreError> {
        let Some(key) = Key::of(cid.hash()) else { return Ok(false) };
        Ok(self.find(&key)?.is_some_and(|row| row.pins > 0))
    }

    /// The row of a block that is not known to be damaged.
    fn find(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let row = index::find(&self.db.read()?, key)?;
        Ok(row.filter(|row| !self.holds.is_void(key, row)))
    }

    async fn read(self: &Arc<Self>, key: Key, row: Row) -> Result<Record, StoreError> {
        if row.length as usize > BLOCK_BYTES_MAX {
            return Ok(Record::Damaged);
        }
        if let Some(file) = self.segments.opened(row.at.segment) {
            let mut room = Room::new(&key, &row);
            if read_at_once(&file, &mut room.parts(), row.at.offset.into()) {
                return Ok(room.check(&key));
            }
        }
        let _permit = self.reads.acquire().await.map_err(|_| StoreError::Closed)?;
        let inner = Arc::clone(self);
        blocking(move || inner.read_waiting(&key, &row)).await?
    }

    /// Reads a record, however long the disk takes.
    fn read_waiting(&self, key: &Key, row: &Row) -> Result<Record, StoreError> {
        let file = match self.segments.file(row.at.segment) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Record::Gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::Damaged),
            Err(error) => return Err(store_error(&error)),
        };
        Ok(match read_record(&file, key, row) {
            Ok(Some(data)) => Record::Data(data),
            Ok(None) => Record::Damaged,
            Err(error) => {
                tracing::warn!(%error, segment = row.at.segment, "a segment cannot be read");
                Record::Damaged
            }
        })
    }

    /// A record that fails its check is as good as none: whoever has the block may write it anew.
    pub(super) fn damaged(&self, key: Key, row: Row) {
        if self.holds.set_damaged(key, row.at) {
            self.metrics.corrupt_records.inc();
            let (segment, offset) = (row.at.segment, row.at.offset);
            tracing::warn!(block = %key, segment, offset, "a block on disk is damaged");
        }
    }

    /// Remembers that a cached block is of use.
    fn touch(self: &Arc<Self>, key: Key, row: Row) {
        if row.pins > 0 || self.now().saturating_sub(row.used) < TOUCH_EVERY_S {
            return;
        }
        let mut touched = lock(&self.touched);
        let first = touched.is_empty();
        if touched.len() < TOUCHED_MAX {
            touched.insert(key);
        }
        drop(touched);
        if first {
            // Dropped without having run when the database takes no writes.
            let touched = Touched(Arc::clone(self));
            self.db.write_later(move |tx| touched.0.write_touched(tx));
        }
    }

    fn write_touched(&self, tx: &mut Transaction<'_>) -> Result<(), Error> {
        let touched = std::mem::take(&mut *lock(&self.touched));
        let used = self.now();
        let mut edit = Edit::begin(tx)?;
        for key in touched {
            if let Some(row) = edit.find(&key)?.filter(|row| row.pins == 0) {
                edit.set(&key, Some(row), Some(Row { used, ..row }))?;
            }
        }
        edit.finish()
    }
}

/// Times of use on their way to the database. Those that never get there are forgotten: else all
/// later ones would wait with them.
struct Touched(Arc<Inner>);

impl Drop for Touched {
    fn drop(&mut self) {
        lock(&self.0.touched).clear();
    }
}

/// The data of a row's record. None when the record is not intact, or not that row's.
pub(super) fn read_record(file: &File, key: &Key, row: &Row) -> io::Result<Option<Bytes>> {
    if row.length as usize > BLOCK_BYTES_MAX {
        return Ok(None);
    }
    let mut room = Room::new(key, row);
    match room.fill(file, row.at.offset.into()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(match room.check(key) {
        Record::Data(data) => Some(data),
        Record::Damaged | Record::Gone => None,
    })
}

/// Room for a record. The data has its own, which takes no more memory than a block of its size:
/// allocators round what is a little larger than a power of two up by a quarter.
struct Room {
    head: [u8; HEADER_BYTES + KEY_BYTES_MAX],
    head_bytes: usize,
    data: Vec<u8>,
}

impl Room {
    fn new(key: &Key, row: &Row) -> Self {
        let head_bytes = HEADER_BYTES + usize::from(key.length());
        let head = [0; HEADER_BYTES + KEY_BYTES_MAX];
        Self { head, head_bytes, data: vec![0; row.length as usize] }
    }

    fn parts(&mut self) -> [IoSliceMut<'_>; 2] {
        let head = &mut self.head[..self.head_bytes];
        [IoSliceMut::new(head), IoSliceMut::new(&mut self.data)]
    }

    fn fill(&mut self, file: &File, offset: u64) -> io::Result<()> {
        file.read_exact_at(&mut self.head[..self.head_bytes], offset)?;
        file.read_exact_at(&mut self.data, offset + self.head_bytes as u64)
    }

    fn check(self, key: &Key) -> Record {
        match record::intact(&self.head[..self.head_bytes], &self.data) {
            Some(found) if found == *key => Record::Data(self.data.into()),
            _ => Record::Damaged,
        }
    }
}
