//! Reference counts, compared with the manifests; manifests, compared with the pins.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use xxhash_rust::xxh3::xxh3_128;

use crate::block::Cid;
use crate::blockstore::index::damaged;
use crate::blockstore::manifest::{self, LOOSE, MANIFESTS};
use crate::blockstore::pins;
use crate::blockstore::record::Key;
use crate::db::{Error, Snapshot};

use super::repair::Fix;
use super::{Findings, PROBLEMS_MAX, blocks};

/// Blocks compared at a time: about 64 MiB of memory.
pub(super) const KEYS_MAX: u64 = 1 << 20;

/// Compares everything, a part at a time.
pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) -> Result<(), Error> {
    let rows = snapshot.len(crate::blockstore::index::BLOCKS)?;
    let owners = snapshot.len(pins::PINS)? + snapshot.len(LOOSE)?;
    let parts = u128::from(rows.max(owners) / KEYS_MAX + 1);
    let mut lost = HashSet::new();
    for part in 0..parts {
        let is_in = |name: u128| name % parts == part;
        check_counts(snapshot, is_in, findings, &mut lost)?;
        check_owners(snapshot, is_in, findings)?;
    }
    name_pins(snapshot, &lost, findings)
}

fn check_counts(
    snapshot: &Snapshot,
    is_in: impl Fn(u128) -> bool,
    findings: &mut Findings,
    lost: &mut HashSet<Key>,
) -> Result<(), Error> {
    let name = |key: &Key| xxh3_128(key.as_bytes());
    let mut counts: HashMap<u128, u32> = HashMap::new();
    each_named(snapshot, |_, key| {
        if is_in(name(&key)) {
            let count = counts.entry(name(&key)).or_default();
            *count = count.saturating_add(1);
        }
    })?;
    for row in blocks(snapshot, Bound::Unbounded)? {
        let (key, row) = row?;
        if !is_in(name(&key)) {
            continue;
        }
        let right = counts.remove(&name(&key)).unwrap_or(0);
        if row.pins != right {
            let recorded = row.pins;
            findings.fixable(Fix::Count { key, recorded, right }, || {
                format!("block {key} is counted on {right} times, not {recorded}")
            });
        }
        if row.is_lost() && lost.len() < PROBLEMS_MAX {
            lost.insert(key);
        }
    }
    if counts.is_empty() {
        return Ok(());
    }
    // What is left has no row.
    each_named(snapshot, |_, key| {
        if let Some(right) = counts.remove(&name(&key)) {
            findings.fixable(Fix::Count { key, recorded: 0, right }, || {
                format!("block {key} is counted on {right} times, and unknown")
            });
            if lost.len() < PROBLEMS_MAX {
                lost.insert(key);
            }
        }
    })
}

/// Finds manifests that nobody owns and that nobody would ever release.
fn check_owners(
    snapshot: &Snapshot,
    is_in: impl Fn(u128) -> bool,
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut owned = HashSet::new();
    let pinned = pins::all(snapshot, None)?.map(|pin| Ok(pin?.1.manifest));
    let loose = snapshot.range(LOOSE, Bound::Unbounded, Bound::Unbounded)?.map(|row| {
        let id = row?.0.try_into().map_err(|_| damaged("loose"))?;
        Ok::<_, Error>(u64::from_be_bytes(id))
    });
    for id in pinned.chain(loose) {
        let id = id?;
        if is_in(id.into()) {
            owned.insert(id);
        }
    }
    let mut last = None;
    each_row(snapshot, |id, _| {
        if last != Some(id) && is_in(id.into()) && !owned.contains(&id) {
            findings.fixable(Fix::Orphan(id), || format!("no pin owns manifest {id}"));
        }
        last = Some(id);
        Ok(())
    })
}

/// Says which pins count on blocks that are lost.
fn name_pins(
    snapshot: &Snapshot,
    lost: &HashSet<Key>,
    findings: &mut Findings,
) -> Result<(), Error> {
    if lost.is_empty() {
        return Ok(());
    }
    let mut hurt: HashMap<u64, Key> = HashMap::new();
    each_named(snapshot, |id, key| {
        if lost.contains(&key) && hurt.len() < PROBLEMS_MAX {
            hurt.insert(id, key);
        }
    })?;
    for pin in pins::all(snapshot, None)? {
        let (root, row): (Cid, _) = pin?;
        if let Some(key) = hurt.get(&row.manifest) {
            findings.problem(|| format!("pin {root} lacks block {key}"));
        }
    }
    Ok(())
}

/// Goes through all blocks that manifests name.
fn each_named(snapshot: &Snapshot, mut each: impl FnMut(u64, Key)) -> Result<(), Error> {
    each_row(snapshot, |id, row| {
        for named in manifest::parse(row)? {
            each(id, named.key);
        }
        Ok(())
    })
}

fn each_row(
    snapshot: &Snapshot,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    for row in snapshot.range(MANIFESTS, Bound::Unbounded, Bound::Unbounded)? {
        let (key, row) = row?;
        let id = key.first_chunk().ok_or_else(|| damaged("manifests"))?;
        each(u64::from_be_bytes(*id), &row)?;
    }
    Ok(())
}
