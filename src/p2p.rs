//! The node among others: its identity, its connections, and streams to peers.
//!
//! **Invariant:** the only room that knows libp2p's swarm. Protocols are plain async code over the
//! [`Stream`]s it hands out.

mod address_book;
mod behaviour;
pub mod dht;
mod gate;
mod identify;
mod identity;
mod listen;
mod manager;
mod metrics;
mod names;
mod peering;
mod ping;
mod relays;
mod streams;
mod swarm;
mod tags;
mod transport;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::StreamProtocol;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::db::Db;
use crate::network::Guard;
use crate::task::Tasks;

pub use libp2p::{Multiaddr, PeerId};
pub use libp2p_identity::Keypair;

pub use identity::load_or_make;
pub use metrics::Metrics;
pub use peering::peer_of;
pub use streams::{Inbound, Incoming, OpenError, Stream};
pub use tags::Busy;

use gate::Gate;
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
    pub listen: Option<Vec<Multiaddr>>,
    /// Peers to stay connected with, each with `/p2p/{peer id}` at its end.
    pub peering: Vec<Multiaddr>,
    /// Peers that lead into the DHT.
    pub bootstrap: Vec<Multiaddr>,
    /// Connections that are left when there were too many.
    pub connections_low: usize,
    /// Connections over which the least valuable ones are closed.
    pub connections_high: usize,
    /// Memory of this process over which no new peers are let in, in bytes; unset, 80 % of the
    /// machine's or the container's.
    pub memory_bytes_max: Option<u64>,
    /// Where peers are told we are, in place of all that the node finds out itself.
    pub announce: Vec<Multiaddr>,
    /// Whether peers may reach us through relays where they cannot dial us, and we them.
    pub relay_client: bool,
    /// Relays to be reached through, each with `/p2p/{peer id}` at its end, before others.
    pub relays: Vec<Multiaddr>,
    /// Whether a connection through a relay is to become a direct one.
    pub hole_punching: bool,
    /// Whether peers are asked if they can dial us.
    pub autonat: bool,
    /// Whether the router is asked by UPnP to let peers in.
    pub upnp: bool,
}

impl Default for Config {
    fn default() -> Self {
        let bootstrap = BOOTSTRAP.iter().filter_map(|address| address.parse().ok());
        Self {
            listen: None,
            peering: Vec::new(),
            bootstrap: bootstrap.collect(),
            connections_low: 400,
            connections_high: 600,
            memory_bytes_max: None,
            announce: Vec::new(),
            relay_client: true,
            relays: Vec::new(),
            hole_punching: true,
            autonat: true,
            upnp: false,
        }
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
    /// What is counted.
    pub metrics: Metrics,
    /// The owner of what runs.
    pub tasks: Tasks,
    /// Where addresses of peers are kept; none, and they are forgotten at the end.
    pub db: Option<Db>,
}

/// For tests, whose nodes are on loopback and counted by nobody.
#[cfg(any(test, feature = "testing"))]
impl From<&Tasks> for Parts {
    #[allow(clippy::unwrap_used, reason = "for tests")]
    fn from(tasks: &Tasks) -> Self {
        let guard = Guard::new(&crate::network::Config { allow_private: true });
        let metrics = Metrics::register(&crate::metrics::Registry::new()).unwrap();
        Self { guard, metrics, tasks: tasks.clone(), db: None }
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
    /// Its connections.
    pub connections: Vec<Connection>,
    /// Its program, as it says; at most 128 bytes that print. Empty until it is known.
    pub agent: String,
    /// What it speaks, as it says; empty until it is known.
    pub protocols: Arc<[StreamProtocol]>,
    /// How long its last answer to a ping took; none until it is known.
    pub latency: Option<Duration>,
    /// What it is worth, by tag.
    pub tags: Vec<(&'static str, i32)>,
    /// Why it is protected.
    pub protected: Vec<&'static str>,
    /// Pieces of work under way with it.
    pub busy: u32,
}

/// A connection with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Where the peer is.
    pub address: Multiaddr,
    /// Whether the peer began it.
    pub inbound: bool,
    /// How long it has been there.
    pub age: Duration,
}

/// The network of peers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct P2p {
    peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    streams: Streams,
    tags: Tags,
    gate: Gate,
    events: broadcast::Sender<PeerEvent>,
    peered: watch::Receiver<bool>,
}

/// Why a peer is protected while the operator connects with it.
const OPERATOR: &str = "operator";
/// Longest wait for a peer to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl P2p {
    /// Starts the node, within a runtime.
    #[allow(clippy::needless_pass_by_value, reason = "each node is made of an identity of its own")]
    pub fn start(
        config: &Config,
        identity: Keypair,
        parts: impl Into<Parts>,
    ) -> Result<Self, Error> {
        swarm::start(config, &identity, parts.into())
    }

