//! What peers are worth to us: tags with weights, protections, and work under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// Peers that tags are kept of; protections and work under way are never refused.
const PEERS_MAX: usize = 16_384;
/// Most that bumps come to: no flood of blocks makes a peer worth more.
const BUMPED_MAX: f64 = 1_000_000.0;

/// The table of all peers that somebody says something of. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags {
    peers: Arc<Mutex<HashMap<PeerId, Said>>>,
}

/// What is said of one peer.
#[derive(Debug, Default)]
struct Said {
    tags: BTreeMap<&'static str, Weight>,
    protected: BTreeSet<&'static str>,
    busy: u32,
}

/// What a tag counts.
#[derive(Debug, Clone, Copy)]
enum Weight {
    Fixed(i32),
    /// `value` as of `at`; half of it is gone each `half_life`.
    Decaying {
        value: f64,
        at: Instant,
        half_life: Duration,
    },
}

/// What a peer is worth at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Worth {
    pub(super) tags: Vec<(&'static str, i32)>,
    pub(super) protected: Vec<&'static str>,
    pub(super) busy: u32,
}

impl Worth {
    /// The sum of its tags.
    pub(super) fn value(&self) -> i64 {
        self.tags.iter().map(|(_, weight)| i64::from(*weight)).sum()
    }

    /// Whether its connections are kept whatever it is worth.
    pub(super) fn is_kept(&self) -> bool {
        !self.protected.is_empty() || self.busy > 0
    }
}

impl Weight {
    fn exact(self, now: Instant) -> f64 {
        match self {
            Self::Fixed(weight) => f64::from(weight),
            Self::Decaying { value, at, half_life } => {
                let past = now.saturating_duration_since(at).as_secs_f64();
                value * (-past / half_life.as_secs_f64().max(1e-3)).exp2()
            }
        }
    }

    /// As a whole number; what decayed below 1 is nothing.
    #[allow(clippy::cast_possible_truncation, reason = "it is within BUMPED_MAX")]
    fn whole(self, now: Instant) -> i32 {
        self.exact(now) as i32
    }
}

impl Said {
    fn is_nothing(&self) -> bool {
        self.tags.is_empty() && self.protected.is_empty() && self.busy == 0
    }

    fn worth(&self, now: Instant) -> Worth {
        let tags = self.tags.iter().map(|(tag, weight)| (*tag, weight.whole(now)));
        Worth {
            tags: tags.filter(|(_, weight)| *weight != 0).collect(),
            protected: self.protected.iter().copied().collect(),
            busy: self.busy,
        }
    }
}

impl Tags {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Said>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, peer: &PeerId, change: impl FnOnce(&mut Said)) {
        let mut peers = self.lock();
        let said = peers.entry(*peer).or_default();
        change(said);
        if said.is_nothing() {
            peers.remove(peer);
        }
    }

    /// The same, unless the peer is new and the table full.
    fn change_within(&self, peer: &PeerId, change: impl FnOnce(&mut Said)) {
        let mut peers = self.lock();
        if peers.len() >= PEERS_MAX && !peers.contains_key(peer) {
            return;
        }
        let said = peers.entry(*peer).or_default();
        change(said);
        if said.is_nothing() {
            peers.remove(peer);
        }
    }

    pub(super) fn tag(&self, peer: &PeerId, tag: &'static str, weight: i32) {
        self.change_within(peer, |said| {
            if weight == 0 {
                said.tags.remove(tag);
            } else {
                said.tags.insert(tag, Weight::Fixed(weight));
            }
        });
    }

    /// Adds to what a tag has decayed to.
    pub(super) fn bump(
        &self,
        peer: &PeerId,
        tag: &'static str,
        by: i32,
        half_life: Duration,
        now: Instant,
    ) {
        self.change_within(peer, |said| {
            let left = said.tags.get(tag).map_or(0.0, |weight| weight.exact(now));
            let value = (left + f64::from(by)).clamp(-BUMPED_MAX, BUMPED_MAX);
            said.tags.insert(tag, Weight::Decaying { value, at: now, half_life });
        });
    }

    pub(super) fn protect(&self, peer: &PeerId, reason: &'static str) {
        self.change(peer, |said| {
            said.protected.insert(reason);
        });
    }

    pub(super) fn unprotect(&self, peer: &PeerId, reason: &'static str) {
        self.change(peer, |said| {
            said.protected.remove(reason);
        });
    }

    pub(super) fn busy(&self, peer: PeerId) -> Busy {
        self.change(&peer, |said| said.busy += 1);
        Busy { tags: self.clone(), peer }
    }

    pub(super) fn worth(&self, peer: &PeerId, now: Instant) -> Worth {
        self.lock().get(peer).map(|said| said.worth(now)).unwrap_or_default()
    }

    pub(super) fn is_protected(&self, peer: &PeerId) -> bool {
        self.lock().get(peer).is_some_and(|said| !said.protected.is_empty())
    }

    /// All peers that are protected.
    pub(super) fn protected(&self) -> Vec<PeerId> {
        let peers = self.lock();
        peers.iter().filter(|(_, said)| !said.protected.is_empty()).map(|(peer, _)| *peer).collect()
    }

    /// The last connection to a peer is gone: fixed tags were of that; what it gave us still counts
    /// when it comes back.
    pub(super) fn disconnected(&self, peer: &PeerId) {
        self.change(peer, |said| {
            said.tags.retain(|_, weight| matches!(weight, Weight::Decaying { .. }));
        });
    }

    /// Drops what has decayed to nothing.
    pub(super) fn prune(&self, now: Instant) {
        self.lock().retain(|_, said| {
            said.tags.retain(|_, weight| weight.exact(now).abs() >= 1.0);
            !said.is_nothing()
        });
    }
}

