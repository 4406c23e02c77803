//! What is wanted, by whom, of whom: who is asked for which block when. Pure: events in, changed
//! wantlists and ended waits out; time is an argument.
//!
//! A first want of a session goes to the most promising peer as want-block, and to others as
//! want-have. Who says HAVE, or gives a block, is proven in that session: further wants go straight
//! to the proven peer that is expected to be done with it first. What is late is asked of another,
//! and what a peer has not begun while another would be done sooner is moved there.

mod choose;
mod meter;
mod peer;
mod session;
mod wantlist;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::message::{Message, Presence};
use crate::block::{Cid, Mh};
use crate::provider::{Deed, Met, ProviderId};

use peer::Peer;
pub(crate) use peer::Speaks;
use session::{Member, Session};

/// Peers that one want is put to as want-have, besides those named as providers.
const BROADCAST_MAX: usize = 32;
/// Peers of a session of whom nothing is known yet that are asked along with a want.
const PROBES_MAX: usize = 2;
/// Peers that one want-block may wait for at a time.
const BLOCK_ASKED_MAX: usize = 2;
/// Wants moved away from one peer at a time.
const MOVES_MAX: usize = 64;
/// Gain below which a want is not moved to another peer.
const MOVE_GAIN_MIN: Duration = Duration::from_millis(10);
/// Providers that one session takes in.
pub(super) const NAMED_MAX: usize = 256;
/// Peers without a connection that are remembered for what they gave.
const REMEMBERED_MAX: usize = 4096;

/// Orders wants as they are to be served: fairly between sessions, in order within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct WantId {
    turn: u64,
    serial: u64,
}

impl WantId {
    /// Its priority on the wire: higher comes first.
    fn priority(self) -> i32 {
        let turn = self.turn % u64::from(i32::MAX.unsigned_abs());
        i32::MAX - i32::try_from(turn).unwrap_or(0)
    }
}

/// Tells sessions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionId(u64);

/// Somebody's wait for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    hash: Mh,
    serial: u64,
}

/// One block that is wanted; `W` is whatever its asker is told by.
#[derive(Debug)]
struct Want<W> {
    cid: Cid,
    waiters: Vec<Waiter<W>>,
    asked: Vec<(PeerId, Asked)>,
}

#[derive(Debug)]
struct Waiter<W> {
    serial: u64,
    session: SessionId,
    patience: Patience,
    waiter: W,
}

/// How long somebody waits for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until all who are asked have said that they lack it.
    UntilAllLack,
    /// As long as somebody keeps the want, and would tell if the block came there.
    WhileKept,
}

/// Where a want stands with one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Asked whether it has the block.
    Have,
    /// It says that it has it, and is not asked for it.
    Has,
    /// Asked for the block; `proven` where it was known to have such blocks.
    Block { proven: bool },
    /// It lacks it: it said so, was silent, or lied.
    Lacks,
}

impl<W> Want<W> {
    fn with(&self, peer: &PeerId) -> Option<Asked> {
        self.asked.iter().find(|(known, _)| known == peer).map(|(_, asked)| *asked)
    }

    fn set(&mut self, peer: PeerId, now: Option<Asked>) {
        self.asked.retain(|(known, _)| *known != peer);
        self.asked.extend(now.map(|asked| (peer, asked)));
    }

    fn block_asked(&self) -> usize {
        self.asked.iter().filter(|(_, asked)| matches!(asked, Asked::Block { .. })).count()
    }

    fn is_asked(&self) -> bool {
        self.asked.iter().any(|(_, asked)| matches!(asked, Asked::Block { .. } | Asked::Have))
    }

    fn sessions(&self) -> BTreeSet<SessionId> {
        self.waiters.iter().map(|waiter| waiter.session).collect()
    }
}

/// What is to be done after an event.
#[derive(Debug)]
pub(super) struct Effects<W> {
    /// Peers whose wantlist changed, or who are no longer asked for anything.
    pub(super) changed: BTreeSet<PeerId>,
    /// Peers to be sent away.
    pub(super) expelled: Vec<PeerId>,
    /// Those whose block nobody has.
    pub(super) lost: Vec<W>,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Self { changed: BTreeSet::new(), expelled: Vec::new(), lost: Vec::new() }
    }
}

