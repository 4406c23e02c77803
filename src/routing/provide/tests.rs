use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::db;
use crate::metrics::Registry;
use crate::p2p::dht::Position;
use crate::task::Tasks;

/// Keeps keys under their own names.
#[derive(Default)]
struct Shelf(Mutex<BTreeMap<Vec<u8>, ()>>);

impl Keeper for Shelf {
    fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let shelf = self.0.lock().unwrap();
        let behind = shelf.keys().filter(|name| after.is_none_or(|after| name.as_slice() > after));
        Ok(behind.take(limit).map(|name| kept(name)).collect())
    }

    fn keeps(&self, name: &[u8]) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap().contains_key(name))
    }
}

fn kept(name: &[u8]) -> Kept {
    Kept { name: name.to_vec(), key: name.to_vec() }
}

/// Counts how often it heard of each key; while it is deaf, nobody is there.
#[derive(Default)]
struct Ear {
    heard: Mutex<HashMap<Vec<u8>, usize>>,
    /// How many keys it heard of at once.
    batches: Mutex<Vec<usize>>,
    /// After so many keys, nobody is there any more.
    patience: Mutex<Option<usize>>,
    /// How often it was told of keys, whether it heard or not.
    told: watch::Sender<usize>,
}

impl Ear {
    fn patient(keys: usize) -> Arc<Self> {
        Arc::new(Self { patience: Mutex::new(Some(keys)), ..Self::default() })
    }

    /// Waits until it was told so often.
    async fn told(&self, often: usize) {
        self.told.subscribe().wait_for(|told| *told >= often).await.unwrap();
    }
}

