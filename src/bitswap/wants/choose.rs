//! Who is asked for a want: first, next, instead.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::bitswap::message::WantKind;

use super::peer::{LATE_FLOOR, Peer};
use super::session::Session;
use super::{
    Asked, BLOCK_ASKED_MAX, BROADCAST_MAX, MOVE_GAIN_MIN, MOVES_MAX, PROBES_MAX, Patience,
    SessionId, Speaks, Want, WantId, Wants,
};

/// A proven peer for a want.
enum Proven {
    /// It is expected to be done with it in this time, which is the shortest.
    Best(PeerId, Duration),
    /// There are some, but their wantlists are full.
    Full,
    /// There is none.
    None,
}

impl<W> Wants<W> {
    /// Sees to it that somebody is asked for a want, as far as there is anybody.
    pub(super) fn plan(&mut self, id: WantId, now: Instant) {
        let Some(want) = self.wants.get(&id) else { return };
        self.parked.remove(&id);
        if want.block_asked() == 0 {
            match self.best_proven(want, now) {
                Proven::Best(peer, _) => self.ask(id, peer, WantKind::Block, now),
                Proven::Full => drop(self.parked.insert(id)),
                Proven::None => self.seek(id, now),
            }
        }
        self.probe(id, now);
        self.give_up(id);
    }

    /// Plans all wants of a session anew, for somebody came or went.
    pub(super) fn plan_session(&mut self, session: SessionId, now: Instant) {
        let wants = self.sessions.get(&session).map(|session| session.wants.clone());
        for id in wants.into_iter().flatten() {
            self.plan(id, now);
        }
    }

    /// Plans wants that waited for room on wantlists, as long as there is some.
    pub(super) fn take_parked(&mut self, now: Instant) {
        while let Some(id) = self.parked.first().copied() {
            self.plan(id, now);
            if self.parked.contains(&id) {
                return;
            }
        }
    }

    fn sessions_of<'a>(&'a self, want: &'a Want<W>) -> impl Iterator<Item = &'a Session> {
        want.waiters.iter().filter_map(|waiter| self.sessions.get(&waiter.session))
    }

    /// How large a wanted block may be.
    fn block_bytes(&self, want: &Want<W>) -> u64 {
        self.sessions_of(want).map(Session::block_bytes).max().unwrap_or(0)
    }

    /// The peer, among those that say they have the block or gave others of its session, that is
    /// expected to be done with it first; not one that is already asked for it or lacks it.
    fn best_proven(&self, want: &Want<W>, now: Instant) -> Proven {
        let bytes = self.block_bytes(want);
        let says_so = want.asked.iter().filter(|(_, asked)| *asked == Asked::Has);
        let says_so = says_so.map(|(peer, _)| peer);
        let proven = self.sessions_of(want).flat_map(Session::proven);
        let proven = proven.filter(|peer| matches!(want.with(peer), None | Some(Asked::Have)));
        let (mut best, mut is_full) = (None, false);
        for peer in says_so.chain(proven) {
            let Some(known) = self.peers.get(peer) else { continue };
            if !known.is_open() || known.lies > 0 {
                continue;
            }
            if want.with(peer).is_none() && !known.wantlist.has_room() {
                is_full = true;
                continue;
            }
            // Whoever was silent comes after all others.
            let expected = (known.silences > 0, known.expected(bytes, now));
            if best.is_none_or(|(_, least)| expected < least) {
                best = Some((*peer, expected));
            }
        }
        match best {
            Some((peer, (_, expected))) => Proven::Best(peer, expected),
            None if is_full => Proven::Full,
            None => Proven::None,
        }
    }

    /// Asks peers of whom nothing is known: the most promising one for the block, others whether
    /// they have it.
    fn seek(&mut self, id: WantId, now: Instant) {
        let Some(want) = self.wants.get(&id) else { return };
        let (strangers, is_full) = self.strangers(want, now);
        if strangers.is_empty() && is_full && !want.is_asked() {
            self.parked.insert(id);
        }
        for (place, (peer, speaks_presences)) in strangers.into_iter().enumerate() {
            if place == 0 {
                self.ask(id, peer, WantKind::Block, now);
            } else if speaks_presences {
                self.ask(id, peer, WantKind::Have, now);
            }
        }
    }

