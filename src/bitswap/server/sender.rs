//! The task that sends to one peer.
//!
//! It reads ahead while it writes, and never waits for more than the first block: what is ready when
//! a message can be written goes with it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use crate::bitswap::message::{Message, Presence, RawBlock};
use crate::bitswap::network::{Courier, SendError};
use crate::block::Block;
use crate::p2p::PeerId;
use crate::traffic::Way;

use super::Shared;
use super::engine::{Held, Job, Line};
use super::wantlist::Key;

/// Bytes of blocks at which a message is full: a fourth of what one block may have, so that the
/// next is read while it is written. With one block beyond it stays below what peers accept.
const MESSAGE_BYTES_TARGET: u32 = 512 << 10;
/// Bytes that are read for one peer and not yet written; a larger block goes alone.
const OUTSTANDING_BYTES_MAX: u32 = 1 << 20;
/// Bytes that each block costs beside its own.
const BLOCK_BYTES_EXTRA: u32 = 64;

pub(super) struct Sender {
    shared: Arc<Shared>,
    peer: PeerId,
    line: Line,
    /// Bytes of what is being read, is in the next message, or is being written.
    outstanding: u32,
    next: Outgoing,
}

/// A message on its way.
#[derive(Default)]
struct Outgoing {
    message: Message,
    keys: Vec<Key>,
    /// Of the blocks alone.
    block_bytes: u64,
    /// What they cost, and their part of the budget.
    cost: u32,
    permits: Vec<OwnedSemaphorePermit>,
}

/// A block that was looked for, and its part of the budget.
type Read = (Job, Option<Block>, OwnedSemaphorePermit);
type Written = (Courier, Outgoing, Result<(), SendError>);

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, peer: PeerId, line: Line) -> Self {
        Self { shared, peer, line, outstanding: 0, next: Outgoing::default() }
    }

    pub(super) async fn run(mut self) {
        let gone = self.line.gone.clone();
        let failed = gone.run_until_cancelled(self.send_all()).await;
        if let Some(error) = failed {
            tracing::debug!(peer = %self.peer, %error, "a peer is not served further");
            if matches!(error, SendError::Stalled(_)) {
                self.shared.metrics.stalled.inc();
            }
            self.shared.forget(&self.peer);
        }
    }

    /// Sends what there is and what there will be, until that fails.
    async fn send_all(&mut self) -> SendError {
        let mut reads = FuturesUnordered::new();
        let courier = Courier::new(self.shared.p2p.clone(), self.peer);
        let mut resting = Some(courier.under(self.shared.pressure.clone()));
        let mut writing: OptionFuture<BoxFuture<'static, Written>> = None.into();
        let wake = Arc::clone(&self.line.wake);
        loop {
            while let Some(job) = self.job() {
                reads.push(read(Arc::clone(&self.shared), job));
            }
            while !self.next.is_full()
                && let Some(Some(read)) = reads.next().now_or_never()
            {
                self.take(read);
            }
            if let Some(courier) = resting.take() {
                self.next.message.presences = self.shared.engine().presences(&self.peer);
                if self.next.message.is_empty() {
                    resting = Some(courier);
                } else {
                    writing = Some(self.write(courier).boxed()).into();
                }
            }
            tokio::select! {
                Some(read) = reads.next(), if !self.next.is_full() => self.take(read),
                Some((courier, sent, outcome)) = &mut writing => {
                    writing = None.into();
                    if let Err(error) = outcome {
                        return error;
                    }
                    self.sent(&sent);
                    resting = Some(courier);
                }
                () = wake.notified() => {}
            }
        }
    }

    /// The next block to be read, if there is room for it.
    fn job(&mut self) -> Option<Job> {
        let room = match self.outstanding {
            0 => u32::MAX,
            outstanding => OUTSTANDING_BYTES_MAX.checked_sub(outstanding + BLOCK_BYTES_EXTRA)?,
        };
        let mut engine = self.shared.engine();
        let job = engine.next(&self.peer, room)?;
        self.shared.noted(&engine);
        self.outstanding += cost(&job);
        Some(job)
    }

    fn take(&mut self, (job, block, permit): Read) {
        let Some(block) = block else {
            self.outstanding -= cost(&job);
            let mut engine = self.shared.engine();
            engine.missed(&self.peer, job);
            self.shared.noted(&engine);
            return;
        };
        let next = &mut self.next;
        next.keys.push(job.key);
        next.block_bytes += block.data().len() as u64;
        next.cost += cost(&job);
        next.permits.push(permit);
        next.message.blocks.push(RawBlock::of(&job.cid, block.into_data()));
    }

    fn write(&mut self, mut courier: Courier) -> impl Future<Output = Written> + use<> {
        let outgoing = std::mem::take(&mut self.next);
        let busy = self.shared.p2p.busy(self.peer);
        async move {
            let outcome = courier.send(&outgoing.message).await;
            drop(busy);
            (courier, outgoing, outcome)
        }
    }

    fn sent(&mut self, sent: &Outgoing) {
        self.outstanding -= sent.cost;
        self.shared.engine().sent(&self.peer, &sent.keys, sent.block_bytes);
        let metrics = &self.shared.metrics;
        metrics.blocks.inc_by(sent.keys.len() as u64);
        metrics.bytes.inc_by(sent.block_bytes);
        if sent.block_bytes > 0 {
            // Peers do not say which root they are at.
            self.shared.traffic.count(Way::BitswapOut, None, sent.block_bytes);
        }
        metrics.messages.inc();
        let have = sent.message.presences.iter().filter(|(_, told)| *told == Presence::Have);
        let have = have.count();
        let dont_have = sent.message.presences.len() - have;
        metrics.presences.with_label_values(&["have"]).inc_by(have as u64);
        metrics.presences.with_label_values(&["dont_have"]).inc_by(dont_have as u64);
    }
}

impl Outgoing {
    fn is_full(&self) -> bool {
        self.cost >= MESSAGE_BYTES_TARGET
    }
}

fn cost(job: &Job) -> u32 {
    job.bytes + BLOCK_BYTES_EXTRA
}

/// Reads a block when it is its turn at the budget, if it may still be given.
async fn read(shared: Arc<Shared>, job: Job) -> Read {
    let bytes = cost(&job);
    let permit = match Arc::clone(&shared.budget).try_acquire_many_owned(bytes) {
        Ok(permit) => permit,
        Err(_) => {
            let waiting = shared.pressure.waiting();
            let permit = Arc::clone(&shared.budget).acquire_many_owned(bytes).await;
            drop(waiting);
            match permit {
                Ok(permit) => permit,
                // Nobody closes it.
                Err(_) => std::future::pending().await,
            }
        }
    };
    let block = match shared.held(&job.cid).await {
        Held::Here(_) => shared.store.get(&job.cid).await.unwrap_or(None),
        Held::Absent | Held::Never => None,
    };
    (job, block, permit)
}
