//! The embedded engine: redb behind tables of bytes. Nothing of it is seen above.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::redb::{
    Database, DatabaseError, OwnedRange, ReadOnlyTable, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, TableHandle, WriteTransaction,
};

use super::backend::{Backend, Shared};
use super::overlay::Overlay;
use super::{Error, META, Row, Table};
use crate::block::StoreError;

type Bytes = &'static [u8];

/// The open database.
pub(super) struct Engine {
    database: Database,
    backend: Arc<Backend>,
    /// The number of the last commit.
    commit: u64,
    /// Length of the file after it, in bytes.
    len: u64,
}

/// All tables as of one commit.
pub(super) struct View {
    tables: BTreeMap<String, ReadOnlyTable<Bytes, Bytes>>,
}

/// All tables within a write transaction.
pub(super) struct Writing<'t> {
    transaction: &'t WriteTransaction,
    backend: &'t Backend,
    tables: BTreeMap<String, ::redb::Table<'t, Bytes, Bytes>>,
    changed: bool,
}

/// The number of the last commit, in the database's own table.
const COMMIT_KEY: &[u8] = b"commit";

fn definition(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

fn failed(error: impl Into<::redb::Error>) -> Error {
    Error::Store(StoreError::Io(error.into().to_string().into()))
}

/// Runs what calls the engine, which panics on pages that are damaged.
fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::Damaged("a page of it cannot be read".into())))
}

impl Engine {
    /// Opens what is in the backend's file; an empty one becomes a database without tables.
    pub(super) fn open(backend: Arc<Backend>, cache_bytes_max: u64) -> Result<Self, Error> {
        let database = guarded(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(usize::try_from(cache_bytes_max).unwrap_or(usize::MAX));
            builder.create_with_backend(Shared(Arc::clone(&backend))).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => Error::InUse,
                DatabaseError::Storage(::redb::StorageError::Io(error))
                    if !matches!(
                        error.kind(),
                        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                    ) =>
                {
                    Error::Store(StoreError::Io(error.to_string().into()))
                }
                error => Error::Damaged(error.to_string().into()),
            })
        })?;
        if let Some(error) = backend.error() {
            return Err(error.into());
        }
        let mut engine = Self { database, backend, commit: 0, len: 0 };
        let damaged = |error| match error {
            Error::Damaged(reason) => Error::Damaged(reason),
            other => Error::Damaged(other.to_string().into()),
        };
        let commit =
            engine.view().and_then(|view| view.get(META.0, COMMIT_KEY)).map_err(damaged)?;
        let commit = commit.and_then(|bytes| bytes.try_into().ok());
        engine.committed(commit.map_or(0, u64::from_le_bytes));
        engine.backend.serve();
        Ok(engine)
    }

    fn committed(&mut self, commit: u64) {
        self.commit = commit;
        self.len = self.backend.len().unwrap_or(u64::MAX);
    }

    /// The number of the last commit.
    pub(super) fn commit(&self) -> u64 {
        self.commit
    }

    /// Gives back the space of a commit for which there was not enough.
    pub(super) fn give_back(&self) -> Result<(), Error> {
        self.backend.cut(self.len).map_err(|error| failed(::redb::StorageError::Io(error)))
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// All tables as of the last commit.
    pub(super) fn view(&self) -> Result<View, Error> {
        guarded(|| {
            let transaction = self.database.begin_read().map_err(failed)?;
            let mut tables = BTreeMap::new();
            for handle in transaction.list_tables().map_err(failed)? {
                let table = transaction.open_table(definition(handle.name())).map_err(failed)?;
                tables.insert(handle.name().to_owned(), table);
            }
            Ok(View { tables })
        })
    }

    /// Runs `work` in a transaction, and commits what it changed. When this returns, the changes
    /// are durable. After an error they may be or not, and nothing can be written before the engine
    /// is opened anew.
    pub(super) fn transact(
        &mut self,
        work: impl FnOnce(&mut Writing<'_>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        self.backend.write_here();
        let next = self.commit + 1;
        let outcome = guarded(|| {
            let mut transaction = self.database.begin_write().map_err(failed)?;
            // Opening after a crash then trusts the last commit, and need not walk the tree.
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
            let mut writing = Writing::begin(&transaction, &self.backend)?;
            work(&mut writing)?;
            let changed = writing.changed;
            writing.check()?;
            if changed {
                writing.put(META.0, COMMIT_KEY, &next.to_le_bytes())?;
            }
            drop(writing);
            if changed {
                transaction.commit().map_err(failed)?;
            } else {
                transaction.abort().map_err(failed)?;
            }
            Ok(changed)
        });
        if let Err(error) = &outcome
            && self.backend.failure().is_none()
        {
            self.backend.fail(error);
        }
        // The backend may have failed without the engine's knowledge.
        if let Some(error) = self.backend.error() {
            return Err(error.into());
        }
        if let Ok(true) = outcome {
            self.committed(next);
        }
        outcome
    }

    /// Closes the file, so that the next opening has nothing to recover.
    pub(super) fn close(self) -> Result<(), Error> {
        guarded(|| self.database.close().map_err(failed))?;
        self.backend.error().map_or(Ok(()), |error| Err(error.into()))
    }
}

impl View {
    pub(super) fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some(table) = self.tables.get(table) else { return Ok(None) };
        guarded(|| Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec())))
    }

    pub(super) fn range(
        &self,
        table: &str,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Rows, Error> {
        let Some(table) = self.tables.get(table) else { return Ok(Rows(None)) };
        let range = guarded(|| table.range_owned::<&[u8]>((from, to)).map_err(failed))?;
        Ok(Rows(Some(range)))
    }

    pub(super) fn len(&self, table: &str) -> Result<u64, Error> {
        self.tables.get(table).map_or(Ok(0), |table| table.len().map_err(failed))
    }

    /// The names of all tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }
}

