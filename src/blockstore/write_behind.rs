//! Fetched blocks: appended at once, their index rows committed later, in batches.
//!
//! They may be lost until then: they are only cache. They can be read from here once committed; the
//! cache in memory has them meanwhile.

use std::sync::Arc;

use crate::block::{Block, StoreError};
use crate::db::Transaction;

use super::batch::{Batch, Count};
use super::index::Edit;
use super::{Inner, blocking};

/// Blocks that wait at which they are committed.
const FLUSH_BLOCKS: usize = 1024;
/// Bytes that wait at which they are committed.
const FLUSH_BYTES: u64 = 32 << 20;
/// How far behind the commits may be, in batches, before blocks are not kept.
const BEHIND_MAX: usize = 4;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    batch: Arc<tokio::sync::Mutex<Option<Batch>>>,
    flushing: tokio::sync::Mutex<()>,
}

impl Inner {
    /// Appends fetched blocks, or leaves them when the disk lags far behind.
    pub(super) async fn cache(self: Arc<Self>, blocks: Vec<Block>) -> Result<(), StoreError> {
        self.found().await?;
        let mut waiting = Arc::clone(&self.write_behind.batch).lock_owned().await;
        let full = |batch: &Batch, times: usize| {
            batch.len() >= FLUSH_BLOCKS * times || batch.bytes() >= FLUSH_BYTES * times as u64
        };
        if waiting.as_ref().is_some_and(|batch| full(batch, BEHIND_MAX)) {
            self.metrics.not_cached.inc_by(blocks.len() as u64);
            return Ok(());
        }
        let inner = Arc::clone(&self);
        let much = blocking(move || {
            let batch = waiting.get_or_insert_with(|| Batch::new(&inner));
            batch.add(&blocks)?;
            Ok::<_, StoreError>((full(batch, 1), full(batch, 2)))
        })
        .await??;
        match much {
            (_, true) => {
                // The maintenance lags behind, or there is none. One commits for all.
                let Ok(_turn) = self.write_behind.flushing.try_lock() else { return Ok(()) };
                self.commit_waiting().await
            }
            (true, false) => {
                self.wake.notify_one();
                Ok(())
            }
            (false, false) => Ok(()),
        }
    }

    /// Commits what waits.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.write_behind.flushing.lock().await;
        self.commit_waiting().await
    }

    /// Commits what waits; on a full disk it is dropped, for room has to be made first.
    pub(super) async fn flush_or_drop(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "fetched blocks were not kept");
        }
    }

    async fn commit_waiting(&self) -> Result<(), StoreError> {
        let Some(batch) = self.write_behind.batch.lock().await.take() else { return Ok(()) };
        batch.sync().await?;
        let batch = Arc::new(batch);
        let counted = Arc::clone(&batch);
        let job = move |tx: &mut Transaction<'_>| {
            let mut edit = Edit::begin(tx)?;
            counted.apply(&mut edit, Count::Cached)?;
            edit.finish()
        };
        self.db.write(job).await?;
        batch.committed();
        // Held until it was committed.
        drop(batch);
        Ok(())
    }
}
