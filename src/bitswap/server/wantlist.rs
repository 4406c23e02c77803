//! What one peer wants. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::bitswap::message::WantKind;

/// Most wants of one peer that are kept (as boxo keeps them).
pub(super) const WANTS_MAX: usize = 1024;

/// A CID or a multihash, hashed with a salt of this process: nobody can make two that meet.
pub(super) type Key = u64;

/// One want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    /// The CID as bytes, for a `Cid` takes four times the memory.
    pub(super) cid: Box<[u8]>,
    /// The key of its multihash.
    pub(super) hash: Key,
    pub(super) priority: i32,
    pub(super) kind: WantKind,
    pub(super) send_dont_have: bool,
    /// How many bytes the block has; none where it is absent.
    pub(super) bytes: Option<u32>,
}

/// The wants of one peer: those that can be served, in the order they will be, and those that
/// cannot yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Wantlist {
    wants: HashMap<Key, (u64, Want)>,
    queue: BTreeMap<(Reverse<i32>, u64), Key>,
    absent: BTreeMap<u64, Key>,
    /// Counts what comes, so that of equal wants the first goes first.
    next: u64,
}

impl Wantlist {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wants.len()
    }

    #[cfg(test)]
    pub(super) fn absent_len(&self) -> usize {
        self.absent.len()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Want> {
        self.wants.get(&key).map(|(_, want)| want)
    }

    /// Takes a want in, in place of the same one before. Where the list is full another goes: one
    /// that cannot be served, the oldest; else the one of the lowest priority, be it the new one.
    /// Returns whatever went.
    pub(super) fn insert(&mut self, key: Key, want: Want) -> Option<(Key, Want)> {
        self.remove(key);
        let mut gone = None;
        if self.wants.len() >= WANTS_MAX {
            let last =
                || self.queue.last_key_value().map(|((priority, _), key)| (priority.0, *key));
            let out = match (self.absent.first_key_value(), last()) {
                (Some((_, oldest)), _) => *oldest,
                (None, Some((lowest, key))) if want.bytes.is_some() && lowest < want.priority => {
                    key
                }
                _ => return Some((key, want)),
            };
            gone = self.remove(out).map(|want| (out, want));
        }
        let order = self.next;
        self.next += 1;
        if want.bytes.is_some() {
            self.queue.insert((Reverse(want.priority), order), key);
        } else {
            self.absent.insert(order, key);
        }
        self.wants.insert(key, (order, want));
        gone
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Want> {
        let (order, want) = self.wants.remove(&key)?;
        self.queue.remove(&(Reverse(want.priority), order));
        self.absent.remove(&order);
        Some(want)
    }

    /// The next want to be served, if it has at most so many bytes.
    pub(super) fn pop(&mut self, bytes_max: u32) -> Option<(Key, Want)> {
        let key = *self.queue.first_key_value()?.1;
        if self.get(key)?.bytes.is_none_or(|bytes| bytes > bytes_max) {
            return None;
        }
        Some((key, self.remove(key)?))
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Key, Want)> {
        self.queue.clear();
        self.absent.clear();
        self.wants.drain().map(|(key, (_, want))| (key, want))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(priority: i32, bytes: Option<u32>) -> Want {
        let (cid, kind) = (Box::default(), WantKind::Block);
        Want { cid, hash: 0, priority, kind, send_dont_have: false, bytes }
    }

    #[test]
    fn wants_are_served_by_priority_then_as_they_came() {
        let mut list = Wantlist::default();
        for (key, priority) in [(1, 5), (2, 9), (3, 5), (4, -1)] {
            assert_eq!(list.insert(key, want(priority, Some(10))), None);
        }
        list.insert(5, want(100, None));
        list.insert(1, want(5, Some(10)));
        assert_eq!(list.pop(9), None, "too large for now");
        let order: Vec<_> = std::iter::from_fn(|| list.pop(10)).map(|(key, _)| key).collect();
        assert_eq!(order, [2, 3, 1, 4]);
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn a_full_list_lets_go_of_what_cannot_be_served() {
        let mut list = Wantlist::default();
        let max = WANTS_MAX as u64;
        for key in 0..max {
            let bytes = (key % 2 == 0).then_some(1);
            assert_eq!(list.insert(key, want(1, bytes)), None);
        }
        let gone = |list: &mut Wantlist, key, want| list.insert(key, want).map(|(key, _)| key);
        assert_eq!(gone(&mut list, max, want(1, None)), Some(1), "the oldest that is absent");
        for (at, key) in (max + 1..).take(WANTS_MAX / 2).enumerate() {
            let expected = if at + 1 < WANTS_MAX / 2 { 2 * at as u64 + 3 } else { max };
            assert_eq!(gone(&mut list, key, want(1, Some(1))), Some(expected));
        }
        assert_eq!(gone(&mut list, 9_000, want(9, None)), Some(9_000), "the new one");
        assert_eq!(gone(&mut list, 9_001, want(1, Some(1))), Some(9_001), "no better than others");
        let last = gone(&mut list, 9_002, want(2, Some(1)));
        assert_eq!(last, Some(max + WANTS_MAX as u64 / 2), "the last of the lowest priority");
        assert_eq!(list.len(), WANTS_MAX);
    }
}
