//! The connection manager: how many connections there may be, whose are let go, and who is not
//! dialled for a while.
//!
//! As go-libp2p's: over a high water the least valuable connections are closed until a low water is
//! reached. What decides is pure ([`table`], [`trim`], [`back_off`]); this file puts it to the swarm.

mod back_off;
mod dials;
mod memory;
mod table;
mod trim;

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::network::Guard;

use super::address_book::AddressBook;
use super::metrics::Metrics;
use super::tags::Tags;
use back_off::BackOff;
use memory::Memory;
use table::{Direction, Established, Refusal, Table, ip_of};
use trim::{Candidate, Trimmer};

pub(super) use dials::{Dials, Paced};
pub(super) use trim::Marks;

/// How often it is looked whether there are too many connections.
const TICK: Duration = Duration::from_secs(1);
/// Ticks from one housekeeping to the next.
const TICKS_OF_UPKEEP: u32 = 60;

/// What the manager stands on.
pub(super) struct Parts {
    pub(super) marks: Marks,
    pub(super) memory_bytes_max: Option<u64>,
    pub(super) guard: Guard,
    pub(super) tags: Tags,
    pub(super) dials: Dials,
    pub(super) book: AddressBook,
    pub(super) metrics: Metrics,
    /// Where the operator's own peers and relays are.
    pub(super) own: Vec<Multiaddr>,
}

/// The part of the swarm that says which connections there are.
pub(super) struct Manager {
    table: Table,
    trimmer: Trimmer,
    memory: Memory,
    /// Peers, and their addresses, that were dialled in vain.
    vain: BackOff<(PeerId, Option<Multiaddr>)>,
    /// Addresses that protected peers may come from.
    reserved: HashSet<IpAddr>,
    /// Dials by which holes are punched.
    punching: HashSet<ConnectionId>,
    closing: VecDeque<PeerId>,
    ticks: Interval,
    until_upkeep: u32,
    tags: Tags,
    dials: Dials,
    book: AddressBook,
    metrics: Metrics,
    own: HashSet<IpAddr>,
}

impl Manager {
    /// No connections yet. Within a runtime.
    pub(super) fn new(parts: Parts) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut manager = Self {
            table: Table::new(parts.marks.high, parts.guard),
            trimmer: Trimmer::new(parts.marks),
            memory: Memory::new(parts.memory_bytes_max),
            vain: BackOff::new(),
            reserved: HashSet::new(),
            punching: HashSet::new(),
            closing: VecDeque::new(),
            ticks,
            until_upkeep: TICKS_OF_UPKEEP,
            tags: parts.tags,
            dials: parts.dials,
            book: parts.book,
            metrics: parts.metrics,
            own: parts.own.iter().filter_map(ip_of).collect(),
        };
        manager.reserve();
        manager
    }

    /// A connected peer said where it listens.
    pub(super) fn identified(&self, peer: PeerId, addresses: &[Multiaddr]) {
        self.book.identified(peer, addresses);
    }

    fn refuse(&self, refusal: Refusal) -> ConnectionDenied {
        self.metrics.connections_refused.with_label_values(&[refusal.name()]).inc();
        ConnectionDenied::new(refusal)
    }

    fn admit(
        &self,
        id: ConnectionId,
        peer: &PeerId,
        direction: Direction,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let protected = self.tags.is_protected(peer);
        let admitted = self.table.admits(id, peer, direction, protected);
        admitted.map_err(|refusal| self.refuse(refusal))?;
        Ok(dummy::ConnectionHandler)
    }

    fn tick(&mut self, now: Instant) {
        self.trim(now);
        self.reserve();
        self.until_upkeep -= 1;
        if self.until_upkeep == 0 {
            self.until_upkeep = TICKS_OF_UPKEEP;
            self.tags.prune(now);
            self.vain.prune(now);
            self.dials.doors().prune(now);
            for (peer, _) in self.table.peers() {
                self.book.seen(peer, self.tags.worth(peer, now).value() > 0);
            }
        }
        self.report();
    }

    fn report(&self) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.peers.set(gauge(self.table.peers().count()));
        for direction in [Direction::Inbound, Direction::Outbound] {
            let pending = self.metrics.connections_pending.with_label_values(&[direction.name()]);
            pending.set(gauge(self.table.count_of(direction).pending));
        }
        self.metrics.peers_known.set(gauge(self.book.len()));
    }

    /// Lets go whom there is no room for.
    fn trim(&mut self, now: Instant) {
        let pressed = self.table.is_nearly_full() || self.memory.is_short(now);
        if !self.trimmer.is_due(self.table.len(), pressed, now) {
            return;
        }
        let candidate = |(peer, connections): (&PeerId, &[Established])| {
            let worth = self.tags.worth(peer, now);
            Candidate {
                peer: *peer,
                value: worth.value(),
                kept: worth.is_kept(),
                connections: connections.len(),
                dialled: connections.iter().any(|each| each.direction == Direction::Outbound),
                since: connections.iter().map(|each| each.since).min().unwrap_or(now),
            }
        };
        let candidates = self.table.peers().map(candidate).collect();
        let gone = self.trimmer.trim(candidates, now);
        if gone.is_empty() {
            return;
        }
        tracing::debug!(peers = gone.len(), connections = self.table.len(), "peers are let go");
        self.metrics.trims.inc();
        self.metrics.peers_trimmed.inc_by(gone.len() as u64);
        self.closing = gone.into();
    }

    /// Sees where protected peers may come from: before a connection has negotiated, its address is
    /// all that is known of it.
    fn reserve(&mut self) {
        self.reserved.clone_from(&self.own);
        for peer in self.tags.protected() {
            self.reserved.extend(self.book.addresses(&peer).iter().filter_map(ip_of));
        }
    }

    fn established(&mut self, id: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) {
        self.punching.remove(&id);
        let address = endpoint.get_remote_address().clone();
        let direction = match endpoint {
            ConnectedPoint::Dialer { .. } => Direction::Outbound,
            ConnectedPoint::Listener { .. } => Direction::Inbound,
        };
        if direction == Direction::Outbound {
            let address = without_peer(&address);
            dials::Door::of(&address).inspect(|door| self.dials.doors().succeeded(door));
            self.book.reached(peer, &address);
            self.vain.succeeded(&(peer, Some(address)));
        }
        self.vain.succeeded(&(peer, None));
        self.table.established(id, peer, direction, address, Instant::now());
    }

    fn closed(&mut self, id: ConnectionId, peer: &PeerId) {
        if self.table.closed(id, peer) {
            let worth = self.tags.worth(peer, Instant::now());
            self.book.seen(peer, worth.value() > 0);
            self.tags.disconnected(peer);
        }
    }

    /// A dial came to nothing.
    fn dial_failed(&mut self, peer: Option<PeerId>, error: &DialError) {
        let now = Instant::now();
        let mut failed = Vec::new();
        match error {
            DialError::Transport(errors) => {
                let counts = |error: &_| match error {
                    libp2p::TransportError::Other(error) => !dials::is_paced(error),
                    libp2p::TransportError::MultiaddrNotSupported(_) => true,
                };
                let counted = errors.iter().filter(|(_, error)| counts(error));
                failed.extend(counted.map(|(address, _)| without_peer(address)));
            }
            DialError::WrongPeerId { address, .. } => failed.push(without_peer(address)),
            // Nobody was asked, or we ended it.
            _ => return,
        }
        if failed.is_empty() {
            return;
        }
        for address in &failed {
            if let Some(door) = dials::Door::of(address) {
                self.dials.doors().disproved(door, now);
            }
        }
        if let Some(peer) = peer.filter(|peer| !self.tags.is_protected(peer)) {
            self.vain.failed((peer, None), now);
            failed.into_iter().for_each(|each| self.vain.failed((peer, Some(each)), now));
        }
    }

    /// The addresses known of a peer that may be dialled now; refused where all that are known, or
    /// offered, were tried in vain a short while ago.
    fn addresses(&self, peer: &PeerId, offered: &[Multiaddr]) -> Result<Vec<Multiaddr>, Refusal> {
        let mut known = self.book.addresses(peer);
        if self.tags.is_protected(peer) {
            return Ok(known);
        }
        let now = Instant::now();
        let wait = |address: Option<Multiaddr>| self.vain.wait(&(*peer, address), now);
        known.retain(|address| wait(Some(address.clone())).is_none());
        let mut waits = offered.iter().map(|address| wait(Some(without_peer(address))));
        let others = waits.any(|wait| wait.is_none()) || !known.is_empty();
        match wait(None) {
            Some(wait) if !others => Err(Refusal::back_off(wait)),
            _ => Ok(known),
        }
    }
}

