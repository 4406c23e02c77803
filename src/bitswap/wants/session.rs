//! What one session knows of peers.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

use crate::provider::Met;

use super::WantId;

/// DONT_HAVEs and silences after which a peer that never said otherwise is asked no more by the way.
const MISSES_MAX: u32 = 4;
/// Taken for the size of a block before one came, in bytes.
const BLOCK_BYTES_GUESS: f64 = 256.0 * 1024.0;
/// Weight of the newest block in the average of sizes.
const SIZE_WEIGHT: f64 = 0.2;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) members: BTreeMap<PeerId, Member>,
    pub(super) wants: BTreeSet<WantId>,
    /// Its place in the order of all wants.
    pub(super) turn: u64,
    block_bytes: f64,
}

/// A peer in a session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Member {
    /// Whether it was named as a provider.
    pub(super) named: bool,
    pub(super) dialling: bool,
    pub(super) reached: bool,
    pub(super) answered: bool,
    /// Whether it said HAVE or gave a block in this session.
    pub(super) proven: bool,
    pub(super) misses: u32,
    /// Blocks it gave this session, and their bytes.
    pub(super) blocks: u32,
    pub(super) bytes: u64,
    /// How often it was not reached, was silent, broke off or lied.
    pub(super) failures: u32,
}

impl Member {
    /// Whether it is worth asking by the way.
    pub(super) fn is_open_question(&self) -> bool {
        self.reached && !self.proven && self.misses < MISSES_MAX
    }
}

impl Session {
    /// A session that joins the order of wants here.
    pub(super) fn beginning_at(turn: u64) -> Self {
        let (members, wants) = (BTreeMap::new(), BTreeSet::new());
        Self { members, wants, turn, block_bytes: BLOCK_BYTES_GUESS }
    }

    /// How large its next block may be, in bytes.
    pub(super) fn block_bytes(&self) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
        let bytes = self.block_bytes as u64;
        bytes
    }

    /// Peers known to have such blocks.
    pub(super) fn proven(&self) -> impl Iterator<Item = &PeerId> {
        self.members.iter().filter(|(_, member)| member.proven).map(|(peer, _)| peer)
    }

    /// Whether somebody who was named is still on the way.
    pub(super) fn is_dialling(&self) -> bool {
        self.members.values().any(|member| member.dialling)
    }

    pub(super) fn said(&mut self, peer: PeerId, has: bool) {
        let member = self.members.entry(peer).or_default();
        (member.reached, member.answered) = (true, true);
        if has {
            member.proven = true;
            member.misses = 0;
        } else {
            member.misses = member.misses.saturating_add(1);
        }
    }

    pub(super) fn missed(&mut self, peer: &PeerId) {
        if let Some(member) = self.members.get_mut(peer) {
            member.misses = member.misses.saturating_add(1);
        }
    }

    pub(super) fn failed(&mut self, peer: &PeerId) {
        if let Some(member) = self.members.get_mut(peer) {
            member.failures = member.failures.saturating_add(1);
        }
    }

    pub(super) fn gave(&mut self, peer: PeerId, bytes: usize) {
        self.said(peer, true);
        let member = self.members.entry(peer).or_default();
        member.blocks = member.blocks.saturating_add(1);
        member.bytes += bytes as u64;
        #[allow(clippy::cast_precision_loss, reason = "a block has at most 2 MiB")]
        let bytes = bytes as f64;
        self.block_bytes += SIZE_WEIGHT * (bytes - self.block_bytes);
    }

    pub(super) fn met(&self) -> Met {
        let count = |is: fn(&Member) -> bool| {
            let found = self.members.values().filter(|member| is(member)).count();
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        Met {
            known: count(|_| true),
            reached: count(|member| member.reached),
            answered: count(|member| member.answered),
            gave: count(|member| member.blocks > 0),
        }
    }
}
