//! What was uploaded, one record an upload, by number, by owner and by content.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::block::{Cid, Mh};
use crate::db::{Db, Error, Row, Table, Transaction};
use crate::task;

/// By number: the record.
const ROWS: Table = Table::new("contents");
/// By owner and number: nothing more.
const BY_OWNER: Table = Table::new("contents_by_owner");
/// By multihash and number: nothing more.
const BY_CONTENT: Table = Table::new("contents_by_content");
/// The number last given, under the empty key.
const LAST: Table = Table::new("contents_last");

/// Records of one content that are looked through for an owner's own.
const SAME_CONTENT_MAX: usize = 1000;
/// Longest name that is recorded, in bytes.
pub const TITLE_BYTES_MAX: usize = 1024;

/// What was uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file, or a link by itself.
    File,
    /// A folder.
    Directory,
    /// A DAG in a CAR.
    Car,
}

impl Kind {
    /// Its name, in records and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Car => "car",
        }
    }
}

/// What an uploader says of an upload.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// What to call it; shortened to [`TITLE_BYTES_MAX`].
    pub name: String,
    /// Whose it is: an account.
    pub owner: u64,
    /// Refuse what this owner has uploaded before.
    pub ignore_dupes: bool,
}

/// The record of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its number, ascending; the original API's `estuaryId`.
    #[serde(skip)]
    pub id: u64,
    /// The root.
    #[serde(with = "text")]
    pub cid: Cid,
    /// What it is called.
    pub name: String,
    /// Bytes of its files; of a CAR, of its blocks.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub owner: u64,
    /// When it was pinned, in seconds since 1970.
    pub created: u64,
}

/// What became of a record.
#[derive(Debug)]
pub(super) enum Recorded {
    New(Box<Content>),
    /// The owner uploaded the same before.
    Before(u64),
}

/// Writes a record, within the transaction that pins what it is of.
pub(super) fn record(
    tx: &mut Transaction<'_>,
    cid: Cid,
    size: u64,
    kind: Kind,
    record: Record,
) -> Result<Recorded, Error> {
    let Record { mut name, owner, ignore_dupes } = record;
    if ignore_dupes && let Some(id) = same(tx, &cid, owner)? {
        return Ok(Recorded::Before(id));
    }
    while name.len() > TITLE_BYTES_MAX {
        name.pop();
    }
    let last = tx.get(LAST, &[])?.and_then(|last| number(&last)).unwrap_or(0);
    let id = last + 1;
    let content = Content { id, cid, name, size, kind, owner, created: task::now_unix() };
    let row = serde_json::to_vec(&content).map_err(unreadable)?;
    tx.put(LAST, &[], &id.to_be_bytes())?;
    tx.put(ROWS, &id.to_be_bytes(), &row)?;
    tx.put(BY_OWNER, &of_owner(owner, id), &[])?;
    tx.put(BY_CONTENT, &of_content(cid.hash(), id), &[])?;
    Ok(Recorded::New(Box::new(content)))
}

fn same(tx: &Transaction<'_>, cid: &Cid, owner: u64) -> Result<Option<u64>, Error> {
    for id in ids_of(tx, cid.hash(), 0)? {
        let row = tx.get(ROWS, &id.to_be_bytes())?;
        if row.is_some_and(|row| read(id, &row).is_ok_and(|content| content.owner == owner)) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Some of the records of this content, whatever the version of its CID, from a number on.
fn ids_of(tx: &Transaction<'_>, hash: &Mh, from: u64) -> Result<Vec<u64>, Error> {
    let from = of_content(hash, from);
    let rows = tx.rows(BY_CONTENT, Bound::Included(&from), SAME_CONTENT_MAX)?;
    let hash = hash.to_bytes();
    let own = rows.into_iter().take_while(|(key, _)| key.starts_with(&hash));
    Ok(own.filter_map(|(key, _)| number(key.get(hash.len()..)?)).collect())
}

/// Takes out the records of a content, whoever's they are: up to [`SAME_CONTENT_MAX`], from a
/// number on. Gives where to go on; none at the end. Those of other CIDs stay, which have pins of
/// their own.
pub(super) fn forget(tx: &mut Transaction<'_>, cid: &Cid, from: u64) -> Result<Option<u64>, Error> {
    let ids = ids_of(tx, cid.hash(), from)?;
    let next = ids.last().map(|last| last + 1);
    for id in ids {
        let row = tx.get(ROWS, &id.to_be_bytes())?;
        if let Some(content) = row.and_then(|row| read(id, &row).ok()) {
            if content.cid != *cid {
                continue;
            }
            tx.remove(BY_OWNER, &of_owner(content.owner, id))?;
        }
        tx.remove(ROWS, &id.to_be_bytes())?;
        tx.remove(BY_CONTENT, &of_content(cid.hash(), id))?;
    }
    Ok(next)
}

/// The records, to be read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Contents {
    db: Db,
}

/// Whose records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of every account.
    All,
    /// Of this account.
    Of(u64),
}

