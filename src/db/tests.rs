use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::PathBuf;

use super::*;

const T: Table = Table::new("t");
const U: Table = Table::new("u");

fn metrics() -> Metrics {
    Metrics::register(&crate::metrics::Registry::new()).unwrap()
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    fn open(&self) -> Result<Db, Error> {
        Db::open(&self.path(), &Config::default(), metrics())
    }
}

async fn put(db: &Db, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
    let (key, value) = (key.to_vec(), value.to_vec());
    db.write(move |t| t.put(table, &key, &value)).await
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let place = Place::new();
    let db = place.open().unwrap();
    put(&db, T, b"a", b"1").await.unwrap();
    assert_eq!(db.read().unwrap().get(T, b"a").unwrap(), Some(b"1".to_vec()));
    db.close().unwrap();
    let db = place.open().unwrap();
    assert_eq!(db.read().unwrap().get(T, b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(db.read().unwrap().get(U, b"a").unwrap(), None);
    assert_eq!(db.read().unwrap().len(T).unwrap(), 1);
    assert_eq!(db.read().unwrap().len(U).unwrap(), 0);
}

#[tokio::test]
async fn a_job_that_fails_or_panics_leaves_nothing_and_others_go_on() {
    let place = Place::new();
    let db = place.open().unwrap();
    let failing = db.write(|t| {
        t.put(T, b"a", b"1")?;
        Err::<(), Error>(Error::TooLong(7))
    });
    let panicking = db.write(|t| -> Result<(), Error> {
        t.put(T, b"b", b"1")?;
        panic!("a planted panic")
    });
    let good = put(&db, T, b"c", b"1");
    let (failing, panicking, good) = tokio::join!(failing, panicking, good);
    assert!(matches!(failing, Err(Error::TooLong(7))));
    assert!(matches!(panicking, Err(Error::Panicked)));
    good.unwrap();
    let rows: Vec<_> =
        db.read().unwrap().range(T, Unbounded, Unbounded).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, [(b"c".to_vec(), b"1".to_vec())]);
}

#[tokio::test]
async fn a_job_sees_what_it_and_the_jobs_before_it_changed() {
    let place = Place::new();
    let db = place.open().unwrap();
    put(&db, T, b"a", b"1").await.unwrap();
    let counted = db
        .write(|t| {
            t.put(T, b"b", b"2")?;
            t.remove(T, b"a")?;
            assert_eq!(t.get(T, b"a")?, None);
            t.rows(T, Unbounded, 9)
        })
        .await;
    assert_eq!(counted.unwrap(), [(b"b".to_vec(), b"2".to_vec())]);
}

#[tokio::test]
async fn a_snapshot_stays_as_it_was() {
    let place = Place::new();
    let db = place.open().unwrap();
    put(&db, T, b"a", b"1").await.unwrap();
    let before = db.read().unwrap();
    put(&db, T, b"a", b"2").await.unwrap();
    assert_eq!(before.get(T, b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(db.read().unwrap().get(T, b"a").unwrap(), Some(b"2".to_vec()));
}

#[tokio::test]
async fn rows_come_in_order_from_both_ends() {
    let place = Place::new();
    let db = place.open().unwrap();
    for key in 0..9_u8 {
        put(&db, T, &[key], &[]).await.unwrap();
    }
    let read = db.read().unwrap();
    let keys = |from, to| -> Vec<u8> {
        read.range(T, from, to).unwrap().map(|row| row.unwrap().0[0]).collect()
    };
    assert_eq!(keys(Included(&[2][..]), Excluded(&[5][..])), [2, 3, 4]);
    assert_eq!(keys(Excluded(&[6][..]), Unbounded), [7, 8]);
    assert_eq!(keys(Included(&[5][..]), Excluded(&[2][..])), [0_u8; 0]);
    let mut both = read.range(T, Unbounded, Unbounded).unwrap();
    assert_eq!(both.next_back().unwrap().unwrap().0, [8]);
    assert_eq!(both.next().unwrap().unwrap().0, [0]);
}

#[tokio::test]
async fn closing_commits_what_is_queued_and_takes_no_more() {
    let place = Place::new();
    let db = place.open().unwrap();
    assert!(db.write_later(|t| t.put(T, b"later", b"")));
    db.close().unwrap();
    db.close().unwrap();
    let refused = put(&db, T, b"a", b"1").await;
    assert!(matches!(refused, Err(Error::Store(StoreError::Closed))));
    assert!(!db.write_later(|_| Ok(())));
    assert!(matches!(db.read(), Err(Error::Store(StoreError::Closed))));
    let db = place.open().unwrap();
    assert!(db.read().unwrap().get(T, b"later").unwrap().is_some());
}

#[tokio::test]
async fn a_copy_holds_the_snapshot() {
    let place = Place::new();
    let db = place.open().unwrap();
    put(&db, T, b"a", b"1").await.unwrap();
    let snapshot = db.read().unwrap();
    put(&db, T, b"a", b"2").await.unwrap();
    let copy = place.dir.path().join("copy");
    db.copy_to(&snapshot, &copy).unwrap();
    assert!(db.copy_to(&snapshot, &copy).is_err());
    let copy = Db::open(&copy, &Config::default(), metrics()).unwrap();
    assert_eq!(copy.read().unwrap().get(T, b"a").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn it_is_opened_once() {
    let place = Place::new();
    let db = place.open().unwrap();
    assert!(matches!(place.open(), Err(Error::InUse)));
    db.close().unwrap();
    place.open().unwrap();
}
