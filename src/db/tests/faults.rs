//! Disks that are full, and disks that fail.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::crash::{job, jobs_held};
use super::*;
use crate::testing::faults::{Call, Faulty, Rule};

/// Jobs of one script.
const JOBS: u64 = 6;

fn open(place: &Place, rule: &Rule) -> Result<Db, Error> {
    let rule = Arc::clone(rule);
    let disk = move |file| -> Box<dyn Disk> { Box::new(Faulty::new(file, Arc::clone(&rule))) };
    Db::open_with(&place.path(), &Config::default(), metrics(), disk)
}

/// A rule that fails the call of this number among the changing ones, and counts them.
fn fail_once(at: usize, count: &Arc<AtomicUsize>, error: io::ErrorKind) -> Rule {
    let count = Arc::clone(count);
    Arc::new(move |call| match call {
        Call::Read => Ok(()),
        _ if count.fetch_add(1, Ordering::SeqCst) == at => Err(error.into()),
        _ => Ok(()),
    })
}

/// A new database, copied from the first one that was made.
fn new_place() -> Place {
    static NEW: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let place = Place::new();
    let bytes = NEW.get_or_init(|| {
        place.open().unwrap().close().unwrap();
        std::fs::read(place.path()).unwrap()
    });
    std::fs::write(place.path(), bytes).unwrap();
    place
}

/// How many calls change the file in the script.
async fn calls() -> usize {
    let count = Arc::default();
    let place = new_place();
    let db = open(&place, &fail_once(usize::MAX, &count, io::ErrorKind::Other)).unwrap();
    for n in 0..JOBS {
        job(&db, n).await.unwrap();
    }
    let calls = count.load(Ordering::SeqCst);
    println!("{calls} calls");
    calls
}

#[tokio::test]
async fn after_any_call_that_fails_it_is_read_only_and_loses_nothing() {
    for at in 0..calls().await {
        let place = new_place();
        let count = Arc::default();
        // It fails once only: what then seems to work must not be trusted either.
        let Ok(db) = open(&place, &fail_once(at, &count, io::ErrorKind::Other)) else {
            place.open().unwrap();
            continue;
        };
        let mut good = 0;
        while good < JOBS && job(&db, good).await.is_ok() {
            good += 1;
        }
        assert!(good < JOBS, "call {at} did not fail");
        let refused = job(&db, good).await.unwrap_err();
        assert!(matches!(refused, Error::Store(StoreError::ReadOnly(_))), "{refused}");
        assert_eq!(jobs_held(&db), good, "readers keep the last commit");
        let _ = db.close();
        let db = place.open().unwrap();
        let held = jobs_held(&db);
        // The job that failed was told so, but may be there: its last sync failed.
        assert!(held == good || held == good + 1, "{held} jobs, {good} were acknowledged");
    }
}

#[tokio::test]
async fn when_the_disk_is_full_the_reserve_lets_the_commit_end() {
    for at in 0..calls().await {
        let place = new_place();
        let count = Arc::default();
        let rule = fail_once(at, &count, io::ErrorKind::StorageFull);
        let syncs = Arc::new(AtomicBool::new(false));
        let rule: Rule = {
            let syncs = Arc::clone(&syncs);
            Arc::new(move |call| {
                let outcome = rule(call);
                // A sync that fails is not to be retried, whatever the error says.
                syncs.fetch_or(outcome.is_err() && call == Call::Sync, Ordering::SeqCst);
                outcome
            })
        };
        let Ok(db) = open(&place, &rule) else { continue };
        for n in 0..JOBS {
            match job(&db, n).await {
                Ok(()) => {}
                Err(_) if syncs.load(Ordering::SeqCst) => break,
                Err(error) => panic!("call {at}: {error}"),
            }
        }
        let held = jobs_held(&db);
        assert!(held == JOBS || syncs.load(Ordering::SeqCst));
        let _ = db.close();
        assert!(jobs_held(&place.open().unwrap()) >= held);
    }
}

