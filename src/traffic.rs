//! Traffic: bytes in and out, by root and by the way they took, day by day.
//!
//! **Invariant:** counting never waits, and takes a bounded memory whatever is counted: of each day
//! the roots with the most bytes have a count of their own, the others one together.

mod day;

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::block::Cid;
use crate::db::{self, Db, Table};
use crate::metrics::IntCounter;
use crate::task::now_unix;

use day::Day;

/// By day since 1970, big-endian: what was counted.
const DAYS: Table = Table::new("traffic_days");
/// Days that are kept.
pub const DAYS_MAX: u32 = 30;
/// How often the day's counts are written down; what a crash loses is of this time.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Parts in which roots are counted, so that those who count seldom meet.
const STRIPES: usize = 16;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// The way bytes took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Out to clients of the gateway and the API.
    HttpOut,
    /// Out to peers.
    BitswapOut,
    /// In from peers.
    BitswapIn,
    /// In from HTTP providers.
    HttpIn,
}

impl Way {
    const ALL: [Self; 4] = [Self::HttpOut, Self::BitswapOut, Self::BitswapIn, Self::HttpIn];

    fn label(self) -> &'static str {
        match self {
            Self::HttpOut => "http_out",
            Self::BitswapOut => "bitswap_out",
            Self::BitswapIn => "bitswap_in",
            Self::HttpIn => "http_in",
        }
    }
}

crate::metrics! {
    /// How much went which way.
    pub struct Metrics {
        /// Bytes of content, by the way they took: "http_out", "bitswap_out", "bitswap_in", "http_in".
        bytes: counter_vec("estuary_traffic_bytes_total", "way"),
    }
}

/// Bytes by the way they took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bytes {
    /// Out to clients of the gateway and the API.
    pub http_out: u64,
    /// Out to peers.
    pub bitswap_out: u64,
    /// In from peers.
    pub bitswap_in: u64,
    /// In from HTTP providers.
    pub http_in: u64,
}

impl Bytes {
    fn of(&mut self, way: Way) -> &mut u64 {
        match way {
            Way::HttpOut => &mut self.http_out,
            Way::BitswapOut => &mut self.bitswap_out,
            Way::BitswapIn => &mut self.bitswap_in,
            Way::HttpIn => &mut self.http_in,
        }
    }

    fn add(&mut self, other: Self) {
        let Self { http_out, bitswap_out, bitswap_in, http_in } = other;
        for (way, bytes) in Way::ALL.into_iter().zip([http_out, bitswap_out, bitswap_in, http_in]) {
            let sum = self.of(way);
            *sum = sum.saturating_add(bytes);
        }
    }

    fn sum(self) -> u64 {
        let Self { http_out, bitswap_out, bitswap_in, http_in } = self;
        [http_out, bitswap_out, bitswap_in, http_in].into_iter().fold(0, u64::saturating_add)
    }
}

/// What was counted for one root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootBytes {
    /// The root, as it was asked for first.
    pub cid: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What was counted in some days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many days, today included.
    pub days: u32,
    /// All bytes.
    pub bytes: Bytes,
    /// The roots with the most bytes, those first.
    pub roots: Vec<RootBytes>,
}

/// Counts bytes. Cheap to clone.
#[derive(Clone)]
pub struct Traffic {
    inner: Arc<Inner>,
}

