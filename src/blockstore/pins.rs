//! The pins: promises to keep a DAG.

use std::ops::Bound;

use crate::block::{Blocked, Blockstore as _, Cid, StoreError};
use crate::db::{Error, Snapshot, Table, Transaction};
use crate::ipld::walk::{DagWalk, Limits, Step};

use super::index::{BLOCKS, damaged};
use super::manifest::{self, Loose};
use super::{Pin, PinError, Store};

/// Root CID → [`PinRow`].
pub(super) const PINS: Table = Table::new("pins");

/// Blocks of a DAG that is pinned where it lies; the walk remembers each in about 40 bytes.
const PIN_BLOCKS_MAX: u64 = 10_000_000;
/// Blocks put at once by such a pin.
const PIN_BATCH_BLOCKS: usize = 64;

/// What the database knows of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PinRow {
    pub(super) manifest: u64,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) created: u64,
}

impl PinRow {
    pub(super) fn pin(&self, cid: Cid) -> Pin {
        Pin { cid, blocks: self.blocks, bytes: self.bytes, created: self.created }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = bytes
            .chunks_exact(8)
            .map(|field| field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        let mut next = || fields.next().ok_or_else(|| damaged("pins"));
        Ok(Self { manifest: next()?, blocks: next()?, bytes: next()?, created: next()? })
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let fields = [self.manifest, self.blocks, self.bytes, self.created];
        for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

pub(super) fn find_in(tx: &Transaction<'_>, root: &Cid) -> Result<Option<PinRow>, Error> {
    tx.get(PINS, &root.to_bytes())?.map(|bytes| PinRow::from_bytes(&bytes)).transpose()
}

pub(super) fn put(tx: &mut Transaction<'_>, root: &Cid, row: &PinRow) -> Result<(), Error> {
    tx.put(PINS, &root.to_bytes(), &row.to_bytes())
}

/// A row of [`PINS`].
pub(super) fn parse((root, row): (Vec<u8>, Vec<u8>)) -> Result<(Cid, PinRow), Error> {
    let root = Cid::try_from(root).map_err(|_| damaged("pins"))?;
    Ok((root, PinRow::from_bytes(&row)?))
}

/// All pins behind `after`, as of a snapshot.
pub(super) fn all(
    snapshot: &Snapshot,
    after: Option<&Cid>,
) -> Result<impl Iterator<Item = Result<(Cid, PinRow), Error>> + use<>, Error> {
    let after = after.map(Cid::to_bytes);
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let rows = snapshot.range(PINS, from, Bound::Unbounded)?;
    Ok(rows.map(|row| parse(row?)))
}

impl Store {
    /// Pins a DAG that the store holds whole; one that is pinned already stays so. Every block is
    /// read, so that what is promised is there.
    pub async fn pin(&self, root: Cid) -> Result<Pin, PinError> {
        self.pin_checked(root, |_| Ok(())).await
    }

    /// As [`Self::pin`], if every block passes the check.
    pub async fn pin_checked(
        &self,
        root: Cid,
        check: impl Fn(&Cid) -> Result<(), Blocked> + Send + Sync,
    ) -> Result<Pin, PinError> {
        check(&root)?;
        if let Some(pin) = self.pinned(&root)? {
            return Ok(pin);
        }
        let mut writing = self.begin().await?;
        let limits = Limits { blocks: PIN_BLOCKS_MAX, ..Limits::default() };
        let mut walk = DagWalk::new(root, limits);
        let mut blocks = Vec::new();
        loop {
            match walk.step()? {
                Step::Need(cid) => {
                    check(&cid)?;
                    let block = self.get(&cid).await?;
                    walk.supply(block.ok_or_else(|| PinError::Missing(Box::new(cid)))?)?;
                }
                Step::Visit(block) => {
                    // One that is collected before it is held is in hand: it is written again.
                    blocks.push(block);
                    if blocks.len() == PIN_BATCH_BLOCKS {
                        writing.put(std::mem::take(&mut blocks)).await?;
                    }
                }
                Step::Done => break,
            }
        }
        writing.put(blocks).await?;
        let (pin, ()) = writing.pin(root, |_| Ok(())).await?;
        Ok(pin)
    }

    /// Removes a pin. False when there was none. Its blocks become cached ones in the background.
    pub async fn unpin(&self, root: &Cid) -> Result<bool, StoreError> {
        Ok(self.unpin_with(root, |_| Ok(())).await?.0)
    }

    /// As [`Self::unpin`]; `also` removes other rooms' records in the same transaction.
    pub async fn unpin_with<T: Send + 'static>(
        &self,
        root: &Cid,
        also: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<(bool, T), StoreError> {
        self.inner.check()?;
        let root = *root;
        let (released, also) = self
            .inner
            .db
            .write_to_free(move |tx| {
                let row = find_in(tx, &root)?;
                if let Some(row) = row {
                    tx.remove(PINS, &root.to_bytes())?;
                    manifest::set_loose(tx, row.manifest, Loose::Released)?;
                }
                Ok::<_, Error>((row.is_some(), also(tx)?))
            })
            .await?;
        if released {
            self.inner.wake.notify_one();
        }
        Ok((released, also))
    }

    /// Whether a root is pinned, as a transaction sees it: for records that are of pins only.
    pub fn is_pinned_in(tx: &Transaction<'_>, root: &Cid) -> Result<bool, Error> {
        Ok(find_in(tx, root)?.is_some())
    }

    /// Up to `limit` pins behind `after`, in a fixed order.
    pub fn pins(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Pin>, StoreError> {
        let snapshot = self.inner.db.read()?;
        let rows = all(&snapshot, after)?.take(limit);
        let pins: Result<_, Error> = rows.map(|row| row.map(|(cid, row)| row.pin(cid))).collect();
        Ok(pins?)
    }

    /// Up to `limit` multihashes of blocks behind `after`, as bytes, in their order.
    pub fn hashes(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.inner.db.read()?.range(BLOCKS, from, Bound::Unbounded)?;
        let hashes: Result<_, Error> = rows.take(limit).map(|row| Ok(row?.0)).collect();
        Ok(hashes?)
    }

    /// Whether a block with this multihash, as bytes, is here.
    pub fn has_hash(&self, hash: &[u8]) -> Result<bool, StoreError> {
        Ok(self.inner.db.read()?.get(BLOCKS, hash)?.is_some())
    }

    /// The pin of this root.
    pub fn pinned(&self, root: &Cid) -> Result<Option<Pin>, StoreError> {
        let row = self.inner.db.read()?.get(PINS, &root.to_bytes())?;
        let row = row.map(|bytes| PinRow::from_bytes(&bytes)).transpose()?;
        Ok(row.map(|row| row.pin(*root)))
    }
}
