//! What is known of where peers are. Pure.

use std::collections::{HashMap, HashSet};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::provider::ADDRESSES_MAX;

/// Most peers kept.
pub(super) const PEERS_MAX: usize = 10_000;
/// Of them, how many make room at a time when there are more.
const EVICTED: usize = PEERS_MAX / 16;
/// Peers changed since the last write; further new ones are not taken in before the next.
const CHANGES_MAX: usize = 4096;
/// Longest address kept, in bytes.
const ADDRESS_BYTES_MAX: usize = 256;
/// How long a peer is kept that was not seen, in seconds.
const EXPIRY_S: u64 = 7 * 24 * 3600;
/// How much later a peer must have been seen for that to be written anew, in seconds.
const SEEN_EACH_S: u64 = 3600;

/// What is known of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Where we last reached it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<Multiaddr>,
    /// Where it says that it listens.
    named: Vec<Multiaddr>,
    /// When it was last connected, in seconds since 1970.
    seen: u64,
    /// Whether it ever was worth something to us.
    useful: bool,
}

/// What is known of all peers, and what of it changed since it was written.
#[derive(Debug, Default)]
pub(super) struct Book {
    peers: HashMap<PeerId, Known>,
    changed: HashSet<PeerId>,
}

impl Book {
    /// With these rows, those that are not too old.
    pub(super) fn new(rows: Vec<(PeerId, Known)>, now: u64) -> Self {
        let mut book = Self { peers: rows.into_iter().collect(), changed: HashSet::new() };
        book.expire(now);
        book
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Where a peer may be: where it was reached before where it says that it is.
    pub(super) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let Some(known) = self.peers.get(peer) else { return Vec::new() };
        let named = known.named.iter().filter(|address| Some(*address) != known.reached.as_ref());
        known.reached.iter().chain(named).take(ADDRESSES_MAX).cloned().collect()
    }

    /// A peer was reached at this address.
    pub(super) fn reached(&mut self, peer: PeerId, address: &Multiaddr, now: u64) {
        let Some(address) = plain(&peer, address) else { return };
        self.change(peer, now, |known| known.reached = Some(address));
    }

    /// A peer said that it listens at these addresses, and no longer at those it said before.
    pub(super) fn named<'a>(
        &mut self,
        peer: PeerId,
        addresses: impl Iterator<Item = &'a Multiaddr>,
        now: u64,
    ) {
        let plain = addresses.filter_map(|address| plain(&peer, address));
        let named: Vec<_> = plain.take(ADDRESSES_MAX).collect();
        let is_known = self.peers.get(&peer).is_some_and(|known| known.reached.is_some());
        if named.is_empty() && !is_known {
            return;
        }
        self.change(peer, now, |known| known.named = named);
    }

    /// A peer that is known was connected until now.
    pub(super) fn seen(&mut self, peer: &PeerId, useful: bool, now: u64) {
        if self.peers.contains_key(peer) {
            self.change(*peer, now, |known| known.useful |= useful);
        }
    }

    fn change(&mut self, peer: PeerId, now: u64, change: impl FnOnce(&mut Known)) {
        let before = self.peers.get(&peer);
        if before.is_none() && self.changed.len() >= CHANGES_MAX {
            return;
        }
        let fresh = || Known { reached: None, named: Vec::new(), seen: 0, useful: false };
        let mut known = before.cloned().unwrap_or_else(fresh);
        change(&mut known);
        if now >= known.seen.saturating_add(SEEN_EACH_S) {
            known.seen = now;
        }
        if before != Some(&known) {
            self.peers.insert(peer, known);
            self.changed.insert(peer);
            self.make_room();
        }
    }

    /// Where there are too many, those go that were of no use and not seen for longest.
    fn make_room(&mut self) {
        if self.peers.len() <= PEERS_MAX {
            return;
        }
        let mut all: Vec<_> =
            self.peers.iter().map(|(peer, known)| (known.useful, known.seen, *peer)).collect();
        all.select_nth_unstable(EVICTED);
        for (_, _, peer) in &all[..EVICTED] {
            self.peers.remove(peer);
            self.changed.insert(*peer);
        }
    }

    fn expire(&mut self, now: u64) {
        let changed = &mut self.changed;
        self.peers.retain(|peer, known| {
            let fresh = known.seen.saturating_add(EXPIRY_S) > now;
            if !fresh {
                changed.insert(*peer);
            }
            fresh
        });
    }

    /// What changed since this was last asked, to be written; none for what is no longer known.
    pub(super) fn changes(&mut self, now: u64) -> Vec<(PeerId, Option<Known>)> {
        self.expire(now);
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|peer| (peer, self.peers.get(&peer).cloned())).collect()
    }
}

