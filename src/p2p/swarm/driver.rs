//! The task that has the swarm: it does what is asked, hears what happens, and says it on.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, autonat, identify, ping, relay};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Command, plain};
use crate::p2p::behaviour::{Behaviour, BehaviourEvent};
use crate::p2p::gate::{Gate, Host, Target};
use crate::p2p::identify::Identified;
use crate::p2p::metrics::{Metrics, direction, outcome, transport};
use crate::p2p::peering::Peering;
use crate::p2p::relays::{self, Relays};
use crate::p2p::tags::Tags;
use crate::p2p::{self, DialError, PeerEvent, PeerInfo};

/// Longest time that connections are given to close when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Pings in a row that a peer may leave without an answer before its connection counts as broken.
const PINGS_MISSED_MAX: u32 = 2;

type DialReply = oneshot::Sender<Result<(), DialError>>;

/// A peer that is being dialled for somebody.
#[derive(Default)]
pub(super) struct Dialling {
    /// Dials under way.
    under_way: usize,
    /// Where it was dialled.
    tried: Vec<Multiaddr>,
    /// Who waits for it to be reached.
    waiting: Vec<DialReply>,
}

/// A connected peer.
#[derive(Default)]
pub(super) struct Peer {
    connections: Vec<Connection>,
    identified: Option<Identified>,
    latency: Option<Duration>,
}

struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    inbound: bool,
    since: Instant,
    /// Pings in a row without an answer.
    pings_missed: u32,
}

/// Drives the swarm.
pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) asked: mpsc::Receiver<Command>,
    pub(super) tags: Tags,
    pub(super) events: broadcast::Sender<PeerEvent>,
    pub(super) gate: Gate,
    /// What is announced in place of all that is found out.
    pub(super) announce: Vec<Multiaddr>,
    pub(super) metrics: Metrics,
    pub(super) peers: HashMap<PeerId, Peer>,
    pub(super) dials: HashMap<PeerId, Dialling>,
    pub(super) peering: Peering,
    /// Hears when all of them were dialled once.
    pub(super) peered: watch::Sender<bool>,
    pub(super) relays: Relays,
    /// Listeners that have not said yet where they listen.
    pub(super) awaited: Vec<ListenerId>,
    /// Who waits for them to.
    pub(super) waiting: Vec<oneshot::Sender<Vec<Multiaddr>>>,
}

