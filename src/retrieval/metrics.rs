use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
}

impl Rung {
    fn new(metrics: &Metrics, name: &str) -> Self {
        Self {
            blocks: metrics.blocks.with_label_values(&[name]),
            bytes: metrics.bytes.with_label_values(&[name]),
            seconds: metrics.seconds.with_label_values(&[name]),
        }
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
}
