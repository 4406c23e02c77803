//! One peer, as the wants see it: what it was asked, what it is expected to do, what it did.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::bitswap::message::WantKind;
use crate::block::{Cid, Mh};

use super::WantId;
use super::meter::Meter;
use super::wantlist::Wantlist;

/// Taken for the rate of a peer that was not measured, in bytes a second.
const RATE_GUESS: f64 = 8.0 * 1024.0 * 1024.0;
/// Taken for the latency of a peer that was not measured, in seconds.
const LATENCY_GUESS: f64 = 0.1;
/// Blocks that a peer which was not measured is asked for as if it were the fastest.
const UNMEASURED_BLOCKS: usize = 2;
/// How long after its time an answer is not yet late.
pub(super) const LATE_FLOOR: Duration = Duration::from_millis(50);
/// Patience with a peer that has never answered.
const SILENCE_UNKNOWN: Duration = Duration::from_secs(5);
/// Patience with one that was silent before.
const SILENCE_AGAIN: Duration = Duration::from_secs(1);
/// Bounds of the patience with one whose latency is known.
const SILENCE_MIN: Duration = Duration::from_secs(2);
/// No want waits longer than this for a peer that says nothing.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Withdrawn wants that are remembered, for their blocks may be under way.
const WITHDRAWN_MAX: usize = 2048;
/// Blocks nobody asked for that a peer may send before it is sent away…
const UNREQUESTED_BLOCKS_MAX: u64 = 64;
/// …and their bytes.
const UNREQUESTED_BYTES_MAX: u64 = 16 << 20;
/// After this long half of what a peer once gave is forgotten, in seconds.
const WORTH_HALF_LIFE_SECONDS: f64 = 600.0;

/// What is known of the Bitswap a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Speaks {
    /// It has not said yet.
    #[default]
    Unknown,
    /// None.
    Nothing,
    /// An old version without HAVE and DONT_HAVE: blocks or silence.
    Blocks,
    /// HAVE and DONT_HAVE too.
    Presences,
}

/// A block that a peer was asked for and has not answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) at: Instant,
    /// From then on it is late.
    pub(super) due: Instant,
    /// Whether the peer had nothing else to do when asked.
    alone: bool,
    /// How large it is taken to be.
    bytes: u64,
}

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    pub(super) speaks: Speaks,
    /// Whether the operator chose it.
    pub(super) favoured: bool,
    pub(super) wantlist: Wantlist,
    /// Blocks it is expected to send.
    pub(super) blocks: BTreeMap<WantId, Pending>,
    /// HAVEs or DONT_HAVEs it is expected to send, and since when.
    pub(super) haves: BTreeMap<WantId, Instant>,
    /// Nothing expected is late before this.
    pub(super) next_due: Option<Instant>,
    /// How many times it was silent since it last answered.
    pub(super) silences: u32,
    /// Blocks that matched nothing while it was asked for some.
    pub(super) lies: u32,
    pending_bytes: u64,
    /// Since when it has been asked and has said nothing.
    waiting_since: Option<Instant>,
    /// The want furthest back that it served.
    furthest_served: Option<WantId>,
    meter: Meter,
    /// Blocks it gave since that was last asked.
    given: i32,
    worth: f64,
    worth_at: Option<Instant>,
    unrequested: (u64, u64),
    withdrawn: VecDeque<Mh>,
}

/// The better peer to begin with is the lesser rank.
pub(super) type Rank = (bool, bool, bool, Reverse<u64>, bool, u64);

impl Peer {
    /// Whether it can be asked at all.
    pub(super) fn is_open(&self) -> bool {
        self.connected && self.speaks != Speaks::Nothing
    }

    /// Whether it answers want-haves, as far as is known.
    pub(super) fn speaks_presences(&self) -> bool {
        matches!(self.speaks, Speaks::Unknown | Speaks::Presences)
    }

    /// Whether it is expected to answer something.
    pub(super) fn is_asked(&self) -> bool {
        !self.blocks.is_empty() || !self.haves.is_empty()
    }

    /// Whether something may come from it that it was asked for.
    pub(super) fn may_send(&self) -> bool {
        self.is_asked() || self.wantlist.len() > 0 || !self.withdrawn.is_empty()
    }

    /// Where it stands among those of whom nothing is known for a want; `named` where it is said to
    /// have it.
    pub(super) fn rank(&self, now: Instant, named: bool) -> Rank {
        let doubtful = self.lies > 0 || self.silences > 0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let scaled = |value: f64| (value * 1000.0) as u64;
        let latency = self.meter.latency().unwrap_or(LATENCY_GUESS);
        let worth = Reverse(scaled(self.worth(now)));
        (doubtful, self.speaks == Speaks::Blocks, !named, worth, !self.favoured, scaled(latency))
    }

