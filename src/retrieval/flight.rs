//! Single flight: requests for one block share one fetch.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use crate::block::{Block, FetchError, Mh};

/// The block and the name of its source.
pub(super) type Outcome = Result<(Block, &'static str), FetchError>;
pub(super) type Fetch = Shared<BoxFuture<'static, Outcome>>;

/// The fetches under way. Each is driven by whoever waits for it; when the last waiter leaves, the
/// fetch is dropped, and with it whatever it was doing.
#[derive(Default)]
pub(super) struct Flights {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    fetches: HashMap<Mh, (u64, WeakShared<BoxFuture<'static, Outcome>>)>,
    /// Tells a fetch from an earlier one of the same block.
    next_id: u64,
}

impl Flights {
    /// Joins the fetch of `key`, or begins one.
    pub(super) fn join(
        &self,
        key: &Mh,
        begin: impl FnOnce() -> BoxFuture<'static, Outcome>,
    ) -> Fetch {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetch) = table.fetches.get(key).and_then(|(_, fetch)| fetch.upgrade()) {
            return fetch;
        }
        let id = table.next_id;
        table.next_id += 1;
        let landing = Landing { table: Arc::clone(&self.table), key: *key, id };
        let flight = Flight { fetch: begin(), _landing: landing };
        let fetch: Fetch = flight.boxed().shared();
        if let Some(weak) = fetch.downgrade() {
            table.fetches.insert(*key, (id, weak));
        }
        fetch
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.lock().unwrap().fetches.len()
    }
}

/// A fetch, and what is to be done when it ends or is given up.
struct Flight {
    fetch: BoxFuture<'static, Outcome>,
    _landing: Landing,
}

impl Future for Flight {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Outcome> {
        self.fetch.poll_unpin(cx)
    }
}

/// Takes the fetch off the table.
struct Landing {
    table: Arc<Mutex<Table>>,
    key: Mh,
    id: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.fetches.get(&self.key).is_some_and(|(id, _)| *id == self.id) {
            table.fetches.remove(&self.key);
        }
    }
}
