//! What a walk has met already.

use std::collections::{HashMap, HashSet};

use crate::block::{Cid, IDENTITY, Mh, codec};

use super::Job;

/// Half of a SHA2-256 digest. Whoever finds two blocks that share it (2^64 hashes) makes a walk
/// leave out one of their own.
type Key = [u8; 16];

fn key(hash: &Mh) -> Key {
    if hash.code() != IDENTITY
        && let Some(first) = hash.digest().first_chunk()
    {
        return *first;
    }
    let digest = blake3::hash(&hash.to_bytes());
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The blocks visited, and what was done at them. A block that is met under another codec or for
/// another job is not visited again, but its links are followed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    first: HashMap<Key, (u64, Job)>,
    more: HashSet<(Key, u64, Job)>,
}

impl Seen {
    /// Whether nothing is left to do at this block.
    pub(super) fn is_done(&self, cid: &Cid, job: Job) -> bool {
        let key = key(cid.hash());
        match self.first.get(&key) {
            None => false,
            Some(_) if cid.codec() == codec::RAW || job == Job::Alone => true,
            Some(first) => {
                *first == (cid.codec(), job) || self.more.contains(&(key, cid.codec(), job))
            }
        }
    }

    /// Remembers a block; says whether it is the first time.
    pub(super) fn insert(&mut self, cid: &Cid, job: Job) -> bool {
        let key = key(cid.hash());
        let before = self.first.len();
        let first = *self.first.entry(key).or_insert((cid.codec(), job));
        if first != (cid.codec(), job) {
            self.more.insert((key, cid.codec(), job));
        }
        self.first.len() > before
    }
}
