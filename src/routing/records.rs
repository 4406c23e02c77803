//! The records that this node was given, in the database: of each name the best that was seen, so
//! that no older one is ever taken again, after a restart neither.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::StoreError;
use crate::db::{self, Db, Table};
use crate::metrics::IntGauge;

use super::Error;
use super::ipns::Record;
use super::name::Key;

/// Most records kept.
pub const RECORDS_MAX: u64 = 10_000;

/// Most records kept while others than those that were given to us are taken in.
const FOUND_MAX: u64 = RECORDS_MAX / 2;

/// By multihash of the key: the hash of the record, and the record.
const RECORDS: Table = Table::new("ipns_records");
/// Bytes of the hash that stands before each record.
const HASH_BYTES: usize = 32;

/// What became of a record that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is kept.
    Kept,
    /// It was kept before.
    Same,
}

/// Keeps records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Records {
    db: Db,
    held: IntGauge,
}

impl Records {
    /// Records are kept in `db`; `held` counts them.
    pub(super) fn new(db: Db, held: IntGauge) -> Result<Self, Error> {
        let records = Self { db, held };
        records.count()?;
        Ok(records)
    }

    /// The record of a name.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        let row = self.db.read()?.get(RECORDS, &key.hash().to_bytes())?;
        row.map(|row| read(&row)).transpose()
    }

    /// Keeps a record, unless a better one of its name is kept.
    pub(super) async fn put(&self, key: &Key, record: Record) -> Result<Put, Error> {
        self.put_below(RECORDS_MAX, key, record).await
    }

    /// The same for a record that somebody else had, which leaves room for those that are put.
    pub(super) async fn keep_found(&self, key: &Key, record: Record) -> Result<Put, Error> {
        self.put_below(FOUND_MAX, key, record).await
    }

    async fn put_below(&self, most: u64, key: &Key, record: Record) -> Result<Put, Error> {
        let (name, row_key) = (key.to_string(), key.hash().to_bytes());
        // Those that are put at the same moment may go over it, by as many as they are.
        let full = self.db.read()?.len(RECORDS)? >= most;
        let put = self
            .db
            .write(move |tx| {
                match tx.get(RECORDS, &row_key)? {
                    // One that cannot be read is no reason to refuse one that can.
                    Some(row) => {
                        if let Ok(held) = read(&row) {
                            if held.bytes() == record.bytes() {
                                return Ok(Put::Same);
                            }
                            if !record.supersedes(&held) {
                                let (sequence, held) = (record.sequence(), held.sequence());
                                return Err(Error::Older { name: name.into(), sequence, held });
                            }
                        }
                    }
                    None if full => return Err(Error::TooMany),
                    None => {}
                }
                let hash = blake3::hash(record.bytes());
                tx.put(RECORDS, &row_key, &[hash.as_bytes(), &record.bytes()[..]].concat())?;
                Ok(Put::Kept)
            })
            .await?;
        self.count()?;
        Ok(put)
    }

    /// Forgets the record of a name, its sequence too. Whether there was one.
    pub(super) async fn remove(&self, key: &Key) -> Result<bool, Error> {
        let row_key = key.hash().to_bytes();
        let removed = self
            .db
            .write_to_free(move |tx| {
                let was = tx.get(RECORDS, &row_key)?.is_some();
                tx.remove(RECORDS, &row_key)?;
                Ok::<_, Error>(was)
            })
            .await?;
        self.count()?;
        Ok(removed)
    }

    /// Up to `limit` records in the order of their names' hashes, those after `after`.
    pub(super) fn list(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Record)>, Error> {
        let after = after.map(|key| key.hash().to_bytes());
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.db.read()?.range(RECORDS, from, Bound::Unbounded)?;
        let mut found = Vec::new();
        for row in rows.take(limit) {
            let (key, row) = row?;
            found.push((Key::from_hash_bytes(&key).ok_or_else(damaged)?, read(&row)?));
        }
        Ok(found)
    }

    fn count(&self) -> Result<(), Error> {
        let held = self.db.read()?.len(RECORDS)?;
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// A row is what was written, or an error: its hash says so.
fn read(row: &[u8]) -> Result<Record, Error> {
    let (hash, bytes) = row.split_at_checked(HASH_BYTES).ok_or_else(damaged)?;
    if blake3::hash(bytes).as_bytes() != hash {
        return Err(damaged());
    }
    Record::from_checked_row(Bytes::copy_from_slice(bytes)).map_err(|_| damaged())
}

fn damaged() -> Error {
    let text: Arc<str> = "a record of a name is not what was written".into();
    db::Error::Store(StoreError::Io(text)).into()
}
