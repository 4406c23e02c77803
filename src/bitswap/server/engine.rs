//! Who wants what, and what each is to be told. Pure: blocks are looked for elsewhere.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bitswap::message::{Entry, Presence, WantKind};
use crate::block::{Cid, Mh};
use crate::p2p::PeerId;

use super::wantlist::{Key, Want, Wantlist};

/// A wanted HAVE is answered with the block itself when that has at most so many bytes (as boxo
/// does): it is cheaper than another question.
const SMALL_BYTES_MAX: u32 = 1024;
/// Most presences that wait to be told to one peer; further ones are not.
const PRESENCES_MAX: usize = 4096;

/// Bytes of blocks that went either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// To the peer.
    pub sent: u64,
    /// From the peer.
    pub received: u64,
}

/// All that peers want.
#[derive(Debug, Default)]
pub(super) struct Engine {
    salt: RandomState,
    peers: HashMap<PeerId, Peer>,
    /// Who wants what is absent, by the key of its multihash.
    absent: HashMap<Key, Vec<(u32, Key)>>,
    /// A peer's number takes a twentieth of the memory of its id.
    numbers: HashMap<u32, PeerId>,
    next_number: u32,
    wants: usize,
}

#[derive(Debug)]
struct Peer {
    number: u32,
    list: Wantlist,
    presences: HashMap<Key, (Box<[u8]>, Presence)>,
    /// What is on its way to it.
    sending: HashSet<Key>,
    ledger: Ledger,
    line: Line,
}

/// What wakes and ends the task that sends to a peer.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) wake: Arc<Notify>,
    pub(super) gone: CancellationToken,
}

/// A block that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) want: Want,
    pub(super) cid: Cid,
    pub(super) bytes: u32,
}

/// A want and what is known of its block.
pub(super) type Asked = (Entry, Held);

/// Whether a block is there for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// It is, with so many bytes.
    Here(u32),
    /// Not yet.
    Absent,
    /// It will never be given.
    Never,
}

/// What came of a message.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// The line to a peer that had none.
    pub(super) begun: Option<Line>,
    /// Wants that were let go of, for the list was full.
    pub(super) dropped: usize,
}

impl Peer {
    /// Will tell it whether a block is there.
    fn tell(&mut self, key: Key, cid: &[u8], presence: Presence) {
        if self.presences.len() < PRESENCES_MAX {
            self.presences.insert(key, (cid.into(), presence));
        }
    }
}

impl Engine {
    /// Wants of all peers.
    pub(super) fn wants(&self) -> usize {
        self.wants
    }

    /// Whether somebody wants what is absent.
    pub(super) fn has_absent(&self) -> bool {
        !self.absent.is_empty()
    }

