//! Totals, live bytes and the order of eviction, compared with the index.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::blockstore::disk::Disk;
use crate::blockstore::index::{self, CACHED, Row, Totals, cached_key, parse_cached_key};
use crate::blockstore::record::Key;
use crate::db::{Error, Snapshot};

use super::repair::Fix;
use super::{Findings, blocks};

/// What the rows of the index add up to.
#[derive(Debug, Default)]
pub(super) struct Sums {
    totals: Totals,
    live: BTreeMap<u32, u32>,
}

impl Sums {
    pub(super) fn add(&mut self, key: &Key, row: &Row) {
        if row.is_lost() {
            return;
        }
        self.totals.blocks += 1;
        self.totals.bytes += u64::from(row.length);
        if row.pins == 0 {
            self.totals.cached_blocks += 1;
            self.totals.cached_bytes += u64::from(row.length);
        }
        let live = self.live.entry(row.at.segment).or_default();
        *live = live.saturating_add(row.record_bytes(key));
    }

    /// Compares with what is recorded.
    pub(super) fn compare(
        mut self,
        snapshot: &Snapshot,
        disk: &Disk,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        let recorded = index::totals(snapshot)?.unwrap_or_default();
        self.totals.next_manifest = recorded.next_manifest;
        if self.totals != recorded {
            findings.fixable(Fix::Totals { recorded, right: self.totals }, || {
                format!("the totals are {recorded:?}, and should be {:?}", self.totals)
            });
        }
        let recorded = index::segments(snapshot)?;
        for (id, row) in &recorded {
            let bytes = std::fs::metadata(disk.path(*id)).map_or(0, |file| file.len());
            if bytes < u64::from(row.length) {
                let length = row.length;
                findings.fixable(Fix::Length { id: *id, bytes }, || {
                    format!("segment {id} has {bytes} bytes of {length}: its end is lost")
                });
            }
        }
        let ids = recorded.keys().chain(self.live.keys().filter(|id| !recorded.contains_key(id)));
        for id in ids {
            let recorded = recorded.get(id).map_or(0, |row| row.live);
            let right = self.live.get(id).copied().unwrap_or(0);
            if recorded != right {
                findings.fixable(Fix::Live { id: *id, recorded, right }, || {
                    format!("segment {id} has {right} live bytes, not {recorded}")
                });
            }
        }
        Ok(())
    }
}

/// Compares the order of eviction with the index, both ways.
pub(super) fn check_cached(snapshot: &Snapshot, findings: &mut Findings) -> Result<(), Error> {
    for row in blocks(snapshot, Bound::Unbounded)? {
        let (key, row) = row?;
        let waits = cached_key(row.used, &key);
        if row.pins == 0 && snapshot.get(CACHED, &waits)?.is_none() {
            findings.fixable(Fix::Waits(waits), || {
                format!("block {key} is covered by no pin, and not in the order of eviction")
            });
        }
    }
    for row in snapshot.range(CACHED, Bound::Unbounded, Bound::Unbounded)? {
        let (waits, _) = row?;
        let found = match parse_cached_key(&waits) {
            Some((used, key)) => index::find(snapshot, &key)?
                .filter(|row| row.pins == 0 && row.used == used)
                .map(|_| key),
            None => None,
        };
        if found.is_none() {
            let name = parse_cached_key(&waits).map(|(_, key)| key);
            findings.fixable(Fix::Waits(waits), || match name {
                Some(key) => format!("block {key} is in the order of eviction, and should not be"),
                None => "a row of the order of eviction is damaged".to_owned(),
            });
        }
    }
    Ok(())
}
