//! The swarm: transports, behaviours, and the one task that drives them.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, noise, ping, tcp, tls, yamux};
use libp2p_identity::Keypair;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::task::Tasks;

use super::streams::{self, Streams};
use super::tags::Tags;
use super::{COMMANDS_MAX, Config, DialError, EVENTS_MAX, Error, P2p, PeerEvent, PeerInfo};

/// How long a connection without streams is kept: long, for the manager decides.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Inbound streams of one connection under negotiation at a time.
const NEGOTIATING_STREAMS_MAX: usize = 128;
/// What peers are told we are.
const AGENT: &str = concat!("estuary/", env!("CARGO_PKG_VERSION"));

/// What is asked of the swarm.
#[derive(Debug)]
pub(super) enum Command {
    Addresses(oneshot::Sender<Vec<Multiaddr>>),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Dial { peer: PeerId, addresses: Vec<Multiaddr>, reply: oneshot::Sender<Result<(), DialError>> },
    Disconnect { peer: PeerId, reply: oneshot::Sender<bool> },
}

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    streams: streams::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

impl P2p {
    /// Starts the node: `tasks` own what runs.
    pub fn start(config: &Config, identity: Keypair, tasks: &Tasks) -> Result<Self, Error> {
        let (streams, tags) = (Streams::default(), Tags::default());
        let mut swarm = build(identity, streams.clone())?;
        for address in config.listen.iter().flatten() {
            let failed = |error: libp2p::TransportError<_>| Error::Listen {
                address: address.clone(),
                reason: error.to_string(),
            };
            swarm.listen_on(address.clone()).map_err(failed)?;
        }
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let peer_id = *swarm.local_peer_id();
        let driver = Driver {
            swarm,
            asked,
            tags: tags.clone(),
            events: events.clone(),
            connections: HashMap::new(),
            dials: HashMap::new(),
        };
        tasks.spawn(driver.run(tasks.stop_token()));
        Ok(Self { peer_id, commands, streams, tags, events })
    }
}

fn build(identity: Keypair, streams: Streams) -> Result<Swarm<Behaviour>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Transport(error.to_string());
    // TLS first: its ciphers are the faster ones.
    let swarm = libp2p::SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            (tls::Config::new, noise::Config::new),
            yamux::Config::default,
        )
        .map_err(|error| failed(&error))?
        .with_quic()
        .with_dns()
        .map_err(|error| failed(&error))?
        .with_behaviour(|key| Behaviour {
            streams: streams::Behaviour::new(streams),
            identify: identify::Behaviour::new(
                identify::Config::new("ipfs/0.1.0".to_owned(), key.public())
                    .with_agent_version(AGENT.to_owned()),
            ),
            ping: ping::Behaviour::default(),
        })
        .map_err(|error| failed(&error))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIMEOUT)
                .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX)
        })
        .build();
    Ok(swarm)
}

type DialReply = oneshot::Sender<Result<(), DialError>>;

/// Drives the swarm.
struct Driver {
    swarm: Swarm<Behaviour>,
    asked: mpsc::Receiver<Command>,
    tags: Tags,
    events: broadcast::Sender<PeerEvent>,
    /// The address of each connection, by peer.
    connections: HashMap<PeerId, Vec<Multiaddr>>,
    /// Who waits for a peer to be reached.
    dials: HashMap<PeerId, Vec<DialReply>>,
}

impl Driver {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                command = self.asked.recv() => match command {
                    Some(command) => self.perform(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.heard(event),
            }
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Addresses(reply) => {
                let peer = *self.swarm.local_peer_id();
                let all = self.swarm.external_addresses().chain(self.swarm.listeners());
                let all = all.map(|address| address.clone().with(Protocol::P2p(peer)));
                drop(reply.send(all.collect()));
            }
            Command::Peers(reply) => {
                let info = |(peer, addresses): (&PeerId, &Vec<Multiaddr>)| {
                    let worth = self.tags.worth(peer);
                    PeerInfo {
                        peer: *peer,
                        addresses: addresses.clone(),
                        tags: worth.tags.into_iter().collect(),
                        protected: worth.protected.into_iter().collect(),
                        busy: worth.busy,
                    }
                };
                drop(reply.send(self.connections.iter().map(info).collect()));
            }
            Command::Dial { peer, addresses, reply } => self.dial(peer, addresses, reply),
            Command::Disconnect { peer, reply } => {
                let _ = reply.send(self.swarm.disconnect_peer_id(peer).is_ok());
            }
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, reply: DialReply) {
        if self.swarm.is_connected(&peer) {
            drop(reply.send(Ok(())));
            return;
        }
        let waiting = self.dials.entry(peer).or_default();
        waiting.push(reply);
        if waiting.len() > 1 {
            return;
        }
        let options = DialOpts::peer_id(peer)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .condition(PeerCondition::Disconnected)
            .build();
        if let Err(error) = self.swarm.dial(options) {
            self.dialled(peer, &Err(unreachable(peer, &error)));
        }
    }

    fn dialled(&mut self, peer: PeerId, outcome: &Result<(), DialError>) {
        for reply in self.dials.remove(&peer).into_iter().flatten() {
            drop(reply.send(outcome.clone()));
        }
    }

    fn heard(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. } => {
                let address = endpoint.get_remote_address().clone();
                self.connections.entry(peer_id).or_default().push(address);
                if num_established.get() == 1 {
                    drop(self.events.send(PeerEvent::Connected(peer_id)));
                }
                self.dialled(peer_id, &Ok(()));
            }
            SwarmEvent::ConnectionClosed { peer_id, endpoint, num_established, .. } => {
                if let Some(addresses) = self.connections.get_mut(&peer_id) {
                    let at = addresses.iter().position(|a| a == endpoint.get_remote_address());
                    at.map(|at| addresses.swap_remove(at));
                }
                if num_established == 0 {
                    self.connections.remove(&peer_id);
                    drop(self.events.send(PeerEvent::Disconnected(peer_id)));
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                self.dialled(peer, &Err(unreachable(peer, &error)));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => drop(self.events.send(PeerEvent::Identified(peer_id, info.protocols.into()))),
            _ => {}
        }
    }
}

fn unreachable(peer: PeerId, error: &dyn std::fmt::Display) -> DialError {
    DialError::Unreachable { peer, reason: error.to_string().into() }
}
