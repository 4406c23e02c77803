//! What peers are worth to us: tags with weights, protections, and work under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::PeerId;

/// The table of all peers that somebody says something of. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags {
    peers: Arc<Mutex<HashMap<PeerId, Worth>>>,
}

/// What is said of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Worth {
    pub(super) tags: BTreeMap<&'static str, i32>,
    pub(super) protected: BTreeSet<&'static str>,
    pub(super) busy: u32,
}

impl Worth {
    fn is_nothing(&self) -> bool {
        self.tags.is_empty() && self.protected.is_empty() && self.busy == 0
    }
}

impl Tags {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Worth>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, peer: &PeerId, change: impl FnOnce(&mut Worth)) {
        let mut peers = self.lock();
        let worth = peers.entry(*peer).or_default();
        change(worth);
        if worth.is_nothing() {
            peers.remove(peer);
        }
    }

    pub(super) fn tag(&self, peer: &PeerId, tag: &'static str, weight: i32) {
        self.change(peer, |worth| {
            if weight == 0 {
                worth.tags.remove(tag);
            } else {
                worth.tags.insert(tag, weight);
            }
        });
    }

    pub(super) fn protect(&self, peer: &PeerId, reason: &'static str) {
        self.change(peer, |worth| {
            worth.protected.insert(reason);
        });
    }

    pub(super) fn unprotect(&self, peer: &PeerId, reason: &'static str) {
        self.change(peer, |worth| {
            worth.protected.remove(reason);
        });
    }

    pub(super) fn busy(&self, peer: PeerId) -> Busy {
        self.change(&peer, |worth| worth.busy += 1);
        Busy { tags: self.clone(), peer }
    }

    pub(super) fn worth(&self, peer: &PeerId) -> Worth {
        self.lock().get(peer).cloned().unwrap_or_default()
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
        self.tags.change(&self.peer, |worth| worth.busy = worth.busy.saturating_sub(1));
    }
}
