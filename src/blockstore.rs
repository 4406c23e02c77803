//! Blocks on disk: append-only segment files, an index and pins in the database.
//!
//! **Invariant:** an index row is committed only after the bytes it points to are synced; a pinned
//! block is never collected; a record whose checksum fails is never served.

mod backup;
mod batch;
mod check;
mod collect;
mod compact;
mod disk;
mod holds;
mod index;
mod manifest;
mod metrics;
mod pins;
mod read;
mod record;
mod scan;
mod segments;
mod write_behind;
mod writing;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OnceCell, Semaphore};

use crate::block::{Block, Blocked, Blockstore, Cid, Mh, StoreError};
use crate::db::{Db, Error};

pub use disk::{FileOp, Outside};
pub use metrics::Metrics;
pub use writing::Writing;

use disk::{Disk, RealWorld, store_error};
use holds::Holds;
use index::Edit;
use record::Key;
use segments::Segments;
use write_behind::WriteBehind;

/// Where a segment file ends and the next one begins, in bytes.
const SEGMENT_BYTES_MAX: u32 = 256 << 20;
/// Blocks of one durable step: what a DAG that is being written holds in memory at most, about
/// 200 bytes each.
const BATCH_BLOCKS_MAX: usize = 8192;
/// Bytes not synced at which they begin to be written back, so that the last sync is short.
const WRITE_BACK_BYTES: u64 = 32 << 20;
/// Bytes not synced at which writers wait.
const DIRTY_BYTES_MAX: u64 = 96 << 20;
/// Segment files held open at once; the one not read for longest is closed.
const FILES_OPEN_MAX: usize = 256;
/// Reads that wait for the disk at once.
const READS_MAX: usize = 64;

/// The bounds above; tests take smaller ones.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    segment_bytes_max: u32,
    batch_blocks_max: usize,
    write_back_bytes: u64,
    dirty_bytes_max: u64,
    files_open_max: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment_bytes_max: SEGMENT_BYTES_MAX,
            batch_blocks_max: BATCH_BLOCKS_MAX,
            write_back_bytes: WRITE_BACK_BYTES,
            dirty_bytes_max: DIRTY_BYTES_MAX,
            files_open_max: FILES_OPEN_MAX,
        }
    }
}

/// The blockstore's section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of blocks on disk that no pin covers; the least recently used go first.
    pub cache_bytes_max: u64,
    /// Free space that is left to the file system: uploads are refused below it, in bytes. Half of it
    /// is for compaction: with room for half a segment, a full disk can always give space back.
    pub free_bytes_min: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { cache_bytes_max: 10 << 30, free_bytes_min: 256 << 20 }
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
    /// A block of the DAG must not be kept.
    #[error(transparent)]
    Blocked(#[from] Blocked),
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    segments: Arc<Segments>,
    holds: Arc<Holds>,
    sizes: Sizes,
    cache_bytes_max: u64,
    metrics: Metrics,
    /// Done once the database knows that it belongs to these segments.
    founded: OnceCell<()>,
    next_manifest: AtomicU64,
    /// The manifests of DAGs that are being written.
    writings: Mutex<HashSet<u64>>,
    /// Fetched blocks whose rows are committed later.
    write_behind: WriteBehind,
    /// Cached blocks that were read since their times of use were last written.
    touched: Mutex<HashSet<Key>>,
    reads: Semaphore,
    /// Held while blocks are dropped.
    collecting: tokio::sync::Mutex<()>,
    /// Held while segments are taken away, and by whoever needs them to stay.
    removing: Arc<tokio::sync::Mutex<()>>,
    /// Segments whose compaction met damage: they stay until a check has mended them.
    unfit: Mutex<HashSet<u32>>,
    /// Tells the maintenance that there is something to do.
    wake: Notify,
    /// Who is told of blocks that can be read from now on.
    told: OnceLock<Told>,
    closed: AtomicBool,
}

/// Blocks that can be read: the multihash of each, and its bytes.
type Readable<'a> = &'a mut dyn Iterator<Item = (Mh, u32)>;

