//! Relays that let peers reach us where nobody can dial us: at which a slot is to be reserved, and
//! when (circuit relay v2). Pure.
//!
//! The operator's relays are asked at once, others that we meet when nobody has shown for a while
//! that we can be dialled, or somebody tried it in vain. As soon as it is shown, slots are given back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::peering::peer_of;

/// What a relay speaks.
pub(super) const PROTOCOL: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// Slots that are held at a time.
const RESERVATIONS_MAX: usize = 2;
/// Relays we met that are remembered.
const MET_MAX: usize = 16;
/// How long after the first connection nobody may have shown that we can be dialled before we take
/// it that we cannot.
const DOUBT: Duration = Duration::from_secs(5);
/// The same where somebody is there who can try it: that takes a while.
const TRIAL: Duration = Duration::from_secs(10);
/// What those speak who can try it.
pub(super) const TRIAL_PROTOCOL: &str = "/libp2p/autonat/2/dial-request";
/// Wait before a relay that refused or was lost is asked again.
const RETRY: Duration = Duration::from_secs(30);

/// The relays, and where slots are held.
#[derive(Debug)]
pub(super) struct Relays {
    enabled: bool,
    named: Vec<(PeerId, Multiaddr)>,
    met: VecDeque<(PeerId, Multiaddr)>,
    /// Listeners through relays, whether a slot was given yet or not.
    held: HashMap<ListenerId, PeerId>,
    /// When relays may be asked again.
    not_before: HashMap<PeerId, Instant>,
    /// Whether somebody has shown that we can be dialled.
    reachable: bool,
    /// From when on we take it that we cannot be dialled; none without a connection yet.
    doubtful_from: Option<Instant>,
    /// Whether somebody can try it, or has.
    on_trial: bool,
}

impl Relays {
    pub(super) fn new(enabled: bool, named: &[Multiaddr]) -> Self {
        let named = named.iter().filter_map(|address| Some((peer_of(address)?, address.clone())));
        Self {
            enabled,
            named: named.collect(),
            met: VecDeque::new(),
            held: HashMap::new(),
            not_before: HashMap::new(),
            reachable: false,
            doubtful_from: None,
            on_trial: false,
        }
    }

    /// There is a connection.
    pub(super) fn connected(&mut self, now: Instant) {
        self.doubtful_from.get_or_insert(now + DOUBT);
    }

    /// A connected peer can try whether we can be dialled.
    pub(super) fn is_tried(&mut self) {
        if !self.on_trial {
            self.on_trial = true;
            self.doubtful_from = self.doubtful_from.map(|from| from + (TRIAL - DOUBT));
        }
    }

    /// It was tried, in vain.
    pub(super) fn tried_in_vain(&mut self, now: Instant) {
        self.on_trial = true;
        self.doubtful_from = Some(self.doubtful_from.map_or(now, |from| from.min(now)));
    }

    /// A peer that we dialled at `address` is a relay.
    pub(super) fn met(&mut self, peer: PeerId, address: Multiaddr) {
        if self.met.iter().any(|(met, _)| *met == peer) {
            return;
        }
        if self.met.len() == MET_MAX {
            self.met.pop_front();
        }
        self.met.push_back((peer, address));
    }

    /// Somebody has shown that we can be dialled. Listeners to give back.
    pub(super) fn reachable(&mut self) -> Vec<ListenerId> {
        self.reachable = true;
        self.held.drain().map(|(listener, _)| listener).collect()
    }

    /// Whether we take it that nobody can dial us.
    fn unreachable(&self, now: Instant) -> bool {
        !self.reachable && self.doubtful_from.is_some_and(|from| from <= now)
    }

    fn candidates(&self, now: Instant) -> impl Iterator<Item = &(PeerId, Multiaddr)> {
        let met = self.met.iter().filter(move |_| self.unreachable(now));
        let all = self.named.iter().chain(met);
        all.filter(|_| self.enabled && !self.reachable)
            .filter(|(peer, _)| !self.held.values().any(|held| held == peer))
    }