impl Announcer for Ear {
    fn announce(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Option<Vec<usize>>> {
        assert!(keys.iter().map(|key| Position::of(key)).is_sorted(), "in the order of places");
        self.told.send_modify(|told| *told += 1);
        let mut patience = self.patience.lock().unwrap();
        if let Some(left) = patience.as_mut() {
            match left.checked_sub(keys.len()) {
                Some(rest) => *left = rest,
                None => return std::future::ready(None).boxed(),
            }
        }
        let mut heard = self.heard.lock().unwrap();
        keys.iter().for_each(|key| *heard.entry(key.clone()).or_default() += 1);
        self.batches.lock().unwrap().push(keys.len());
        std::future::ready(Some(vec![1; keys.len()])).boxed()
    }
}

struct Story {
    db: Db,
    shelf: Arc<Shelf>,
    _folder: tempfile::TempDir,
}

fn story(keys: u32) -> Story {
    let folder = tempfile::tempdir().unwrap();
    let metrics = db::Metrics::register(&Registry::new()).unwrap();
    let db = Db::open(&folder.path().join("db"), &db::Config::default(), metrics).unwrap();
    let shelf = Arc::new(Shelf::default());
    let names = (0..keys).map(|key| (key.to_be_bytes().to_vec(), ()));
    shelf.0.lock().unwrap().extend(names);
    Story { db, shelf, _folder: folder }
}

impl Story {
    /// A node that provides, until it is stopped.
    fn run(&self, ear: &Arc<Ear>, interval: Duration) -> (Tasks, Fresh, ProvideMetrics) {
        let metrics = ProvideMetrics::register(&Registry::new()).unwrap();
        let (keeper, announcer) = (Arc::clone(&self.shelf), Arc::clone(ear));
        let made = Providing::new(self.db.clone(), keeper, announcer, interval, metrics.clone());
        let (providing, fresh) = made;
        let tasks = Tasks::new();
        tasks.spawn(providing.run(tasks.stop_token()));
        (tasks, fresh, metrics)
    }
}

/// Time that was paused goes on by `advance` alone until this is dropped, however long the database
/// takes: it does not leap while something runs on a thread for blocking.
fn still() -> std::sync::mpsc::Sender<()> {
    let (held, holding) = std::sync::mpsc::channel();
    drop(tokio::task::spawn_blocking(move || holding.recv()));
    held
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it comes to be so");
}

#[tokio::test(start_paused = true)]
async fn a_walk_that_a_restart_broke_off_goes_on_where_it_was() {
    let story = story(10_000);
    let _still = still();
    // In the midst of the fifth batch, nobody is there any more.
    let ear = Ear::patient(4_500);
    let (tasks, _fresh, _) = story.run(&ear, Duration::ZERO);
    let book = Book::new(story.db.clone());
    let mut places: Vec<_> = story.shelf.0.lock().unwrap().keys().cloned().collect();
    places.sort_unstable_by_key(|key| Position::of(key));
    let fourth = *Position::of(&places[3_999]).as_bytes();
    while book.progress().unwrap().at != Some(fourth) {
        tokio::task::yield_now().await;
    }
    assert!(tasks.stop(Duration::from_secs(5)).await);
    assert_eq!(ear.heard.lock().unwrap().len(), 4_000);

    // The rest, and then nobody is there for the walk after this one.
    let second = Ear::patient(6_000);
    let (tasks, _fresh, metrics) = story.run(&second, Duration::ZERO);
    second.told(6).await;
    while book.progress().unwrap().at.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(tasks.stop(Duration::from_secs(5)).await);
    let (first, second) = (ear.heard.lock().unwrap(), second.heard.lock().unwrap());
    assert_eq!(second.len(), 6_000);
    assert!(first.values().chain(second.values()).all(|heard| *heard == 1));
    assert!(second.keys().all(|key| !first.contains_key(key)), "none twice");
    assert_eq!(metrics.keys.get(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn announcing_is_spread_over_the_interval_and_what_is_gone_is_left_out() {
    let story = story(5_000);
    let mut places: Vec<_> = story.shelf.0.lock().unwrap().keys().cloned().collect();
    places.sort_unstable_by_key(|key| Position::of(key));
    let ear = Arc::new(Ear::default());
    let interval = Duration::from_secs(10_000);
    let _still = still();
    let (tasks, _fresh, metrics) = story.run(&ear, interval);
    // The walk begins when all has been gathered.
    while metrics.keys.get() != 5_000 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let gone: Vec<_> = (4_000..5_000u32).map(|key| key.to_be_bytes().to_vec()).collect();
    // Each batch at its time; the walk knows when it began to the second.
    let slack = Duration::from_secs(3);
    for (before, first) in places.iter().step_by(BATCH_KEYS).enumerate() {
        if before == 1 {
            story.shelf.0.lock().unwrap().retain(|key, ()| !gone.contains(key));
        }
        let place = Position::of(first);
        let share = f64::from(u16::from_be_bytes(*place.as_bytes().first_chunk().unwrap()));
        let due = started + interval.mul_f64(share / 65_536.0);
        tokio::time::advance(due - slack - Instant::now()).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*ear.told.borrow(), before, "none is early");
        tokio::time::advance(2 * slack).await;
        ear.told(before + 1).await;
    }
    assert!(tasks.stop(Duration::from_secs(5)).await);

    // The first batch was told before they were gone.
    let heard = ear.heard.lock().unwrap();
    let still = |at: usize, key: &Vec<u8>| at < BATCH_KEYS || !gone.contains(key);
    assert!(places.iter().enumerate().all(|(at, key)| heard.contains_key(key) == still(at, key)));
    assert!(ear.batches.lock().unwrap().iter().all(|keys| *keys <= BATCH_KEYS));
}

#[tokio::test]
async fn what_is_new_is_announced_soon_and_waits_where_nobody_is_there() {
    let story = story(0);
    let deaf = Ear::patient(0);
    let (tasks, fresh, _) = story.run(&deaf, Duration::from_secs(3600));
    let cid: Cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".parse().unwrap();
    story.shelf.0.lock().unwrap().insert(cid.to_bytes(), ());
    fresh.root(&cid);
    let book = Book::new(story.db.clone());
    until(|| book.fresh(10).unwrap().len() == 1).await;
    assert!(tasks.stop(Duration::from_secs(5)).await);

    // After a restart it still waits, and is announced once.
    let ear = Arc::new(Ear::default());
    let (tasks, _fresh, metrics) = story.run(&ear, Duration::from_secs(3600));
    until(|| book.fresh(10).unwrap().is_empty()).await;
    assert!(ear.heard.lock().unwrap().contains_key(&cid.hash().to_bytes()));
    assert!(metrics.provided.with_label_values(&["ok"]).get() >= 1);
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

/// The most memory that this process had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "it takes minutes: a million keys; it prints its memory"]
async fn a_million_keys_are_walked_over_a_restart_in_bounded_memory() {
    let story = story(1_000_000);
    let before = peak_kib();
    let started = Instant::now();
    let mut heard = std::collections::HashSet::new();
    for patience in [500_000, 501_000] {
        let ear = Ear::patient(patience);
        let (tasks, _fresh, _) = story.run(&ear, Duration::from_secs(10));
        let waiting = async {
            while ear.heard.lock().unwrap().len() < 499_000 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // The last of them is still on its way.
            tokio::time::sleep(Duration::from_secs(2)).await;
        };
        tokio::time::timeout(Duration::from_secs(600), waiting).await.unwrap();
        assert!(tasks.stop(Duration::from_secs(20)).await);
        heard.extend(std::mem::take(&mut *ear.heard.lock().unwrap()).into_keys());
    }
    assert_eq!(heard.len(), 1_000_000);
    let (took, peak) = (started.elapsed(), peak_kib());
    println!("1,000,000 keys in {took:?}; {} KiB, {} before", peak, before);
}