/// Rows of a table, read as they are asked for.
pub(super) struct Rows(Option<OwnedRange<Bytes, Bytes>>);

impl Rows {
    fn step(
        &mut self,
        step: impl FnOnce(
            &mut OwnedRange<Bytes, Bytes>,
        ) -> Option<
            Result<
                (::redb::OwnedAccessGuard<Bytes>, ::redb::OwnedAccessGuard<Bytes>),
                ::redb::StorageError,
            >,
        >,
    ) -> Option<Result<Row, Error>> {
        let range = self.0.as_mut()?;
        let row = guarded(|| {
            let row = step(range).transpose().map_err(failed)?;
            Ok(row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
        });
        // Nothing comes after an error.
        if row.is_err() {
            self.0 = None;
        }
        row.transpose()
    }
}

impl Iterator for Rows {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

impl<'t> Writing<'t> {
    fn begin(transaction: &'t WriteTransaction, backend: &'t Backend) -> Result<Self, Error> {
        let mut tables = BTreeMap::new();
        for handle in transaction.list_tables().map_err(failed)? {
            let table = transaction.open_table(definition(handle.name())).map_err(failed)?;
            tables.insert(handle.name().to_owned(), table);
        }
        Ok(Self { transaction, backend, tables, changed: false })
    }

    /// There is no point in going on after a failure that the engine does not know.
    fn check(&self) -> Result<(), Error> {
        self.backend.error().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Makes the changes of one job part of the transaction.
    pub(super) fn apply(&mut self, overlay: Overlay) -> Result<(), Error> {
        for (table, changes) in overlay.into_changes() {
            for (key, value) in changes {
                match value {
                    Some(value) => self.put(table.0, &key, &value)?,
                    None => self.remove(table.0, &key)?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.changed = true;
        if !self.tables.contains_key(table) {
            let opened = self.transaction.open_table(definition(table)).map_err(failed)?;
            self.tables.insert(table.to_owned(), opened);
        }
        if let Some(table) = self.tables.get_mut(table) {
            table.insert(key, value).map_err(failed)?;
        }
        Ok(())
    }

    fn remove(&mut self, table: &str, key: &[u8]) -> Result<(), Error> {
        if let Some(table) = self.tables.get_mut(table) {
            self.changed |= table.remove(key).map_err(failed)?.is_some();
        }
        Ok(())
    }
}

impl super::Base for Writing<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some(table) = self.tables.get(table.0) else { return Ok(None) };
        guarded(|| Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec())))
    }

    fn rows<'a>(
        &'a self,
        table: Table,
        from: Bound<&[u8]>,
    ) -> Result<Box<dyn Iterator<Item = Result<Row, Error>> + 'a>, Error> {
        let Some(table) = self.tables.get(table.0) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let range = table.range::<&[u8]>((from, Bound::Unbounded)).map_err(failed)?;
        Ok(Box::new(range.map(|row| {
            let (key, value) = row.map_err(failed)?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        })))
    }
}