/// Work under way with a peer: while it is held, the peer's connections are not trimmed.
#[derive(Debug)]
pub struct Busy {
    tags: Tags,
    peer: PeerId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.tags.change(&self.peer, |said| said.busy = said.busy.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_bump_decays_by_halves_and_adds_up() {
        let (tags, peer, now) = (Tags::default(), PeerId::random(), Instant::now());
        tags.bump(&peer, "blocks", 8, HOUR, now);
        tags.tag(&peer, "dht", 5);
        let value = |after: u32| tags.worth(&peer, now + HOUR * after).value();
        assert_eq!([value(0), value(1), value(2), value(3), value(4)], [13, 9, 7, 6, 5]);
        tags.bump(&peer, "blocks", 8, HOUR, now + HOUR);
        assert_eq!(value(1), 5 + 12);
        for _ in 0..200 {
            tags.bump(&peer, "blocks", i32::MAX, HOUR, now + HOUR);
        }
        assert_eq!(value(1), 5 + 1_000_000);
    }

    #[test]
    fn tags_end_with_the_connection_but_what_was_given_counts_on() {
        let (tags, peer, now) = (Tags::default(), PeerId::random(), Instant::now());
        tags.tag(&peer, "dht", 5);
        tags.bump(&peer, "blocks", 8, HOUR, now);
        tags.protect(&peer, "peering");
        tags.disconnected(&peer);
        assert_eq!(tags.worth(&peer, now).tags, [("blocks", 8)]);
        tags.unprotect(&peer, "peering");
        tags.prune(now + HOUR * 3);
        assert_eq!(tags.lock().len(), 1);
        tags.prune(now + HOUR * 4);
        assert_eq!(tags.lock().len(), 0, "nothing is kept of a peer that nothing is said of");
    }

    #[test]
    fn a_protection_holds_until_its_last_reason_is_gone() {
        let (tags, peer, now) = (Tags::default(), PeerId::random(), Instant::now());
        tags.protect(&peer, "peering");
        tags.protect(&peer, "relay");
        tags.unprotect(&peer, "relay");
        assert!(tags.is_protected(&peer) && tags.worth(&peer, now).is_kept());
        tags.unprotect(&peer, "peering");
        assert!(!tags.is_protected(&peer));
        let (one, two) = (tags.busy(peer), tags.busy(peer));
        drop(one);
        assert!(tags.worth(&peer, now).is_kept());
        drop(two);
        assert_eq!(tags.worth(&peer, now), Worth::default());
    }

    #[test]
    fn the_table_of_tags_is_bounded_but_no_protection_is_refused() {
        let tags = Tags::default();
        for _ in 0..PEERS_MAX + 10 {
            tags.tag(&PeerId::random(), "dht", 1);
        }
        assert_eq!(tags.lock().len(), PEERS_MAX);
        let peer = PeerId::random();
        tags.protect(&peer, "peering");
        assert!(tags.is_protected(&peer));
    }
}
