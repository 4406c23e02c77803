use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::{Histogram, IntCounter};

crate::metrics! {
    /// Where blocks came from.
    pub struct Metrics {
        /// Blocks asked for, by where they were found; "none" where nobody had them.
        blocks: counter_vec("estuary_retrieval_blocks_total", "source"),
        /// Bytes of the blocks found, by where.
        bytes: counter_vec("estuary_retrieval_bytes_total", "source"),
        /// Time to find a block that was not in memory, by where it was found, in seconds.
        seconds: histogram_vec("estuary_retrieval_block_seconds", "source"),
        /// Asks of a source for a block, by what came of them: "gave", "lacked" or "failed".
        asked: counter_vec("estuary_retrieval_asked_total", "source", "outcome"),
        /// Searches for providers, by outcome: "found", "none", or "failed" where routers gave no answer.
        searches: counter_vec("estuary_retrieval_searches_total", "outcome"),
        /// Time of a search for providers, to its end, in seconds.
        search_seconds: histogram("estuary_retrieval_search_seconds"),
        /// Providers that routers named, by router.
        providers: counter_vec("estuary_retrieval_providers_total", "router"),
        /// Fetched blocks that could not be kept on disk.
        not_kept: counter("estuary_retrieval_not_kept_total"),
    }
}

/// The collectors of each rung, looked up once.
pub(super) struct Rungs {
    pub(super) cache: Rung,
    pub(super) disk: Rung,
    pub(super) none: IntCounter,
    pub(super) not_kept: IntCounter,
    sources: Mutex<HashMap<&'static str, Arc<Rung>>>,
    metrics: Metrics,
}

/// The collectors of one rung.
pub(super) struct Rung {
    blocks: IntCounter,
    bytes: IntCounter,
    seconds: Histogram,
    gave: IntCounter,
    lacked: IntCounter,
    failed: IntCounter,
}

impl Rung {
    fn new(metrics: &Metrics, name: &str) -> Self {
        Self {
            blocks: metrics.blocks.with_label_values(&[name]),
            bytes: metrics.bytes.with_label_values(&[name]),
            seconds: metrics.seconds.with_label_values(&[name]),
            gave: metrics.asked.with_label_values(&[name, "gave"]),
            lacked: metrics.asked.with_label_values(&[name, "lacked"]),
            failed: metrics.asked.with_label_values(&[name, "failed"]),
        }
    }

    /// A source gave a block.
    pub(super) fn gave(&self, bytes: usize, took: Duration) {
        self.found(bytes);
        self.seconds.observe(took.as_secs_f64());
        self.gave.inc();
    }

    /// A source said that nobody it knows has it.
    pub(super) fn lacked(&self) {
        self.lacked.inc();
    }

    /// A source failed, or gave something else.
    pub(super) fn failed(&self) {
        self.failed.inc();
    }

    pub(super) fn found(&self, bytes: usize) {
        self.blocks.inc();
        self.bytes.inc_by(bytes as u64);
    }

    pub(super) fn took(&self, started: Instant) {
        self.seconds.observe(started.elapsed().as_secs_f64());
    }
}

impl Rungs {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            cache: Rung::new(metrics, "cache"),
            disk: Rung::new(metrics, "disk"),
            none: metrics.blocks.with_label_values(&["none"]),
            not_kept: metrics.not_kept.clone(),
            sources: Mutex::default(),
            metrics: metrics.clone(),
        }
    }

    pub(super) fn source(&self, name: &'static str) -> Arc<Rung> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sources.entry(name).or_insert_with(|| Arc::new(Rung::new(&self.metrics, name))))
    }

    /// A router named a provider.
    pub(super) fn found_by(&self, router: &'static str) {
        self.metrics.providers.with_label_values(&[router]).inc();
    }

    /// A search for providers ended.
    pub(super) fn searched(&self, outcome: &'static str, began: Instant) {
        self.metrics.searches.with_label_values(&[outcome]).inc();
        self.metrics.search_seconds.observe(began.elapsed().as_secs_f64());
    }
}