/// Hears of blocks that can be read from now on.
struct Told(Box<dyn Fn(Readable<'_>) + Send + Sync>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Store {
    /// Opens the store in `dir` (its segment files), or makes it: what no commit recorded is cut.
    /// Blocks, for as long as it takes to look at the names and lengths of the files.
    pub fn open(dir: &Path, db: Db, config: &Config, metrics: Metrics) -> Result<Self, StoreError> {
        Self::open_on(dir, db, config, metrics, Sizes::default(), Arc::new(RealWorld))
    }

    /// As [`Store::open`], in a world that watches and intervenes.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_with(
        dir: &Path,
        db: Db,
        config: &Config,
        metrics: Metrics,
        outside: Arc<dyn Outside>,
    ) -> Result<Self, StoreError> {
        Self::open_on(dir, db, config, metrics, Sizes::default(), outside)
    }

    fn open_on(
        dir: &Path,
        db: Db,
        config: &Config,
        metrics: Metrics,
        sizes: Sizes,
        outside: Arc<dyn Outside>,
    ) -> Result<Self, StoreError> {
        let disk = Disk::open(dir, outside).map_err(|error| store_error(&error))?;
        let snapshot = db.read()?;
        let totals = index::totals(&snapshot)?;
        if totals.is_none() && !disk.list().map_err(|error| store_error(&error))?.is_empty() {
            return Err(StoreError::Io(
                format!(
                    "{} holds blocks of which the database knows nothing: restore the database \
                     that belongs to them, or move them away",
                    dir.display()
                )
                .into(),
            ));
        }
        let rows = index::segments(&snapshot)?;
        let lengths = rows.iter().map(|(id, row)| (*id, row.length)).collect();
        let segments =
            Segments::open(disk, sizes, config.free_bytes_min, metrics.clone(), &lengths)
                .map_err(|error| store_error(&error))?;
        let inner = Inner {
            db,
            segments: Arc::new(segments),
            holds: Arc::default(),
            sizes,
            cache_bytes_max: config.cache_bytes_max,
            metrics,
            founded: OnceCell::new_with(totals.map(|_| ())),
            next_manifest: AtomicU64::new(totals.unwrap_or_default().next_manifest),
            writings: Mutex::default(),
            write_behind: WriteBehind::default(),
            touched: Mutex::default(),
            reads: Semaphore::new(READS_MAX),
            collecting: tokio::sync::Mutex::default(),
            removing: Arc::default(),
            unfit: Mutex::default(),
            wake: Notify::new(),
            told: OnceLock::new(),
            closed: AtomicBool::new(false),
        };
        // What was being written when the process ended is released.
        inner.wake.notify_one();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Begins to write a DAG. Nothing of it can be collected meanwhile, and nothing is acknowledged.
    pub async fn begin(&self) -> Result<Writing, StoreError> {
        self.inner.found().await?;
        Ok(Writing::new(&self.inner))
    }

    /// Has somebody told of blocks whenever some can be read that could not before: the multihash
    /// of each and its bytes, among others that were there. Of several who ask, the first is told.
    pub fn tell_of_blocks(
        &self,
        told: impl Fn(&mut dyn Iterator<Item = (Mh, u32)>) + Send + Sync + 'static,
    ) {
        drop(self.inner.told.set(Told(Box::new(told))));
    }

    /// What it holds.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let snapshot = self.inner.db.read()?;
        let totals = index::totals(&snapshot)?.unwrap_or_default();
        let free_bytes = self.inner.segments.disk().free_bytes();
        Ok(Stats {
            blocks: totals.blocks,
            bytes: totals.bytes,
            cached_bytes: totals.cached_bytes,
            disk_bytes: self.inner.segments.disk_bytes(),
            pins: snapshot.len(pins::PINS)?,
            free_bytes: free_bytes.map_err(|error| store_error(&error))?,
        })
    }

    /// Makes all that was acknowledged or cached durable, and takes no more.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.inner.flush().await;
        self.inner.closed.store(true, Ordering::SeqCst);
        flushed
    }
}

impl Inner {
    /// Whether it takes writes.
    fn check(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        self.segments.check()
    }

    /// Sees to it that the database knows of the store before a first segment is made: a database
    /// that knows nothing must never cost the blocks beside it.
    async fn found(&self) -> Result<(), StoreError> {
        self.check()?;
        let first = || self.db.write(|tx| Edit::begin(tx)?.finish());
        self.founded.get_or_try_init(first).await.map_err(|error: Error| error.into()).copied()
    }

    fn begin_writing(&self) -> u64 {
        let manifest = self.next_manifest.fetch_add(1, Ordering::SeqCst);
        lock(&self.writings).insert(manifest);
        manifest
    }

    fn end_writing(&self, manifest: u64, done: bool) {
        lock(&self.writings).remove(&manifest);
        if !done {
            self.wake.notify_one();
        }
    }

    fn is_being_written(&self, manifest: u64) -> bool {
        lock(&self.writings).contains(&manifest)
    }

    /// Seconds since 1970, as rows have them: until 2106.
    fn now(&self) -> u32 {
        u32::try_from(self.segments.disk().now_unix()).unwrap_or(u32::MAX)
    }
}

impl Blockstore for Store {
    fn get<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Option<Block>, StoreError>> {
        self.inner.get(cid).boxed()
    }

    fn has<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<bool, StoreError>> {
        std::future::ready(self.inner.has(cid)).boxed()
    }

    fn size<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        std::future::ready(self.inner.size(cid)).boxed()
    }

    fn is_pinned<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<bool, StoreError>> {
        std::future::ready(self.inner.is_pinned(cid)).boxed()
    }

    fn put_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Result<(), StoreError>> {
        Arc::clone(&self.inner).cache(blocks).boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what waits for the disk on a thread that may. It begins at once, and goes on if nobody
/// waits for it any more.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, StoreError>> {
    tokio::task::spawn_blocking(work)
        .map(|done| done.map_err(|error| StoreError::Io(error.to_string().into())))
}

#[cfg(test)]
mod tests;