    /// What it gave lately, in blocks.
    pub(super) fn worth(&self, now: Instant) -> f64 {
        let age = self.worth_at.map_or(0.0, |at| (now - at).as_secs_f64());
        self.worth * (-age * std::f64::consts::LN_2 / WORTH_HALF_LIFE_SECONDS).exp()
    }

    /// Blocks it gave since this was last asked.
    pub(super) fn take_given(&mut self) -> i32 {
        std::mem::take(&mut self.given)
    }

    /// How long it will take to send what it is asked for, and `more` bytes.
    pub(super) fn expected(&self, more: u64, now: Instant) -> Duration {
        let bytes = self.pending_bytes + more;
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes = bytes as f64;
        let latency = self.meter.latency();
        let seconds = match self.meter.rate() {
            Some(rate) => latency.unwrap_or(LATENCY_GUESS) + bytes / rate,
            None if self.blocks.len() < UNMEASURED_BLOCKS => latency.unwrap_or(0.0),
            None => latency.unwrap_or(LATENCY_GUESS) + bytes / RATE_GUESS,
        };
        let seconds = Duration::from_secs_f64(seconds.min(3600.0));
        // The longer it says nothing, the less is to be expected.
        let waited = self.waited(now);
        if waited > self.answer_expected() + LATE_FLOOR { seconds + 2 * waited } else { seconds }
    }

    /// How long after being asked it answers something.
    fn answer_expected(&self) -> Duration {
        let first = self.blocks.values().next().map_or(0, |pending| pending.bytes);
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let moving = first as f64 / self.meter.rate().unwrap_or(RATE_GUESS);
        Duration::from_secs_f64(self.meter.latency().unwrap_or(LATENCY_GUESS) + moving).mul_f64(2.0)
    }

    /// From asking it to the beginning of its answer, and how long `bytes` take it then, as far as
    /// either was measured.
    pub(super) fn measured(&self, bytes: u64) -> (Option<Duration>, Duration) {
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let moving = self.meter.rate().map_or(0.0, |rate| bytes as f64 / rate.max(1.0));
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        (self.meter.latency().map(duration), duration(moving))
    }

    /// Whether it is known how fast its blocks come.
    pub(super) fn is_measured(&self) -> bool {
        self.meter.rate().is_some()
    }