/// What became of a provider that was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// Whether the session counts on it.
    pub(super) is_in: bool,
    /// Whether it is to be reached.
    pub(super) is_new: bool,
}

/// What became of a block that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<W> {
    /// These waited for it.
    Wanted(Vec<W>),
    /// It was wanted, and came from elsewhere first.
    Duplicate,
    /// Nobody ever asked this peer for it.
    Unrequested,
}

/// All wants of the node.
#[derive(Debug)]
pub(super) struct Wants<W> {
    wants: HashMap<WantId, Want<W>>,
    by_hash: HashMap<Mh, WantId>,
    sessions: BTreeMap<SessionId, Session>,
    peers: HashMap<PeerId, Peer>,
    /// Wants whose peers have no room on their wantlists.
    parked: BTreeSet<WantId>,
    effects: Effects<W>,
    serial: u64,
    /// The turn that was served last: where a session that begins to want joins in.
    turn: u64,
    /// How many times a peer was silent for too long.
    timeouts: u64,
}

impl<W> Default for Wants<W> {
    fn default() -> Self {
        Self {
            wants: HashMap::new(),
            by_hash: HashMap::new(),
            sessions: BTreeMap::new(),
            peers: HashMap::new(),
            parked: BTreeSet::new(),
            effects: Effects::default(),
            serial: 0,
            turn: 0,
            timeouts: 0,
        }
    }
}

impl<W> Wants<W> {
    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// What is to be done after the events so far.
    pub(super) fn effects(&mut self) -> Effects<W> {
        std::mem::take(&mut self.effects)
    }

    /// Blocks wanted.
    pub(super) fn len(&self) -> usize {
        self.wants.len()
    }

    /// How many times a peer was silent for too long, since this was last asked.
    pub(super) fn take_timeouts(&mut self) -> u64 {
        std::mem::take(&mut self.timeouts)
    }

    /// Begins a session.
    pub(super) fn open(&mut self) -> SessionId {
        let id = SessionId(self.next_serial());
        self.sessions.insert(id, Session::beginning_at(self.turn));
        id
    }

    /// Ends a session; nobody waits in it any more.
    pub(super) fn close(&mut self, session: SessionId) {
        let wants = self.sessions.remove(&session).map(|session| session.wants);
        for id in wants.into_iter().flatten() {
            self.leave(id, |waiter| waiter.session == session);
        }
    }

    /// Whom a session met.
    pub(super) fn met(&self, session: SessionId) -> Met {
        self.sessions.get(&session).map(Session::met).unwrap_or_default()
    }

    /// What each peer did for a session.
    pub(super) fn deeds(&self, session: SessionId) -> Vec<Deed> {
        let members = self.sessions.get(&session).into_iter().flat_map(|known| &known.members);
        let did = members.filter(|(_, member)| member.blocks > 0 || member.failures > 0);
        let deed = |(peer, member): (&PeerId, &Member)| {
            let measured = self.peers.get(peer).map(|known| known.measured(member.bytes));
            let (latency, busy) = measured.unwrap_or_default();
            let Member { blocks, bytes, failures, .. } = *member;
            let latency = latency.filter(|_| member.answered);
            Deed { who: ProviderId::Peer(*peer), blocks, bytes, busy, latency, failures }
        };
        did.map(deed).collect()
    }

    /// Wants a block for a session.
    pub(super) fn want(
        &mut self,
        session: SessionId,
        cid: Cid,
        (waiter, patience): (W, Patience),
        now: Instant,
    ) -> Ticket {
        let serial = self.next_serial();
        let hash = *cid.hash();
        let waiter = Waiter { serial, session, patience, waiter };
        let id = match self.by_hash.get(&hash) {
            Some(id) => *id,
            None => {
                let turn = self.sessions.get(&session).map_or(0, |session| session.turn + 1);
                let id = WantId { turn: turn.max(self.turn), serial };
                self.by_hash.insert(hash, id);
                self.wants.insert(id, Want { cid, waiters: Vec::new(), asked: Vec::new() });
                id
            }
        };
        if let Some(session) = self.sessions.get_mut(&session) {
            session.turn = session.turn.max(id.turn);
            session.wants.insert(id);
        }
        if let Some(want) = self.wants.get_mut(&id) {
            want.waiters.push(waiter);
        }
        self.plan(id, now);
        Ticket { hash, serial }
    }

