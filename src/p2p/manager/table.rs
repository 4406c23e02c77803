//! The connections there are, by peer, direction and address group, and the caps on them. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::network::{self, Guard};

/// Least cap on established connections in each direction.
const EACH_WAY_MIN: usize = 512;
/// Established connections with one peer: more than one comes of both dialling at once, of a relay
/// before the direct way, of two transports.
const PER_PEER_MAX: usize = 4;
/// Inbound connections that negotiate at a time.
const PENDING_IN_MAX: usize = 256;
/// Outbound connections that are dialled or negotiate at a time.
const PENDING_OUT_MAX: usize = 256;
/// Inbound connections of one address group: an IPv4 /24, an IPv6 /48, all that come by relays.
const GROUP_MAX: usize = 32;
/// Those of a group that negotiate.
const GROUP_PENDING_MAX: usize = 16;
/// Connections over each cap that are left for protected peers.
const RESERVED: usize = 64;

/// Who began a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// The peer.
    Inbound,
    /// This node.
    Outbound,
}

impl Direction {
    /// Its name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "in",
            Self::Outbound => "out",
        }
    }
}

/// Addresses that one party may have many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Group {
    V4([u8; 3]),
    V6([u16; 3]),
    Relayed,
}

impl Group {
    /// The group of an address; none where the caps leave it out: loopback, and private ones where
    /// those are allowed.
    pub(super) fn of(address: &Multiaddr, guard: Guard) -> Option<Self> {
        if address.iter().any(|part| matches!(part, Protocol::P2pCircuit)) {
            return Some(Self::Relayed);
        }
        let ip = ip_of(address)?;
        if ip.is_loopback() || (guard.allows(ip) && !network::is_public(ip)) {
            return None;
        }
        Some(match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, ..] = ip.segments();
                Self::V6([a, b, c])
            }
        })
    }
}

/// The IP address that a multiaddr begins with.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

/// Why a connection was refused, as in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::p2p) enum Refusal {
    #[error("too many connections negotiate")]
    Pending,
    #[error("too many connections of its address group negotiate")]
    GroupPending,
    #[error("there are too many connections")]
    Established,
    #[error("there are too many connections of its address group")]
    Group,
    #[error("there are too many connections with this peer")]
    Peer,
    #[error("this node is short of memory")]
    Memory,
    #[error("it was tried a short while ago; it may be tried again in {0} s")]
    BackOff(u64),
}

impl Refusal {
    /// For so long.
    pub(super) const fn back_off(wait: Duration) -> Self {
        Self::BackOff(wait.as_secs() + 1)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::GroupPending => "group_pending",
            Self::Established => "established",
            Self::Group => "group",
            Self::Peer => "peer",
            Self::Memory => "memory",
            Self::BackOff(_) => "back_off",
        }
    }
}

/// An established connection.
#[derive(Debug, Clone)]
pub(super) struct Established {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    pub(super) address: Multiaddr,
    pub(super) since: Instant,
    group: Option<Group>,
}

/// How many there are of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub(super) pending: usize,
    pub(super) established: usize,
}

/// The connections there are.
#[derive(Debug)]
pub(super) struct Table {
    each_way_max: usize,
    guard: Guard,
    pending: HashMap<ConnectionId, (Direction, Option<Group>)>,
    peers: HashMap<PeerId, Vec<Established>>,
    inbound: Count,
    outbound: Count,
    /// Inbound connections alone: whom we dial is our own choice.
    groups: HashMap<Group, Count>,
}

impl Table {
    /// No connections; the caps leave room above `connections_high`.
    pub(super) fn new(connections_high: usize, guard: Guard) -> Self {
        Self {
            each_way_max: EACH_WAY_MIN.max(connections_high),
            guard,
            pending: HashMap::new(),
            peers: HashMap::new(),
            inbound: Count::default(),
            outbound: Count::default(),
            groups: HashMap::new(),
        }
    }

    /// Counts a connection that begins, or says why there is no room; `reserved` where a protected
    /// peer may come of it.
    pub(super) fn begin(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        address: Option<&Multiaddr>,
        reserved: bool,
    ) -> Result<(), Refusal> {
        let (count, max) = match direction {
            Direction::Inbound => (self.inbound, PENDING_IN_MAX),
            Direction::Outbound => (self.outbound, PENDING_OUT_MAX),
        };
        let room = if reserved { RESERVED } else { 0 };
        if count.pending >= max + room {
            return Err(Refusal::Pending);
        }
        if count.established >= self.each_way_max + room {
            return Err(Refusal::Established);
        }
        let group = match direction {
            Direction::Inbound => address.and_then(|a| Group::of(a, self.guard)),
            Direction::Outbound => None,
        };
        if let Some(count) = group.and_then(|group| self.groups.get(&group)) {
            if count.pending >= GROUP_PENDING_MAX + room {
                return Err(Refusal::GroupPending);
            }
            if count.established >= GROUP_MAX + room {
                return Err(Refusal::Group);
            }
        }
        if self.pending.insert(id, (direction, group)).is_none() {
            self.count(direction, group, |count| count.pending += 1);
        }
        Ok(())
    }