#[tokio::test]
async fn writes_are_refused_until_there_is_a_reserve_again() {
    let place = new_place();
    let reserve = file::beside(&place.path(), "reserve");
    let full = Arc::new(AtomicBool::new(false));
    let rule: Rule = {
        let (full, reserve) = (Arc::clone(&full), reserve.clone());
        Arc::new(move |call| match call {
            Call::Write(_) if full.load(Ordering::SeqCst) && reserve.is_file() => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Call::Sync if full.load(Ordering::SeqCst) && !reserve.exists() => {
                // Nobody makes a file here, as on a disk that is full.
                std::fs::create_dir(&reserve)
            }
            _ => Ok(()),
        })
    };
    let db = open(&place, &rule).unwrap();
    job(&db, 0).await.unwrap();
    assert_eq!(reserve.metadata().unwrap().len(), 64 << 10);
    full.store(true, Ordering::SeqCst);
    job(&db, 1).await.unwrap();
    let refused = job(&db, 2).await.unwrap_err();
    assert!(matches!(refused, Error::Store(StoreError::Full { .. })), "{refused}");
    assert_eq!(jobs_held(&db), 2);
    db.write_to_free(|t| t.remove(U, b"nothing")).await.unwrap();
    full.store(false, Ordering::SeqCst);
    std::fs::remove_dir(&reserve).unwrap();
    job(&db, 2).await.unwrap();
    assert_eq!(jobs_held(&db), 3);
}

#[tokio::test]
async fn a_disk_without_any_space_costs_the_commit_and_nothing_else() {
    for at in 0..calls().await {
        let place = new_place();
        let full = Arc::new(AtomicBool::new(true));
        let count = AtomicUsize::new(0);
        let rule: Rule = {
            let full = Arc::clone(&full);
            Arc::new(move |call| {
                // What is there can be written again, such as the first page; new space is not.
                let wants_space = matches!(call, Call::Write(4096..) | Call::SetLen(_));
                let late = count.fetch_add(1, Ordering::SeqCst) >= at;
                match full.load(Ordering::SeqCst) && wants_space && late {
                    true => Err(io::ErrorKind::StorageFull.into()),
                    false => Ok(()),
                }
            })
        };
        let db = open(&place, &rule).unwrap();
        let mut good = 0;
        while good < JOBS && job(&db, good).await.is_ok() {
            good += 1;
        }
        if good < JOBS {
            assert_eq!(jobs_held(&db), good);
            let refused = db.write_to_free(|t| t.put(T, b"x", &[7; 9000])).await.unwrap_err();
            assert!(matches!(refused, Error::Store(StoreError::Full { .. })), "{refused}");
        }
        full.store(false, Ordering::SeqCst);
        for n in good..JOBS {
            job(&db, n).await.unwrap();
        }
        assert_eq!(jobs_held(&db), JOBS);
        db.close().unwrap();
        assert_eq!(jobs_held(&place.open().unwrap()), JOBS);
    }
}

#[tokio::test]
async fn a_commit_that_was_durable_before_the_disk_ran_full_is_no_failure() {
    let place = new_place();
    let armed = Arc::new(AtomicBool::new(false));
    let syncs = Arc::new(AtomicUsize::new(0));
    let rule: Rule = {
        let (armed, syncs) = (Arc::clone(&armed), Arc::clone(&syncs));
        Arc::new(move |call| {
            syncs.fetch_add(usize::from(call == Call::Sync), Ordering::SeqCst);
            // The second sync of a commit makes it durable; then the file is cut.
            let durable = armed.load(Ordering::SeqCst) && syncs.load(Ordering::SeqCst) >= 2;
            match (call, durable) {
                (Call::SetLen(_), true) => {
                    armed.store(false, Ordering::SeqCst);
                    Err(io::ErrorKind::StorageFull.into())
                }
                _ => Ok(()),
            }
        })
    };
    let db = open(&place, &rule).unwrap();
    // Without its reserve, it cannot try again.
    let reserve = file::beside(&place.path(), "reserve");
    put(&db, T, b"big", &vec![7; VALUE_BYTES_MAX]).await.unwrap();
    let mut failed = false;
    for n in 0..9_u8 {
        let _ = std::fs::remove_file(&reserve);
        syncs.store(0, Ordering::SeqCst);
        armed.store(true, Ordering::SeqCst);
        let written = db.write(move |t| t.remove(T, b"big").and_then(|()| t.put(U, &[n], b"")));
        written.await.unwrap();
        failed |= !armed.load(Ordering::SeqCst);
        assert!(db.read().unwrap().get(U, &[n]).unwrap().is_some());
    }
    assert!(failed, "the file was never cut");
}

