//! The swarm and the one task that drives it.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, Swarm, identify, noise, tcp, tls, yamux};
use libp2p_identity::Keypair;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::behaviour::{Behaviour, BehaviourEvent};
use super::peering::{self, Peering};
use super::streams::Streams;
use super::tags::Tags;
use super::{COMMANDS_MAX, Config, DialError, EVENTS_MAX, Error, P2p, Parts, PeerEvent, PeerInfo};

/// How long a connection without streams is kept: long, for the manager decides.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Inbound streams of one connection under negotiation at a time.
const NEGOTIATING_STREAMS_MAX: usize = 128;

/// What is asked of the swarm.
#[derive(Debug)]
pub(super) enum Command {
    Addresses(oneshot::Sender<Vec<Multiaddr>>),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Dial { peer: PeerId, addresses: Vec<Multiaddr>, reply: oneshot::Sender<Result<(), DialError>> },
    Disconnect { peer: PeerId, reply: oneshot::Sender<bool> },
}

/// Starts the node.
pub(super) fn start(config: &Config, identity: Keypair, parts: &Parts) -> Result<P2p, Error> {
    let (streams, tags) = (Streams::default(), Tags::default());
    let mut swarm = build(identity, streams.clone())?;
    for address in config.listen.iter().flatten() {
        let failed = |error: libp2p::TransportError<_>| Error::Listen {
            address: address.clone(),
            reason: error.to_string(),
        };
        swarm.listen_on(address.clone()).map_err(failed)?;
    }
    let peering = Peering::new(&config.peering, Instant::now());
    for peer in peering.peers() {
        tags.protect(peer, peering::REASON);
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
        peering,
    };
    parts.tasks.spawn(driver.run(parts.tasks.stop_token()));
    Ok(P2p { peer_id, commands, streams, tags, events })
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
        .with_behaviour(|key| Behaviour::new(key, streams))
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

/// A peer that is being dialled for somebody.
#[derive(Default)]
struct Dialling {
    /// Dials under way.
    under_way: usize,
    /// Where it was dialled.
    tried: Vec<Multiaddr>,
    /// Who waits for it to be reached.
    waiting: Vec<DialReply>,
}

/// Drives the swarm.
struct Driver {
    swarm: Swarm<Behaviour>,
    asked: mpsc::Receiver<Command>,
    tags: Tags,
    events: broadcast::Sender<PeerEvent>,
    /// The address of each connection, by peer.
    connections: HashMap<PeerId, Vec<Multiaddr>>,
    dials: HashMap<PeerId, Dialling>,
    peering: Peering,
}

impl Driver {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let due = self.peering.next_due();
            tokio::select! {
                () = stop.cancelled() => return,
                command = self.asked.recv() => match command {
                    Some(command) => self.perform(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.heard(event),
                () = at(due) => self.dial_peering(),
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
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Dial { peer, addresses, reply } => self.dial(peer, addresses, reply),
            Command::Disconnect { peer, reply } => {
                let _ = reply.send(self.swarm.disconnect_peer_id(peer).is_ok());
            }
        }
    }

    fn peers(&self) -> Vec<PeerInfo> {
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
        self.connections.iter().map(info).collect()
    }

    /// Dials a peer for somebody. Who asks while it is being dialled waits with the others; where
    /// he knows further addresses, they are tried beside.
    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, reply: DialReply) {
        if self.swarm.is_connected(&peer) {
            drop(reply.send(Ok(())));
            return;
        }
        let dialling = self.dials.entry(peer).or_default();
        dialling.waiting.retain(|reply| !reply.is_closed());
        dialling.waiting.push(reply);
        let mut fresh = addresses;
        fresh.retain(|address| !dialling.tried.contains(address));
        if dialling.under_way > 0 && fresh.is_empty() {
            return;
        }
        dialling.under_way += 1;
        dialling.tried.extend(fresh.iter().cloned());
        let options = DialOpts::peer_id(peer)
            .addresses(fresh)
            .extend_addresses_through_behaviour()
            .condition(PeerCondition::Disconnected)
            .build();
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(peer, &error);
        }
    }

    fn dial_peering(&mut self) {
        for (peer, addresses) in self.peering.due(Instant::now()) {
            if self.swarm.is_connected(&peer) {
                continue;
            }
            let (reply, _) = oneshot::channel();
            self.dial(peer, addresses, reply);
        }
    }

    fn dial_failed(&mut self, peer: PeerId, error: &dyn std::fmt::Display) {
        if !self.swarm.is_connected(&peer) {
            self.peering.lost(&peer, Instant::now());
        }
        let Some(dialling) = self.dials.get_mut(&peer) else { return };
        dialling.under_way = dialling.under_way.saturating_sub(1);
        if dialling.under_way == 0 {
            let error = DialError::Unreachable { peer, reason: error.to_string().into() };
            self.dialled(peer, &Err(error));
        }
    }

    fn dialled(&mut self, peer: PeerId, outcome: &Result<(), DialError>) {
        let waiting = self.dials.remove(&peer).map(|dialling| dialling.waiting);
        for reply in waiting.into_iter().flatten() {
            drop(reply.send(outcome.clone()));
        }
    }

    fn heard(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. } => {
                let address = endpoint.get_remote_address().clone();
                self.connections.entry(peer_id).or_default().push(address);
                self.peering.connected(&peer_id);
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
                    self.peering.lost(&peer_id, Instant::now());
                    drop(self.events.send(PeerEvent::Disconnected(peer_id)));
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                self.dial_failed(peer, &error);
            }
            SwarmEvent::Behaviour(event) => self.told(event),
            _ => {}
        }
    }

    /// What a behaviour says.
    fn told(&mut self, event: BehaviourEvent) {
        if let BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) = event {
            drop(self.events.send(PeerEvent::Identified(peer_id, info.protocols.into())));
        }
    }
}

/// Ends at that time; never where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
