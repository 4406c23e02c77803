//! The client: what is wanted goes out to peers, what they answer comes in.
//!
//! Who is asked for what is decided in `wants`; here is the I/O around it: one
//! task a peer that tells it what changed, one that follows connections and time, and the checking
//! of blocks.

mod dials;
mod driver;
mod inbox;
mod metrics;
mod pump;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::block::Block;
use crate::network::Guard;
use crate::p2p::{P2p, PeerId};
use crate::provider::{BlockSource, SourceSession};
use crate::task::Tasks;
use crate::traffic::{Traffic, Way};

use super::wants::{Arrival, Effects, Wants};

pub use metrics::Metrics;

/// Blocks that are checked at a time besides the small ones.
const CHECKS_MAX: usize = 8;
/// Peers that are dialled at a time for all sessions.
const DIALS_MAX: usize = 64;

/// Fetches blocks from peers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// How somebody who waits for a block is told; none where nobody has it.
type Waiter = oneshot::Sender<Option<Block>>;

#[derive(Debug)]
struct Shared {
    p2p: P2p,
    guard: Guard,
    tasks: Tasks,
    metrics: Metrics,
    traffic: Traffic,
    wants: Mutex<Wants<Waiter>>,
    /// Those that tell peers what changed, each with what wakes it.
    pumps: Mutex<HashMap<PeerId, Arc<Notify>>>,
    /// Wakes the driver when something is wanted.
    wanted: Notify,
    /// Whether the operator's peers were dialled once since the start.
    entered: watch::Sender<bool>,
    dials: Semaphore,
    checks: Arc<Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client on the network of peers; `guard` says which addresses of providers may be dialled.
    #[must_use]
    pub fn start(
        p2p: P2p,
        guard: Guard,
        traffic: Traffic,
        tasks: &Tasks,
        metrics: Metrics,
    ) -> Self {
        let shared = Arc::new(Shared {
            p2p,
            guard,
            tasks: tasks.clone(),
            metrics,
            traffic,
            wants: Mutex::default(),
            pumps: Mutex::default(),
            wanted: Notify::new(),
            entered: watch::Sender::new(false),
            dials: Semaphore::new(DIALS_MAX),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
        });
        tasks.spawn(driver::run(Arc::clone(&shared), shared.p2p.events(), tasks.stop_token()));
        Self { shared }
    }
}

impl BlockSource for Client {
    fn name(&self) -> &'static str {
        "bitswap"
    }

    fn open(&self) -> Arc<dyn SourceSession> {
        Arc::new(session::Session::open(Arc::clone(&self.shared)))
    }
}

impl Shared {
    /// Lets the wants hear of something, and does what follows from it.
    fn with<T>(self: &Arc<Self>, event: impl FnOnce(&mut Wants<Waiter>, Instant) -> T) -> T {
        let (outcome, effects) = {
            let mut wants = lock(&self.wants);
            let outcome = event(&mut wants, Instant::now());
            (outcome, wants.effects())
        };
        self.perform(effects);
        outcome
    }

    fn perform(self: &Arc<Self>, effects: Effects<Waiter>) {
        let Effects { changed, expelled, lost } = effects;
        for waiter in lost {
            drop(waiter.send(None));
        }
        if !changed.is_empty() {
            let mut pumps = lock(&self.pumps);
            for peer in changed {
                let wake = pumps.entry(peer).or_insert_with(|| self.start_pump(peer));
                wake.notify_one();
            }
        }
        for peer in expelled {
            tracing::info!(%peer, "a peer that sends what nobody asked for is sent away");
            self.metrics.expelled.inc();
            let p2p = self.p2p.clone();
            self.tasks.spawn(async move { p2p.disconnect(peer).await });
        }
    }

    fn start_pump(self: &Arc<Self>, peer: PeerId) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        self.tasks.spawn(pump::run(Arc::clone(self), peer, Arc::clone(&wake)));
        wake
    }

    /// Gives a block to whoever waits for it.
    fn arrived(self: &Arc<Self>, peer: PeerId, block: &Block) {
        let bytes = block.data().len();
        match self.with(|wants, now| wants.block(peer, block.cid().hash(), bytes, now)) {
            Arrival::Wanted(waiters) => {
                self.metrics.blocks.inc();
                self.metrics.bytes.inc_by(bytes as u64);
                for waiter in waiters {
                    drop(waiter.send(Some(block.clone())));
                }
            }
            Arrival::Duplicate => {
                self.metrics.duplicates.inc();
                self.traffic.count(Way::BitswapIn, None, bytes as u64);
            }
            Arrival::Unrequested => {
                self.metrics.unrequested.inc();
                self.traffic.count(Way::BitswapIn, None, bytes as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests;
