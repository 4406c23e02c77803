//! The database: ordered tables of bytes in one file, snapshots, and one batched writer.
//!
//! **Invariant:** a write that resolved is durable; one that failed left nothing.

mod backend;
mod file;
mod limbo;
mod overlay;
mod queue;
mod redb;
mod reserve;
mod writer;

use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::block::StoreError;
pub use backend::Disk;
use file::{DiskOf, Opener};
use overlay::Overlay;
use queue::Queue;
use redb::View;
use reserve::RESERVE_BYTES;
use writer::{Published, Writer};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// The schema we write and read.
const SCHEMA: u32 = 1;
/// What the database knows of itself.
const META: Table = Table::new("meta");
const SCHEMA_KEY: &[u8] = b"schema";
/// Rows that a copy writes in one transaction.
const COPY_BATCH_ROWS: usize = 100_000;

/// The database's section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Memory for pages of the database, in bytes.
    pub cache_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { cache_bytes_max: 32 << 20 }
    }
}

crate::metrics! {
    /// What the database did.
    pub struct Metrics {
        /// Transactions committed, each holding what was written meanwhile.
        commits: counter("estuary_db_commits_total"),
        /// Write jobs run, those that failed included.
        jobs: counter("estuary_db_jobs_total"),
        /// Time from the first job of a transaction until it was durable, in seconds.
        commit_seconds: histogram("estuary_db_commit_seconds"),
        /// Size of the database's file, in bytes.
        file_bytes: gauge("estuary_db_file_bytes"),
        /// What the database takes: 0 all writes, 1 none because the disk is full, 2 none until it is opened anew.
        state: gauge("estuary_db_state"),
    }
}

/// What writes the database takes, as its gauge has it.
#[derive(Debug, Clone, Copy)]
enum State {
    Writable = 0,
    Full = 1,
    ReadOnly = 2,
}

/// Why the database failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Written by a newer Estuary.
    #[error(
        "the store has schema {found}, and this version of estuary knows schemas up to {known}: use a newer estuary"
    )]
    Newer {
        /// What it has.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// Somebody has it open.
    #[error("the database is open in another process")]
    InUse,
    /// The file is not what we wrote.
    #[error("the database is damaged: {0}; restore a backup")]
    Damaged(Arc<str>),
    /// A write job panicked; it left nothing.
    #[error("a write to the database panicked")]
    Panicked,
    /// A key or value is too long.
    #[error("a key or value of {0} bytes is too long for the database")]
    TooLong(usize),
    /// Blocks and records fail alike.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error,
            other => Self::Io(other.to_string().into()),
        }
    }
}

/// An ordered table; a room names its own as constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table(&'static str);

impl Table {
    /// The table of this name, which is made when it is first written.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The database. Cheap to clone. Dropped without [`Db::close`], it still commits what is queued.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    published: Arc<Published>,
    writer: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends by itself; a job may hold the last handle, so nobody waits here.
        self.queue.close();
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

/// The database as it was at one moment. While it is held, pages that it can see are not used anew.
#[derive(Clone)]
pub struct Snapshot {
    view: Arc<View>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// What the changes of a job lie over.
trait Base {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    fn rows<'a>(
        &'a self,
        table: Table,
        from: Bound<&[u8]>,
    ) -> Result<Box<dyn Iterator<Item = Result<Row, Error>> + 'a>, Error>;
}

/// What one write job sees and changes.
pub struct Transaction<'a> {
    base: &'a dyn Base,
    overlay: Overlay,
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database at `path`, or makes it. Blocks, for as long as it takes to read a few
    /// pages, also after a crash.
    pub fn open(path: &Path, config: &Config, metrics: Metrics) -> Result<Self, Error> {
        Self::open_on(path, config, metrics, RESERVE_BYTES, Box::new(|file| Box::new(file)))
    }