impl Driver {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let (peering, relays) = (self.peering.next_due(), self.relays.next_due());
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.asked.recv() => match command {
                    Some(command) => self.perform(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.heard(event),
                () = at(peering) => self.dial_peering(),
                () = at(relays) => self.ask_relays(),
            }
        }
        self.stop().await;
    }

    /// Says good-bye.
    async fn stop(mut self) {
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while !self.peers.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.heard(event);
            }
        };
        let _ = tokio::time::timeout(STOP_TIMEOUT, closed).await;
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Addresses(reply) => {
                self.waiting.retain(|reply| !reply.is_closed());
                self.waiting.push(reply);
                self.tell_addresses();
            }
            Command::Announced(reply) => {
                let us = *self.swarm.local_peer_id();
                let all = self.swarm.external_addresses().cloned();
                drop(reply.send(all.map(|address| with_peer(address, us)).collect()));
            }
            Command::Peers(reply) => {
                let all = self.peers.iter().map(|(id, peer)| self.info(*id, peer));
                drop(reply.send(all.collect()));
            }
            Command::Peer { peer, reply } => {
                let found = self.peers.get(&peer).map(|found| self.info(peer, found));
                drop(reply.send(found));
            }
            Command::Dial { peer, addresses, reply } => self.dial(peer, addresses, Some(reply)),
            Command::Disconnect { peer, reply } => {
                let _ = reply.send(self.swarm.disconnect_peer_id(peer).is_ok());
            }
        }
    }

    fn info(&self, id: PeerId, peer: &Peer) -> PeerInfo {
        let now = Instant::now();
        let worth = self.tags.worth(&id, now);
        let connection = |one: &Connection| p2p::Connection {
            address: one.address.clone(),
            inbound: one.inbound,
            age: now - one.since,
        };
        let identified = peer.identified.clone();
        let (agent, protocols) = identified.map(|said| (said.agent, said.protocols)).unzip();
        PeerInfo {
            peer: id,
            connections: peer.connections.iter().map(connection).collect(),
            agent: agent.unwrap_or_default(),
            protocols: protocols.unwrap_or_default(),
            latency: peer.latency,
            tags: worth.tags,
            protected: worth.protected,
            busy: worth.busy,
        }
    }

    /// Tells where we are to who waits for it, as soon as all listeners have said where they are.
    fn tell_addresses(&mut self) {
        if !self.awaited.is_empty() {
            return;
        }
        let us = *self.swarm.local_peer_id();
        let mut all: Vec<Multiaddr> = Vec::new();
        for address in self.swarm.external_addresses().chain(self.swarm.listeners()) {
            let address = with_peer(address.clone(), us);
            if !all.contains(&address) {
                all.push(address);
            }
        }
        for reply in self.waiting.drain(..) {
            drop(reply.send(all.clone()));
        }
    }

    /// Dials a peer. Who asks while it is being dialled waits with the others; where he knows
    /// further addresses, they are tried beside.
    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, reply: Option<DialReply>) {
        if self.swarm.is_connected(&peer) {
            drop(reply.map(|reply| reply.send(Ok(()))));
            return;
        }
        let dialling = self.dials.entry(peer).or_default();
        dialling.waiting.retain(|reply| !reply.is_closed());
        dialling.waiting.extend(reply);
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
            self.dial(peer, addresses, None);
        }
    }

    fn tell_peered(&self) {
        if self.peering.all_tried() {
            self.peered.send_if_modified(|peered| !std::mem::replace(peered, true));
        }
    }

    fn dial_failed(&mut self, peer: PeerId, error: &libp2p::swarm::DialError) {
        self.metrics.dials.with_label_values(&[outcome(error)]).inc();
        if !self.swarm.is_connected(&peer) {
            self.peering.lost(&peer, Instant::now());
            self.tell_peered();
        }
        let Some(dialling) = self.dials.get_mut(&peer) else { return };
        dialling.under_way = dialling.under_way.saturating_sub(1);
        if dialling.under_way == 0 {
            let error = DialError::Unreachable { peer, reason: reason(error).into() };
            self.dialled(peer, &Err(error));
        }
    }

    fn dialled(&mut self, peer: PeerId, outcome: &Result<(), DialError>) {
        let waiting = self.dials.remove(&peer).map(|dialling| dialling.waiting);
        for reply in waiting.into_iter().flatten() {
            drop(reply.send(outcome.clone()));
        }
    }

    fn ask_relays(&mut self) {
        for (peer, address) in self.relays.due(Instant::now()) {
            match self.swarm.listen_on(address.clone()) {
                Ok(listener) => self.relays.asked(listener, peer),
                Err(error) => {
                    let error = plain(&error);
                    tracing::warn!(%address, error, "a relay cannot be listened through");
                }
            }
        }
    }

    fn heard(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => self.connected(peer_id, connection_id, &endpoint, num_established.get() == 1),
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.disconnected(peer_id, connection_id, num_established == 0);
            }
            // A behaviour dials. Who asks for the same peer meanwhile waits for this as well: the
            // second way to one address and port would be refused, being too soon.
            SwarmEvent::Dialing { peer_id: Some(peer), .. } => {
                self.dials.entry(peer).or_default().under_way += 1;
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                self.dial_failed(peer, &error);
            }
            SwarmEvent::IncomingConnectionError { .. } => self.metrics.inbound_failures.inc(),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listening(listener_id, address);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } if !is_relayed(&address) => {
                self.gate.own(&address, false);
                self.swarm.remove_external_address(&address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.awaited.retain(|awaited| *awaited != listener_id);
                self.tell_addresses();
                if self.relays.lost(listener_id, Instant::now()) {
                    tracing::debug!(?reason, "a slot at a relay is gone");
                }
            }
            SwarmEvent::ExternalAddrConfirmed { address } => self.confirmed(&address),
            SwarmEvent::ExternalAddrExpired { address } => {
                if !is_relayed(&address) {
                    self.gate.own(&address, false);
                }
                self.metrics.relay_slots.set(self.relay_slots());
            }
            SwarmEvent::Behaviour(event) => self.told(event),
            _ => {}
        }
    }

    fn connected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        at: &ConnectedPoint,
        first: bool,
    ) {
        let (address, inbound) = (at.get_remote_address().clone(), at.is_listener());
        let labels = [direction(inbound), transport(&address)];
        self.metrics.connections.with_label_values(&labels).inc();
        if !inbound {
            self.metrics.dials.with_label_values(&["reached"]).inc();
        }
        let peer = self.peers.entry(id).or_default();
        let since = Instant::now();
        peer.connections.push(Connection {
            id: connection,
            address,
            inbound,
            since,
            pings_missed: 0,
        });
        self.peering.connected(&id);
        self.tell_peered();
        self.relays.connected(Instant::now());
        if first {
            drop(self.events.send(PeerEvent::Connected(id)));
        }
        self.dialled(id, &Ok(()));
    }

    fn disconnected(&mut self, id: PeerId, connection: ConnectionId, last: bool) {
        if let Some(peer) = self.peers.get_mut(&id)
            && let Some(at) = peer.connections.iter().position(|one| one.id == connection)
        {
            let gone = peer.connections.swap_remove(at);
            let labels = [direction(gone.inbound), transport(&gone.address)];
            self.metrics.connections.with_label_values(&labels).dec();
        }
        if last {
            self.peers.remove(&id);
            self.peering.lost(&id, Instant::now());
            drop(self.events.send(PeerEvent::Disconnected(id)));
        }
    }

    fn listening(&mut self, listener: ListenerId, address: Multiaddr) {
        self.awaited.retain(|awaited| *awaited != listener);
        if is_relayed(&address) {
            // It is the relay's, and of no use before the relay has given a slot.
            return;
        }
        self.gate.own(&address, true);
        // Where nobody else may say where we are, a listener may: what is public is announced to
        // all, what is not to our own networks only.
        if let Some(Target { host: Host::Ip(ip), .. }) = Target::of(&address)
            && self.announce.is_empty()
            && !ip.is_unspecified()
        {
            if crate::network::is_public(ip) {
                self.can_be_dialled();
            }
            if self.gate.guard().allows(ip) {
                self.swarm.add_external_address(address);
            }
        }
        self.tell_addresses();
    }

    /// A behaviour found an address out where we are reached, and the swarm took it in already.
    fn confirmed(&mut self, address: &Multiaddr) {
        let named = self.announce.is_empty() || self.announce.contains(address);
        if !is_relayed(address) {
            self.can_be_dialled();
            self.gate.own(address, true);
        }
        if !named || !self.gate.guard().allows_multiaddr(address) {
            self.swarm.remove_external_address(address);
        }
        tracing::info!(%address, "peers reach us");
        self.metrics.relay_slots.set(self.relay_slots());
    }

    fn can_be_dialled(&mut self) {
        for listener in self.relays.reachable() {
            self.swarm.remove_listener(listener);
        }
    }

    fn relay_slots(&self) -> i64 {
        let slots = self.swarm.external_addresses().filter(|address| is_relayed(address)).count();
        i64::try_from(slots).unwrap_or(i64::MAX)
    }

    /// What a behaviour says.
    fn told(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => {
                self.identified(peer_id, connection_id, info);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => {
                self.pinged(peer, connection, result.ok());
            }
            BehaviourEvent::HolePunching(event) => {
                let outcome = if event.result.is_ok() { "direct" } else { "failed" };
                self.metrics.hole_punches.with_label_values(&[outcome]).inc();
                tracing::debug!(peer = %event.remote_peer_id, outcome, "hole punching");
            }
            BehaviourEvent::Autonat(autonat::v2::client::Event { result: Err(_), .. }) => {
                self.relays.tried_in_vain(Instant::now());
            }
            BehaviourEvent::Relay(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                renewal: false,
                ..
            }) => tracing::info!(relay = %relay_peer_id, "peers reach us through a relay"),
            _ => {}
        }
    }

    fn identified(&mut self, id: PeerId, connection: ConnectionId, info: identify::Info) {
        let Some(said) = Identified::of(info) else {
            tracing::debug!(peer = %id, "disconnected: its key is too long");
            let _ = self.swarm.disconnect_peer_id(id);
            return;
        };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let speaks = |name: &str| said.protocols.iter().any(|one| one.as_ref() == name);
        if speaks(relays::TRIAL_PROTOCOL) && self.swarm.behaviour().autonat.is_enabled() {
            self.relays.is_tried();
        }
        let is_relay = speaks(relays::PROTOCOL);
        let on = peer.connections.iter().find(|one| one.id == connection);
        if is_relay
            && let Some(on) = on.filter(|on| !on.inbound && transport(&on.address) != "relay")
        {
            self.relays.met(id, with_peer(on.address.clone(), id));
        }
        self.swarm.behaviour_mut().manager.identified(id, &said.addresses);
        let protocols = said.protocols.clone();
        peer.identified = Some(said);
        drop(self.events.send(PeerEvent::Identified(id, protocols)));
    }

    fn pinged(&mut self, id: PeerId, connection: ConnectionId, took: Option<Duration>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.latency = took.or(peer.latency);
        let Some(on) = peer.connections.iter_mut().find(|one| one.id == connection) else {
            return;
        };
        on.pings_missed = if took.is_some() { 0 } else { on.pings_missed + 1 };
        if on.pings_missed >= PINGS_MISSED_MAX {
            tracing::debug!(peer = %id, address = %on.address, "disconnected: no answer to pings");
            self.swarm.close_connection(connection);
        }
    }
}

/// Whether an address leads through a relay.
fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// An address with the identity of who is there at its end.
fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    address.with_p2p(peer).unwrap_or_else(|address| address)
}

/// What dials came to, address by address.
fn reason(error: &libp2p::swarm::DialError) -> String {
    let libp2p::swarm::DialError::Transport(tried) = error else { return plain(error) };
    let each = tried.iter().map(|(address, error)| {
        use libp2p::TransportError::{MultiaddrNotSupported, Other};
        match error {
            MultiaddrNotSupported(_) => format!("{address}: no transport leads there"),
            Other(error) => format!("{address}: {}", plain(error)),
        }
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Ends at that time; never where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
