//! Whether what the store knows of itself is true: every block hashed again, every sum added up.
//!
//! A check reads one snapshot while the store goes on. Its repairs are differences, applied to what
//! is there by then: so both may go on beside reads and writes. Memory is bounded: counts of pins
//! are compared for [`counts::KEYS_MAX`] blocks at a time, which takes one reading of the index and
//! the manifests each, and at most [`FIXES_MAX`] repairs are made at once.

mod counts;
mod records;
mod repair;
mod sums;

use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::block::StoreError;
use crate::db::{Error, Snapshot};

use super::index::{BLOCKS, Row, damaged};
use super::record::Key;
use super::{CheckReport, Inner, Store, blocking, lock};

use repair::Fix;
use sums::Sums;

/// Sentences of a report.
const PROBLEMS_MAX: usize = 100;
/// Repairs of one check; where more are needed another check makes them.
const FIXES_MAX: usize = 100_000;
/// Rows that a scrub reads of one snapshot, so that old pages are not kept for long.
const SCRUB_ROWS: usize = 1 << 16;

/// What a check found.
#[derive(Debug, Default)]
struct Findings {
    blocks: u64,
    bytes: u64,
    problems: Vec<String>,
    problems_total: u64,
    fixes: Vec<Fix>,
}

impl Findings {
    fn problem(&mut self, sentence: impl FnOnce() -> String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(sentence());
        }
    }

    fn fixable(&mut self, fix: Fix, sentence: impl FnOnce() -> String) {
        self.problem(sentence);
        if self.fixes.len() < FIXES_MAX {
            self.fixes.push(fix);
        }
    }

    fn report(self) -> CheckReport {
        CheckReport {
            ok: self.problems_total == 0,
            blocks: self.blocks,
            bytes: self.bytes,
            problems: self.problems,
            problems_total: self.problems_total,
            repaired: 0,
        }
    }
}

impl Store {
    /// Hashes every block again. Those that are damaged are not served from then on, and kept when
    /// somebody brings them again. At most two threads work on it.
    pub async fn scrub(&self) -> Result<CheckReport, StoreError> {
        let mut findings = Findings::default();
        let mut after = None;
        loop {
            let stay = Arc::clone(&self.inner.removing).lock_owned().await;
            let inner = Arc::clone(&self.inner);
            (findings, after) = blocking(move || inner.scrub_some(findings, after, stay)).await??;
            if after.is_none() {
                return Ok(findings.report());
            }
        }
    }

    /// Checks that index, pins, reference counts and segment files agree, and that every block
    /// hashes to its name; mends them if asked. A block that a pin counts on and that is lost stays
    /// a problem until somebody writes it again, or its pins are removed.
    pub async fn fsck(&self, repair: bool) -> Result<CheckReport, StoreError> {
        self.inner.flush().await?;
        let findings = self.inner.check_all().await?;
        if !repair || findings.problems_total == 0 {
            return Ok(findings.report());
        }
        let mut findings = findings;
        self.inner.repair(std::mem::take(&mut findings.fixes)).await?;
        lock(&self.inner.unfit).clear();
        let left = self.inner.check_all().await?;
        let mut report = findings.report();
        report.ok = left.problems_total == 0;
        report.repaired = report.problems_total.saturating_sub(left.problems_total);
        Ok(report)
    }
}

impl Inner {
    async fn check_all(self: &Arc<Self>) -> Result<Findings, StoreError> {
        let stay = Arc::clone(&self.removing).lock_owned().await;
        let inner = Arc::clone(self);
        blocking(move || inner.check_snapshot(stay)).await?
    }

    fn scrub_some(
        &self,
        mut findings: Findings,
        after: Option<Key>,
        _stay: OwnedMutexGuard<()>,
    ) -> Result<(Findings, Option<Key>), StoreError> {
        let snapshot = self.db.read()?;
        let from = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
        let rows = blocks(&snapshot, from)?.take(SCRUB_ROWS);
        let last = self.check_records(rows, &mut findings, |_, _| {})?;
        Ok((findings, last))
    }

    fn check_snapshot(&self, _stay: OwnedMutexGuard<()>) -> Result<Findings, StoreError> {
        let snapshot = self.db.read()?;
        let mut findings = Findings::default();
        let mut sums = Sums::default();
        let rows = blocks(&snapshot, Bound::Unbounded)?;
        self.check_records(rows, &mut findings, |key, row| sums.add(key, row))?;
        sums.compare(&snapshot, self.segments.disk(), &mut findings)?;
        sums::check_cached(&snapshot, &mut findings)?;
        counts::check(&snapshot, &mut findings)?;
        Ok(findings)
    }
}

/// The index, as of a snapshot.
fn blocks(
    snapshot: &Snapshot,
    from: Bound<&[u8]>,
) -> Result<impl Iterator<Item = Result<(Key, Row), Error>> + use<>, Error> {
    let rows = snapshot.range(BLOCKS, from, Bound::Unbounded)?;
    Ok(rows.map(|row| {
        let (key, row) = row?;
        Ok((Key::from_bytes(&key).ok_or_else(|| damaged("blocks"))?, Row::from_bytes(&row)?))
    }))
}
