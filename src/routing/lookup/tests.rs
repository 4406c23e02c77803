use std::sync::atomic::{AtomicUsize, Ordering};

use libp2p_identity::Keypair;

use super::*;
use crate::db::{self, Db};
use crate::metrics::{IntGauge, Registry};
use crate::routing::ipns::Statement;
use crate::routing::name::Value;
use crate::testing::ipns::name_of;

/// Says what it was told to: each record after so many milliseconds.
#[derive(Default)]
struct Fake {
    says: Mutex<Vec<(u64, Bytes)>>,
    asked: AtomicUsize,
}

impl RecordRouter for Fake {
    fn records(&self, _: &Key, _: Instant) -> BoxStream<'static, Bytes> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let says = self.says.lock().unwrap().clone();
        let says = stream::iter(says).then(|(after_ms, record)| async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            record
        });
        says.boxed()
    }

    fn publish(&self, _: &Key, _: Bytes, _: Instant) -> BoxFuture<'static, usize> {
        std::future::ready(1).boxed()
    }
}

struct Story {
    lookups: Lookups,
    router: Arc<Fake>,
    records: Records,
    keypair: Keypair,
    key: Key,
    _folder: tempfile::TempDir,
}

fn story() -> Story {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let metrics = db::Metrics::register(&registry).unwrap();
    let db = Db::open(&folder.path().join("db"), &db::Config::default(), metrics).unwrap();
    let records = Records::new(db, IntGauge::new("held", "held").unwrap()).unwrap();
    let metrics = Metrics::register(&registry).unwrap();
    let router = Arc::new(Fake::default());
    let routers: Vec<Arc<dyn RecordRouter>> = vec![router.clone()];
    let lookups = Lookups::new(routers, records.clone(), Tasks::new(), metrics);
    let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let key = name_of(&keypair).unwrap();
    Story { lookups, router, records, keypair, key, _folder: folder }
}

impl Story {
    fn record(&self, sequence: u64, ttl_s: u64) -> Record {
        let statement = Statement {
            value: Value::parse("/ipfs/bafkqaaa").unwrap(),
            sequence,
            ttl: Duration::from_secs(ttl_s),
            eol: time::OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap(),
        };
        statement.sign(&self.keypair).unwrap()
    }

    fn say(&self, says: &[(u64, &Record)]) {
        let says = says.iter().map(|(after_ms, record)| (*after_ms, record.bytes().clone()));
        *self.router.says.lock().unwrap() = says.collect();
    }

    async fn best(&self) -> Option<u64> {
        let held = self.records.get(&self.key).unwrap();
        let best = self.lookups.best(&self.key, held).await.unwrap();
        best.map(|(record, _)| record.sequence())
    }

    fn asked(&self) -> usize {
        self.router.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn the_best_of_several_is_taken_and_kept_and_not_asked_for_again_within_its_ttl() {
    let story = story();
    let (old, new) = (story.record(1, 3600), story.record(2, 3600));
    story.say(&[(0, &old), (50, &new), (0, &old)]);
    assert_eq!(story.best().await, Some(2));
    assert_eq!(story.records.get(&story.key).unwrap().unwrap().sequence(), 2);
    assert_eq!(story.best().await, Some(2));
    assert_eq!(story.asked(), 1);
}

#[tokio::test]
async fn an_older_record_never_takes_the_place_of_the_one_that_is_held() {
    let story = story();
    let (old, held) = (story.record(1, 60), story.record(5, 60));
    story.records.put(&story.key, held).await.unwrap();
    story.say(&[(0, &old)]);
    assert_eq!(story.best().await, Some(5));
    assert_eq!(story.records.get(&story.key).unwrap().unwrap().sequence(), 5);
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_lookup_and_nothing_is_remembered_for_a_while() {
    let story = story();
    let asks = (0..50).map(|_| story.best());
    let all = futures_util::future::join_all(asks).await;
    assert!(all.iter().all(Option::is_none));
    assert_eq!(story.best().await, None);
    assert_eq!(story.asked(), 1);
    assert!(story.lookups.flights().is_empty());
}

#[tokio::test]
async fn forged_records_and_those_of_others_count_for_nothing() {
    let story = story();
    let other = Keypair::ed25519_from_bytes([9; 32]).unwrap();
    let statement = Statement {
        value: Value::parse("/ipfs/bafkqaaa").unwrap(),
        sequence: 99,
        ttl: Duration::ZERO,
        eol: time::OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap(),
    };
    let (forged, good) = (statement.sign(&other).unwrap(), story.record(1, 60));
    let mut says: Vec<_> = (0..40).map(|_| (0, forged.bytes().clone())).collect();
    says.push((0, Bytes::from_static(b"nonsense")));
    says.push((10, good.bytes().clone()));
    *story.router.says.lock().unwrap() = says;
    assert_eq!(story.best().await, Some(1));
}

#[tokio::test]
async fn one_that_holds_is_given_when_a_newer_one_is_long_in_coming() {
    let story = story();
    let (held, newer) = (story.record(1, 60), story.record(2, 60));
    story.records.put(&story.key, held).await.unwrap();
    story.say(&[(2_500, &newer)]);
    assert_eq!(story.best().await, Some(1));
    // The lookup goes on, and the next who asks has the newer one.
    let waiting = async {
        while story.best().await != Some(2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    assert_eq!(story.asked(), 1);
}
