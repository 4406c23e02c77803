//! The server: what peers want is sent to them, as the policy and the denylist allow.
//!
//! **Invariant:** what a peer costs is bounded whatever it asks: its wants, what it is told, the
//! bytes that are read for it and not yet written, and how long it may leave them unread.
//!
//! Each peer has a task that sends to it. What all of them read takes its turn at one budget, in
//! the order it is asked for; as each peer asks for as many bytes as any other and asks again when
//! they are written, it is shared out evenly by bytes.

mod engine;
mod metrics;
mod sender;
mod wantlist;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use super::Serve;
use super::message::Entry;
use super::network::Pressure;
use crate::block::{Blockstore, Cid, Mh};
use crate::denylist::Denylist;
use crate::p2p::{P2p, PeerEvent, PeerId};
use crate::task::Tasks;
use crate::traffic::Traffic;

use engine::{Asked, Engine, Held};
use sender::Sender;

pub use engine::Ledger;
pub use metrics::Metrics;

/// Bytes that are read for all peers and not yet written.
const OUTSTANDING_BYTES_MAX: usize = 64 << 20;
/// Wants that are looked up before others get their turn.
const LOOKUPS: usize = 128;

/// Sends to peers what they want. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    serve: Serve,
    p2p: P2p,
    store: Arc<dyn Blockstore>,
    denylist: Denylist,
    engine: Mutex<Engine>,
    /// Whether somebody wants what is absent, to be looked at without a lock.
    has_absent: AtomicBool,
    /// Counts when blocks arrived, so that none is missed between a look and its note.
    arrivals: AtomicU64,
    budget: Arc<Semaphore>,
    /// On while reads wait for their turn at the budget.
    pressure: Pressure,
    tasks: Tasks,
    traffic: Traffic,
    metrics: Metrics,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("serve", &self.shared.serve).finish_non_exhaustive()
    }
}

/// What the server serves, and who counts it.
pub struct Parts {
    /// Where the blocks are.
    pub store: Arc<dyn Blockstore>,
    /// What of it is given to nobody.
    pub denylist: Denylist,
    /// Which of it is served.
    pub serve: Serve,
    /// What counts the bytes that go out.
    pub traffic: Traffic,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("serve", &self.serve).finish_non_exhaustive()
    }
}

impl Server {
    /// A server of what is in the store, as far as the policy and the denylist allow.
    #[must_use]
    pub fn start(p2p: P2p, parts: Parts, tasks: &Tasks, metrics: Metrics) -> Self {
        let Parts { store, denylist, serve, traffic } = parts;
        let shared = Shared {
            serve,
            p2p,
            store,
            denylist,
            engine: Mutex::default(),
            has_absent: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            budget: Arc::new(Semaphore::new(OUTSTANDING_BYTES_MAX)),
            pressure: Pressure::default(),
            tasks: tasks.clone(),
            traffic,
            metrics,
        };
        let server = Self { shared: Arc::new(shared) };
        if serve != Serve::Off {
            let shared = Arc::clone(&server.shared);
            let stop = tasks.stop_token();
            tasks.spawn(async move {
                stop.run_until_cancelled(shared.forget_the_gone()).await;
            });
        }
        server
    }

    /// Takes in what a peer wants; all of it is what it wants where `full` says so. Where nothing
    /// is served it gets no answer, for that would cost what serving costs.
    pub async fn heard(&self, peer: PeerId, full: bool, wants: Vec<Entry>) {
        if self.shared.serve == Serve::Off || (wants.is_empty() && !full) {
            return;
        }
        self.shared.heard(peer, full, wants).await;
    }

    /// Counts bytes of blocks that a peer sent.
    pub fn received(&self, peer: &PeerId, bytes: u64) {
        self.shared.engine().received(peer, bytes);
    }

    /// Who is to be told, with its multihash and bytes, of each block that can be read from the
    /// store from now on: it is sent to whoever still waits for it. Costs next to nothing where
    /// nobody does, and does not keep the server.
    pub fn arrivals(&self) -> impl Fn(&mut dyn Iterator<Item = (Mh, u32)>) + Send + Sync + use<> {
        let shared = Arc::downgrade(&self.shared);
        move |blocks| {
            if let Some(shared) = shared.upgrade() {
                shared.arrived(blocks);
            }
        }
    }

