//! The node among others: its identity, its connections, and streams to peers.
//!
//! **Invariant:** the only room that knows libp2p's swarm. Protocols are plain async code over the
//! [`Stream`]s it hands out.

mod behaviour;
mod identity;
mod peering;
mod streams;
mod swarm;
mod tags;

use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::StreamProtocol;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::network::Guard;
use crate::task::Tasks;

pub use libp2p::{Multiaddr, PeerId};
pub use libp2p_identity::Keypair;

pub use identity::load_or_make;
pub use streams::{Inbound, Incoming, OpenError, Stream};
pub use tags::Busy;

use streams::Streams;
use swarm::Command;
use tags::Tags;

/// Requests to the swarm that may wait.
const COMMANDS_MAX: usize = 1024;
/// Events a subscriber may be behind before it must look at [`P2p::peers`] again.
const EVENTS_MAX: usize = 4096;

/// The section of the configuration about the network of peers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where peers may connect; unset, port 4001 over TCP and QUIC, or a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<Multiaddr>>,
    /// Peers to stay connected with, each with `/p2p/{peer id}` at its end.
    pub peering: Vec<Multiaddr>,
    /// Peers that lead into the DHT.
    pub bootstrap: Vec<Multiaddr>,
}

impl Default for Config {
    fn default() -> Self {
        let bootstrap = BOOTSTRAP.iter().filter_map(|address| address.parse().ok());
        Self { listen: None, peering: Vec::new(), bootstrap: bootstrap.collect() }
    }
}

/// The public bootstrap peers of IPFS.
const BOOTSTRAP: &[&str] = &[
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/va1.bootstrap.libp2p.io/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// What the network of peers stands on.
#[derive(Debug)]
pub struct Parts {
    /// Which addresses that others name may be dialled.
    pub guard: Guard,
    /// The owner of what runs.
    pub tasks: Tasks,
}

/// For tests, whose nodes are on loopback.
#[cfg(any(test, feature = "testing"))]
impl From<&Tasks> for Parts {
    fn from(tasks: &Tasks) -> Self {
        let guard = Guard::new(&crate::network::Config { allow_private: true });
        Self { guard, tasks: tasks.clone() }
    }
}

/// Why the network of peers did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identity cannot be read or made.
    #[error("the identity {} cannot be used: {reason}", path.display())]
    Identity {
        /// Its file.
        path: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// A transport cannot be had.
    #[error("the transports of peers cannot be set up: {0}")]
    Transport(String),
    /// An address cannot be listened on.
    #[error("p2p.listen = {address} cannot be listened on: {reason}; free it or set another")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why not.
        reason: String,
    },
}

/// Why a peer was not reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// None of its addresses led to it.
    #[error("{peer} was not reached: {reason}")]
    Unreachable {
        /// The peer.
        peer: PeerId,
        /// What the attempts came to.
        reason: Arc<str>,
    },
    /// It took too long.
    #[error("{0} was not reached in time")]
    Timeout(PeerId),
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

/// Something that happened with a peer.
#[derive(Debug, Clone)]
pub enum PeerEvent {
    /// The first connection to it is there.
    Connected(PeerId),
    /// It said what it speaks.
    Identified(PeerId, Arc<[StreamProtocol]>),
    /// The last connection to it is gone.
    Disconnected(PeerId),
}

/// What is known of a connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its identity.
    pub peer: PeerId,
    /// The address of each connection.
    pub addresses: Vec<Multiaddr>,
    /// What it is worth, by tag.
    pub tags: Vec<(&'static str, i32)>,
    /// Why it is protected.
    pub protected: Vec<&'static str>,
    /// Pieces of work under way with it.
    pub busy: u32,
}

/// The network of peers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct P2p {
    peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    streams: Streams,
    tags: Tags,
    events: broadcast::Sender<PeerEvent>,
}

/// Longest wait for a peer to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl P2p {
    /// Starts the node, within a runtime.
    pub fn start(
        config: &Config,
        identity: Keypair,
        parts: impl Into<Parts>,
    ) -> Result<Self, Error> {
        swarm::start(config, identity, &parts.into())
    }

    /// Who we are.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Where we can be reached, each with `/p2p/{our id}` at its end.
    pub async fn addresses(&self) -> Vec<Multiaddr> {
        self.ask(Command::Addresses).await.unwrap_or_default()
    }

    /// The peers we are connected with.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// Whether we are connected with it.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.streams.is_connected(peer)
    }

    /// Connects with a peer, by these addresses and those we know; at once where we are.
    pub async fn connect(&self, peer: PeerId, addresses: &[Multiaddr]) -> Result<(), DialError> {
        if self.is_connected(&peer) {
            return Ok(());
        }
        let addresses = addresses.to_vec();
        let dialled = self.ask(|reply| Command::Dial { peer, addresses, reply });
        match tokio::time::timeout(CONNECT_TIMEOUT, dialled).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(DialError::Stopping),
            Err(_) => Err(DialError::Timeout(peer)),
        }
    }

    /// Ends all connections with a peer. Whether there was one.
    pub async fn disconnect(&self, peer: PeerId) -> bool {
        self.ask(|reply| Command::Disconnect { peer, reply }).await.unwrap_or(false)
    }

    /// Opens a stream to a connected peer that speaks one of these protocols, the first that it
    /// knows.
    pub async fn open(
        &self,
        peer: PeerId,
        protocols: &[StreamProtocol],
    ) -> Result<(StreamProtocol, Stream), OpenError> {
        self.streams.open(peer, protocols).await
    }

    /// The streams that peers open with these protocols, from now on.
    #[must_use]
    pub fn accept(&self, protocols: &[StreamProtocol]) -> Incoming {
        self.streams.accept(protocols)
    }

    /// What happens with peers from now on. Who lags behind gets
    /// [`RecvError::Lagged`](broadcast::error::RecvError::Lagged) and must look at [`Self::peers`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }

    /// Says what a peer is worth in one respect; 0 takes that back.
    pub fn tag(&self, peer: &PeerId, tag: &'static str, weight: i32) {
        self.tags.tag(peer, tag, weight);
    }

    /// Keeps a peer's connections, whatever it is worth, until the reason is gone.
    pub fn protect(&self, peer: &PeerId, reason: &'static str) {
        self.tags.protect(peer, reason);
    }

    /// Takes a reason for protection back.
    pub fn unprotect(&self, peer: &PeerId, reason: &'static str) {
        self.tags.unprotect(peer, reason);
    }

    /// Says that work is under way with a peer, until the guard is dropped.
    #[must_use]
    pub fn busy(&self, peer: PeerId) -> Busy {
        self.tags.busy(peer)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
