//! What mends what a check found.

use std::sync::Arc;

use crate::block::StoreError;
use crate::blockstore::Inner;
use crate::blockstore::index::{CACHED, Edit, LOST, Row, Totals, parse_cached_key};
use crate::blockstore::manifest::{self, Loose};
use crate::blockstore::record::Key;
use crate::blockstore::segments::Location;
use crate::db::{Error, Transaction};

/// Repairs in one transaction.
const BATCH_FIXES: usize = 4096;

/// One repair. Where something is counted it is a difference, so that what was changed since the
/// check's snapshot stays right.
#[derive(Debug, Clone)]
pub(super) enum Fix {
    /// The sums over the index.
    Totals { recorded: Totals, right: Totals },
    /// Live bytes of a segment.
    Live { id: u32, recorded: u32, right: u32 },
    /// The length of a segment, whose file is shorter than was recorded.
    Length { id: u32, bytes: u64 },
    /// The record of a block, which is dropped.
    Damaged(Key, Location),
    /// How many counts a block has.
    Count { key: Key, recorded: u32, right: u32 },
    /// A row in the order of eviction: there if, and only if, the index says so.
    Waits(Vec<u8>),
    /// A manifest without an owner.
    Orphan(u64),
}

impl Fix {
    /// Sums come first, for the others change them.
    fn turn(&self) -> u8 {
        match self {
            Self::Totals { .. } | Self::Live { .. } | Self::Length { .. } => 0,
            Self::Count { .. } => 1,
            Self::Damaged(..) => 2,
            Self::Waits(_) | Self::Orphan(_) => 3,
        }
    }
}

impl Inner {
    /// Makes repairs, in bounded transactions.
    pub(super) async fn repair(self: &Arc<Self>, mut fixes: Vec<Fix>) -> Result<(), StoreError> {
        self.check()?;
        fixes.sort_by_key(Fix::turn);
        for fixes in fixes.chunks(BATCH_FIXES) {
            let (inner, fixes) = (Arc::clone(self), fixes.to_vec());
            self.db.write(move |tx| apply(&inner, tx, &fixes)).await?;
        }
        self.wake.notify_one();
        Ok(())
    }
}

fn apply(inner: &Inner, tx: &mut Transaction<'_>, fixes: &[Fix]) -> Result<(), Error> {
    let mut edit = Edit::begin(tx)?;
    for fix in fixes {
        match fix {
            Fix::Totals { recorded, right } => {
                let totals = &mut edit.totals;
                for (field, recorded, right) in [
                    (&mut totals.blocks, recorded.blocks, right.blocks),
                    (&mut totals.bytes, recorded.bytes, right.bytes),
                    (&mut totals.cached_blocks, recorded.cached_blocks, right.cached_blocks),
                    (&mut totals.cached_bytes, recorded.cached_bytes, right.cached_bytes),
                ] {
                    *field = (*field).saturating_add(right).saturating_sub(recorded);
                }
            }
            Fix::Live { id, recorded, right } => {
                let live = &mut edit.segment(*id)?.live;
                let mended = u64::from(*live) + u64::from(*right);
                let mended = mended.saturating_sub((*recorded).into());
                *live = u32::try_from(mended).unwrap_or(u32::MAX);
            }
            Fix::Length { id, bytes } => {
                let length = &mut edit.segment(*id)?.length;
                *length = (*length).min(u32::try_from(*bytes).unwrap_or(u32::MAX));
            }
            Fix::Damaged(key, at) => {
                // Not if it was written anew meanwhile. Without pins nothing is left of it.
                if let Some(row) = edit.find(key)?.filter(|row| row.at == *at) {
                    edit.set(key, Some(row), Some(Row { at: LOST, ..row }))?;
                }
                inner.holds.mended(key);
            }
            Fix::Count { key, recorded, right } => count(inner, &mut edit, key, *recorded, *right)?,
            Fix::Waits(waits) => {
                let row = match parse_cached_key(waits) {
                    Some((used, key)) => edit.find(&key)?.filter(|row| row.used == used),
                    None => None,
                };
                if row.is_some_and(|row| row.pins == 0 && !row.is_lost()) {
                    edit.tx.put(CACHED, waits, &[])?;
                } else {
                    edit.tx.remove(CACHED, waits)?;
                }
            }
            Fix::Orphan(id) => manifest::set_loose(edit.tx, *id, Loose::Released)?,
        }
    }
    edit.finish()
}

fn count(
    inner: &Inner,
    edit: &mut Edit<'_, '_>,
    key: &Key,
    recorded: u32,
    right: u32,
) -> Result<(), Error> {
    let old = edit.find(key)?;
    // A block that only manifests know of is lost.
    let row = old.unwrap_or(Row { at: LOST, length: 0, pins: 0, used: inner.now() });
    let pins = u64::from(row.pins) + u64::from(right);
    let pins = u32::try_from(pins.saturating_sub(recorded.into())).unwrap_or(u32::MAX);
    edit.set(key, old, Some(Row { pins, ..row }))
}
