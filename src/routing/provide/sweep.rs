//! The walk over all that is provided, once in each interval.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, TryStreamExt as _};
use tokio::time::{Instant, sleep};

use crate::block::StoreError;
use crate::db::Error;
use crate::task::now_unix;

use super::book::{Book, Kept, Progress};
use super::{BATCH_KEYS, Keeper, ProvideMetrics, Teller, WAIT_MAX};

/// Rows gathered in one transaction.
const GATHER_ROWS: usize = 1000;
/// Batches that are told at a time: a peer that dawdles holds up its own alone.
const BATCHES_MAX: usize = 4;
/// Longest wait before the walk looks again whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Sweep {
    pub(super) book: Book,
    pub(super) keeper: Arc<dyn Keeper>,
    pub(super) teller: Teller,
    pub(super) interval: Duration,
    pub(super) metrics: ProvideMetrics,
}

/// How long the walk has been going on, by a clock that is never set.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Before the node was started.
    since: Duration,
    resumed: Instant,
}

impl Clock {
    fn elapsed(&self) -> Duration {
        self.since + self.resumed.elapsed()
    }
}

/// Tells of a batch; where it ends.
type Telling = BoxFuture<'static, Result<[u8; 32], Error>>;

/// Where a place is in the space of all, from 0 to 1.
fn share(at: &[u8; 32]) -> f64 {
    let first = at.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    first as f64 / u64::MAX as f64
}

fn thousandths(share: f64) -> i64 {
    (share * 1000.0) as i64
}

impl Sweep {
    /// Walks for ever.
    pub(super) async fn run(self) {
        let sweep = Arc::new(self);
        loop {
            if let Err(error) = sweep.walk().await {
                tracing::warn!(%error, "what is provided is not announced again now");
                sleep(WAIT_MAX).await;
            }
        }
    }

    /// Walks from where the last came to the end.
    async fn walk(self: &Arc<Self>) -> Result<(), Error> {
        let mut progress = self.book.progress()?;
        if progress.began == 0 {
            progress.began = now_unix();
        }
        if !progress.gathered {
            self.gather().await?;
            progress.gathered = true;
            self.book.set_progress(&progress).await?;
        }
        let since = Duration::from_secs(now_unix().saturating_sub(progress.began));
        let clock = Clock { since, resumed: Instant::now() };
        self.metrics.cursor.set(thousandths(progress.at.as_ref().map_or(0.0, share)));
        let from = (Arc::clone(self), progress.at);
        let batches = stream::try_unfold(from, move |(sweep, at)| sweep.next_batch(at, clock));
        // In order, so that what is written down is never ahead of what was told.
        let mut told = pin!(batches.try_buffered(BATCHES_MAX));
        while let Some(last) = told.try_next().await? {
            progress.at = Some(last);
            self.book.set_progress(&progress).await?;
            let share = share(&last);
            self.metrics.cursor.set(thousandths(share));
            let due = self.interval.mul_f64(share);
            self.metrics.lag_seconds.set(clock.elapsed().saturating_sub(due).as_secs() as i64);
        }
        self.wait_until(1.0, clock).await;
        // One that took longer than its interval is not made up for.
        self.book.set_progress(&Progress { began: now_unix(), at: None, gathered: false }).await
    }

    /// Waits until the batch behind a place is due: what tells of it and says where it ends, and from
    /// where to go on.
    async fn next_batch(
        self: Arc<Self>,
        at: Option<[u8; 32]>,
        clock: Clock,
    ) -> Result<Option<(Telling, (Arc<Self>, Option<[u8; 32]>))>, Error> {
        self.metrics.keys.set(self.book.len()?);
        let batch = self.book.behind(at.as_ref(), BATCH_KEYS)?;
        let Some((first, last)) = batch.first().zip(batch.last()) else { return Ok(None) };
        let (first, last) = (*first.position().as_bytes(), *last.position().as_bytes());
        self.wait_until(share(&first), clock).await;
        let sweep = Arc::clone(&self);
        let telling = async move { sweep.tell(batch).await.map(|()| last) };
        Ok(Some((telling.boxed(), (self, Some(last)))))
    }

    async fn wait_until(&self, share: f64, clock: Clock) {
        let due = self.interval.mul_f64(share);
        loop {
            let left = due.saturating_sub(clock.elapsed());
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