    /// How long it has been asked and has said nothing.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether it is taken for gone, having been asked and said nothing for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.is_asked() && self.waited(now) >= self.patience()
    }

    fn patience(&self) -> Duration {
        if self.silences > 0 {
            SILENCE_AGAIN
        } else if self.meter.latency().is_some() {
            (2 * self.answer_expected()).clamp(SILENCE_MIN, SILENCE_MAX)
        } else {
            SILENCE_UNKNOWN
        }
    }

    /// Asks it for a block or whether it has it.
    pub(super) fn ask(&mut self, id: WantId, cid: Cid, kind: WantKind, bytes: u64, now: Instant) {
        self.wantlist.want(id, cid, kind);
        if !self.is_asked() {
            self.waiting_since = Some(now);
        }
        match kind {
            WantKind::Have => {
                self.haves.insert(id, now);
                self.due_at(now + SILENCE_MAX);
            }
            WantKind::Block => {
                self.haves.remove(&id);
                // The first of one that was not measured are a trial.
                let is_trial = self.blocks.len() < UNMEASURED_BLOCKS;
                let expected = match (self.meter.rate(), self.meter.latency()) {
                    (None, Some(latency)) if is_trial => Duration::from_secs_f64(latency),
                    (None, None) => Duration::ZERO,
                    _ => 2 * self.expected(bytes, now),
                };
                let due = now + expected + LATE_FLOOR;
                let alone = self.blocks.is_empty();
                let pending = Pending { at: now, due, alone, bytes };
                if let Some(old) = self.blocks.insert(id, pending) {
                    self.pending_bytes -= old.bytes;
                }
                self.pending_bytes += bytes;
                self.due_at(due);
            }
        }
    }

    fn due_at(&mut self, due: Instant) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    /// Awaits nothing more of this want. What was awaited, if it was the block.
    fn settle(&mut self, id: WantId) -> Option<Pending> {
        self.haves.remove(&id);
        let pending = self.blocks.remove(&id);
        if let Some(pending) = &pending {
            self.pending_bytes -= pending.bytes;
        }
        if self.blocks.is_empty() {
            self.meter.idle();
        }
        if !self.is_asked() {
            self.waiting_since = None;
        }
        pending
    }

    /// It said something.
    fn heard(&mut self, now: Instant) {
        self.silences = 0;
        self.waiting_since = self.is_asked().then_some(now);
    }

    /// It said that it has the block, or lacks it.
    pub(super) fn said(&mut self, id: WantId, now: Instant) {
        let asked = self.haves.get(&id).copied();
        let asked = asked.or_else(|| self.blocks.get(&id).map(|pending| pending.at));
        // Behind blocks an answer waits for its turn, and says nothing about latency.
        if let Some(asked) = asked.filter(|_| self.blocks.len() <= 1) {
            self.meter.answered(now - asked);
        }
        self.settle(id);
        self.heard(now);
    }

    /// It sent a block that is wanted.
    pub(super) fn gave(&mut self, id: WantId, bytes: usize, now: Instant) {
        let pending = self.blocks.get(&id).copied();
        let more = self.blocks.len() > usize::from(pending.is_some());
        let asked = pending.filter(|pending| pending.alone).map(|pending| pending.at);
        self.meter.block(bytes, asked, more, now);
        self.settle(id);
        self.wantlist.served(id);
        self.heard(now);
        self.furthest_served = self.furthest_served.max(Some(id));
        self.given = self.given.saturating_add(1);
        self.worth = self.worth(now) + 1.0;
        self.worth_at = Some(now);
        self.unrequested.0 = self.unrequested.0.saturating_sub(1);
        self.unrequested.1 = self.unrequested.1.saturating_sub(bytes as u64);
    }

    /// Another sent a block first that this one was asked for.
    pub(super) fn outrun(&mut self, id: WantId, now: Instant) {
        // Only of what it was to send next does the time say anything.
        if let Some((_, pending)) = self.blocks.first_key_value().filter(|(first, _)| **first == id)
        {
            let since = self.waiting_since.map_or(pending.at, |since| since.max(pending.at));
            self.meter.outrun(pending.bytes, now - since);
        }
    }

    /// Takes a want back. Whether the peer is to be told.
    pub(super) fn withdraw(&mut self, id: WantId, hash: &Mh) -> bool {
        let awaited = self.haves.contains_key(&id);
        if self.settle(id).is_some() || awaited {
            if self.withdrawn.len() == WITHDRAWN_MAX {
                self.withdrawn.pop_front();
            }
            self.withdrawn.push_back(*hash);
        }
        self.wantlist.withdraw(id)
    }

    /// What it was asked long ago and has not answered, though it served what came after.
    pub(super) fn passed_over(&self, now: Instant) -> Vec<WantId> {
        let blocks = self.blocks.iter().map(|(id, pending)| (*id, pending.at));
        let haves = self.haves.iter().map(|(id, at)| (*id, *at));
        let old = |id: WantId, at: Instant| {
            now - at >= SILENCE_MAX && self.furthest_served.is_some_and(|served| served > id)
        };
        blocks.chain(haves).filter(|(id, at)| old(*id, *at)).map(|(id, _)| id).collect()
    }

    /// The blocks that are late now. Each will be so again when as much time as it had has passed.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<WantId> {
        let mut late = Vec::new();
        for (id, pending) in &mut self.blocks {
            if pending.due <= now {
                pending.due = now + (now - pending.at).max(LATE_FLOOR);
                late.push(*id);
            }
        }
        let blocks = self.blocks.values().map(|pending| pending.due);
        let haves = self.haves.values().map(|at| *at + SILENCE_MAX);
        // A have that is over its time, and not passed over, waits for the peer to be silent.
        self.next_due = blocks.chain(haves.filter(|due| *due > now)).min();
        late
    }

    /// A block of it matched no want. Whether it was wanted once.
    pub(super) fn sent_stray(&mut self, hash: Option<&Mh>, bytes: usize, now: Instant) -> bool {
        let at = hash.and_then(|hash| self.withdrawn.iter().position(|known| known == hash));
        if let Some(at) = at {
            self.withdrawn.remove(at);
            self.waiting_since = self.is_asked().then_some(now);
            return true;
        }
        self.unrequested.0 += 1;
        self.unrequested.1 += bytes as u64;
        if !self.blocks.is_empty() {
            self.lies += 1;
        }
        false
    }

    /// Whether it sent more than is borne that nobody asked for; it counts anew from then on.
    pub(super) fn take_over_budget(&mut self) -> bool {
        let (blocks, bytes) = self.unrequested;
        let is_over = blocks > UNREQUESTED_BLOCKS_MAX || bytes > UNREQUESTED_BYTES_MAX;
        if is_over {
            self.unrequested = (0, 0);
        }
        is_over
    }

    /// Its last connection is gone. What is known of it stays.
    pub(super) fn disconnect(&mut self) {
        let (meter, worth, favoured) = (self.meter.clone(), self.worth, self.favoured);
        let kept = Self { meter, worth, favoured, worth_at: self.worth_at, ..Self::default() };
        *self = Self { speaks: self.speaks, silences: self.silences, lies: self.lies, ..kept };
        self.meter.idle();
    }
}
