//! What the node does on its connections: one field a protocol of the network itself. Protocols of
//! other rooms are no behaviours; they are plain code over streams.

use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{autonat, dcutr, ping, relay, upnp};
use libp2p_identity::Keypair;

use super::manager::Manager;
use super::streams::{self, Streams};
use super::{Config, identify};
use crate::network::Guard;

/// The behaviours. They are asked in this order whether a connection may be, so what refuses comes
/// first.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) manager: Manager,
    pub(super) streams: streams::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) relay: Toggle<relay::client::Behaviour>,
    pub(super) hole_punching: Toggle<dcutr::Behaviour>,
    pub(super) autonat: Toggle<autonat::v2::client::Behaviour>,
    pub(super) upnp: Toggle<upnp::tokio::Behaviour>,
}

impl Behaviour {
    pub(super) fn new(
        config: &Config,
        key: &Keypair,
        guard: Guard,
        manager: Manager,
        streams: Streams,
        relay: Option<relay::client::Behaviour>,
    ) -> Self {
        let hole_punching = config.hole_punching && relay.is_some();
        let peer = key.public().to_peer_id();
        Self {
            manager,
            streams: streams::Behaviour::new(streams),
            identify: identify::Behaviour::new(key, guard, config.announce.is_empty()),
            ping: ping::Behaviour::default(),
            relay: relay.into(),
            hole_punching: hole_punching.then(|| dcutr::Behaviour::new(peer)).into(),
            autonat: config.autonat.then(autonat::v2::client::Behaviour::default).into(),
            upnp: config.upnp.then(upnp::tokio::Behaviour::default).into(),
        }
    }
}