#[tokio::test]
async fn a_page_that_cannot_be_read_fails_those_who_need_it() {
    let place = new_place();
    let db = place.open().unwrap();
    db.write(|t| (0..5000).try_for_each(|n: u32| t.put(T, &n.to_be_bytes(), &[7; 100])))
        .await
        .unwrap();
    db.close().unwrap();
    let bad = Arc::new(AtomicBool::new(false));
    let rule: Rule = {
        let bad = Arc::clone(&bad);
        Arc::new(move |call| match call {
            // One read fails.
            Call::Read if bad.swap(false, Ordering::SeqCst) => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        })
    };
    // Without a cache, so that pages are read when they are needed.
    let disk = move |file| -> Box<dyn Disk> { Box::new(Faulty::new(file, Arc::clone(&rule))) };
    let config = Config { cache_bytes_max: 0 };
    let db = Db::open_with(&place.path(), &config, metrics(), disk).unwrap();
    let read = db.read().unwrap();
    bad.store(true, Ordering::SeqCst);
    let told = read.get(T, &4999_u32.to_be_bytes()).unwrap_err();
    assert!(matches!(told, Error::Damaged(_)), "{told}");
    assert!(read.get(T, &2500_u32.to_be_bytes()).unwrap().is_some());
    put(&db, T, &0_u32.to_be_bytes(), b"new").await.unwrap();
    assert!(read.get(T, &4999_u32.to_be_bytes()).unwrap().is_some(), "it can be read again");
    bad.store(true, Ordering::SeqCst);
    let told = db.write(|t| t.put(T, &4999_u32.to_be_bytes(), b"new")).await;
    assert!(matches!(told, Err(Error::Store(StoreError::ReadOnly(_)))), "{told:?}");
    assert!(read.get(T, &4999_u32.to_be_bytes()).unwrap().is_some());
}

#[test]
fn after_a_failure_the_engine_reads_what_it_wrote_and_the_file_stays() {
    let place = Place::new();
    std::fs::write(place.path(), [1; 9000]).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(place.path()).unwrap();
    let count = Arc::default();
    let disk = Faulty::new(file, fail_once(0, &count, io::ErrorKind::Other));
    let reserve = Arc::new(reserve::Reserve::new(file::beside(&place.path(), "reserve"), 0));
    let backend = Arc::new(backend::Backend::new(Box::new(disk), reserve));
    let shared = backend::Shared(Arc::clone(&backend));
    for (offset, byte) in [(4096, 2), (8192, 3)] {
        ::redb::StorageBackend::write(&shared, offset, &[byte; 4096]).unwrap();
        let mut out = [0; 4096];
        ::redb::StorageBackend::read(&shared, offset, &mut out).unwrap();
        assert_eq!(out, [byte; 4096]);
    }
    assert!(backend.error().is_some());
    assert_eq!(std::fs::read(place.path()).unwrap(), [1; 9000]);
    backend.retire();
    assert!(::redb::StorageBackend::read(&shared, 0, &mut [0]).is_err());
}

/// A small file system in memory, where this process may mount one.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(dir.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { dir })
    }

    fn fill(&self) -> io::Result<()> {
        let filler = self.dir.path().join("filler");
        let mut filler = std::fs::File::options().create(true).append(true).open(filler)?;
        loop {
            match io::Write::write_all(&mut filler, &[7; 4096]) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                outcome => outcome?,
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.dir.path()).output();
    }
}

#[tokio::test]
async fn a_small_file_system_runs_full_and_is_used_again() {
    let Some(small) = Small::mount() else {
        println!("SKIPPED: only root may mount a small file system");
        return;
    };
    let path = small.dir.path().join("db");
    let db = Db::open(&path, &Config::default(), metrics()).unwrap();
    job(&db, 0).await.unwrap();
    small.fill().unwrap();
    let mut good = 1;
    let refused = loop {
        match job(&db, good).await {
            Ok(()) => good += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Store(StoreError::Full { .. })), "{refused}");
    assert_eq!(jobs_held(&db), good);
    small.fill().unwrap();
    let copy = small.dir.path().join("copy");
    let refused = db.copy_to(&db.read().unwrap(), &copy).unwrap_err();
    assert!(matches!(refused, Error::Store(StoreError::Full { .. })), "{refused}");
    assert!(!copy.exists() && !file::beside(&copy, "new").exists());
    std::fs::remove_file(small.dir.path().join("filler")).unwrap();
    // More in one job than any reserve has.
    let big =
        db.write(|t| (0..400).try_for_each(|n: u32| t.put(T, &n.to_be_bytes(), &[7; 99_999])));
    let refused = big.await.unwrap_err();
    assert!(matches!(refused, Error::Store(StoreError::Full { .. })), "{refused}");
    assert_eq!(jobs_held(&db), good);
    for n in good..good + 20 {
        job(&db, n).await.unwrap();
    }
    assert_eq!(jobs_held(&db), good + 20);
    db.close().unwrap();
    let db = Db::open(&path, &Config::default(), metrics()).unwrap();
    assert_eq!(jobs_held(&db), good + 20);
}