    /// Peers that were not asked for a want, the most promising first: those named to its sessions,
    /// and of the others as many as one want may be put to. Whether each answers want-haves, and
    /// whether there are some whose wantlists are full.
    fn strangers(&self, want: &Want<W>, now: Instant) -> (Vec<(PeerId, bool)>, bool) {
        let is_named = |peer: &PeerId| {
            let member = |session: &Session| session.members.get(peer).is_some_and(|m| m.named);
            self.sessions_of(want).any(member)
        };
        let asked = want.asked.iter().filter(|(peer, _)| !is_named(peer)).count();
        let mut left = (BROADCAST_MAX + 1).saturating_sub(asked);
        let may_be_asked =
            |peer: &PeerId, known: &Peer| known.is_open() && want.with(peer).is_none();
        let open = self.peers.iter().filter(|(peer, known)| may_be_asked(peer, known));
        let mut ranked: Vec<_> = open
            .map(|(peer, known)| (is_named(peer), *peer, known))
            .filter(|(named, _, known)| *named || known.speaks != Speaks::Unknown)
            .map(|(named, peer, known)| (known.rank(now, named), named, peer, known))
            .collect();
        ranked.sort_unstable_by_key(|(rank, _, peer, _)| (*rank, *peer));
        let (mut chosen, mut is_full) = (Vec::new(), false);
        for (_, named, peer, known) in ranked {
            if !known.wantlist.has_room() {
                is_full = true;
            } else if named || left > 0 {
                left -= usize::from(!named);
                chosen.push((peer, known.speaks_presences()));
            }
        }
        (chosen, is_full)
    }

    /// Asks a few members of whom the session knows nothing yet whether they have the block.
    fn probe(&mut self, id: WantId, now: Instant) {
        let Some(want) = self.wants.get(&id) else { return };
        let questions = self.sessions_of(want).flat_map(|session| &session.members);
        let questions = questions.filter(|(_, member)| member.is_open_question());
        let may_be_asked = |peer: &PeerId| {
            want.with(peer).is_none()
                && self.peers.get(peer).is_some_and(|known| {
                    let is_honest = known.lies == 0;
                    is_honest
                        && known.is_open()
                        && known.speaks_presences()
                        && known.wantlist.has_room()
                })
        };
        let asked = want.asked.iter().filter(|(_, asked)| *asked == Asked::Have).count();
        let peers = questions.map(|(peer, _)| *peer).filter(may_be_asked);
        let peers: BTreeSet<_> = peers.take(PROBES_MAX.saturating_sub(asked)).collect();
        for peer in peers {
            self.ask(id, peer, WantKind::Have, now);
        }
    }

    /// Ends the waiting for what nobody is expected to give; those who wait for somebody to come by
    /// it wait on as long as anybody might.
    fn give_up(&mut self, id: WantId) {
        let Some(want) = self.wants.get(&id) else { return };
        let is_hopeless = !want.is_asked()
            && !self.parked.contains(&id)
            && !self.sessions_of(want).any(Session::is_dialling);
        if is_hopeless {
            let is_kept = self.is_kept(id, want);
            let left = self
                .leave(id, |waiter| !is_kept || waiter.patience == Patience::UntilAllLack)
                .into_iter()
                .map(|waiter| waiter.waiter);
            self.effects.lost.extend(left);
        }
    }

    /// Whether somebody connected keeps this want on its list, though it lacks the block, or may
    /// do so once it has said what it speaks.
    fn is_kept(&self, id: WantId, want: &Want<W>) -> bool {
        let keeps = |(peer, _): &(PeerId, Asked)| {
            let known = self.peers.get(peer);
            known.is_some_and(|known| known.is_open() && known.wantlist.wants(id))
        };
        let has_not_said = |known: &Peer| known.is_open() && known.speaks == Speaks::Unknown;
        want.asked.iter().any(keeps) || self.peers.values().any(has_not_said)
    }

