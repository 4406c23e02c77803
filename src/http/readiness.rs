//! Whether the node can do its work, and why not.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::block::StoreError;
use crate::blockstore::Store;
use crate::db::{self, Db};

/// How long the database may take to show that it can be written.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long what a probe found is taken for true, so that asking often costs nothing.
const PROBE_TTL: Duration = Duration::from_secs(1);

/// Knows whether the node is ready.
#[derive(Debug)]
pub struct Readiness {
    db: Db,
    store: Store,
    free_bytes_min: u64,
    draining: CancellationToken,
    probed: Mutex<Option<(Instant, Vec<String>)>>,
}

impl Readiness {
    /// The node is ready while `draining` is not cancelled, the database can be written and the
    /// disk has at least `free_bytes_min` bytes left.
    #[must_use]
    pub fn new(db: Db, store: Store, free_bytes_min: u64, draining: CancellationToken) -> Self {
        Self { db, store, free_bytes_min, draining, probed: Mutex::default() }
    }

    /// What keeps the node from being ready, a sentence each; nothing when it is.
    pub async fn reasons(&self) -> Vec<String> {
        let mut reasons = self.probe().await;
        if self.draining.is_cancelled() {
            reasons.push("the node is shutting down".into());
        }
        reasons
    }

    /// What keeps the store from taking uploads, if anything does.
    async fn probe(&self) -> Vec<String> {
        let mut probed = self.probed.lock().await;
        if let Some((at, reasons)) = &*probed
            && at.elapsed() < PROBE_TTL
        {
            return reasons.clone();
        }
        let mut reasons = Vec::new();
        let write = self.db.write(|_| Ok::<_, db::Error>(()));
        match tokio::time::timeout(PROBE_TIMEOUT, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => reasons.push(format!("the database cannot be written: {error}")),
            Err(_) => reasons.push(format!("the database took no write in {PROBE_TIMEOUT:?}")),
        }
        match self.store.stats() {
            Ok(stats) if stats.free_bytes < self.free_bytes_min => {
                let full = StoreError::Full { available_bytes: stats.free_bytes };
                reasons.push(full.to_string());
            }
            Ok(_) => {}
            Err(error) => reasons.push(error.to_string()),
        }
        *probed = Some((Instant::now(), reasons.clone()));
        reasons
    }
}
