//! What writers rely on and no committed row protects yet.
//!
//! A writer holds a block before it looks for it; eviction asks here, under the same lock, before
//! it drops one. So either eviction sees the hold and leaves the block, or the writer sees that the
//! block is going, and writes it again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::index::Row;
use super::record::Key;
use super::segments::Location;

/// Damaged records remembered; further ones are found again when they are read again.
const DAMAGED_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: HashMap<Key, u32>,
    /// Dropped by a transaction that may not be committed yet.
    going: HashSet<Key>,
    /// Records that were read and found damaged: whoever writes such a block again mends it.
    damaged: HashMap<Key, Location>,
}

impl Holds {
    /// Holds blocks until the guard is dropped. Gives those of them that are going: whatever a
    /// snapshot says of these, they are as good as gone. Of the others, one taken from now on tells
    /// the truth.
    pub(super) fn hold(self: &Arc<Self>, keys: Vec<Key>) -> (Held, HashSet<Key>) {
        let mut state = self.lock();
        let mut going = HashSet::new();
        for key in &keys {
            *state.held.entry(*key).or_default() += 1;
            if state.going.contains(key) {
                going.insert(*key);
            }
        }
        drop(state);
        (Held { holds: Arc::clone(self), keys }, going)
    }

    /// Nothing held yet.
    pub(super) fn none(self: &Arc<Self>) -> Held {
        Held { holds: Arc::clone(self), keys: Vec::new() }
    }

    /// Whether the bytes that a row points to are known to be gone.
    pub(super) fn is_void(&self, key: &Key, row: &Row) -> bool {
        row.is_lost() || self.lock().damaged.get(key) == Some(&row.at)
    }

    /// Remembers a damaged record. True when it was not known.
    pub(super) fn set_damaged(&self, key: Key, at: Location) -> bool {
        let mut state = self.lock();
        if state.damaged.len() >= DAMAGED_MAX && !state.damaged.contains_key(&key) {
            return true;
        }
        state.damaged.insert(key, at) != Some(at)
    }

    /// Forgets a damaged record, whose row points elsewhere now or nowhere.
    pub(super) fn mended(&self, key: &Key) {
        self.lock().damaged.remove(key);
    }

    /// Asks to drop a block: true, and from now on writers write it again; false when one holds it.
    pub(super) fn let_go(&self, key: &Key) -> bool {
        let mut state = self.lock();
        if state.held.contains_key(key) {
            return false;
        }
        state.going.insert(*key);
        true
    }

    /// Whether something was let go and nobody said what became of it.
    pub(super) fn is_going(&self) -> bool {
        !self.lock().going.is_empty()
    }

    /// Says that what was let go is committed, or was never dropped: snapshots tell which.
    pub(super) fn gone(&self) {
        self.lock().going.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks that are held.
#[derive(Debug)]
pub(super) struct Held {
    holds: Arc<Holds>,
    keys: Vec<Key>,
}

impl Held {
    /// Takes what was held later to itself.
    pub(super) fn join(&mut self, mut later: Self) {
        self.keys.append(&mut later.keys);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        for key in &self.keys {
            if let Some(count) = state.held.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(key);
                }
            }
        }
    }
}