/// An address of a peer without its identity at the end; none where it is another's or makes no
/// sense.
fn plain(peer: &PeerId, address: &Multiaddr) -> Option<Multiaddr> {
    let mut address = address.clone();
    if let Some(Protocol::P2p(other)) = address.iter().last() {
        if other != *peer {
            return None;
        }
        address.pop();
    }
    (!address.is_empty() && address.len() <= ADDRESS_BYTES_MAX).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_where_it_was_reached_and_where_it_says() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        let named = [
            at("/ip4/1.2.3.4/tcp/1"),
            at("/ip4/1.2.3.4/tcp/2").with_p2p(peer).unwrap(),
            at("/ip4/1.2.3.4/tcp/3").with_p2p(PeerId::random()).unwrap(),
            at(&format!("/dns4/{}/tcp/4", "x".repeat(ADDRESS_BYTES_MAX))),
        ];
        book.named(peer, named.iter(), NOW);
        book.reached(peer, &at("/ip4/1.2.3.4/tcp/2"), NOW);
        assert_eq!(book.addresses(&peer), [at("/ip4/1.2.3.4/tcp/2"), at("/ip4/1.2.3.4/tcp/1")]);
        let many: Vec<_> = (1..100).map(|port| at(&format!("/ip4/5.6.7.8/tcp/{port}"))).collect();
        book.named(peer, many.iter(), NOW);
        assert_eq!(book.addresses(&peer).len(), ADDRESSES_MAX);
        assert_eq!(book.addresses(&peer)[0], at("/ip4/1.2.3.4/tcp/2"));
        book.named(PeerId::random(), [].iter(), NOW);
        assert_eq!(book.len(), 1, "who has no address is not kept");
    }

    #[test]
    fn what_changed_is_written_once_and_read_again() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.reached(peer, &at("/ip4/1.2.3.4/tcp/2"), NOW);
        let changes = book.changes(NOW);
        assert_eq!(changes.len(), 1);
        book.seen(&peer, false, NOW + SEEN_EACH_S - 1);
        book.seen(&PeerId::random(), true, NOW);
        assert!(book.changes(NOW).is_empty(), "nothing worth writing");
        book.seen(&peer, false, NOW + SEEN_EACH_S);
        assert_eq!(book.changes(NOW).len(), 1);

        let text = serde_json::to_vec(changes[0].1.as_ref().unwrap()).unwrap();
        let rows = vec![(peer, serde_json::from_slice(&text).unwrap())];
        let mut again = Book::new(rows, NOW + EXPIRY_S - 1);
        assert_eq!(again.addresses(&peer), [at("/ip4/1.2.3.4/tcp/2")]);
        assert_eq!(again.changes(NOW + EXPIRY_S), [(peer, None)], "7 days after it was seen");
        assert!(again.addresses(&peer).is_empty());
    }

    #[test]
    fn a_flood_of_peers_drives_out_none_that_was_of_use() {
        let mut book = Book::default();
        let useful: Vec<_> = (0..100).map(|_| PeerId::random()).collect();
        for peer in &useful {
            book.reached(*peer, &at("/ip4/1.2.3.4/tcp/2"), NOW);
            book.seen(peer, true, NOW);
        }
        for n in 0..PEERS_MAX as u64 * 3 {
            book.named(PeerId::random(), [at("/ip4/5.6.7.8/tcp/1")].iter(), NOW + n);
            assert!(book.changed.len() <= CHANGES_MAX + EVICTED);
            if n % 2000 == 0 {
                book.changes(NOW);
            }
        }
        assert!(book.len() <= PEERS_MAX);
        assert!(useful.iter().all(|peer| !book.addresses(peer).is_empty()));
    }
}
