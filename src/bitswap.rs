//! Bitswap: blocks from peers and to them (Bitswap 1.2.0, and 1.1.0 and 1.0.0 with older peers).

pub mod client;
pub mod message;
pub mod network;
pub mod server;
mod wants;

use libp2p::swarm::StreamProtocol;
use serde::{Deserialize, Serialize};

use crate::block::Mh;
use crate::metrics::Registry;
use crate::network::Guard;
use crate::p2p::{P2p, PeerId};
use crate::task::Tasks;

use message::Message;
use server::Server;

pub use client::Client;
pub use server::{Ledger, Parts};

/// The protocols, the newest first.
pub const PROTOCOLS: [StreamProtocol; 4] = [
    StreamProtocol::new("/ipfs/bitswap/1.2.0"),
    StreamProtocol::new("/ipfs/bitswap/1.1.0"),
    StreamProtocol::new("/ipfs/bitswap/1.0.0"),
    StreamProtocol::new("/ipfs/bitswap"),
];

/// What peers are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Serve {
    /// What is pinned.
    Pinned,
    /// Whatever is on disk.
    #[default]
    All,
    /// Nothing.
    Off,
}

/// The section of the configuration about Bitswap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What peers are served.
    pub serve: Serve,
}

crate::metrics! {
    /// What peers sent.
    pub struct Heard {
        /// Messages from peers.
        messages: counter("estuary_bitswap_received_messages_total"),
        /// Bytes of blocks from peers, wanted or not.
        bytes: counter("estuary_bitswap_received_bytes_total"),
    }
}

/// All that is counted of Bitswap.
#[derive(Debug, Clone)]
pub struct Metrics {
    heard: Heard,
    server: server::Metrics,
    client: client::Metrics,
}

impl Metrics {
    /// Makes the collectors and adds them to `registry`.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            heard: Heard::register(registry)?,
            server: server::Metrics::register(registry)?,
            client: client::Metrics::register(registry)?,
        })
    }
}

/// Blocks from peers and to them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bitswap {
    server: Server,
    client: Client,
    metrics: Heard,
}

impl Bitswap {
    /// Hears peers from now on, and serves them what `parts` say. `guard` says which addresses of
    /// providers may be dialled; `tasks` own what runs.
    #[must_use]
    pub fn start(p2p: &P2p, parts: Parts, guard: Guard, tasks: &Tasks, metrics: Metrics) -> Self {
        let Metrics { heard, server, client } = metrics;
        let client = Client::start(p2p.clone(), guard, parts.traffic.clone(), tasks, client);
        let server = Server::start(p2p.clone(), parts, tasks, server);
        let bitswap = Self { server, client, metrics: heard };
        let hearing = bitswap.clone();
        network::listen(p2p, tasks, move |peer, message| {
            let bitswap = hearing.clone();
            async move { bitswap.heard(peer, message).await }
        });
        bitswap
    }

    /// Who is to be told, with its multihash and bytes, of each block that can be read from the
    /// store from now on: it is sent to whoever still waits for it.
    pub fn arrivals(&self) -> impl Fn(&mut dyn Iterator<Item = (Mh, u32)>) + Send + Sync + use<> {
        self.server.arrivals()
    }

    /// The source of blocks that peers are.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What went to and from a peer since it first wanted something; none once it is gone.
    #[must_use]
    pub fn ledger(&self, peer: &PeerId) -> Option<Ledger> {
        self.server.ledger(peer)
    }

    async fn heard(&self, peer: PeerId, message: Message) {
        let Message { full, wants, blocks, presences, .. } = message;
        self.metrics.messages.inc();
        if !blocks.is_empty() {
            let bytes = blocks.iter().map(|block| block.data.len() as u64).sum();
            self.metrics.bytes.inc_by(bytes);
            self.server.received(&peer, bytes);
        }
        // Wants first: to hear blocks may mean to wait until others have been checked.
        self.server.heard(peer, full, wants).await;
        self.client.heard(peer, blocks, presences).await;
    }
}
