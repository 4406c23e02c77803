//! Records of names that others hold: asked for when ours has ended or its time to ask again has
//! come, several answers weighed, the best kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::time::Instant;

use crate::task::{Tasks, now_unix};

use super::Error;
use super::ipns::Record;
use super::metrics::Metrics;
use super::name::Key;
use super::records::Records;

/// Good records that are enough to say which is the best.
const QUORUM: usize = 16;
/// Records of one name that are looked at.
const LOOKED_AT_MAX: usize = 64;
/// How long others may still bring a better record than the first that came.
const WEIGH: Duration = Duration::from_millis(1_500);
/// How long one lookup takes at most.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(9);
/// How long somebody waits for a newer record where one is at hand.
const PATIENCE: Duration = Duration::from_millis(1_800);
/// Lookups under way at once.
const LOOKUPS_MAX: usize = 256;
/// Names that it is remembered of when they were last asked for.
const CHECKED_MAX: u64 = 10_000;
/// For how long a record that has no TTL is not asked for again (IPNS specification).
const TTL_DEFAULT: Duration = Duration::from_secs(300);
/// Shortest and longest time until a record is asked for again.
const CHECK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(24 * 3600));
/// For how long a name is not asked for again that nobody has a record of.
const NOTHING_FOR: Duration = Duration::from_secs(30);

/// Where records of names are found and published.
pub trait RecordRouter: Send + Sync {
    /// Records of a key, unverified, as they are found. Dropped, the stream ends the search.
    fn records(&self, key: &Key, deadline: Instant) -> BoxStream<'static, Bytes>;
    /// Gives a record to whoever keeps such. How many took it.
    fn publish(&self, key: &Key, record: Bytes, deadline: Instant) -> BoxFuture<'static, usize>;
}

/// What is known of a name after it was asked for.
#[derive(Debug, Clone)]
struct Checked {
    /// The best that was found, which may not have found room in the database.
    record: Option<Record>,
    /// Until when it is not asked for again.
    until: Instant,
}

type Flight = BoxFuture<'static, Result<Option<Record>, Error>>;

/// Asks for records. Cheap to clone.
#[derive(Clone)]
pub struct Lookups {
    inner: Arc<Inner>,
}

struct Inner {
    routers: Vec<Arc<dyn RecordRouter>>,
    records: Records,
    checked: moka::sync::Cache<Key, Checked>,
    flights: Mutex<HashMap<Key, WeakShared<Flight>>>,
    tasks: Tasks,
    metrics: Metrics,
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").field("routers", &self.inner.routers.len()).finish()
    }
}

impl Lookups {
    /// Asks these routers; what is found is kept in `records`.
    pub(super) fn new(
        routers: Vec<Arc<dyn RecordRouter>>,
        records: Records,
        tasks: Tasks,
        metrics: Metrics,
    ) -> Self {
        let checked = moka::sync::Cache::new(CHECKED_MAX);
        let flights = Mutex::default();
        Self { inner: Arc::new(Inner { routers, records, checked, flights, tasks, metrics }) }
    }

    /// The best record of a key: the one that is held, or a better one that somebody else has. With
    /// it, for how long it need not be asked for again.
    pub(super) async fn best(
        &self,
        key: &Key,
        held: Option<Record>,
    ) -> Result<Option<(Record, Duration)>, Error> {
        let checked = self.inner.checked.get(key);
        let found = checked.as_ref().and_then(|checked| checked.record.clone());
        let known = better(held, found);
        let (now, until) = (Instant::now(), checked.map(|checked| checked.until));
        if let Some(until) = until.filter(|until| *until > now) {
            return Ok(known.map(|record| (record, until - now)));
        }
        let flight = self.join(key, known.clone())?;
        let holds = known.as_ref().is_some_and(|known| known.remaining(now_unix()).is_some());
        let best = if holds {
            let found = tokio::time::timeout(PATIENCE, flight).await;
            found.unwrap_or(Ok(known))?
        } else {
            flight.await?
        };
        let until = self.inner.checked.get(key).map(|checked| checked.until);
        let fresh = until.map_or(CHECK_AGAIN.0, |until| until - Instant::now().min(until));
        Ok(best.map(|record| (record, fresh)))
    }

