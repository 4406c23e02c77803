//! The database: ordered tables of bytes in one file, snapshots, and one batched writer.
//!
//! **Invariant:** a write that resolved is durable; one that failed left nothing.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::block::StoreError;

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
    }
}

/// Why the database failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Written by a newer Estuary.
    #[error("the store has schema {found}, and this version of estuary knows schemas up to {known}: use a newer estuary")]
    Newer {
        /// What it has.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// Blocks and records fail alike.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error,
            newer @ Error::Newer { .. } => Self::Io(newer.to_string().into()),
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

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    inner: Arc<()>,
}

/// The database as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    inner: (),
}

/// What one write job sees and changes.
#[derive(Debug)]
pub struct Transaction<'a> {
    inner: &'a (),
}

impl Db {
    /// Opens the database at `path`, or makes it.
    pub fn open(path: &Path, config: &Config, metrics: Metrics) -> Result<Self, Error> {
        unimplemented!()
    }

    /// The database as of the last commit.
    pub fn read(&self) -> Result<Snapshot, Error> {
        unimplemented!()
    }

    /// Runs a job in the next transaction and returns when that is durable. Jobs of a batch run one
    /// after the other; one that fails leaves nothing, and the others go on.
    pub async fn write<T, E>(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        unimplemented!()
    }

    /// Puts a job into a coming transaction without waiting for it. False when the queue is full
    /// and the job was dropped: for what may be lost, such as times of use.
    pub fn write_later(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<(), Error> + Send + 'static,
    ) -> bool {
        unimplemented!()
    }

    /// Copies the database as of one moment to a new file at `path`, synced.
    pub fn copy_to(&self, snapshot: &Snapshot, path: &Path) -> Result<(), Error> {
        unimplemented!()
    }

    /// Commits what is queued and takes nothing more. Waits.
    pub fn close(&self) -> Result<(), Error> {
        unimplemented!()
    }
}

impl Snapshot {
    /// The value under `key`.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        unimplemented!()
    }

    /// Rows from `from` to `to`, in order of their keys; `reversed` from the end.
    pub fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<impl DoubleEndedIterator<Item = Result<Row, Error>> + use<>, Error> {
        Ok(std::iter::empty())
    }

    /// How many rows a table has.
    pub fn len(&self, table: Table) -> Result<u64, Error> {
        unimplemented!()
    }
}

impl Transaction<'_> {
    /// The value under `key`, as this job sees it.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        unimplemented!()
    }

    /// Up to `limit` rows from `from` on, as this job sees them.
    pub fn rows(&self, table: Table, from: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Error> {
        unimplemented!()
    }

    /// Puts a value in place of whatever is under `key`.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        unimplemented!()
    }

    /// Takes out what is under `key`.
    pub fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        unimplemented!()
    }
}
