//! Saying what we provide: soon after it came, and all of it again over each interval.
//!
//! What is provided stands in the database in the order of its places in the DHT, and is walked in
//! that order, so that neighbouring keys are told to the same peers at once. How far the walk came
//! is written down: a restart goes on from there.

mod book;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::block::{Cid, StoreError};
use crate::db::Db;
use crate::metrics::{IntCounterVec, IntGauge};

pub use book::Kept;

use book::Book;

/// Contents that may wait to be announced for the first time in memory; the walk finds the rest.
const FRESH_MAX: usize = 4096;
/// How long fresh contents are gathered before they are announced.
const GATHER: Duration = Duration::from_millis(500);
/// Keys announced at a time.
const BATCH_KEYS: usize = 1000;
/// Wait when nobody is there to be told, the first time; it doubles.
const WAIT_MIN: Duration = Duration::from_secs(2);
/// Longest such wait.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What is provided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provide {
    /// The roots of pins.
    #[default]
    Roots,
    /// Every block.
    All,
    /// Nothing.
    Off,
}

crate::metrics! {
    /// What was said of what is provided.
    pub struct ProvideMetrics {
        /// Keys announced to the DHT, by how it ended: "ok", or "failed" where no peer heard of it.
        provided: counter_vec("estuary_routing_provided_total", "outcome"),
        /// Keys that are provided.
        keys: gauge("estuary_routing_provide_keys"),
        /// How far the walk over all keys has come, in thousandths.
        cursor: gauge("estuary_routing_provide_cursor"),
        /// How late the walk is, in seconds.
        lag_seconds: gauge("estuary_routing_provide_lag_seconds"),
    }
}

/// Whoever keeps what is to be provided. Names are the keeper's own, in a fixed order.
pub trait Keeper: Send + Sync {
    /// Up to `limit` of what is kept, behind `after`.
    fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Kept>, StoreError>;
    /// Whether what has this name is still kept.
    fn keeps(&self, name: &[u8]) -> Result<bool, StoreError>;
}

/// Tells others what we provide.
pub trait Announcer: Send + Sync {
    /// Announces keys, in the order of their places. Of each, how many peers heard of it; none
    /// where nobody is there to be told.
    fn announce(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Option<Vec<usize>>>;
}

/// Hears of what is newly kept. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fresh(mpsc::Sender<Kept>);

impl Fresh {
    /// A root was pinned.
    pub fn root(&self, cid: &Cid) {
        let kept = Kept { name: cid.to_bytes(), key: cid.hash().to_bytes() };
        if self.0.try_send(kept).is_err() {
            tracing::debug!(%cid, "too much is new at once; it is announced in its turn");
        }
    }
}

/// Provides what a keeper keeps.
pub struct Providing {
    book: Book,
    keeper: Arc<dyn Keeper>,
    announcer: Arc<dyn Announcer>,
    fresh: mpsc::Receiver<Kept>,
    interval: Duration,
    metrics: ProvideMetrics,
}

impl std::fmt::Debug for Providing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providing").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Providing {
    /// Provides what `keeper` keeps, all of it once in `interval`.
    #[must_use]
    pub fn new(
        db: Db,
        keeper: Arc<dyn Keeper>,
        announcer: Arc<dyn Announcer>,
        interval: Duration,
        metrics: ProvideMetrics,
    ) -> (Self, Fresh) {
        let (sender, fresh) = mpsc::channel(FRESH_MAX);
        let book = Book::new(db);
        (Self { book, keeper, announcer, fresh, interval, metrics }, Fresh(sender))
    }

    /// Announces until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let Self { book, keeper, announcer, fresh, interval, metrics } = self;
        let teller = Teller { announcer, metrics: metrics.provided.clone() };
        let sweep = sweep::Sweep {
            book: book.clone(),
            keeper,
            teller: teller.clone(),
            interval,
            metrics: metrics.clone(),
        };
        let work = async {
            tokio::join!(sweep.run(), announce_fresh(book, fresh, teller, metrics.keys.clone()))
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = work => {}
        }
    }
}

/// Announces, counts, and waits where nobody is there.
#[derive(Clone)]
struct Teller {
    announcer: Arc<dyn Announcer>,
    metrics: IntCounterVec,
}

impl Teller {
    /// Tells of all these keys, as soon as somebody is there to be told. Which nobody heard of.
    async fn tell(&self, kept: &[Kept]) -> Vec<Kept> {
        let mut wait = WAIT_MIN;
        loop {
            let keys = kept.iter().map(|kept| kept.key.clone()).collect();
            if let Some(heard) = self.announcer.announce(keys).await {
                let unheard = kept.iter().zip(&heard).filter(|(_, heard)| **heard == 0);
                let unheard: Vec<_> = unheard.map(|(kept, _)| kept.clone()).collect();
                let ok = kept.len() - unheard.len();
                self.metrics.with_label_values(&["ok"]).inc_by(ok as u64);
                self.metrics.with_label_values(&["failed"]).inc_by(unheard.len() as u64);
                return unheard;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}

/// Announces what is new, and first what was new when the node stopped.
async fn announce_fresh(
    book: Book,
    mut fresh: mpsc::Receiver<Kept>,
    teller: Teller,
    keys: IntGauge,
) {
    loop {
        let waiting = match book.fresh(BATCH_KEYS) {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%error, "what is new cannot be read, and is announced in its turn");
                Vec::new()
            }
        };
        if waiting.is_empty() {
            let Some(first) = fresh.recv().await else { return };
            tokio::time::sleep(GATHER).await;
            let mut new = vec![first];
            while let (Ok(next), true) = (fresh.try_recv(), new.len() < BATCH_KEYS) {
                new.push(next);
            }
            if let Err(error) = book.add_fresh(new).await {
                tracing::warn!(%error, "what is new is not written down, and announced in its turn");
            }
            keys.set(book.len().unwrap_or_default());
            continue;
        }
        let unheard = teller.tell(&waiting).await;
        if let Err(error) = book.told(waiting).await {
            tracing::warn!(%error, "that something was announced is not written down");
            tokio::time::sleep(WAIT_MIN).await;
        }
        if !unheard.is_empty() {
            // Peers were there, but none took them: a moment later there may be others.
            tokio::time::sleep(WAIT_MIN).await;
        }
    }
}

#[cfg(test)]
mod tests;
