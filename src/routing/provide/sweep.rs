//! The walk over all that is provided, once in each interval.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::block::StoreError;
use crate::db::Error;
use crate::task::now_unix;

use super::book::{Book, Kept, Progress};
use super::{BATCH_KEYS, Keeper, ProvideMetrics, Teller, WAIT_MAX};

/// Rows gathered in one transaction.
const GATHER_ROWS: usize = 1000;
/// Longest wait before the walk looks again whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Sweep {
    pub(super) book: Book,
    pub(super) keeper: Arc<dyn Keeper>,
    pub(super) teller: Teller,
    pub(super) interval: Duration,
    pub(super) metrics: ProvideMetrics,
}

/// Where a place is in the space of all, from 0 to 1.
fn share(at: &[u8; 32]) -> f64 {
    let first = at.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    first as f64 / u64::MAX as f64
}

impl Sweep {
    /// Walks for ever.
    pub(super) async fn run(self) {
        loop {
            if let Err(error) = self.walk().await {
                tracing::warn!(%error, "what is provided is not announced again now");
                sleep(WAIT_MAX).await;
            }
        }
    }

    /// Walks from where the last came to the end.
    async fn walk(&self) -> Result<(), Error> {
        let mut progress = self.book.progress()?;
        if progress.began == 0 {
            progress.began = now_unix();
        }
        if !progress.gathered {
            self.gather().await?;
            progress.gathered = true;
            self.book.set_progress(&progress).await?;
        }
        // When the walk began, by a clock that is never set.
        let since = Duration::from_secs(now_unix().saturating_sub(progress.began));
        let began = Instant::now();
        let elapsed = || since + began.elapsed();
        loop {
            self.metrics.keys.set(self.book.len()?);
            let batch = self.book.behind(progress.at.as_ref(), BATCH_KEYS)?;
            let Some((first, last)) = batch.first().zip(batch.last()) else { break };
            self.wait_until(share(first.position().as_bytes()), &elapsed).await;
            let last = *last.position().as_bytes();
            self.tell(batch).await?;
            progress.at = Some(last);
            self.book.set_progress(&progress).await?;
            let share = share(&last);
            self.metrics.cursor.set((share * 1000.0) as i64);
            let due = self.interval.mul_f64(share);
            self.metrics.lag_seconds.set(elapsed().saturating_sub(due).as_secs() as i64);
        }
        self.wait_until(1.0, &elapsed).await;
        // One that took longer than its interval is not made up for.
        self.book.set_progress(&Progress { began: now_unix(), at: None, gathered: false }).await
    }

    async fn wait_until(&self, share: f64, elapsed: &impl Fn() -> Duration) {
        let due = self.interval.mul_f64(share);
        loop {
            let left = due.saturating_sub(elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK_EVERY)).await;
        }
    }

    /// Announces what of it is still kept.
    async fn tell(&self, batch: Vec<Kept>) -> Result<(), Error> {
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for one in batch {
            let keeps = self.keeper.keeps(&one.name)?;
            if keeps { kept.push(one) } else { gone.push(one) }
        }
        if !gone.is_empty() {
            self.book.remove(gone).await?;
        }
        if !kept.is_empty() {
            self.teller.tell(&kept).await;
        }
        Ok(())
    }

    /// Takes in all that is kept.
    async fn gather(&self) -> Result<(), Error> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (keeper, from) = (Arc::clone(&self.keeper), after.clone());
            let read = move || keeper.page(from.as_deref(), GATHER_ROWS);
            let page = tokio::task::spawn_blocking(read).await;
            let page =
                page.unwrap_or_else(|stopped| Err(StoreError::Io(stopped.to_string().into())))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            self.book.add(page).await?;
        }
    }
}
