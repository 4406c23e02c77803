use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::*;
use crate::metrics::Registry;
use crate::routing::{Config, Metrics, Parts, RecordRouter};
use crate::task::Tasks;

/// Keeps what it was given, as a DHT would.
#[derive(Default)]
struct Fake(Mutex<Vec<bytes::Bytes>>);

/// Takes nothing, and has nothing.
struct Nobody;

impl RecordRouter for Nobody {
    fn records(&self, _: &Key, _: Instant) -> BoxStream<'static, bytes::Bytes> {
        stream::empty().boxed()
    }

    fn publish(&self, _: &Key, _: bytes::Bytes, _: Instant) -> BoxFuture<'static, usize> {
        std::future::ready(0).boxed()
    }
}

impl RecordRouter for Fake {
    fn records(&self, _: &Key, _: Instant) -> BoxStream<'static, bytes::Bytes> {
        stream::iter(self.0.lock().unwrap().clone()).boxed()
    }

    fn publish(&self, _: &Key, record: bytes::Bytes, _: Instant) -> BoxFuture<'static, usize> {
        self.0.lock().unwrap().push(record);
        std::future::ready(3).boxed()
    }
}

fn names<R: RecordRouter + 'static>(db: &Db, identity: &Keypair, router: &Arc<R>) -> Names {
    let (tasks, metrics) = (Tasks::new(), Metrics::register(&Registry::new()).unwrap());
    let parts = Parts::open(&Config::default(), true, db.clone(), &tasks, &metrics).unwrap();
    let routers: Vec<Arc<dyn RecordRouter>> = vec![router.clone()];
    let parts = parts.asking(routers, &tasks, &metrics).signing(Some(identity.clone()));
    Names::new(parts, metrics)
}

/// A database, as long as its folder lives.
fn database(folder: &tempfile::TempDir) -> Db {
    let metrics = db::Metrics::register(&Registry::new()).unwrap();
    Db::open(&folder.path().join("db"), &db::Config::default(), metrics).unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_is_published_is_newer_than_all_before_and_is_published_again() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder);
    let identity = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let router = Arc::new(Fake::default());

    // Another node with the same key was here before.
    let value = |text: &str| Value::parse(text).unwrap();
    let eol = OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
    let before = Statement { value: value("/ipfs/bafkqaaa/a"), sequence: 4, ttl: HOUR, eol };
    router.0.lock().unwrap().push(before.sign(&identity).unwrap().bytes().clone());

    let publishing = names(&db, &identity, &router);
    let done = publishing.publish(value("/ipfs/bafkqaaa/b"), 2 * HOUR, HOUR).await.unwrap();
    assert_eq!((done.record.sequence(), done.taken), (5, 3));
    let done = publishing.publish(value("/ipfs/bafkqaaa/c"), HOUR, HOUR).await.unwrap();
    assert_eq!(done.record.sequence(), 6);

    // After a restart the same record is given again, as most of its life is to come.
    let again = names(&db, &identity, &router);
    again.publish_again().await.unwrap();
    assert_eq!(router.0.lock().unwrap().last(), Some(done.record.bytes()));

    // One that has less than half of its life is signed anew, and says the same.
    let publisher = again.publisher().unwrap().clone();
    let row = 3 * HOUR;
    publisher.keep(&done.key, Some(row)).await.unwrap();
    again.publish_again().await.unwrap();
    let renewed = again.record(&done.key).unwrap();
    assert!(renewed.eol() > done.record.eol() && renewed.value() == done.record.value());
    assert_eq!(router.0.lock().unwrap().last(), Some(renewed.bytes()));
}

#[tokio::test]
async fn a_record_that_is_put_is_given_to_the_routers_once_and_kept_where_nobody_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder);
    let (own, others) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let key = Key::of(&others.public()).unwrap();
    let eol = OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
    let record = |sequence| {
        let value = Value::parse("/ipfs/bafkqaaa").unwrap();
        let signed = Statement { value, sequence, ttl: HOUR, eol }.sign(&others).unwrap();
        signed.bytes().clone()
    };

    let unheard = names(&db, &own, &Arc::new(Nobody));
    let (given, put) = unheard.put_and_give(&key, record(1)).await.unwrap();
    assert_eq!((given.taken, put), (0, Put::Kept));
    assert_eq!(unheard.record(&key).unwrap().sequence(), 1);

    let router = Arc::new(Fake::default());
    let heard = names(&db, &own, &router);
    let (given, put) = heard.put_and_give(&key, record(2)).await.unwrap();
    assert_eq!((given.taken, put), (3, Put::Kept));
    assert_eq!(*router.0.lock().unwrap(), [record(2)]);
    // What is refused here goes nowhere else, and what was put once is its owner's to put again.
    assert!(matches!(heard.put_and_give(&key, record(1)).await, Err(Error::Older { .. })));
    heard.publish_again().await.unwrap();
    assert_eq!(router.0.lock().unwrap().len(), 1);
}
