//! What a walk has met already.

use std::collections::{HashMap, HashSet};

use crate::block::{Cid, IDENTITY, Mh, codec};

use super::Job;

/// Half of a SHA2-256 digest. Whoever finds two blocks that share it (2^64 hashes) makes a walk
/// leave out one of their own.
type Key = [u8; 16];

/// What was done at a block: it was read as this codec, for the job of this mark.
type Done = (u64, Option<u8>);

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
    first: HashMap<Key, Done>,
    more: HashSet<(Key, Done)>,
}

impl Seen {
    /// Whether nothing is left to do at this block.
    pub(super) fn is_done(&self, cid: &Cid, job: Job) -> bool {
        let key = key(cid.hash());
        let done = (cid.codec(), job.mark());
        match self.first.get(&key) {
            None => false,
            Some(_) if cid.codec() == codec::RAW || job == Job::Alone => true,
            // A range of bytes differs each time; there are few, at the edges of the one asked for.
            Some(_) if done.1.is_none() => false,
            Some(first) => *first == done || self.more.contains(&(key, done)),
        }
    }

    /// Remembers a block; says whether it is the first time.
    pub(super) fn insert(&mut self, cid: &Cid, job: Job) -> bool {
        let key = key(cid.hash());
        let done = (cid.codec(), job.mark());
        let before = self.first.len();
        if *self.first.entry(key).or_insert(done) != done {
            self.more.insert((key, done));
        }
        self.first.len() > before
    }
}
