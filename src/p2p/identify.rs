//! Who we and our peers are: what they say of themselves is capped before anybody sees it, and what
//! we say of ourselves depends on who hears it.
//!
//! Peers on the public internet hear our public addresses alone. Peers on loopback and on private
//! networks hear, too, where we listen, or they could not dial us. Where private addresses may be
//! dialled at all, everybody hears everything.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::identify;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use libp2p_identity::{KeyType, Keypair};

use super::gate::Target;
use crate::network::Guard;

/// What peers are told we are.
const AGENT: &str = concat!("estuary/", env!("CARGO_PKG_VERSION"));
/// The family of protocols that peers are told we speak.
const PROTOCOL_VERSION: &str = "ipfs/0.1.0";
/// How often peers are asked again.
const INTERVAL: Duration = Duration::from_secs(300);

/// Addresses of a peer that are remembered.
const ADDRESSES_MAX: usize = 32;
/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 512;
/// Protocols of a peer that are remembered.
const PROTOCOLS_MAX: usize = 64;
/// Longest name of a protocol, in bytes.
const PROTOCOL_BYTES_MAX: usize = 128;
/// Longest name of a peer's program, in bytes.
const AGENT_BYTES_MAX: usize = 128;
/// Longest RSA key, in bytes as it is sent: one of 4096 bits, and what is around it. Longer ones
/// cost more to check than a peer is worth.
const RSA_BYTES_MAX: usize = 600;

/// What a peer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identified {
    /// Its program, without control characters.
    pub(super) agent: String,
    pub(super) protocols: Arc<[StreamProtocol]>,
    /// Where it says it listens.
    pub(super) addresses: Vec<Multiaddr>,
}

impl Identified {
    /// What is kept of it; none of a peer whose key is too long to deal with.
    pub(super) fn of(info: identify::Info) -> Option<Self> {
        let key = &info.public_key;
        if key.key_type() == KeyType::RSA && key.encode_protobuf().len() > RSA_BYTES_MAX {
            return None;
        }
        let short = |protocol: &StreamProtocol| {
            let name: &str = protocol.as_ref();
            name.len() <= PROTOCOL_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let protocols = info.protocols.into_iter().filter(short).take(PROTOCOLS_MAX);
        let addresses = info.listen_addrs.into_iter();
        let addresses = addresses.filter(|address| address.len() <= ADDRESS_BYTES_MAX);
        Some(Self {
            agent: plain(&info.agent_version),
            protocols: protocols.collect(),
            addresses: addresses.take(ADDRESSES_MAX).collect(),
        })
    }
}

/// The beginning of a text, with escapes for all that would not print as one character.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        let printed =
            character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric();
        let end = plain.len();
        if printed {
            plain.push(character);
        } else {
            plain.extend(character.escape_unicode());
        }
        if plain.len() > AGENT_BYTES_MAX {
            plain.truncate(end);
            break;
        }
    }
    plain
}

/// Whether an address is of loopback or of a private network, and leads there directly.
pub(super) fn is_local(address: &Multiaddr) -> bool {
    let is_public = |part: Protocol<'_>| match part {
        Protocol::Ip4(ip) => crate::network::is_public(ip.into()),
        Protocol::Ip6(ip) => crate::network::is_public(ip.into()),
        Protocol::P2pCircuit | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => true,
        Protocol::Dnsaddr(_) => true,
        _ => false,
    };
    !address.iter().any(is_public)
}

/// The identify protocol, spoken in one way with the public and in another with our own networks.
pub(super) struct Behaviour {
    guard: Guard,
    public: identify::Behaviour,
    local: identify::Behaviour,
    /// Connections that `local` has.
    locals: HashSet<ConnectionId>,
}

impl Behaviour {
    /// Says `key` is ours, and to our own networks where we listen where `listeners` says so.
    pub(super) fn new(key: &Keypair, guard: Guard, listeners: bool) -> Self {
        let config = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
            .with_agent_version(AGENT.to_owned())
            .with_interval(INTERVAL)
            .with_cache_size(0)
            .with_push_listen_addr_updates(true);
        Self {
            guard,
            public: identify::Behaviour::new(config.clone().with_hide_listen_addrs(true)),
            local: identify::Behaviour::new(config.with_hide_listen_addrs(!listeners)),
            locals: HashSet::new(),
        }
    }

    /// The one for a connection that is being set up with this address.
    fn choose(&mut self, id: ConnectionId, remote: &Multiaddr) -> &mut identify::Behaviour {
        if is_local(remote) || self.guard.allows(std::net::Ipv4Addr::LOCALHOST.into()) {
            self.locals.insert(id);
            &mut self.local
        } else {
            &mut self.public
        }
    }

    /// The one that has this connection.
    fn of(&mut self, id: ConnectionId) -> &mut identify::Behaviour {
        if self.locals.contains(&id) { &mut self.local } else { &mut self.public }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <identify::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = identify::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let chosen = self.choose(id, remote);
        chosen.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let chosen = self.choose(id, address);
        chosen.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(of) => self.of(of.connection_id).on_swarm_event(event),
            FromSwarm::AddressChange(of) => self.of(of.connection_id).on_swarm_event(event),
            FromSwarm::ConnectionClosed(of) => {
                self.of(of.connection_id).on_swarm_event(event);
                if of.remaining_established == 0 {
                    // Whoever had other connections of the peer forgets it, too.
                    self.public.on_swarm_event(event);
                    self.local.on_swarm_event(event);
                }
                self.locals.remove(&of.connection_id);
            }
            _ => {
                if let FromSwarm::DialFailure(libp2p::swarm::DialFailure {
                    connection_id, ..
                })
                | FromSwarm::ListenFailure(libp2p::swarm::ListenFailure {
                    connection_id,
                    ..
                }) = event
                {
                    self.locals.remove(&connection_id);
                }
                self.public.on_swarm_event(event);
                self.local.on_swarm_event(event);
            }
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.of(id).on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let event = match self.public.poll(cx) {
                Poll::Pending => ready!(self.local.poll(cx)),
                Poll::Ready(event) => event,
            };
            // Peers at the other end of a relay see no address of ours.
            if let ToSwarm::NewExternalAddrCandidate(address) = &event
                && Target::of(address).is_none()
            {
                continue;
            }
            return Poll::Ready(event);
        }
    }
}

#[cfg(test)]
mod tests;