    pub(super) fn ledger(&self, peer: &PeerId) -> Option<Ledger> {
        Some(self.peers.get(peer)?.ledger)
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Takes in what a peer asks; `stop` ends its line when the node stops.
    pub(super) fn note(
        &mut self,
        peer: PeerId,
        full: bool,
        asked: Vec<Asked>,
        stop: &CancellationToken,
    ) -> Noted {
        let mut noted = Noted::default();
        if full {
            self.clear(&peer);
        }
        if !self.peers.contains_key(&peer) {
            if asked.iter().all(|(entry, _)| entry.cancel) {
                return noted;
            }
            noted.begun = Some(self.add(peer, stop));
        }
        for (entry, held) in asked {
            noted.dropped += usize::from(self.note_one(&peer, &entry, held));
        }
        if let Some(peer) = self.peers.get(&peer) {
            peer.line.wake.notify_one();
        }
        noted
    }

    /// Whether a want was let go of.
    fn note_one(&mut self, id: &PeerId, entry: &Entry, held: Held) -> bool {
        let cid: Box<[u8]> = entry.cid.to_bytes().into();
        let key = self.salt.hash_one(&*cid);
        let before = self.take(id, key);
        let Some(peer) = self.peers.get_mut(id) else { return false };
        peer.presences.remove(&key);
        // Who waits for a block may ask again whether it is there, and waits on.
        let kind = before.map_or(entry.kind, |want| want.kind.min(entry.kind));
        let mut bytes = None;
        match held {
            _ if entry.cancel => return false,
            Held::Here(size) => {
                let told = entry.kind == WantKind::Have && size > SMALL_BYTES_MAX;
                if told {
                    peer.tell(key, &cid, Presence::Have);
                }
                if (told && kind == WantKind::Have) || peer.sending.contains(&key) {
                    return false;
                }
                bytes = Some(size);
            }
            Held::Absent | Held::Never => {
                if entry.send_dont_have {
                    peer.tell(key, &cid, Presence::DontHave);
                }
                if held == Held::Never {
                    return false;
                }
            }
        }
        let (priority, send_dont_have) = (entry.priority, entry.send_dont_have);
        let hash = self.salt.hash_one(entry.cid.hash());
        self.insert(id, key, Want { cid, hash, priority, kind, send_dont_have, bytes })
    }

    /// Puts a want on a peer's list. Whether one was let go of.
    fn insert(&mut self, id: &PeerId, key: Key, want: Want) -> bool {
        let Some(peer) = self.peers.get_mut(id) else { return false };
        if want.bytes.is_none() {
            self.absent.entry(want.hash).or_default().push((peer.number, key));
        }
        self.wants += 1;
        let gone = peer.list.insert(key, want);
        if let Some((key, want)) = &gone {
            self.forget(id, *key, want);
        }
        gone.is_some()
    }

    /// Takes a want off a peer's list.
    fn take(&mut self, id: &PeerId, key: Key) -> Option<Want> {
        let want = self.peers.get_mut(id)?.list.remove(key)?;
        self.forget(id, key, &want);
        Some(want)
    }

    /// Forgets a want that has left its list.
    fn forget(&mut self, id: &PeerId, key: Key, want: &Want) {
        self.wants -= 1;
        let Some(peer) = self.peers.get(id).filter(|_| want.bytes.is_none()) else { return };
        if let Some(waiting) = self.absent.get_mut(&want.hash) {
            waiting.retain(|entry| *entry != (peer.number, key));
            if waiting.is_empty() {
                self.absent.remove(&want.hash);
            }
        }
    }

    /// These blocks are there now.
    pub(super) fn arrived(&mut self, blocks: &mut dyn Iterator<Item = (Mh, u32)>) {
        for (hash, bytes) in blocks {
            let Some(waiting) = self.absent.remove(&self.salt.hash_one(hash)) else { continue };
            for (number, key) in waiting {
                let Some(id) = self.numbers.get(&number).copied() else { continue };
                let Some(peer) = self.peers.get_mut(&id) else { continue };
                let Some(want) = peer.list.remove(key) else { continue };
                self.wants -= 1;
                peer.presences.remove(&key);
                peer.line.wake.notify_one();
                if want.kind == WantKind::Have && bytes > SMALL_BYTES_MAX {
                    peer.tell(key, &want.cid, Presence::Have);
                } else {
                    self.insert(&id, key, Want { bytes: Some(bytes), ..want });
                }
            }
        }
    }

    /// Whether a peer wants it.
    pub(super) fn is_wanted(&self, id: &PeerId, cid: &Cid) -> bool {
        let key = self.salt.hash_one(&*cid.to_bytes());
        self.peers.get(id).is_some_and(|peer| peer.list.get(key).is_some())
    }

    /// The next block for a peer, of at most so many bytes. It is on its way from now on.
    pub(super) fn next(&mut self, id: &PeerId, bytes_max: u32) -> Option<Job> {
        let peer = self.peers.get_mut(id)?;
        let (key, want) = peer.list.pop(bytes_max)?;
        self.wants -= 1;
        peer.sending.insert(key);
        let cid = Cid::try_from(&*want.cid).ok()?;
        Some(Job { key, cid, bytes: want.bytes.unwrap_or_default(), want })
    }

    /// What is to be told to a peer of what is there and what is not.
    pub(super) fn presences(&mut self, id: &PeerId) -> Vec<(Cid, Presence)> {
        let Some(peer) = self.peers.get_mut(id) else { return Vec::new() };
        let presences = std::mem::take(&mut peer.presences).into_values();
        presences.filter_map(|(cid, told)| Some((Cid::try_from(&*cid).ok()?, told))).collect()
    }

    /// A block was not there after all.
    pub(super) fn missed(&mut self, id: &PeerId, job: Job) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.sending.remove(&job.key);
        if job.want.send_dont_have {
            peer.tell(job.key, &job.want.cid, Presence::DontHave);
        }
        self.insert(id, job.key, Want { bytes: None, ..job.want });
    }

    /// Blocks have been sent.
    pub(super) fn sent(&mut self, id: &PeerId, keys: &[Key], bytes: u64) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        for key in keys {
            peer.sending.remove(key);
        }
        peer.ledger.sent += bytes;
    }

    /// Bytes of blocks came from a peer; nothing where it never asked for any.
    pub(super) fn received(&mut self, id: &PeerId, bytes: u64) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.ledger.received += bytes;
        }
    }

    /// Forgets a peer.
    pub(super) fn remove(&mut self, id: &PeerId) {
        self.clear(id);
        if let Some(peer) = self.peers.remove(id) {
            self.numbers.remove(&peer.number);
            peer.line.gone.cancel();
        }
    }

    /// Forgets what a peer wants.
    fn clear(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.presences.clear();
        let wants: Vec<_> = peer.list.drain().collect();
        wants.iter().for_each(|(key, want)| self.forget(id, *key, want));
    }

    fn add(&mut self, id: PeerId, stop: &CancellationToken) -> Line {
        // Numbers that are in use are passed over; there are never many.
        while self.numbers.contains_key(&self.next_number) {
            self.next_number = self.next_number.wrapping_add(1);
        }
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.numbers.insert(number, id);
        let line = Line { wake: Arc::default(), gone: stop.child_token() };
        let peer = Peer {
            number,
            list: Wantlist::default(),
            presences: HashMap::new(),
            sending: HashSet::new(),
            ledger: Ledger::default(),
            line: line.clone(),
        };
        self.peers.insert(id, peer);
        line
    }
}

#[cfg(test)]
mod tests;