    /// Whether the addresses can be had where the configuration wants peers to connect: sooner to
    /// tell than by starting.
    pub fn check_listen(config: &Config) -> Result<(), Error> {
        listen::check(config)
    }

    /// Who we are.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Where we listen and are reached, private addresses included, each with `/p2p/{our id}` at
    /// its end: for the operator.
    pub async fn addresses(&self) -> Vec<Multiaddr> {
        self.ask(Command::Addresses).await.unwrap_or_default()
    }

    /// Where everybody may be told that we are, each with `/p2p/{our id}` at its end: no private
    /// addresses, but where those may be dialled at all.
    pub async fn announced(&self) -> Vec<Multiaddr> {
        self.ask(Command::Announced).await.unwrap_or_default()
    }

    /// The peers we are connected with.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// What is known of one of them; none where we are not connected.
    pub async fn peer(&self, peer: PeerId) -> Option<PeerInfo> {
        self.ask(|reply| Command::Peer { peer, reply }).await.flatten()
    }

    /// What a connected peer speaks, as it says; none where that is not known.
    pub async fn protocols(&self, peer: PeerId) -> Option<Arc<[StreamProtocol]>> {
        let known = self.peer(peer).await.map(|info| info.protocols);
        known.filter(|protocols| !protocols.is_empty())
    }

    /// How long a connected peer takes to answer.
    pub async fn ping(&self, peer: PeerId) -> Result<Duration, OpenError> {
        ping::ping(self, peer).await
    }

    /// Lets addresses be dialled although they are private: the operator named them.
    pub fn allow(&self, addresses: &[Multiaddr]) {
        for address in addresses {
            self.gate.name(address);
        }
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

    /// As [`connect`](Self::connect), with addresses that the operator named: wherever they lead,
    /// and however often that failed before.
    pub async fn connect_named(
        &self,
        peer: PeerId,
        addresses: &[Multiaddr],
    ) -> Result<(), DialError> {
        self.allow(addresses);
        self.protect(&peer, OPERATOR);
        let connected = self.connect(peer, addresses).await;
        self.unprotect(&peer, OPERATOR);
        connected
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

    /// Waits until each peer of `p2p.peering` was dialled once, whatever came of it.
    pub async fn peered(&self) {
        // Where the node stops there is nothing to wait for.
        let _ = self.peered.clone().wait_for(|peered| *peered).await;
    }

    /// What happens with peers from now on. Who lags behind gets
    /// [`RecvError::Lagged`](broadcast::error::RecvError::Lagged) and must look at [`Self::peers`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }

    /// Says what a peer is worth in one respect while it is connected; 0 takes that back.
    pub fn tag(&self, peer: &PeerId, tag: &'static str, weight: i32) {
        self.tags.tag(peer, tag, weight);
    }

    /// Adds to what a peer is worth in one respect. What it comes to halves each `half_life`, and
    /// outlasts the connection.
    pub fn bump(&self, peer: &PeerId, tag: &'static str, by: i32, half_life: Duration) {
        self.tags.bump(peer, tag, by, half_life, Instant::now());
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
