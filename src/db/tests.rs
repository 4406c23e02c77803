use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::PathBuf;

use super::*;

mod crash;
mod damage;
mod faults;

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

/// Keeps the writer busy until it is let go.
async fn hold(db: &Db) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let (running, is_running) = tokio::sync::oneshot::channel();
    let db = db.clone();
    let job = crate::task::Tasks::new().spawn(async move {
        let held = db.write(move |_| {
            let _ = running.send(());
            let _ = held.recv();
            Ok::<_, Error>(())
        });
        held.await.unwrap();
    });
    is_running.await.unwrap();
    (let_go, job)
}

#[tokio::test]
async fn what_is_queued_meanwhile_is_committed_together() {
    let place = Place::new();
    let metrics = metrics();
    let db = Db::open(&place.path(), &Config::default(), metrics.clone()).unwrap();
    let (let_go, held) = hold(&db).await;
    let writes = (0..100_u8).map(|n| {
        let db = db.clone();
        async move { put(&db, T, &[n], &[n]).await }
    });
    let writes = futures_util::future::join_all(writes);
    let (written, ()) = tokio::join!(writes, async { let_go.send(()).unwrap() });
    written.into_iter().for_each(Result::unwrap);
    held.await.unwrap();
    // The job that was held may end its batch by the time it took.
    assert!(metrics.commits.get() <= 2, "{}", metrics.commits.get());
    assert_eq!(metrics.jobs.get(), 101);
    assert!(metrics.file_bytes.get() > 0);
    assert_eq!(metrics.state.get(), State::Writable as i64);
}

#[tokio::test]
async fn jobs_nobody_waits_for_run_soon_and_are_dropped_when_there_are_too_many() {
    let place = Place::new();
    let db = place.open().unwrap();
    let (ran, has_run) = tokio::sync::oneshot::channel();
    assert!(db.write_later(move |t| {
        let _ = ran.send(());
        t.put(T, b"a", b"1")
    }));
    has_run.await.unwrap();
    let (let_go, held) = hold(&db).await;
    let taken = (0..2 * queue::LATER_JOBS_MAX).filter(|_| db.write_later(|_| Ok(()))).count();
    assert_eq!(taken, queue::LATER_JOBS_MAX);
    let_go.send(()).unwrap();
    held.await.unwrap();
}

#[tokio::test]
async fn writers_beyond_the_queue_wait_and_are_answered_when_it_closes() {
    let place = Place::new();
    let db = place.open().unwrap();
    let (let_go, held) = hold(&db).await;
    let writes = (0..queue::QUEUE_JOBS_MAX + 100).map(|n| {
        let db = db.clone();
        async move { put(&db, T, &n.to_be_bytes(), b"").await }
    });
    // Polled once, each of them goes as far as it can.
    let writes = futures_util::future::join_all(writes);
    let mut writes = Box::pin(tokio::task::unconstrained(writes));
    assert!(futures_util::poll!(&mut writes).is_pending());
    db.inner.queue.close();
    let_go.send(()).unwrap();
    held.await.unwrap();
    let written = writes.await;
    let good = written.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(good, queue::QUEUE_JOBS_MAX);
    assert!(
        written
            .iter()
            .all(|outcome| matches!(outcome, Ok(()) | Err(Error::Store(StoreError::Closed))))
    );
}

#[tokio::test]
async fn what_is_dropped_without_closing_still_commits() {
    let place = Place::new();
    let db = place.open().unwrap();
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    let inside = db.clone();
    assert!(db.write_later(move |t| {
        // The last handle goes on the writer's own thread.
        drop(inside);
        t.put(T, b"a", b"1")?;
        let _ = ended.send(());
        Ok(())
    }));
    drop(db);
    has_ended.await.unwrap();
    let db = loop {
        match place.open() {
            Ok(db) => break db,
            Err(Error::InUse) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(db.read().unwrap().get(T, b"a").unwrap().is_some());
}

#[tokio::test]
async fn a_job_of_many_rows_is_whole() {
    let place = Place::new();
    let db = place.open().unwrap();
    let rows = 100_000_u32;
    db.write(move |t| (0..rows).try_for_each(|n| t.put(T, &n.to_be_bytes(), &[7; 16])))
        .await
        .unwrap();
    let read = db.read().unwrap();
    assert_eq!(read.len(T).unwrap(), u64::from(rows));
    assert_eq!(read.range(T, Unbounded, Unbounded).unwrap().count(), rows as usize);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let place = Place::new();
    let db = place.open().unwrap();
    put(&db, META, SCHEMA_KEY, &(SCHEMA + 1).to_le_bytes()).await.unwrap();
    db.close().unwrap();
    let refused = place.open().unwrap_err();
    assert!(matches!(refused, Error::Newer { found: 2, known: 1 }), "{refused}");
}

#[tokio::test]
async fn it_is_made_whole_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    // What a crash left of an earlier attempt, which is no reason to fail.
    std::fs::write(file::beside(&place.path(), "new"), b"half a file").unwrap();
    let db = place.open().unwrap();
    put(&db, T, b"a", b"1").await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(place.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    names.sort();
    assert_eq!(names, [("db".into(), 0o600), ("db.reserve".into(), 0o600)]);
}
