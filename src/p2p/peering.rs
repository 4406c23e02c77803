//! The peers to stay connected with: who is to be dialled, and when. Pure.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// Why these peers are protected.
pub(super) const REASON: &str = "peering";

/// Wait before a peer is dialled again, the first time; it doubles with each failure.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait before a peer is dialled again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The peers to stay connected with.
#[derive(Debug)]
pub(super) struct Peering {
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug)]
struct Peer {
    addresses: Vec<Multiaddr>,
    /// Wait after the next failure.
    wait: Duration,
    /// When it is to be dialled; none while it is connected or being dialled.
    due: Option<Instant>,
    /// Whether it is known what became of its first dial.
    tried: bool,
}

impl Peering {
    /// All of them are due at once. Addresses without a peer's identity are left out.
    pub(super) fn new(addresses: &[Multiaddr], now: Instant) -> Self {
        let mut peers = HashMap::new();
        for address in addresses {
            if let Some(peer) = peer_of(address) {
                let due = Some(now);
                let fresh = || Peer { addresses: Vec::new(), wait: WAIT_MIN, due, tried: false };
                peers.entry(peer).or_insert_with(fresh).addresses.push(address.clone());
            }
        }
        Self { peers }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.keys()
    }

    /// When the next is due; none when all are connected or being dialled.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.due).min()
    }

    /// Whom to dial now, and where. The caller says what came of it.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let due = self.peers.iter_mut().filter(|(_, peer)| peer.due.is_some_and(|due| due <= now));
        due.map(|(id, peer)| {
            peer.due = None;
            (*id, peer.addresses.clone())
        })
        .collect()
    }

    /// A peer is connected.
    pub(super) fn connected(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.due = None;
            peer.wait = WAIT_MIN;
            peer.tried = true;
        }
    }

    /// A peer was not reached, or its last connection is gone.
    pub(super) fn lost(&mut self, peer: &PeerId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.due = Some(now + peer.wait);
            peer.wait = (peer.wait * 2).min(WAIT_MAX);
            peer.tried = true;
        }
    }

    /// Whether all were dialled once, with whatever outcome.
    pub(super) fn all_tried(&self) -> bool {
        self.peers.values().all(|peer| peer.tried)
    }
}

/// The peer that an address leads to.
#[must_use]
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16, peer: PeerId) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}/p2p/{peer}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_dialled_at_once_and_again_with_growing_waits() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let addresses = [address(1, peer), address(2, peer), "/ip4/192.0.2.1".parse().unwrap()];
        let mut peering = Peering::new(&addresses, start);
        assert_eq!(peering.due(start), [(peer, addresses[..2].to_vec())]);
        assert_eq!(peering.next_due(), None);
        assert!(!peering.all_tried());

        let (mut now, mut waits) = (start, Vec::new());
        for _ in 0..8 {
            peering.lost(&peer, now);
            let due = peering.next_due().unwrap();
            assert_eq!(peering.due(due - Duration::from_millis(1)), []);
            waits.push((due - now).as_secs());
            assert_eq!(peering.due(due).len(), 1);
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(peering.all_tried());

        peering.connected(&peer);
        assert_eq!(peering.next_due(), None);
        peering.lost(&peer, now);
        assert_eq!(peering.next_due(), Some(now + WAIT_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_none_of_its_business() {
        let mut peering = Peering::new(&[], Instant::now());
        peering.lost(&PeerId::random(), Instant::now());
        assert_eq!(peering.next_due(), None);
    }
}