    /// What went to and from a peer since it connected and first wanted something.
    #[must_use]
    pub fn ledger(&self, peer: &PeerId) -> Option<Ledger> {
        self.shared.engine().ledger(peer)
    }
}

impl Shared {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After each change of the engine.
    fn noted(&self, engine: &Engine) {
        self.has_absent.store(engine.has_absent(), Ordering::SeqCst);
        self.metrics.wants.set(i64::try_from(engine.wants()).unwrap_or(i64::MAX));
    }

    fn arrived(&self, blocks: &mut dyn Iterator<Item = (Mh, u32)>) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        if self.has_absent.load(Ordering::SeqCst) {
            let mut engine = self.engine();
            engine.arrived(blocks);
            self.noted(&engine);
        }
    }

    async fn heard(self: &Arc<Self>, peer: PeerId, full: bool, wants: Vec<Entry>) {
        let mut full = full;
        let mut wants = wants.into_iter().peekable();
        loop {
            let part: Vec<_> = wants.by_ref().take(LOOKUPS).collect();
            self.heard_some(peer, std::mem::take(&mut full), part).await;
            if wants.peek().is_none() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn heard_some(self: &Arc<Self>, peer: PeerId, full: bool, wants: Vec<Entry>) {
        let began = self.arrivals.load(Ordering::SeqCst);
        let mut asked = Vec::with_capacity(wants.len());
        for want in wants {
            let held = if want.cancel { Held::Never } else { self.held(&want.cid).await };
            asked.push((want, held));
        }
        // Those that are absent are noted first, and looked for again where blocks have arrived
        // since the look: either the look finds them, or their arrival finds the note.
        let doubtful = |asked: &[Asked]| -> Vec<Entry> {
            let absent = asked.iter().filter(|(_, held)| *held == Held::Absent);
            absent.map(|(want, _)| want.clone()).collect()
        };
        let absent = doubtful(&asked);
        let begun = {
            let mut engine = self.engine();
            let noted = engine.note(peer, full, asked, &self.tasks.stop_token());
            self.noted(&engine);
            self.metrics.wants_dropped.inc_by(noted.dropped as u64);
            noted.begun
        };
        if let Some(line) = begun {
            self.tasks.spawn(Sender::new(Arc::clone(self), peer, line).run());
            // It may have gone before anybody knew that it was there.
            if !self.p2p.is_connected(&peer) {
                self.forget(&peer);
            }
        }
        if !absent.is_empty() && self.arrivals.load(Ordering::SeqCst) != began {
            self.look_again(peer, absent).await;
        }
    }

    async fn look_again(self: &Arc<Self>, peer: PeerId, absent: Vec<Entry>) {
        let mut found = Vec::new();
        for want in absent {
            if let held @ Held::Here(_) = self.held(&want.cid).await {
                found.push((want, held));
            }
        }
        let mut engine = self.engine();
        // Cancelled meanwhile, it is not noted anew.
        found.retain(|(want, _)| engine.is_wanted(&peer, &want.cid));
        engine.note(peer, false, found, &self.tasks.stop_token());
        self.noted(&engine);
    }

    /// Whether a block is there for peers.
    async fn held(&self, cid: &Cid) -> Held {
        if self.denylist.would_block(cid) {
            return Held::Never;
        }
        let size = match self.serve {
            Serve::Off => return Held::Never,
            Serve::Pinned if !self.store.is_pinned(cid).await.unwrap_or(false) => Ok(None),
            Serve::Pinned | Serve::All => self.store.size(cid).await,
        };
        match size {
            Ok(Some(bytes)) => Held::Here(u32::try_from(bytes).unwrap_or(u32::MAX)),
            Ok(None) => Held::Absent,
            Err(error) => {
                tracing::debug!(%error, "a wanted block was not looked for");
                Held::Absent
            }
        }
    }

    fn forget(&self, peer: &PeerId) {
        let mut engine = self.engine();
        engine.remove(peer);
        self.noted(&engine);
    }

    /// Forgets peers as they disconnect.
    async fn forget_the_gone(self: Arc<Self>) {
        let mut events = self.p2p.events();
        loop {
            match events.recv().await {
                Ok(PeerEvent::Disconnected(peer)) => self.forget(&peer),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    let peers = self.engine().peers();
                    let gone = |peer: &&PeerId| !self.p2p.is_connected(peer);
                    peers.iter().filter(gone).for_each(|peer| self.forget(peer));
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