    /// Whether there is room for a connection now that its peer is known.
    pub(super) fn admits(
        &self,
        id: ConnectionId,
        peer: &PeerId,
        direction: Direction,
        protected: bool,
    ) -> Result<(), Refusal> {
        let room = if protected { RESERVED } else { 0 };
        let count = match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        };
        if count.established >= self.each_way_max + room {
            return Err(Refusal::Established);
        }
        if self.peers.get(peer).map_or(0, Vec::len) >= PER_PEER_MAX {
            return Err(Refusal::Peer);
        }
        let group = self.pending.get(&id).and_then(|(_, group)| *group);
        let of_group = group.and_then(|group| self.groups.get(&group));
        if of_group.is_some_and(|count| count.established >= GROUP_MAX + room) {
            return Err(Refusal::Group);
        }
        Ok(())
    }

    /// A connection came to nothing.
    pub(super) fn failed(&mut self, id: ConnectionId) {
        if let Some((direction, group)) = self.pending.remove(&id) {
            self.count(direction, group, |count| count.pending = count.pending.saturating_sub(1));
        }
    }

    /// A connection is there.
    pub(super) fn established(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        direction: Direction,
        address: Multiaddr,
        now: Instant,
    ) {
        self.failed(id);
        let group = match direction {
            Direction::Inbound => Group::of(&address, self.guard),
            Direction::Outbound => None,
        };
        self.count(direction, group, |count| count.established += 1);
        let connection = Established { id, direction, address, since: now, group };
        self.peers.entry(peer).or_default().push(connection);
    }

    /// A connection is gone. Whether it was the last with its peer.
    pub(super) fn closed(&mut self, id: ConnectionId, peer: &PeerId) -> bool {
        let Some(connections) = self.peers.get_mut(peer) else { return false };
        let Some(at) = connections.iter().position(|each| each.id == id) else { return false };
        let gone = connections.remove(at);
        let last = connections.is_empty();
        if last {
            self.peers.remove(peer);
        }
        self.count(gone.direction, gone.group, |count| {
            count.established = count.established.saturating_sub(1);
        });
        last
    }

    /// The peer is elsewhere now, as peers that move do over QUIC.
    pub(super) fn moved(&mut self, id: ConnectionId, peer: &PeerId, address: Multiaddr) {
        let connections = self.peers.get_mut(peer).into_iter().flatten();
        if let Some(connection) = connections.into_iter().find(|each| each.id == id) {
            connection.address = address;
        }
    }

    fn count(&mut self, direction: Direction, group: Option<Group>, change: impl Fn(&mut Count)) {
        match direction {
            Direction::Inbound => change(&mut self.inbound),
            Direction::Outbound => change(&mut self.outbound),
        }
        if let Some(group) = group {
            let count = self.groups.entry(group).or_default();
            change(count);
            if *count == Count::default() {
                self.groups.remove(&group);
            }
        }
    }

    /// Whether a peer was dialled, and through relays alone: whatever else is dialled of it now is to
    /// find a direct way.
    pub(super) fn is_dialled_by_relay_alone(&self, peer: &PeerId) -> bool {
        let relayed = |each: &Established| {
            each.direction == Direction::Outbound
                && each.address.iter().any(|part| part == Protocol::P2pCircuit)
        };
        self.peers.get(peer).is_some_and(|all| all.iter().all(relayed))
    }

    /// The peers that are connected, and how.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&PeerId, &[Established])> {
        self.peers.iter().map(|(peer, connections)| (peer, connections.as_slice()))
    }

    pub(super) fn count_of(&self, direction: Direction) -> Count {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        }
    }

    /// Established connections.
    pub(super) fn len(&self) -> usize {
        self.inbound.established + self.outbound.established
    }

    /// Whether a direction has little room left: the next may have to be refused.
    pub(super) fn is_nearly_full(&self) -> bool {
        let most = self.inbound.established.max(self.outbound.established);
        most > self.each_way_max - self.each_way_max / 8
    }
}

#[cfg(test)]
mod tests;