    fn ask(&mut self, id: WantId, peer: PeerId, kind: WantKind, now: Instant) {
        let Some(want) = self.wants.get(&id) else { return };
        let bytes = self.block_bytes(want);
        let proven = want.with(&peer) == Some(Asked::Has)
            || self.sessions_of(want).flat_map(Session::proven).any(|known| *known == peer);
        let sessions = want.sessions();
        let (Some(known), Some(want)) = (self.peers.get_mut(&peer), self.wants.get_mut(&id)) else {
            return;
        };
        known.ask(id, want.cid, kind, bytes, now);
        want.set(
            peer,
            Some(match kind {
                WantKind::Block => Asked::Block { proven },
                WantKind::Have => Asked::Have,
            }),
        );
        for session in sessions {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.members.entry(peer).or_default().reached = true;
            }
        }
        self.effects.changed.insert(peer);
    }

    /// Asks somebody else for what a peer is late with.
    pub(super) fn late(&mut self, peer: PeerId, now: Instant) {
        let late = self.peers.get_mut(&peer).map(|known| known.take_late(now));
        for id in late.into_iter().flatten() {
            self.hedge(id, &peer, now);
        }
    }

    /// Asks a second peer for a block that `slow` is asked for, if one would likely be sooner.
    pub(super) fn hedge(&mut self, id: WantId, slow: &PeerId, now: Instant) {
        let Some(want) = self.wants.get(&id) else { return };
        if want.block_asked() >= BLOCK_ASKED_MAX {
            return;
        }
        let Proven::Best(other, expected) = self.best_proven(want, now) else { return };
        let Some(known) = self.peers.get(slow) else { return };
        // It may have proven itself since it was asked.
        let is_doubtful = !self.sessions_of(want).flat_map(Session::proven).any(|p| p == slow);
        if is_doubtful || known.lies > 0 || 2 * expected < known.expected(0, now) {
            self.ask(id, other, WantKind::Block, now);
        }
    }

    /// Somebody said HAVE: where those asked for the block never proved anything and are late, it
    /// is asked too.
    pub(super) fn hedge_doubtful(&mut self, id: WantId, now: Instant) {
        let Some(want) = self.wants.get(&id) else { return };
        let asked: Vec<_> = want
            .asked
            .iter()
            .filter_map(|(peer, asked)| (*asked == Asked::Block { proven: false }).then_some(*peer))
            .collect();
        for peer in asked {
            let pending = self.peers.get(&peer).and_then(|known| known.blocks.get(&id));
            if pending.is_some_and(|pending| now - pending.at >= LATE_FLOOR) {
                self.hedge(id, &peer, now);
            }
        }
    }

    /// Moves wants that a peer has not begun to serve to one that would be done with them sooner.
    pub(super) fn level(&mut self, now: Instant) {
        let loaded = self.peers.iter().filter(|(_, known)| known.blocks.len() > 1);
        let loaded: Vec<PeerId> = loaded.map(|(peer, _)| *peer).collect();
        for peer in loaded {
            for _ in 0..MOVES_MAX {
                if !self.move_last(peer, now) {
                    break;
                }
            }
        }
    }

    fn move_last(&mut self, from: PeerId, now: Instant) -> bool {
        let Some(known) = self.peers.get(&from).filter(|known| known.blocks.len() > 1) else {
            return false;
        };
        // Of what was not measured nothing is known, unless that it is slow.
        if !known.is_measured() && known.waited(now) < LATE_FLOOR {
            return false;
        }
        let Some(id) = known.blocks.keys().next_back().copied() else { return false };
        let Some(want) = self.wants.get(&id) else { return false };
        let Proven::Best(to, there) = self.best_proven(want, now) else { return false };
        let here = known.expected(0, now);
        if 2 * there + MOVE_GAIN_MIN >= here {
            return false;
        }
        let hash = *want.cid.hash();
        if let Some(want) = self.wants.get_mut(&id) {
            want.set(from, None);
        }
        self.withdraw(id, &from, &hash);
        self.ask(id, to, WantKind::Block, now);
        true
    }
}
