//! The routing table: peers that answer, by how many bits they have in common with us. Pure.
//!
//! **Invariant:** no group of addresses has more than a few places, so that whoever rents many
//! addresses in one place does not surround us.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::network::is_public;

use super::position::Position;
use super::wire::Contact;

/// Peers with as many bits in common with us, and peers nearest to a key (k of the specification).
pub(super) const K: usize = 20;
/// Peers of one group of addresses in the table.
const GROUP_PEERS_MAX: usize = 3;
/// Peers of one group of addresses with as many bits in common with us.
const GROUP_BUCKET_PEERS_MAX: usize = 2;
/// After this time without an answer, a peer gives its place to another, in seconds.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// What one operator is likely to have many addresses of: a /16 of IPv4, a /32 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group([u8; 4], bool);

impl Group {
    /// The group of an address; private ones have none.
    fn of(address: &Multiaddr) -> Option<Self> {
        let ip = address.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(IpAddr::from(ip)),
            Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
            _ => None,
        })?;
        match ip {
            _ if !is_public(ip) => None,
            IpAddr::V4(ip) => Some(Self([ip.octets()[0], ip.octets()[1], 0, 0], false)),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.octets();
                Some(Self([a, b, c, d], true))
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    contact: Contact,
    position: Position,
    groups: Vec<Group>,
    /// When it last answered.
    answered: Instant,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    own: PeerId,
    position: Position,
    entries: Vec<Entry>,
}

impl Table {
    pub(super) fn new(own: PeerId) -> Self {
        Self { own, position: Position::of_peer(&own), entries: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes in a peer that has just answered, or says again that it does. Whether it is new here.
    pub(super) fn insert(&mut self, contact: Contact, now: Instant) -> bool {
        let held = self.entries.iter_mut().find(|entry| entry.contact.peer == contact.peer);
        if let Some(held) = held {
            held.answered = now;
            if !contact.addresses.is_empty() && held.contact.addresses != contact.addresses {
                let moved = self.take(&contact.peer);
                // Where its new addresses are in groups that have enough, the old ones stay.
                if !self.place(contact, now) {
                    self.entries.extend(moved);
                }
            }
            return false;
        }
        self.place(contact, now)
    }

    fn place(&mut self, contact: Contact, now: Instant) -> bool {
        if contact.peer == self.own {
            return false;
        }
        let position = Position::of_peer(&contact.peer);
        let bits = position.common_bits(&self.position);
        let mut groups: Vec<Group> = contact.addresses.iter().filter_map(Group::of).collect();
        groups.dedup();
        let own = self.position;
        let in_bucket = |entry: &Entry| entry.position.common_bits(&own) == bits;
        let crowded = groups.iter().any(|group| {
            let same = || self.entries.iter().filter(|entry| entry.groups.contains(group));
            same().count() >= GROUP_PEERS_MAX
                || same().filter(|entry| in_bucket(entry)).count() >= GROUP_BUCKET_PEERS_MAX
        });
        if crowded {
            return false;
        }
        let bucket = || self.entries.iter().enumerate().filter(|(_, entry)| in_bucket(entry));
        if bucket().count() >= K {
            let oldest = bucket().min_by_key(|(_, entry)| entry.answered);
            match oldest {
                Some((at, entry)) if now.duration_since(entry.answered) > STALE_AFTER => {
                    self.entries.swap_remove(at);
                }
                _ => return false,
            }
        }
        self.entries.push(Entry { contact, position, groups, answered: now });
        true
    }

    /// Takes out a peer that does not answer. Whether it was here.
    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        self.take(peer).is_some()
    }

    fn take(&mut self, peer: &PeerId) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.contact.peer == *peer)?;
        Some(self.entries.swap_remove(at))
    }

    /// The peers nearest to a place, the nearest first.
    pub(super) fn closest(&self, target: &Position, count: usize) -> Vec<Contact> {
        let mut by_distance: Vec<_> =
            self.entries.iter().map(|entry| (entry.position.distance(target), entry)).collect();
        by_distance.sort_unstable_by_key(|(distance, _)| *distance);
        by_distance.into_iter().take(count).map(|(_, entry)| entry.contact.clone()).collect()
    }

    /// The peer, if it is in the table.
    pub(super) fn get(&self, peer: &PeerId) -> Option<&Contact> {
        let held = self.entries.iter().find(|entry| entry.contact.peer == *peer);
        held.map(|entry| &entry.contact)
    }

    /// The most bits that a peer of the table has in common with us.
    pub(super) fn deepest(&self) -> u32 {
        let bits = |entry: &Entry| entry.position.common_bits(&self.position);
        self.entries.iter().map(bits).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u16) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        let key = libp2p_identity::Keypair::ed25519_from_bytes(bytes).unwrap();
        key.public().to_peer_id()
    }

    fn contact(seed: u16, address: &str) -> Contact {
        Contact { peer: peer(seed), addresses: vec![address.parse().unwrap()] }
    }

    #[tokio::test]
    async fn the_nearest_are_given_first_and_full_buckets_keep_who_answers() {
        let mut table = Table::new(peer(0));
        let now = Instant::now();
        for seed in 1..200 {
            table.insert(contact(seed, "/ip4/127.0.0.1/tcp/1"), now);
        }
        // Half of all peers have no bit in common with us, and a bucket has 20 places.
        assert!((80..150).contains(&table.len()), "{}", table.len());
        let target = Position::of(b"key");
        let nearest = table.closest(&target, K);
        let distances: Vec<_> = nearest
            .iter()
            .map(|contact| Position::of_peer(&contact.peer).distance(&target))
            .collect();
        assert!(distances.is_sorted() && distances.len() == K);
        // An hour later, newcomers take the places of those that were not heard of since.
        let later = now + STALE_AFTER + Duration::from_secs(1);
        assert!((200..240).any(|seed| table.insert(contact(seed, "/ip4/127.0.0.1/tcp/1"), later)));
        assert!(!table.insert(contact(0, "/ip4/127.0.0.1/tcp/1"), now), "never ourselves");
    }

    #[tokio::test]
    async fn one_group_of_addresses_has_three_places() {
        let mut table = Table::new(peer(0));
        let now = Instant::now();
        for seed in 1..100 {
            table.insert(contact(seed, &format!("/ip4/9.9.{seed}.1/tcp/1")), now);
        }
        assert_eq!(table.len(), GROUP_PEERS_MAX);
        for seed in 100..200 {
            table.insert(contact(seed, &format!("/ip6/2a00:1450:{seed}::1/tcp/1")), now);
        }
        assert_eq!(table.len(), 2 * GROUP_PEERS_MAX);
        assert!(table.insert(contact(300, "/ip4/9.8.1.1/tcp/1"), now));
    }
}
