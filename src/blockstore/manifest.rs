//! Which blocks a pin, or a DAG that is being written, counts on.
//!
//! **Invariant:** a block's count of pins is how often the manifests name it. A manifest belongs to
//! one pin, or is loose: then its counts are on their way back.

use std::ops::Bound;
use std::sync::Arc;

use crate::block::StoreError;
use crate::db::{Error, Table, Transaction};

use super::Inner;
use super::batch::Counted;
use super::index::{Edit, damaged};
use super::record::{KEY_BYTES_MAX, Key};

/// (manifest u64 BE, 2^32 - 1 - row u32 BE) → the multihashes counted on: a byte of length each, its highest
/// bit set where the block was new, and the multihash.
pub(super) const MANIFESTS: Table = Table::new("manifests");
/// Manifest u64 BE → a byte of [`Loose`], for those that no pin owns.
pub(super) const LOOSE: Table = Table::new("loose");

/// Bytes of one row at most: an upload's last batch fills a few of them, and a step of a release
/// reads one.
const ROW_BYTES_MAX: usize = 60 << 10;
const NEW: u8 = 0x80;

/// Why a manifest belongs to no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loose {
    /// Its DAG is being written, or was when the process ended. What was new goes with it.
    Open = 0,
    /// It was unpinned, or only to be cached. Its blocks become cached ones.
    Released = 1,
}

pub(super) fn key(manifest: u64) -> [u8; 8] {
    manifest.to_be_bytes()
}

/// The last row of a manifest comes first: it is released first, so that a block which was new
/// when it was first named, and named again later, is given back as a new one.
fn row_key(manifest: u64, row: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&key(manifest));
    bytes[8..].copy_from_slice(&(u32::MAX - row).to_be_bytes());
    bytes
}

/// Puts rows that name these blocks behind the `first` ones; gives how many rows there are then.
pub(super) fn extend(
    tx: &mut Transaction<'_>,
    manifest: u64,
    first: u32,
    counted: &[Counted],
) -> Result<u32, Error> {
    let mut row = first;
    let mut bytes = Vec::new();
    for (n, Counted { key, new }) in counted.iter().enumerate() {
        bytes.push(key.length() | if *new { NEW } else { 0 });
        bytes.extend_from_slice(key.as_bytes());
        if bytes.len() + 1 + KEY_BYTES_MAX > ROW_BYTES_MAX || n + 1 == counted.len() {
            tx.put(MANIFESTS, &row_key(manifest, row), &bytes)?;
            bytes.clear();
            row += 1;
        }
    }
    Ok(row)
}

/// The blocks that a row names.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Vec<Counted>, Error> {
    let mut counted = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        let length = usize::from(first & !NEW);
        let (key, rest) = rest.split_at_checked(length).ok_or_else(|| damaged("manifests"))?;
        let key = Key::from_bytes(key).ok_or_else(|| damaged("manifests"))?;
        counted.push(Counted { key, new: first & NEW != 0 });
        bytes = rest;
    }
    Ok(counted)
}

/// Sets a manifest loose.
pub(super) fn set_loose(tx: &mut Transaction<'_>, manifest: u64, why: Loose) -> Result<(), Error> {
    tx.put(LOOSE, &key(manifest), &[why as u8])
}

impl Inner {
    /// Gives back the counts of all manifests that no pin owns and nobody writes.
    pub(super) async fn release_all(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let snapshot = self.db.read()?;
            let from =
                after.as_ref().map_or(Bound::Unbounded, |key: &[u8; 8]| Bound::Excluded(&key[..]));
            let next = snapshot.range(LOOSE, from, Bound::Unbounded)?.next().transpose()?;
            drop(snapshot);
            let Some((found, _)) = next else { return Ok(()) };
            let found: [u8; 8] = found.try_into().map_err(|_| damaged("loose"))?;
            let manifest = u64::from_be_bytes(found);
            // One that is pinned and then let go of in between is not loose any more.
            if !self.is_being_written(manifest) {
                self.release(manifest).await?;
            }
            after = Some(found);
        }
    }

    /// Gives back the counts of a loose manifest, one row a transaction: bounded, and as far along
    /// after a crash as it was. Leaves others alone. Asks for the collector's lock.
    pub(super) async fn release(self: &Arc<Self>, manifest: u64) -> Result<(), StoreError> {
        loop {
            let _collecting = self.collecting().await?;
            let inner = Arc::clone(self);
            let more = self.db.write_to_free(move |tx| release_row(&inner, tx, manifest)).await;
            self.holds.gone();
            if !more? {
                return Ok(());
            }
        }
    }
}

/// Releases one row; says whether there may be more.
fn release_row(inner: &Inner, tx: &mut Transaction<'_>, manifest: u64) -> Result<bool, Error> {
    let Some(why) = tx.get(LOOSE, &key(manifest))? else { return Ok(false) };
    let rows = tx.rows(MANIFESTS, Bound::Included(&key(manifest)), 1)?;
    let Some((row, named)) = rows.into_iter().find(|(row, _)| row.starts_with(&key(manifest)))
    else {
        tx.remove(LOOSE, &key(manifest))?;
        return Ok(false);
    };
    let unseen = why == [Loose::Open as u8];
    let now = inner.now();
    let mut edit = Edit::begin(tx)?;
    for Counted { key, new } in parse(&named)? {
        // None when a repair dropped its row.
        let Some(old) = edit.find(&key)? else { continue };
        let row = edit.release(&key, old, now)?;
        // What nobody was told of leaves nothing behind, unless another writer has found it.
        let unseen = new && unseen && row.pins == 0 && !row.is_lost();
        if unseen && inner.holds.let_go(&key) {
            edit.set(&key, Some(row), None)?;
        }
    }
    edit.tx.remove(MANIFESTS, &row)?;
    edit.finish()?;
    Ok(true)
}