struct Inner {
    stripes: [Mutex<Day>; STRIPES],
    /// What belongs to no root, by way.
    rootless: [AtomicU64; Way::ALL.len()],
    /// The day that is counted, in days since 1970.
    day: Mutex<u32>,
    counters: [IntCounter; Way::ALL.len()],
    db: Db,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

impl Traffic {
    /// Goes on with what was counted today.
    pub fn open(db: Db, metrics: &Metrics) -> Result<Self, db::Error> {
        let today = today();
        let held = db.read()?.get(DAYS, &today.to_be_bytes())?;
        let held = held.map(|row| Day::from_bytes(&row)).unwrap_or_default();
        let counters = Way::ALL.map(|way| metrics.bytes.with_label_values(&[way.label()]));
        let inner = Inner {
            stripes: Default::default(),
            rootless: Default::default(),
            day: Mutex::new(today),
            counters,
            db,
        };
        for (root, bytes) in held.roots() {
            lock(inner.stripe(root)).add(root, *bytes);
        }
        if let Some(first) = inner.stripes.first() {
            lock(first).add_rest(held.rest());
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Counts bytes that took a way, for the root they belong to where that is known.
    pub fn count(&self, way: Way, root: Option<&Cid>, bytes: u64) {
        if let Some(counter) = self.inner.counters.get(way as usize) {
            counter.inc_by(bytes);
        }
        match root {
            Some(root) => *lock(self.inner.stripe(root)).of(root).of(way) += bytes,
            None => {
                if let Some(rootless) = self.inner.rootless.get(way as usize) {
                    rootless.fetch_add(bytes, Ordering::Relaxed);
                }
            }
        }
    }

    /// Writes down what is counted, now and then and at the end.
    pub async fn write_down(self, stop: CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(WRITE_EVERY) => false,
            };
            if let Err(error) = self.write().await {
                tracing::debug!(%error, "what traffic was counted was not written down");
            }
            if stopped {
                return;
            }
        }
    }

    /// Writes down the day that is counted, and begins the next where that has come.
    async fn write(&self) -> Result<(), db::Error> {
        let today = today();
        let (day, counted) = {
            let mut day = lock(&self.inner.day);
            let was = *day;
            let is_over = was != today;
            *day = today;
            (was, self.inner.counted(is_over))
        };
        let oldest = day.saturating_sub(DAYS_MAX - 1).to_be_bytes();
        let old = self.inner.db.read()?.range(DAYS, Bound::Unbounded, Bound::Excluded(&oldest))?;
        let old = old.collect::<Result<Vec<_>, _>>()?;
        self.inner
            .db
            .write(move |tx| {
                for (key, _) in &old {
                    tx.remove(DAYS, key)?;
                }
                tx.put(DAYS, &day.to_be_bytes(), &counted.to_bytes())
            })
            .await
    }

    /// All bytes of today.
    pub async fn today(&self) -> Bytes {
        self.inner.counted(false).total()
    }

    /// What was counted in the last `days`, today included, with the `limit` roots that have the most
    /// bytes.
    pub async fn report(&self, days: u32, limit: usize) -> Result<Report, db::Error> {
        let days = days.clamp(1, DAYS_MAX);
        let (inner, day) = (Arc::clone(&self.inner), *lock(&self.inner.day));
        let add_up = move || {
            let mut all = inner.counted(false);
            let (from, to) = (day.saturating_sub(days - 1).to_be_bytes(), day.to_be_bytes());
            let rows = inner.db.read()?;
            for row in rows.range(DAYS, Bound::Included(&from), Bound::Excluded(&to))? {
                all.add_day(&Day::from_bytes(&row?.1));
            }
            Ok(all)
        };
        let all = tokio::task::spawn_blocking(add_up).await;
        let all: Day = all.unwrap_or(Err(db::Error::Panicked))?;
        let roots = all.top(limit).into_iter();
        let roots = roots.map(|(cid, bytes)| RootBytes { cid: cid.to_string(), bytes }).collect();
        Ok(Report { days, bytes: all.total(), roots })
    }
}

impl Inner {
    fn stripe(&self, root: &Cid) -> &Mutex<Day> {
        let last = root.hash().digest().last().copied().unwrap_or_default();
        &self.stripes[usize::from(last) % STRIPES]
    }