    /// Takes down that a record was just given to us by somebody who knows.
    pub(super) fn knows(&self, key: &Key, record: &Record) {
        let until = Instant::now() + again_in(record);
        self.inner.checked.insert(key.clone(), Checked { record: None, until });
    }

    /// Forgets what was found of a key.
    pub(super) fn forget(&self, key: &Key) {
        self.inner.checked.invalidate(key);
    }

    /// Gives a record to all routers. How many peers and servers took it.
    pub(super) async fn publish(&self, key: &Key, record: &Bytes, deadline: Instant) -> usize {
        let routers = self.inner.routers.iter();
        let puts = routers.map(|router| router.publish(key, record.clone(), deadline));
        futures_util::future::join_all(puts).await.into_iter().sum()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, WeakShared<Flight>>> {
        self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lookup of this key that is under way, or a new one. It goes on if nobody waits any more.
    fn join(&self, key: &Key, known: Option<Record>) -> Result<Shared<Flight>, Error> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(key).and_then(WeakShared::upgrade) {
            return Ok(flight);
        }
        if flights.len() >= LOOKUPS_MAX {
            let reason = "too many records of names are being looked up; try again soon".into();
            return Err(Error::Unavailable { name: key.to_string().into(), reason });
        }
        let (lookups, asked) = (self.clone(), key.clone());
        let flight = async move {
            let found = lookups.run(&asked, known).await;
            lookups.flights().remove(&asked);
            found
        };
        let flight = flight.boxed().shared();
        flights.extend(flight.downgrade().map(|weak| (key.clone(), weak)));
        let stop = self.inner.tasks.stop_token();
        let running = flight.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                _ = running => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(flight)
    }

    async fn run(&self, key: &Key, known: Option<Record>) -> Result<Option<Record>, Error> {
        let started = Instant::now();
        let found = self.ask(key, started + LOOKUP_TIMEOUT).await;
        self.inner.metrics.record_lookup(found.is_some(), started.elapsed());
        let best = better(known, found.clone());
        // A name of which there is a record here, but nowhere else, is asked for again as late as
        // one that was found.
        let again = best.as_ref().filter(|best| best.remaining(now_unix()).is_some());
        let until = Instant::now() + again.map_or(NOTHING_FOR, again_in);
        self.inner.checked.insert(key.clone(), Checked { record: best.clone(), until });
        if let Some(found) = found {
            match self.inner.records.keep_found(key, found).await {
                // That ours is as good is no news.
                Ok(_) | Err(Error::Older { .. } | Error::TooMany) => {}
                Err(error) => tracing::warn!(%error, "a record of a name was not kept"),
            }
        }
        Ok(best)
    }

    /// The best record that is found in time, of those that hold.
    async fn ask(&self, key: &Key, deadline: Instant) -> Option<Record> {
        let routers = self.inner.routers.iter();
        let mut found = stream::select_all(routers.map(|router| router.records(key, deadline)));
        let (mut best, mut good, mut until) = (None::<Record>, 0, deadline);
        for _ in 0..LOOKED_AT_MAX {
            let Ok(Some(bytes)) = tokio::time::timeout_at(until, found.next()).await else { break };
            if best.as_ref().is_some_and(|best| *best.bytes() == bytes) {
                good += 1;
            } else if let Ok(record) = Record::verify(key, bytes)
                && record.remaining(now_unix()).is_some()
            {
                good += 1;
                best = better(best, Some(record));
            }
            if good == 1 {
                until = deadline.min(Instant::now() + WEIGH);
            }
            if good >= QUORUM {
                break;
            }
        }
        best
    }
}

fn better(one: Option<Record>, other: Option<Record>) -> Option<Record> {
    match (one, other) {
        (Some(one), Some(other)) if other.supersedes(&one) => Some(other),
        (one, other) => one.or(other),
    }
}

fn again_in(record: &Record) -> Duration {
    let ttl = record.ttl().unwrap_or(TTL_DEFAULT).clamp(CHECK_AGAIN.0, CHECK_AGAIN.1);
    record.remaining(now_unix()).map_or(CHECK_AGAIN.0, |left| ttl.min(left))
}

#[cfg(test)]
mod tests;
