//! Lookups under way: one for each domain, shared by all who wait for it, and ended when nobody
//! does any more. Those of one neighbourhood of names leave room for the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::routing::name::Domain;

use super::cached::Cached;

/// Lookups that are under way or wait; further ones fail.
const LOOKUPS_WAITING_MAX: usize = 1024;
/// Lookups under way at once of domains that end in the same two labels; further ones wait. Who
/// owns a domain can make servers for it that never answer.
pub(super) const LOOKUPS_OF_AN_END_MAX: usize = 8;

type Answer = Shared<oneshot::Receiver<Cached>>;

/// Lookups under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    flights: HashMap<Domain, Flight>,
    /// Room for the lookups under way, by the last two labels of their domains.
    ends: HashMap<Box<str>, Arc<Semaphore>>,
}

#[derive(Debug)]
struct Flight {
    answer: Answer,
    waiters: Weak<Waiters>,
}

/// All who wait for a lookup; when the last is gone, it is told to end.
#[derive(Debug)]
struct Waiters {
    gone: CancellationToken,
    /// Whether it is to go on without them.
    kept: AtomicBool,
}

impl Drop for Waiters {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            self.gone.cancel();
        }
    }
}

/// One who waits for a lookup.
#[derive(Debug)]
pub(super) struct Waiter {
    answer: Answer,
    waiters: Arc<Waiters>,
}

impl Waiter {
    /// What was found; none where the lookup was given up.
    pub(super) async fn answer(&self) -> Option<Cached> {
        self.answer.clone().await.ok()
    }

    /// Lets the lookup go on when nobody waits for it.
    pub(super) fn keep(&self) {
        self.waiters.kept.store(true, Ordering::Relaxed);
    }
}

/// A lookup that is to be done.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) domain: Domain,
    /// Cancelled when nobody waits any more.
    pub(super) gone: CancellationToken,
    /// Room among the domains of its end.
    pub(super) end: Arc<Semaphore>,
    sender: oneshot::Sender<Cached>,
    waiters: Weak<Waiters>,
}

impl Flights {
    /// Waits for the lookup of a domain: for one that is under way, or for a new one, which is then
    /// given to be done. None where there are too many.
    pub(super) fn join(&self, domain: &Domain) -> Option<(Waiter, Option<Lookup>)> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = table.flights.get(domain)
            && let Some(waiters) = flight.waiters.upgrade()
        {
            return Some((Waiter { answer: flight.answer.clone(), waiters }, None));
        }
        if table.flights.len() >= LOOKUPS_WAITING_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let answer = receiver.shared();
        let gone = CancellationToken::new();
        let waiters = Arc::new(Waiters { gone: gone.clone(), kept: AtomicBool::new(false) });
        let waited = Arc::downgrade(&waiters);
        let flight = Flight { answer: answer.clone(), waiters: Weak::clone(&waited) };
        // One that is about to end may be there; it is forgotten.
        table.flights.insert(domain.clone(), flight);
        let end = table.ends.entry(end_of(domain.as_str()).into());
        let end = end.or_insert_with(|| Arc::new(Semaphore::new(LOOKUPS_OF_AN_END_MAX)));
        let (domain, end) = (domain.clone(), Arc::clone(end));
        Some((
            Waiter { answer, waiters },
            Some(Lookup { domain, gone, end, sender, waiters: waited }),
        ))
    }

    /// The lookup has ended, and found this, if it was not given up.
    pub(super) fn land(&self, lookup: Lookup, answer: Option<Cached>) {
        let Lookup { domain, end, sender, waiters, .. } = lookup;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.flights.get(&domain).is_some_and(|flight| flight.waiters.ptr_eq(&waiters)) {
            table.flights.remove(&domain);
        }
        // The table's own, and this one.
        if Arc::strong_count(&end) <= 2 {
            table.ends.remove(end_of(domain.as_str()));
        }
        drop(table);
        if let Some(answer) = answer {
            // Nobody may be waiting any more.
            let _ = sender.send(answer);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let table = self.table.lock().unwrap();
        table.flights.is_empty() && table.ends.is_empty()
    }
}

/// The last two labels of a domain.
fn end_of(domain: &str) -> &str {
    let mut dots = domain.rmatch_indices('.').map(|(at, _)| at);
    dots.nth(1).and_then(|at| domain.get(at + 1..)).unwrap_or(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_that_end_in_the_same_two_labels_are_of_one_end() {
        for (domain, end) in [
            ("a.test", "a.test"),
            ("b.a.test", "a.test"),
            ("c.b.a.test", "a.test"),
            ("ba.test", "ba.test"),
        ] {
            assert_eq!(end_of(domain), end);
        }
    }
}