    /// Somebody waits no more.
    pub(super) fn unwant(&mut self, ticket: &Ticket) {
        if let Some(id) = self.by_hash.get(&ticket.hash).copied() {
            self.leave(id, |waiter| waiter.serial == ticket.serial);
        }
    }

    /// Takes waiters off a want; without any it is withdrawn.
    fn leave(&mut self, id: WantId, leaves: impl Fn(&Waiter<W>) -> bool) -> Vec<Waiter<W>> {
        let Some(want) = self.wants.get_mut(&id) else { return Vec::new() };
        let before = want.sessions();
        let left = want.waiters.extract_if(.., |waiter| leaves(waiter)).collect();
        let after = want.sessions();
        for session in before.difference(&after) {
            self.sessions.get_mut(session).map(|session| session.wants.remove(&id));
        }
        if after.is_empty() {
            self.remove(id, None);
        }
        left
    }

    /// Takes a want off all books, and off the lists of all but the peer that served it.
    fn remove(&mut self, id: WantId, served_by: Option<&PeerId>) -> Option<Want<W>> {
        let want = self.wants.remove(&id)?;
        self.by_hash.remove(want.cid.hash());
        self.parked.remove(&id);
        for session in want.sessions() {
            self.sessions.get_mut(&session).map(|session| session.wants.remove(&id));
        }
        for (peer, _) in want.asked.iter().filter(|(peer, _)| Some(peer) != served_by) {
            self.withdraw(id, peer, want.cid.hash());
        }
        Some(want)
    }

