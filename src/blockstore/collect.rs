//! What is dropped when: cached blocks over the bound, the least recently used first.
//!
//! **Invariant:** only blocks that wait in the order of eviction are dropped, and none that a
//! writer holds.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

use crate::block::StoreError;
use crate::db::{Error, Transaction};

use super::index::{self, CACHED, Edit, parse_cached_key};
use super::segments::gauge;
use super::{GcReport, Inner, Store};

/// Cached blocks looked at in one transaction.
const EVICT_BATCH_BLOCKS: usize = 1024;
/// How often the maintenance looks around by itself.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Who collects, and so how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Somebody waits for it.
    Asked,
    /// In the background: half of the time others have the disk.
    Gentle,
}

/// What one transaction dropped.
#[derive(Debug, Default)]
struct Evicted {
    blocks: u64,
    bytes: u64,
    /// Where the next one goes on; none at the end.
    next: Option<Vec<u8>>,
}

impl Store {
    /// Drops cached blocks over the bound (`all`: every block that no pin covers), and gives space
    /// of half-dead segments back.
    pub async fn gc(&self, all: bool) -> Result<GcReport, StoreError> {
        self.inner.check()?;
        self.inner.flush_or_drop().await;
        self.inner.release_all().await?;
        let bytes_max = if all { 0 } else { self.inner.cache_bytes_max };
        let mut report = self.inner.evict(bytes_max).await?;
        report.freed_bytes = self.inner.compact_all(Pace::Asked).await?;
        self.inner.set_gauges()?;
        Ok(report)
    }

    /// Collects, compacts and finishes what was begun, in the background, until `stop`.
    pub async fn maintain(self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.wake.notified() => {}
                _ = look.tick() => {}
            }
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.inner.keep_house() => done,
            };
            match done {
                Ok(()) | Err(StoreError::Closed | StoreError::ReadOnly(_)) => {}
                Err(error) => tracing::warn!(%error, "maintenance of the blockstore failed"),
            }
        }
    }
}

impl Inner {
    async fn keep_house(self: &Arc<Self>) -> Result<(), StoreError> {
        self.set_gauges()?;
        self.check()?;
        self.flush_or_drop().await;
        self.release_all().await?;
        let totals = index::totals(&self.db.read()?)?.unwrap_or_default();
        let bytes_max = self.cache_bytes_max;
        if self.segments.is_space_short() {
            // What nobody asked to keep must not be what keeps uploads out.
            self.evict(bytes_max.min(totals.cached_bytes / 2)).await?;
        } else if totals.cached_bytes > bytes_max.saturating_add(bytes_max / 16) {
            self.evict(bytes_max).await?;
        }
        self.compact_all(Pace::Gentle).await?;
        self.set_gauges()
    }

    fn set_gauges(&self) -> Result<(), StoreError> {
        let totals = index::totals(&self.db.read()?)?.unwrap_or_default();
        self.metrics.cached_bytes.set(gauge(totals.cached_bytes));
        self.metrics.disk_bytes.set(gauge(self.segments.disk_bytes()));
        if let Ok(free_bytes) = self.segments.disk().free_bytes() {
            self.metrics.free_bytes.set(gauge(free_bytes));
        }
        Ok(())
    }

    /// Waits until nobody else drops blocks.
    pub(super) async fn collecting(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        let turn = self.collecting.lock().await;
        if self.holds.is_going() {
            // Whoever collected was given up before its transaction's fate was known. Now it is.
            self.db.write_to_free(|_| Ok::<_, Error>(())).await?;
            self.holds.gone();
        }
        Ok(turn)
    }

    /// Drops cached blocks until they have at most so many bytes.
    async fn evict(self: &Arc<Self>, bytes_max: u64) -> Result<GcReport, StoreError> {
        let mut report = GcReport::default();
        let mut from = Some(Vec::new());
        while let Some(next) = from {
            let _collecting = self.collecting().await?;
            let inner = Arc::clone(self);
            let evicted =
                self.db.write_to_free(move |tx| evict(&inner, tx, &next, bytes_max)).await;
            self.holds.gone();
            let evicted = evicted?;
            self.metrics.evicted_blocks.inc_by(evicted.blocks);
            self.metrics.evicted_bytes.inc_by(evicted.bytes);
            report.blocks += evicted.blocks;
            report.bytes += evicted.bytes;
            from = evicted.next;
        }
        Ok(report)
    }
}

fn evict(
    inner: &Inner,
    tx: &mut Transaction<'_>,
    from: &[u8],
    bytes_max: u64,
) -> Result<Evicted, Error> {
    let mut evicted = Evicted::default();
    let rows = tx.rows(CACHED, Bound::Excluded(from), EVICT_BATCH_BLOCKS)?;
    let full = rows.len() == EVICT_BATCH_BLOCKS;
    let mut edit = Edit::begin(tx)?;
    for (row, _) in &rows {
        if edit.totals.cached_bytes <= bytes_max {
            edit.finish()?;
            return Ok(evicted);
        }
        let Some((_, key)) = parse_cached_key(row) else { continue };
        let Some(old) = edit.find(&key)?.filter(|old| old.pins == 0) else { continue };
        if inner.holds.let_go(&key) {
            edit.set(&key, Some(old), None)?;
            inner.holds.mended(&key);
            evicted.blocks += 1;
            evicted.bytes += u64::from(old.length);
        }
    }
    edit.finish()?;
    evicted.next = rows.into_iter().next_back().map(|(row, _)| row).filter(|_| full);
    Ok(evicted)
}
