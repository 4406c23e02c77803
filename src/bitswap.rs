//! Bitswap: blocks from peers and to them (Bitswap 1.2.0, and 1.1.0 and 1.0.0 with older peers).

pub mod client;
pub mod message;
pub mod network;
mod wants;

use libp2p::swarm::StreamProtocol;
use serde::{Deserialize, Serialize};

/// The protocols, the newest first.
pub const PROTOCOLS: [StreamProtocol; 4] = [
    StreamProtocol::new("/ipfs/bitswap/1.2.0"),
    StreamProtocol::new("/ipfs/bitswap/1.1.0"),
    StreamProtocol::new("/ipfs/bitswap/1.0.0"),
    StreamProtocol::new("/ipfs/bitswap"),
];

pub use client::Client;

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