    /// What was counted, in one; where the day `is_over`, counting begins anew.
    fn counted(&self, is_over: bool) -> Day {
        let mut all = Day::default();
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            all.add_day(&stripe);
            if is_over {
                *stripe = Day::default();
            }
        }
        let mut rest = Bytes::default();
        for (way, rootless) in Way::ALL.into_iter().zip(&self.rootless) {
            *rest.of(way) = match is_over {
                true => rootless.swap(0, Ordering::Relaxed),
                false => rootless.load(Ordering::Relaxed),
            };
        }
        all.add_rest(rest);
        all
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn today() -> u32 {
    u32::try_from(now_unix() / DAY_S).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::block::{Block, codec};

    fn root(number: u32) -> Cid {
        let data = number.to_be_bytes().to_vec();
        *Block::sha2_256(codec::RAW, data.into()).unwrap().cid()
    }

    fn open(dir: &std::path::Path) -> (Traffic, Db) {
        let registry = Registry::new();
        let metrics = db::Metrics::register(&registry).unwrap();
        let db = Db::open(&dir.join("db"), &db::Config::default(), metrics).unwrap();
        (Traffic::open(db.clone(), &Metrics::register(&registry).unwrap()).unwrap(), db)
    }

    #[tokio::test]
    async fn what_is_counted_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        for turn in 1..=3 {
            let (traffic, db) = open(dir.path());
            traffic.count(Way::HttpOut, Some(&root(1)), 10);
            traffic.count(Way::HttpOut, Some(&root(2)), 30);
            traffic.count(Way::HttpIn, Some(&root(1)), 5);
            traffic.count(Way::BitswapIn, None, 7);
            let (http_out, bitswap_in, http_in) = (40 * turn, 7 * turn, 5 * turn);
            let bytes = Bytes { http_out, bitswap_out: 0, bitswap_in, http_in };
            assert_eq!(traffic.today().await, bytes);
            let report = traffic.report(7, 1).await.unwrap();
            assert_eq!((report.bytes, report.days), (bytes, 7));
            assert_eq!(report.roots.len(), 1);
            assert_eq!(report.roots[0].cid, root(2).to_string());
            assert_eq!(report.roots[0].bytes.http_out, 30 * turn);
            let stop = CancellationToken::new();
            stop.cancel();
            traffic.write_down(stop).await;
            db.close().unwrap();
        }
    }

    #[tokio::test]
    async fn days_are_kept_apart_added_up_and_in_the_end_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (traffic, db) = open(dir.path());
        for ago in [1, 2, 40] {
            let mut old = Day::default();
            old.of(&root(1)).http_out = 100;
            let row = old.to_bytes();
            let key = (today() - ago).to_be_bytes();
            db.write(move |tx| tx.put(DAYS, &key, &row)).await.unwrap();
        }
        traffic.count(Way::HttpOut, Some(&root(1)), 1);
        for (days, bytes) in [(1, 1), (2, 101), (3, 201), (1000, 201)] {
            let report = traffic.report(days, 10).await.unwrap();
            assert_eq!(report.bytes.http_out, bytes, "{days}");
            assert_eq!(report.roots[0].bytes.http_out, bytes, "{days}");
        }
        traffic.write().await.unwrap();
        assert_eq!(db.read().unwrap().len(DAYS).unwrap(), 3);
        // A day is over: it is written down, and counting begins anew.
        *lock(&traffic.inner.day) -= 3;
        traffic.write().await.unwrap();
        assert_eq!(traffic.today().await, Bytes::default());
        assert_eq!(db.read().unwrap().len(DAYS).unwrap(), 4);
        db.close().unwrap();
    }

    #[tokio::test]
    async fn many_may_count_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (traffic, db) = open(dir.path());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..10_000).for_each(|n| traffic.count(Way::HttpOut, Some(&root(n % 3)), 1));
                });
            }
        });
        assert_eq!(traffic.today().await.http_out, 40_000);
        assert_eq!(traffic.inner.counters[0].get(), 40_000);
        db.close().unwrap();
    }
}