impl Whose {
    fn holds(self, content: &Content) -> bool {
        match self {
            Self::All => true,
            Self::Of(owner) => content.owner == owner,
        }
    }
}

impl Contents {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// The record of this number.
    pub fn get(&self, id: u64, whose: Whose) -> Result<Option<Content>, Error> {
        let row = self.db.read()?.get(ROWS, &id.to_be_bytes())?;
        let content = row.map(|row| read(id, &row)).transpose()?;
        Ok(content.filter(|content| whose.holds(content)))
    }

    /// Up to `limit` records, the newest first, without the `offset` newest.
    pub fn list(&self, whose: Whose, offset: usize, limit: usize) -> Result<Vec<Content>, Error> {
        self.page(whose, u64::MAX, offset, limit)
    }

    /// Up to `limit` records older than the one of this number, the newest first.
    pub fn older(&self, whose: Whose, than: u64, limit: usize) -> Result<Vec<Content>, Error> {
        self.page(whose, than, 0, limit)
    }

    fn page(
        &self,
        whose: Whose,
        than: u64,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<Content>, Error> {
        let snapshot = self.db.read()?;
        let mut found = Vec::new();
        match whose {
            Whose::All => {
                let than = than.to_be_bytes();
                let rows = snapshot.range(ROWS, Bound::Unbounded, Bound::Excluded(&than))?;
                for row in rows.rev().skip(offset).take(limit) {
                    let (key, row) = row?;
                    found.push(read(number(&key).unwrap_or_default(), &row)?);
                }
            }
            Whose::Of(owner) => {
                let (from, to) = (of_owner(owner, 0), of_owner(owner, than));
                let rows =
                    snapshot.range(BY_OWNER, Bound::Included(&from), Bound::Excluded(&to))?;
                for row in rows.rev().skip(offset).take(limit) {
                    let (key, _): Row = row?;
                    let id = key.get(8..).and_then(number).unwrap_or_default();
                    if let Some(row) = snapshot.get(ROWS, &id.to_be_bytes())? {
                        found.push(read(id, &row)?);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Records of this content, in either version of its CID, the oldest first.
    pub fn by_cid(&self, cid: &Cid, whose: Whose) -> Result<Vec<Content>, Error> {
        let snapshot = self.db.read()?;
        let (from, to) = (of_content(cid.hash(), 0), of_content(cid.hash(), u64::MAX));
        let rows = snapshot.range(BY_CONTENT, Bound::Included(&from), Bound::Included(&to))?;
        let mut found = Vec::new();
        for row in rows.take(SAME_CONTENT_MAX) {
            let (key, _) = row?;
            let id = key.get(key.len().saturating_sub(8)..).and_then(number).unwrap_or_default();
            if let Some(row) = snapshot.get(ROWS, &id.to_be_bytes())? {
                found.push(read(id, &row)?);
            }
        }
        found.retain(|content| whose.holds(content));
        Ok(found)
    }
}

fn of_owner(owner: u64, id: u64) -> Vec<u8> {
    [owner.to_be_bytes(), id.to_be_bytes()].concat()
}

fn of_content(hash: &Mh, id: u64) -> Vec<u8> {
    let mut key = hash.to_bytes();
    key.extend_from_slice(&id.to_be_bytes());
    key
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn read(id: u64, row: &[u8]) -> Result<Content, Error> {
    let content: Content = serde_json::from_slice(row).map_err(unreadable)?;
    Ok(Content { id, ..content })
}

#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unreadable(error: serde_json::Error) -> Error {
    Error::Store(crate::block::StoreError::Io(format!("a record of uploads: {error}").into()))
}

/// CIDs as people write them.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::block::Cid;

    pub(super) fn serialize<S: Serializer>(cid: &Cid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(cid)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cid, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
