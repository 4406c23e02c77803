//! What the node does on its connections: one field a protocol of the network itself. Protocols of
//! other rooms are no behaviours; they are plain code over streams.

use libp2p::swarm::NetworkBehaviour;
use libp2p::{identify, ping};
use libp2p_identity::Keypair;

use super::streams::{self, Streams};

/// What peers are told we are.
const AGENT: &str = concat!("estuary/", env!("CARGO_PKG_VERSION"));
/// The family of protocols that peers are told we speak.
const PROTOCOL_VERSION: &str = "ipfs/0.1.0";

/// The behaviours. They are asked in this order whether a connection may be, so what refuses comes
/// first.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) streams: streams::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
}

impl Behaviour {
    pub(super) fn new(key: &Keypair, streams: Streams) -> Self {
        Self {
            streams: streams::Behaviour::new(streams),
            identify: identify::Behaviour::new(
                identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
                    .with_agent_version(AGENT.to_owned()),
            ),
            ping: ping::Behaviour::default(),
        }
    }
}
