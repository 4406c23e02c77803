//! What is provided, in the order of its places in the DHT, and how far the walk over it came.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::db::{Db, Error, Table};
use crate::p2p::dht::Position;

/// By place: [`Kept`], all that is provided.
const KEPT: Table = Table::new("provide");
/// By place: [`Kept`], what was not announced yet.
const FRESH: Table = Table::new("provide_fresh");
/// Under the empty key: [`Progress`].
const PROGRESS: Table = Table::new("provide_progress");

/// Something that is kept and provided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name for whoever keeps it.
    pub name: Vec<u8>,
    /// Its key in the DHT: a multihash.
    pub key: Vec<u8>,
}

impl Kept {
    /// Its place.
    pub(super) fn position(&self) -> Position {
        Position::of(&self.key)
    }

    fn row(&self) -> Vec<u8> {
        let length = u8::try_from(self.key.len()).unwrap_or(0);
        [&[length], &self.key[..], &self.name[..]].concat()
    }

    fn read(row: &[u8]) -> Option<Self> {
        let (length, rest) = row.split_first()?;
        let (key, name) = rest.split_at_checked(usize::from(*length))?;
        Some(Self { name: name.to_vec(), key: key.to_vec() })
    }
}

/// How far the walk came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// When this walk began, in seconds since 1970; 0 where none has.
    pub(super) began: u64,
    /// The place that was last announced; none at the beginning.
    pub(super) at: Option<[u8; 32]>,
    /// Whether all that is kept stands in the table.
    pub(super) gathered: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Book {
    db: Db,
}

impl Book {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(super) fn len(&self) -> Result<i64, Error> {
        Ok(i64::try_from(self.db.read()?.len(KEPT)?).unwrap_or(i64::MAX))
    }

    /// Up to `limit` that were not announced yet.
    pub(super) fn fresh(&self, limit: usize) -> Result<Vec<Kept>, Error> {
        self.rows(FRESH, None, limit)
    }

    /// Up to `limit` behind a place, in order.
    pub(super) fn behind(&self, at: Option<&[u8; 32]>, limit: usize) -> Result<Vec<Kept>, Error> {
        self.rows(KEPT, at, limit)
    }

    fn rows(&self, table: Table, at: Option<&[u8; 32]>, limit: usize) -> Result<Vec<Kept>, Error> {
        let from = at.map_or(Bound::Unbounded, |at| Bound::Excluded(&at[..]));
        let rows = self.db.read()?.range(table, from, Bound::Unbounded)?;
        let mut found = Vec::new();
        for row in rows.take(limit) {
            // One that cannot be read is left out; the next gathering writes it anew.
            found.extend(Kept::read(&row?.1));
        }
        Ok(found)
    }

    /// Takes in what is new and to be announced.
    pub(super) async fn add_fresh(&self, new: Vec<Kept>) -> Result<(), Error> {
        let job = move |tx: &mut crate::db::Transaction<'_>| {
            for kept in new {
                let (position, row) = (kept.position(), kept.row());
                tx.put(KEPT, position.as_bytes(), &row)?;
                tx.put(FRESH, position.as_bytes(), &row)?;
            }
            Ok(())
        };
        self.db.write(job).await
    }

    /// Takes in what is kept, where it does not stand yet.
    pub(super) async fn add(&self, kept: Vec<Kept>) -> Result<(), Error> {
        let job = move |tx: &mut crate::db::Transaction<'_>| {
            for kept in kept {
                let (position, row) = (kept.position(), kept.row());
                if tx.get(KEPT, position.as_bytes())?.as_ref() != Some(&row) {
                    tx.put(KEPT, position.as_bytes(), &row)?;
                }
            }
            Ok(())
        };
        self.db.write(job).await
    }

    /// These were announced for the first time.
    pub(super) async fn told(&self, told: Vec<Kept>) -> Result<(), Error> {
        let job = move |tx: &mut crate::db::Transaction<'_>| {
            told.iter().try_for_each(|kept| tx.remove(FRESH, kept.position().as_bytes()))
        };
        self.db.write_to_free(job).await
    }

    /// Takes out what is no longer kept.
    pub(super) async fn remove(&self, gone: Vec<Kept>) -> Result<(), Error> {
        let job = move |tx: &mut crate::db::Transaction<'_>| {
            gone.iter().try_for_each(|kept| tx.remove(KEPT, kept.position().as_bytes()))
        };
        self.db.write_to_free(job).await
    }

    pub(super) fn progress(&self) -> Result<Progress, Error> {
        let row = self.db.read()?.get(PROGRESS, &[])?;
        Ok(row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default())
    }

    pub(super) async fn set_progress(&self, progress: &Progress) -> Result<(), Error> {
        let row = serde_json::to_vec(progress).unwrap_or_default();
        self.db.write(move |tx| tx.put(PROGRESS, &[], &row)).await
    }
}
