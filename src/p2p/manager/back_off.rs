//! Who is not dialled for a while: peers and endpoints that were tried in vain. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// How long is waited after the first failure, the second, and any more.
const WAITS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];
/// Entries of one table; the one that ends first makes room.
const ENTRIES_MAX: usize = 16_384;

/// What is known of one that was tried.
#[derive(Debug, Clone, Copy)]
struct Tried {
    failures: u32,
    until: Instant,
    /// Whether the last attempt led somewhere that has yet to prove itself.
    unproved: bool,
}

/// A table of those who were tried in vain.
#[derive(Debug)]
pub(super) struct BackOff<K> {
    tried: HashMap<K, Tried>,
}

impl<K: Hash + Eq + Clone> BackOff<K> {
    pub(super) fn new() -> Self {
        Self { tried: HashMap::new() }
    }

    /// How long it is not to be tried yet.
    pub(super) fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let until = self.tried.get(key)?.until;
        (until > now).then(|| until - now)
    }

    /// An attempt begins: whatever comes of it, the next has to wait, unless
    /// [`succeeded`](Self::succeeded) says that this one was good. An error where it is too soon.
    pub(super) fn begin(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(&key, now) {
            return Err(wait);
        }
        self.change(key, now, |tried| {
            tried.until = now + WAITS[0];
            tried.unproved = false;
        });
        Ok(())
    }

    /// An attempt led somewhere; who is there is not known yet.
    pub(super) fn connected(&mut self, key: &K) {
        if let Some(tried) = self.tried.get_mut(key) {
            tried.unproved = true;
        }
    }

    /// Whoever was there is not who was wanted, or nobody that we understand.
    pub(super) fn disproved(&mut self, key: K, now: Instant) {
        if self.tried.get(&key).is_some_and(|tried| tried.unproved) {
            self.failed(key, now);
        }
    }

    /// An attempt came to nothing.
    pub(super) fn failed(&mut self, key: K, now: Instant) {
        self.change(key, now, |tried| {
            let wait = WAITS[(tried.failures as usize).min(WAITS.len() - 1)];
            tried.failures = tried.failures.saturating_add(1);
            tried.until = now + wait;
            tried.unproved = false;
        });
    }

    /// It was reached, and is who it should be.
    pub(super) fn succeeded(&mut self, key: &K) {
        self.tried.remove(key);
    }

    /// Forgets those whose failures are long past.
    pub(super) fn prune(&mut self, now: Instant) {
        self.tried.retain(|_, tried| tried.until + WAITS[2] > now);
    }

    fn change(&mut self, key: K, now: Instant, change: impl FnOnce(&mut Tried)) {
        if self.tried.len() >= ENTRIES_MAX && !self.tried.contains_key(&key) {
            let first = self.tried.iter().min_by_key(|(_, tried)| tried.until);
            if let Some(key) = first.map(|(key, _)| key.clone()) {
                self.tried.remove(&key);
            }
        }
        let fresh = Tried { failures: 0, until: now, unproved: false };
        change(self.tried.entry(key).or_insert(fresh));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_endpoint_is_tried_once_in_10_s_and_after_3_failures_once_in_10_minutes() {
        let (mut table, begun) = (BackOff::new(), Instant::now());
        let mut attempts = Vec::new();
        for second in 0..1800 {
            let now = begun + SECOND * second;
            if table.begin(7, now).is_ok() {
                attempts.push(second);
                table.failed(7, now);
            }
        }
        assert_eq!(attempts, [0, 10, 70, 670, 1270]);
    }

    #[test]
    fn an_endpoint_that_connects_and_then_proves_nothing_is_banned_as_well() {
        let (mut table, now) = (BackOff::new(), Instant::now());
        assert_eq!(table.begin(7, now), Ok(()));
        assert_eq!(table.begin(7, now + SECOND), Err(SECOND * 9), "one at a time");
        table.connected(&7);
        table.disproved(7, now + SECOND);
        table.disproved(7, now + SECOND * 2);
        assert_eq!(table.wait(&7, now + SECOND * 2), Some(SECOND * 9), "a failure counts once");
        table.begin(7, now + SECOND * 11).unwrap();
        table.connected(&7);
        assert_eq!(table.wait(&7, now + SECOND * 11), Some(SECOND * 10));
        table.succeeded(&7);
        assert_eq!(table.begin(7, now + SECOND * 12), Ok(()));
    }

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let (mut table, now) = (BackOff::new(), Instant::now());
        for key in 0..ENTRIES_MAX as u64 * 2 {
            table.failed(key, now + Duration::from_millis(key));
        }
        assert_eq!(table.tried.len(), ENTRIES_MAX);
        assert!(!table.tried.contains_key(&0), "the oldest made room");
        table.prune(now + SECOND * 3600);
        assert!(table.tried.is_empty());
    }
}