    /// When to look again whom to ask.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if !self.enabled || self.reachable || self.held.len() >= RESERVATIONS_MAX {
            return None;
        }
        let when = |peer: &PeerId, from: Instant| {
            self.not_before.get(peer).map_or(from, |not_before| from.max(*not_before))
        };
        let free = |peer: &PeerId| !self.held.values().any(|held| held == peer);
        // The operator's have been due since ever: at once.
        let now = Instant::now();
        let named =
            self.named.iter().filter(|(peer, _)| free(peer)).map(|(peer, _)| when(peer, now));
        let met = self.doubtful_from.into_iter().flat_map(|from| {
            self.met.iter().filter(|(peer, _)| free(peer)).map(move |(peer, _)| when(peer, from))
        });
        named.chain(met).min()
    }

    /// Addresses to listen on now, through relays.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(PeerId, Multiaddr)> {
        let room = RESERVATIONS_MAX.saturating_sub(self.held.len());
        let ready = |peer: &PeerId| self.not_before.get(peer).is_none_or(|time| *time <= now);
        let mut due: Vec<(PeerId, Multiaddr)> = Vec::new();
        for (peer, address) in self.candidates(now).filter(|(peer, _)| ready(peer)) {
            if due.len() < room && !due.iter().any(|(due, _)| due == peer) {
                due.push((*peer, address.clone().with(Protocol::P2pCircuit)));
            }
        }
        for (peer, _) in &due {
            self.not_before.insert(*peer, now + RETRY);
        }
        due
    }

    /// A slot was asked for.
    pub(super) fn asked(&mut self, listener: ListenerId, peer: PeerId) {
        self.held.insert(listener, peer);
    }

    /// A listener is gone; whether it was one through a relay.
    pub(super) fn lost(&mut self, listener: ListenerId, now: Instant) -> bool {
        let Some(peer) = self.held.remove(&listener) else { return false };
        self.not_before.insert(peer, now + RETRY);
        self.not_before.retain(|_, time| *time > now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(n: u8) -> (PeerId, Multiaddr) {
        let peer = PeerId::random();
        (peer, format!("/ip4/192.0.2.{n}/tcp/4001/p2p/{peer}").parse().unwrap())
    }

    fn circuit(address: &Multiaddr) -> Multiaddr {
        address.clone().with(Protocol::P2pCircuit)
    }

    #[tokio::test(start_paused = true)]
    async fn the_operators_relays_are_asked_at_once_and_again_after_a_loss() {
        let (peer, address) = relay(1);
        let mut relays = Relays::new(true, std::slice::from_ref(&address));
        let now = Instant::now();
        assert_eq!(relays.next_due(), Some(now));
        assert_eq!(relays.due(now), [(peer, circuit(&address))]);
        let listener = ListenerId::next();
        relays.asked(listener, peer);
        assert_eq!((relays.next_due(), relays.due(now).len()), (None, 0));
        assert!(relays.lost(listener, now));
        assert_eq!(relays.next_due(), Some(now + RETRY));
        assert_eq!(relays.due(now), []);
        assert_eq!(relays.due(now + RETRY).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn relays_we_met_are_asked_when_nobody_could_dial_us_for_a_while() {
        let mut relays = Relays::new(true, &[]);
        let now = Instant::now();
        let met: Vec<_> = (1..=3).map(relay).collect();
        for (peer, address) in &met {
            relays.met(*peer, address.clone());
        }
        assert_eq!(relays.next_due(), None);
        relays.connected(now);
        assert_eq!(relays.next_due(), Some(now + DOUBT));
        assert_eq!(relays.due(now), []);
        let due = relays.due(now + DOUBT);
        assert_eq!(due.len(), RESERVATIONS_MAX);
        let listeners: Vec<_> = due.iter().map(|_| ListenerId::next()).collect();
        for (listener, (peer, _)) in listeners.iter().zip(&due) {
            relays.asked(*listener, *peer);
        }
        assert_eq!(relays.next_due(), None);
        let back = relays.reachable();
        assert_eq!(back.len(), listeners.len());
        assert!(listeners.iter().all(|listener| back.contains(listener)));
        assert_eq!(relays.due(now + DOUBT * 9), []);
        assert_eq!(relays.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_be_tried_is_not_doubted_before_it_was() {
        let now = Instant::now();
        let mut relays = Relays::new(true, &[]);
        let (peer, address) = relay(1);
        relays.met(peer, address);
        relays.connected(now);
        relays.is_tried();
        relays.is_tried();
        assert_eq!((relays.next_due(), relays.due(now + DOUBT)), (Some(now + TRIAL), vec![]));
        relays.tried_in_vain(now + DOUBT);
        assert_eq!(relays.due(now + DOUBT).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_where_relays_are_off() {
        let mut relays = Relays::new(false, &[relay(1).1]);
        assert_eq!((relays.next_due(), relays.due(Instant::now()).len()), (None, 0));
    }
}