/// An address without the peer at its end.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

impl NetworkBehaviour for Manager {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let reserved = ip_of(remote).is_some_and(|ip| self.reserved.contains(&ip));
        if !reserved && self.memory.is_short(Instant::now()) {
            return Err(self.refuse(Refusal::Memory));
        }
        let begun = self.table.begin(id, Direction::Inbound, Some(remote), reserved);
        begun.map_err(|refusal| self.refuse(refusal))
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(id, &peer, Direction::Inbound)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        offered: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let reserved = peer.is_some_and(|peer| self.tags.is_protected(&peer));
        // A hole is punched at the addresses that were agreed on, and there alone; whether anything
        // was dialled in vain before does not matter.
        let punches = role == Endpoint::Listener
            || peer.is_some_and(|peer| self.table.is_dialled_by_relay_alone(&peer));
        let known = match peer.filter(|_| !punches) {
            Some(peer) => self.addresses(&peer, offered),
            None => Ok(Vec::new()),
        };
        let known = known.map_err(|refusal| self.refuse(refusal))?;
        let begun = self.table.begin(id, Direction::Outbound, None, reserved);
        begun.map_err(|refusal| self.refuse(refusal))?;
        if punches {
            self.punching.insert(id);
            self.dials.punch(offered, Instant::now());
        }
        Ok(known)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(id, &peer, Direction::Outbound)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(there) => {
                self.established(there.connection_id, there.peer_id, there.endpoint);
                for address in there.failed_addresses {
                    if let Some(door) = dials::Door::of(address) {
                        self.dials.doors().disproved(door, Instant::now());
                    }
                }
            }
            FromSwarm::ConnectionClosed(gone) => self.closed(gone.connection_id, &gone.peer_id),
            FromSwarm::AddressChange(change) => {
                let address = change.new.get_remote_address().clone();
                self.table.moved(change.connection_id, &change.peer_id, address);
            }
            FromSwarm::DialFailure(failure) => {
                self.table.failed(failure.connection_id);
                if !self.punching.remove(&failure.connection_id) {
                    self.dial_failed(failure.peer_id, failure.error);
                }
            }
            FromSwarm::ListenFailure(failure) => self.table.failed(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while self.ticks.poll_tick(cx).is_ready() {
            self.tick(Instant::now());
        }
        match self.closing.pop_front() {
            Some(peer_id) => {
                let connection = CloseConnection::All;
                Poll::Ready(ToSwarm::CloseConnection { peer_id, connection })
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