    fn withdraw(&mut self, id: WantId, peer: &PeerId, hash: &Mh) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let was_asked = known.is_asked();
        if known.withdraw(id, hash) || (was_asked && !known.is_asked()) {
            self.effects.changed.insert(*peer);
        }
    }

    /// A provider of what a session wants was named. Where it is not connected, it is counted on
    /// until [`Self::connected`] or [`Self::not_reached`] tells.
    pub(super) fn named(&mut self, session: SessionId, peer: PeerId, now: Instant) -> Named {
        let connected = self.peers.get(&peer).is_some_and(|known| known.connected);
        let nothing = Named { is_in: false, is_new: false };
        let Some(known) = self.sessions.get_mut(&session) else { return nothing };
        let is_member = known.members.contains_key(&peer);
        if !is_member && known.members.len() >= NAMED_MAX + BROADCAST_MAX {
            return nothing;
        }
        let member = known.members.entry(peer).or_default();
        let is_new = !member.named || (!connected && !member.dialling);
        member.named = true;
        (member.reached, member.dialling) = (member.reached || connected, !connected);
        if connected {
            self.plan_session(session, now);
        }
        Named { is_in: true, is_new }
    }

    /// A provider was not reached.
    pub(super) fn not_reached(&mut self, session: SessionId, peer: &PeerId, now: Instant) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        if let Some(member) = known.members.get_mut(peer) {
            member.dialling = false;
            member.failures = member.failures.saturating_add(1);
        }
        self.plan_session(session, now);
    }

    /// A connection to a peer is there, or it said what it speaks.
    pub(super) fn connected(&mut self, peer: PeerId, speaks: Option<Speaks>, now: Instant) {
        let known = self.peers.entry(peer).or_default();
        let was = (known.connected, known.speaks);
        known.connected = true;
        known.speaks = speaks.unwrap_or(known.speaks);
        if was == (true, known.speaks) {
            return;
        }
        let is_open = known.is_open() && known.speaks != Speaks::Unknown;
        if matches!(known.speaks, Speaks::Nothing | Speaks::Blocks) {
            // It cannot answer what it was asked.
            let dropped = self.drop_asked(&peer);
            self.plan_all(dropped, now);
        }
        let mut waiting = Vec::new();
        for (id, session) in &mut self.sessions {
            let is_open_peer = |peer: &PeerId| self.peers.get(peer).is_some_and(Peer::is_open);
            let proven = session.proven().any(is_open_peer);
            if let Some(member) = session.members.get_mut(&peer) {
                (member.reached, member.dialling) = (true, false);
                waiting.push(*id);
            } else if is_open && !proven && !session.wants.is_empty() {
                waiting.push(*id);
            }
        }
        for session in waiting {
            self.plan_session(session, now);
        }
    }

    /// The operator chose this peer, or no longer does.
    pub(super) fn favour(&mut self, peer: &PeerId, favoured: bool) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.favoured = favoured;
        }
    }

    /// The last connection to a peer is gone.
    pub(super) fn disconnected(&mut self, peer: PeerId, now: Instant) {
        let broken_off = self.asked_of(&peer);
        self.failed(&peer, &broken_off);
        let dropped = self.drop_asked(&peer);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.disconnect();
        self.effects.changed.insert(peer);
        let is_memorable = known.worth(now) >= 0.5 || known.lies > 0;
        if !is_memorable || self.peers.len() > REMEMBERED_MAX {
            self.peers.remove(&peer);
        }
        self.plan_all(dropped, now);
    }

    /// The stream to a peer broke: what it was told may be lost, and is told anew.
    pub(super) fn broken(&mut self, peer: PeerId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.wantlist.forget_told();
            self.effects.changed.insert(peer);
        }
    }

    /// Takes back whatever a peer was asked; the wants that may be asked of others now.
    fn drop_asked(&mut self, peer: &PeerId) -> Vec<WantId> {
        let ids = self.peers.get(peer).map(|known| known.wantlist.ids()).unwrap_or_default();
        for id in &ids {
            let Some(want) = self.wants.get_mut(id) else { continue };
            want.set(*peer, None);
            let hash = *want.cid.hash();
            self.withdraw(*id, peer, &hash);
        }
        ids
    }

    fn plan_all(&mut self, ids: Vec<WantId>, now: Instant) {
        for id in ids {
            self.plan(id, now);
        }
        self.take_parked(now);
    }

    /// A peer said whether it has a block.
    pub(super) fn presence(&mut self, peer: PeerId, cid: &Cid, said: Presence, now: Instant) {
        let Some(id) = self.by_hash.get(cid.hash()).copied() else { return };
        let Some(want) = self.wants.get_mut(&id) else { return };
        // Of what it was not asked it may say what it likes.
        let Some(asked) = want.with(&peer) else { return };
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let has = said == Presence::Have;
        match asked {
            Asked::Block { .. } if has => return,
            _ => known.said(id, now),
        }
        want.set(peer, Some(if has { Asked::Has } else { Asked::Lacks }));
        let mut newly_proven = false;
        for session in want.sessions() {
            let Some(session) = self.sessions.get_mut(&session) else { continue };
            let member = session.members.get(&peer);
            newly_proven |= has && !member.is_some_and(|member| member.proven);
            session.said(peer, has);
        }
        if !known.is_asked() {
            self.effects.changed.insert(peer);
        }
        self.plan(id, now);
        if has {
            self.hedge_doubtful(id, now);
        }
        if newly_proven {
            self.level(now);
        }
    }

    /// A verified block came from a peer.
    pub(super) fn block(
        &mut self,
        peer: PeerId,
        hash: &Mh,
        bytes: usize,
        now: Instant,
    ) -> Arrival<W> {
        let Some(id) = self.by_hash.get(hash).copied() else {
            return self.stray(peer, Some(hash), bytes, now);
        };
        if let Some(known) = self.peers.get_mut(&peer) {
            known.gave(id, bytes, now);
            if !known.is_asked() {
                self.effects.changed.insert(peer);
            }
        }
        let asked = self.wants.get(&id).into_iter().flat_map(|want| &want.asked);
        for (other, _) in asked.filter(|(other, _)| *other != peer) {
            if let Some(other) = self.peers.get_mut(other) {
                other.outrun(id, now);
            }
        }
        let Some(want) = self.remove(id, Some(&peer)) else { return Arrival::Duplicate };
        self.turn = self.turn.max(id.turn);
        for session in want.sessions() {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.gave(peer, bytes);
            }
        }
        self.take_parked(now);
        Arrival::Wanted(want.waiters.into_iter().map(|waiter| waiter.waiter).collect())
    }

    /// Bytes came from a peer that are no block anybody asks for; `hash` is theirs, where they have
    /// one.
    pub(super) fn stray(
        &mut self,
        peer: PeerId,
        hash: Option<&Mh>,
        bytes: usize,
        now: Instant,
    ) -> Arrival<W> {
        let Some(known) = self.peers.get_mut(&peer) else { return Arrival::Unrequested };
        if known.sent_stray(hash, bytes, now) {
            return Arrival::Duplicate;
        }
        if known.take_over_budget() {
            self.effects.expelled.push(peer);
        }
        // Perhaps it stands for a block that was wanted: then that is to be had elsewhere.
        if let Some(id) = known.blocks.keys().next().copied() {
            self.failed(&peer, &[id]);
            self.lacks(id, peer, now);
            for id in self.asked_of(&peer) {
                self.hedge(id, &peer, now);
            }
        }
        Arrival::Unrequested
    }

    /// A peer is taken to lack a block, whatever it said.
    fn lacks(&mut self, id: WantId, peer: PeerId, now: Instant) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.set(peer, Some(Asked::Lacks));
        let hash = *want.cid.hash();
        for session in want.sessions() {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.missed(&peer);
            }
        }
        self.withdraw(id, &peer, &hash);
        self.plan(id, now);
    }

    /// A peer failed the sessions that asked it for these, once each.
    fn failed(&mut self, peer: &PeerId, ids: &[WantId]) {
        let wants = ids.iter().filter_map(|id| self.wants.get(id));
        let sessions: BTreeSet<_> = wants.flat_map(Want::sessions).collect();
        for session in sessions {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.failed(peer);
            }
        }
    }

    /// The blocks that a peer is asked for.
    fn asked_of(&self, peer: &PeerId) -> Vec<WantId> {
        let ids = self.peers.get(peer).map(|known| known.blocks.keys().copied().collect());
        ids.unwrap_or_default()
    }

    /// Time has passed: who is silent is taken to lack what it was asked, what is late is asked of
    /// others, and work goes to who is idle.
    pub(super) fn tick(&mut self, now: Instant) {
        let asked = self.peers.iter().filter(|(_, known)| known.is_asked());
        let asked: Vec<PeerId> = asked.map(|(peer, _)| *peer).collect();
        for peer in asked {
            self.tick_peer(peer, now);
        }
        self.level(now);
    }

    fn tick_peer(&mut self, peer: PeerId, now: Instant) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.is_silent(now) {
            known.silences = known.silences.saturating_add(1);
            self.timeouts += 1;
            let ids: BTreeSet<WantId> =
                known.blocks.keys().chain(known.haves.keys()).copied().collect();
            let ids: Vec<WantId> = ids.into_iter().collect();
            self.failed(&peer, &ids);
            for id in ids {
                self.lacks(id, peer, now);
            }
            return;
        }
        if known.next_due.is_some_and(|due| due <= now) {
            for id in known.passed_over(now) {
                self.lacks(id, peer, now);
            }
            self.late(peer, now);
        }
    }

    /// Whether a peer's wantlist has changes that it has not been told.
    pub(super) fn has_news_for(&self, peer: &PeerId) -> bool {
        let known = self.peers.get(peer).filter(|known| known.is_open());
        known.is_some_and(|known| known.wantlist.has_changed())
    }

    /// The changes of a peer's wantlist, which are taken for told from now on where it `can_hear`;
    /// whether it is expected to answer anything. None where it is gone.
    pub(super) fn take(
        &mut self,
        peer: &PeerId,
        can_hear: bool,
    ) -> Option<(Option<Message>, bool)> {
        let known = self.peers.get_mut(peer).filter(|known| known.is_open())?;
        let message = if can_hear { known.wantlist.take() } else { None };
        Some((message, known.is_asked()))
    }

    /// Whether a peer was asked for anything that it may still send.
    pub(super) fn expects(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(Peer::may_send)
    }

    /// Whether no peer is asked for anything, or is to be told anything.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        let is_idle = |known: &Peer| !known.is_asked() && known.wantlist.len() == 0;
        self.sessions.is_empty() && self.parked.is_empty() && self.peers.values().all(is_idle)
    }

    /// The peers taken for connected.
    pub(super) fn connected_peers(&self) -> Vec<PeerId> {
        let connected = self.peers.iter().filter(|(_, known)| known.connected);
        connected.map(|(peer, _)| *peer).collect()
    }

    /// Who gave blocks since this was last asked, and how many.
    pub(super) fn take_given(&mut self) -> Vec<(PeerId, i32)> {
        let given = self.peers.iter_mut().map(|(peer, known)| (*peer, known.take_given()));
        given.filter(|(_, blocks)| *blocks > 0).collect()
    }
}

#[cfg(test)]
mod tests;
