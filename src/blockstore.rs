//! Blocks on disk: append-only segment files, an index and pins in the database.
//!
//! **Invariant:** an index row is committed only after the bytes it points to are synced; a pinned
//! block is never collected; a record whose checksum fails is never served.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::block::{Block, Blockstore, Cid, StoreError};
use crate::db::{self, Db, Transaction};

/// The blockstore's section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of blocks on disk that no pin covers; the least recently used go first.
    pub cache_bytes_max: u64,
    /// Free space that is left to the file system: uploads are refused below it, in bytes.
    pub free_bytes_min: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { cache_bytes_max: 10 << 30, free_bytes_min: 64 << 20 }
    }
}

crate::metrics! {
    /// What the blockstore did.
    pub struct Metrics {
        /// Blocks written.
        written: counter("estuary_blockstore_written_blocks_total"),
    }
}

/// A promise to keep a DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The root.
    pub cid: Cid,
    /// Blocks kept for it.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Blocks dropped.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes given back to the file system.
    pub freed_bytes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Whether all is well (after the repair, where one was asked for).
    pub ok: bool,
    /// Blocks looked at.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was wrong, a sentence each; at most 100 of them.
    pub problems: Vec<String>,
    /// How many things were wrong.
    pub problems_total: u64,
    /// How many of them were mended.
    pub repaired: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// Bytes of blocks that no pin covers.
    pub cached_bytes: u64,
    /// Bytes of the segment files.
    pub disk_bytes: u64,
    /// Pins.
    pub pins: u64,
    /// Bytes free on the file system.
    pub free_bytes: u64,
}

/// Why a pin was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PinError {
    /// A block of the DAG is not here.
    #[error("{0} is missing from the DAG")]
    Missing(Box<Cid>),
    /// The DAG cannot be walked.
    #[error(transparent)]
    Dag(#[from] crate::ipld::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The blockstore. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: std::sync::Arc<()>,
}

impl Store {
    /// Opens the store in `dir` (its segment files), or makes it: what no commit recorded is cut.
    pub fn open(dir: &Path, db: Db, config: &Config, metrics: Metrics) -> Result<Self, StoreError> {
        unimplemented!()
    }

    /// Begins to write a DAG. Nothing of it can be collected meanwhile, and nothing is acknowledged.
    pub async fn begin(&self) -> Result<Writing, StoreError> {
        unimplemented!()
    }

    /// Pins a DAG that the store holds whole; one that is pinned already stays so.
    pub async fn pin(&self, root: Cid) -> Result<Pin, PinError> {
        unimplemented!()
    }

    /// Removes a pin. False when there was none.
    pub async fn unpin(&self, root: &Cid) -> Result<bool, StoreError> {
        unimplemented!()
    }

    /// Up to `limit` pins behind `after`, in a fixed order.
    pub fn pins(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Pin>, StoreError> {
        unimplemented!()
    }

    /// The pin of this root.
    pub fn pinned(&self, root: &Cid) -> Result<Option<Pin>, StoreError> {
        unimplemented!()
    }

    /// Drops cached blocks over the bound (`all`: every block that no pin covers), and gives space
    /// of half-dead segments back.
    pub async fn gc(&self, all: bool) -> Result<GcReport, StoreError> {
        unimplemented!()
    }

    /// Hashes every block again.
    pub async fn scrub(&self) -> Result<CheckReport, StoreError> {
        unimplemented!()
    }

    /// Checks that index, pins, reference counts and segment files agree; mends them if asked.
    pub async fn fsck(&self, repair: bool) -> Result<CheckReport, StoreError> {
        unimplemented!()
    }

    /// Copies store and database, as of one moment, into the new directory `dir`, which then is a
    /// data directory.
    pub async fn backup(&self, dir: PathBuf) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// What it holds.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        unimplemented!()
    }

    /// Collects, compacts and finishes what was begun, in the background, until `stop`.
    pub async fn maintain(self, stop: tokio_util::sync::CancellationToken) {
        stop.cancelled().await;
    }

    /// Makes all that was acknowledged or cached durable, and takes no more.
    pub async fn close(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}

/// A DAG that is being written. Dropped before it is pinned or kept, it leaves nothing behind that
/// anyone can see, and its space is collected.
#[derive(Debug)]
pub struct Writing {
    inner: (),
}

impl Writing {
    /// Appends blocks; those that the store has already are not written again. Waits while the disk
    /// lags behind. Durable only when the DAG is pinned or kept.
    pub async fn put(&mut self, blocks: Vec<Block>) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Pins all that was written under `roots`, durable when it returns. `also` writes other rooms'
    /// records into the same transaction.
    pub async fn pin<T: Send + 'static>(
        self,
        root: Cid,
        also: impl FnOnce(&mut Transaction<'_>) -> Result<T, db::Error> + Send + 'static,
    ) -> Result<(Pin, T), StoreError> {
        unimplemented!()
    }

    /// Keeps all that was written as cached blocks, durable when it returns.
    pub async fn keep(self) -> Result<(), StoreError> {
        unimplemented!()
    }
}

impl Blockstore for Store {
    fn get<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Option<Block>, StoreError>> {
        let _: Option<Bytes> = None;
        async { unimplemented!() }.boxed()
    }

    fn has<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<bool, StoreError>> {
        async { unimplemented!() }.boxed()
    }

    fn put_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Result<(), StoreError>> {
        async { unimplemented!() }.boxed()
    }
}
