//! Which peers are let go when there are too many. Pure.

use std::cmp::Reverse;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// How long a new connection is spared.
const GRACE: Duration = Duration::from_secs(20);
/// Least time from one trim to the next.
const SILENCE: Duration = Duration::from_secs(10);

/// How many connections are kept, and how they are given up.
#[derive(Debug, Clone, Copy)]
pub(in crate::p2p) struct Marks {
    /// Connections that are left when some are given up.
    pub(in crate::p2p) low: usize,
    /// Connections over which some are given up.
    pub(in crate::p2p) high: usize,
    /// How long a new connection is spared: its peer had no time to show what it is worth.
    pub(in crate::p2p) grace: Duration,
    /// Least time from one trim to the next.
    pub(in crate::p2p) silence: Duration,
}

impl Marks {
    /// These waters, with the usual patience.
    pub(in crate::p2p) const fn new(low: usize, high: usize) -> Self {
        Self { low, high, grace: GRACE, silence: SILENCE }
    }
}

/// A peer that may be let go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) peer: PeerId,
    /// What its tags come to.
    pub(super) value: i64,
    /// Whether it is protected, or work is under way with it.
    pub(super) kept: bool,
    /// Connections with it.
    pub(super) connections: usize,
    /// Whether we began one of them.
    pub(super) dialled: bool,
    /// When the first of them was there.
    pub(super) since: Instant,
}

/// Decides when and whom to let go.
#[derive(Debug)]
pub(super) struct Trimmer {
    marks: Marks,
    last: Option<Instant>,
}

impl Trimmer {
    pub(super) const fn new(marks: Marks) -> Self {
        Self { marks, last: None }
    }

    /// Whether so many connections are too many; `pressed` where there is another reason to have
    /// fewer: one direction is nearly full, or memory is short.
    pub(super) fn is_due(&self, connections: usize, pressed: bool, now: Instant) -> bool {
        let quiet = self.last.is_none_or(|last| now - last >= self.marks.silence);
        quiet && (connections > self.marks.high || (pressed && connections > self.marks.low))
    }

    /// The peers to let go, the least valuable first, until the low water is reached.
    ///
    /// Connections in their grace are neither closed nor counted: a burst of new ones must not
    /// drive out those that have proved themselves.
    pub(super) fn trim(&mut self, candidates: Vec<Candidate>, now: Instant) -> Vec<PeerId> {
        self.last = Some(now);
        let mut aged = candidates;
        aged.retain(|candidate| now - candidate.since >= self.marks.grace);
        let total: usize = aged.iter().map(|candidate| candidate.connections).sum();
        let mut excess = total.saturating_sub(self.marks.low);
        aged.retain(|candidate| !candidate.kept);
        // Of equal ones those who came to us go first, and of these the youngest: who stayed long
        // tends to stay.
        aged.sort_by_key(|each| (each.value, each.dialled, Reverse(each.since)));
        let mut gone = Vec::new();
        for candidate in aged {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(candidate.connections);
            gone.push(candidate.peer);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        low: 300,
        high: 400,
        grace: Duration::from_secs(20),
        silence: Duration::from_secs(10),
    };

    fn aged(now: Instant, value: i64) -> Candidate {
        Candidate {
            peer: PeerId::random(),
            value,
            kept: false,
            connections: 1,
            dialled: false,
            since: now - Duration::from_secs(60),
        }
    }

    #[test]
    fn a_thousand_peers_are_trimmed_to_low_water_and_every_kept_one_stays() {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut peers: Vec<_> = (0..1000).map(|n| aged(now, n % 10)).collect();
        peers.iter_mut().step_by(7).for_each(|peer| peer.kept = true);
        let mut trimmer = Trimmer::new(MARKS);
        assert!(trimmer.is_due(peers.len(), false, now));
        let gone = trimmer.trim(peers.clone(), now);
        assert_eq!(gone.len(), 700);
        let is_gone = |peer: &Candidate| gone.contains(&peer.peer);
        assert!(!peers.iter().any(|peer| peer.kept && is_gone(peer)));
        let least_left = peers.iter().filter(|p| !p.kept && !is_gone(p)).map(|p| p.value).min();
        let most_gone = peers.iter().filter(|peer| is_gone(peer)).map(|peer| peer.value).max();
        assert!(most_gone <= least_left, "the least valuable go first");
    }

    #[test]
    fn where_all_are_kept_nobody_goes() {
        let now = Instant::now() + Duration::from_secs(3600);
        let peers = (0..500).map(|_| Candidate { kept: true, ..aged(now, 0) }).collect();
        assert!(Trimmer::new(MARKS).trim(peers, now).is_empty());
    }

    #[test]
    fn new_connections_are_spared_and_drive_nobody_out() {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut peers: Vec<_> = (0..310).map(|_| aged(now, 5)).collect();
        let since = now - Duration::from_secs(19);
        peers.extend((0..500).map(|_| Candidate { since, ..aged(now, 0) }));
        let gone = Trimmer::new(MARKS).trim(peers.clone(), now);
        assert_eq!(gone.len(), 10);
        assert!(peers[310..].iter().all(|peer| !gone.contains(&peer.peer)));
        let gone = Trimmer::new(MARKS).trim(peers.clone(), now + Duration::from_secs(1));
        assert_eq!(gone.len(), 510, "the grace is over");
        assert!(peers[310..].iter().all(|peer| gone.contains(&peer.peer)));
    }

    #[test]
    fn of_equal_peers_the_youngest_that_came_to_us_go_first() {
        let now = Instant::now() + Duration::from_secs(3600);
        let marks = Marks { low: 2, high: 3, ..MARKS };
        let old = Candidate { since: now - Duration::from_secs(600), ..aged(now, 0) };
        let (young, dialled) = (aged(now, 0), Candidate { dialled: true, ..aged(now, 0) });
        let poor = Candidate { dialled: true, ..aged(now, -1) };
        let gone = Trimmer::new(marks).trim(vec![old, dialled, young, poor], now);
        assert_eq!(gone, [poor.peer, young.peer]);
    }

    #[test]
    fn trims_keep_silence_between_them_and_wait_for_the_high_water() {
        let now = Instant::now();
        let mut trimmer = Trimmer::new(MARKS);
        assert!(!trimmer.is_due(400, false, now) && trimmer.is_due(401, false, now));
        assert!(trimmer.is_due(301, true, now) && !trimmer.is_due(300, true, now));
        trimmer.trim(Vec::new(), now);
        assert!(!trimmer.is_due(1000, true, now + Duration::from_millis(9_999)));
        assert!(trimmer.is_due(1000, false, now + Duration::from_secs(10)));
    }
}