    /// As [`Db::open`], with a disk between the database and its file, and a reserve of 64 KiB. When
    /// the disk was full, a disk is made anew.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_with(
        path: &Path,
        config: &Config,
        metrics: Metrics,
        disk: impl Fn(std::fs::File) -> Box<dyn Disk> + Send + 'static,
    ) -> Result<Self, Error> {
        Self::open_on(path, config, metrics, 64 << 10, Box::new(disk))
    }

    fn open_on(
        path: &Path,
        config: &Config,
        metrics: Metrics,
        reserve_bytes: u64,
        disk: DiskOf,
    ) -> Result<Self, Error> {
        if !path.try_exists().map_err(|error| file::named(path, error))? {
            file::make(path, |_| Ok(()))?;
        }
        let opener = Opener::new(path, config.cache_bytes_max, reserve_bytes, disk)?;
        let engine = opener.engine()?;
        let published = Arc::new(Published::new(engine.view()?));
        let queue = Arc::new(Queue::new());
        let writer = Writer {
            opener,
            engine,
            queue: Arc::clone(&queue),
            published: Arc::clone(&published),
            metrics,
        };
        let thread = std::thread::Builder::new().name("db-writer".into());
        let thread = thread
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Io(format!("no thread to write: {error}").into()))?;
        let inner = Inner { queue, published, writer: Mutex::new(Some(thread)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The database as of the last commit. Cheap: a lock that is never held for long.
    pub fn read(&self) -> Result<Snapshot, Error> {
        Ok(Snapshot { view: self.inner.published.get()? })
    }

    /// Runs a job in the next transaction and returns when that is durable. Jobs of a batch run one
    /// after the other; one that fails or panics leaves nothing, and the others go on. A job runs
    /// on the writer's thread: it must not block. It runs even if nobody waits for it any more.
    ///
    /// While the disk is full, jobs are refused with [`StoreError::Full`].
    pub async fn write<T, E>(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(job, false).await
    }

    /// As [`Db::write`], for jobs after which there is more space: they run on a full disk as well,
    /// as long as the little that they need is found.
    pub async fn write_to_free<T, E>(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(job, true).await
    }

    async fn run<T, E>(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        makes_room: bool,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let run = writer::job(job, move |outcome| {
            // Nobody may be waiting any more.
            let _ = sender.send(outcome);
        });
        self.inner.queue.push(run, makes_room).await.map_err(E::from)?;
        receiver.await.unwrap_or_else(|_| Err(E::from(StoreError::Closed.into())))
    }

    /// Puts a job into a coming transaction without waiting for it. False when the queue is full
    /// and the job was dropped: for what may be lost, such as times of use.
    pub fn write_later(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<(), Error> + Send + 'static,
    ) -> bool {
        let run = writer::job(job, |outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a write that may be lost was lost");
            }
        });
        self.inner.queue.push_later(run)
    }

    /// Copies the database as of one moment to a new file at `path`, synced. Blocks for as long as
    /// it takes to read and write all rows.
    pub fn copy_to(&self, snapshot: &Snapshot, path: &Path) -> Result<(), Error> {
        if path.try_exists().map_err(|error| file::named(path, error))? {
            let error = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(file::named(path, error));
        }
        file::make(path, |engine| {
            for table in snapshot.view.tables() {
                let mut rows = snapshot.view.range(table, Bound::Unbounded, Bound::Unbounded)?;
                let mut more = true;
                while more {
                    engine.transact(|writing| {
                        for _ in 0..COPY_BATCH_ROWS {
                            let Some(row) = rows.next() else {
                                more = false;
                                break;
                            };
                            let (key, value) = row?;
                            writing.put(table, &key, &value)?;
                        }
                        Ok(())
                    })?;
                }
            }
            Ok(())
        })
    }

    /// Commits what is queued and takes nothing more. Waits, so it must not be called by a job.
    /// Then the file is closed, and snapshots fail as well.
    pub fn close(&self) -> Result<(), Error> {
        self.inner.queue.close();
        let mut writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.take() {
            Some(thread) => thread.join().unwrap_or(Err(Error::Panicked)),
            None => Ok(()),
        }
    }
}

impl Snapshot {
    /// The value under `key`.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.view.get(table.0, key)
    }

    /// Rows from `from` to `to`, in order of their keys; `reversed` from the end. They are read as
    /// they are asked for; the iterator keeps the snapshot.
    pub fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<impl DoubleEndedIterator<Item = Result<Row, Error>> + use<>, Error> {
        self.view.range(table.0, from, to)
    }

    /// How many rows a table has; takes no reading.
    pub fn len(&self, table: Table) -> Result<u64, Error> {
        self.view.len(table.0)
    }
}

impl<'a> Transaction<'a> {
    fn new(base: &'a dyn Base) -> Self {
        Self { base, overlay: Overlay::default() }
    }

    fn into_overlay(self) -> Overlay {
        self.overlay
    }
}

impl Transaction<'_> {
    /// The value under `key`, as this job sees it.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.overlay.get(table, key) {
            Some(changed) => Ok(changed.map(<[u8]>::to_vec)),
            None => self.base.get(table, key),
        }
    }

    /// Up to `limit` rows from `from` on, as this job sees them.
    pub fn rows(&self, table: Table, from: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Error> {
        self.overlay.merge(table, from, self.base.rows(table, from)?, limit)
    }

    /// Puts a value in place of whatever is under `key`. Changes are held in memory until the job
    /// ends: their number is the caller's duty to bound.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLong(key.len().max(value.len())));
        }
        self.overlay.put(table, key, value);
        Ok(())
    }

    /// Takes out what is under `key`.
    pub fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.overlay.remove(table, key);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
