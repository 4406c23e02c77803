use std::sync::atomic::Ordering;
use std::sync::mpsc;

use super::fixture::{Fixture, Rng, block, blocks, open_db, pin};
use crate::block::{Block, Blockstore as _};
use crate::blockstore::{Config, Metrics, Store};
use crate::db::{Db, Error};

async fn assert_readable(store: &Store, blocks: &[Block]) {
    for block in blocks {
        assert_eq!(store.get(block.cid()).await.unwrap().as_ref(), Some(block));
    }
}

#[tokio::test]
async fn a_block_that_a_writer_found_is_not_collected() {
    let mut fixture = Fixture::new();
    let store = fixture.store();
    let found = blocks(0, 10, 500);
    store.put_many(found.clone()).await.unwrap();
    store.gc(false).await.unwrap();
    let written = store.inner.metrics.written_blocks.get();
    let mut writing = store.begin().await.unwrap();
    writing.put(found.clone()).await.unwrap();
    assert_eq!(store.inner.metrics.written_blocks.get(), written, "it was written twice");
    assert_eq!(store.gc(true).await.unwrap().blocks, 0);
    writing.pin(*found[0].cid(), |_| Ok(())).await.unwrap();
    drop(store);
    fixture.crash();
    assert_readable(&fixture.store(), &found).await;
}

/// Queues a job that stops the writer of the database until the sender is dropped; the receiver
/// hears when it runs.
fn block_writer(db: &Db) -> (mpsc::Sender<()>, tokio::sync::oneshot::Receiver<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let (runs, running) = tokio::sync::oneshot::channel();
    let db = db.clone();
    let job = async move {
        db.write(move |_| {
            runs.send(()).ok();
            wait.recv().ok();
            Ok::<_, Error>(())
        })
        .await
    };
    crate::task::Tasks::new().spawn(job);
    (go, running)
}

#[tokio::test]
async fn a_block_that_is_being_evicted_is_written_again() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cached = blocks(0, 10, 500);
    store.put_many(cached.clone()).await.unwrap();
    store.gc(false).await.unwrap();
    // The eviction has run, and its transaction is not committed.
    let (first, running) = block_writer(&fixture.db());
    running.await.unwrap();
    let tasks = crate::task::Tasks::new();
    let collector = store.clone();
    let collecting = tasks.spawn(async move { collector.gc(true).await });
    while store.inner.collecting.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    let (second, running) = block_writer(&fixture.db());
    tokio::task::yield_now().await;
    drop(first);
    running.await.unwrap();
    assert!(store.inner.holds.is_going());
    let mut writing = store.begin().await.unwrap();
    writing.put(cached.clone()).await.unwrap();
    drop(second);
    assert_eq!(collecting.await.unwrap().unwrap().blocks, 10);
    writing.pin(*cached[0].cid(), |_| Ok(())).await.unwrap();
    assert_readable(&store, &cached).await;
    assert!(store.fsck(false).await.unwrap().ok);
}

#[tokio::test]
async fn a_collection_that_nobody_waits_for_does_not_stop_the_next() {
    let fixture = Fixture::new();
    let store = fixture.store();
    store.put_many(blocks(0, 10, 500)).await.unwrap();
    store.gc(false).await.unwrap();
    let (go, running) = block_writer(&fixture.db());
    running.await.unwrap();
    {
        let mut gc = std::pin::pin!(store.gc(true));
        assert!(futures_util::poll!(&mut gc).is_pending());
    }
    drop(go);
    let again = blocks(0, 10, 500);
    pin(&store, &again).await;
    store.gc(true).await.unwrap();
    assert!(!store.inner.holds.is_going());
    assert_readable(&store, &again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_at_once() {
    let mut fixture = Fixture::new();
    fixture.config.cache_bytes_max = 30_000;
    fixture.crash();
    let store = fixture.store();
    let kept = blocks(1_000_000, 50, 2000);
    let root = pin(&store, &kept).await;
    let tasks = crate::task::Tasks::new();
    let stop = tasks.stop_token();
    let mut all = Vec::new();
    for task in 0..3_u64 {
        let store = store.clone();
        all.push(tasks.spawn(async move {
            let mut rng = Rng::new(task);
            for _ in 0..40 {
                // Shared with the other writers, so that blocks come and go under them.
                let mine = blocks(rng.below(60), rng.below(30) + 1, 900);
                let mut writing = store.begin().await.unwrap();
                writing.put(mine.clone()).await.unwrap();
                if rng.below(4) == 0 {
                    continue;
                }
                // A root of its own, so that no other task removes this pin.
                let root = block(10_000 + task, 100);
                writing.put(vec![root.clone()]).await.unwrap();
                writing.pin(*root.cid(), |_| Ok(())).await.unwrap();
                assert_readable(&store, &mine).await;
                assert!(store.unpin(root.cid()).await.unwrap());
            }
        }));
    }
    let maintainer = tasks.spawn(store.clone().maintain(stop));
    let (collector, reader, read) = (store.clone(), store.clone(), kept.clone());
    all.push(tasks.spawn(async move {
        for n in 0..30 {
            collector.gc(n % 2 == 0).await.unwrap();
        }
    }));
    all.push(tasks.spawn(async move {
        for _ in 0..30 {
            assert_readable(&reader, &read).await;
        }
    }));
    let checker = store.clone();
    all.push(tasks.spawn(async move {
        for _ in 0..5 {
            let report = checker.fsck(false).await.unwrap();
            assert!(report.ok, "{report:?}");
        }
    }));
    let (copier, dir) = (store.clone(), fixture.directory().join("backup"));
    let copied = dir.clone();
    all.push(tasks.spawn(async move { copier.backup(dir).await.unwrap() }));
    for task in all {
        task.await.unwrap();
    }
    assert!(tasks.stop(std::time::Duration::from_secs(10)).await);
    maintainer.await.unwrap();
    store.gc(true).await.unwrap();
    assert!(store.pinned(&root).unwrap().is_some());
    assert_eq!(store.stats().unwrap().blocks, 50);
    drop(store);
    fixture.crash();
    assert_readable(&fixture.store(), &kept).await;
    assert!(fixture.store().fsck(false).await.unwrap().ok);

    let db = open_db(&copied.join("db.redb"));
    let metrics = Metrics::register(&crate::metrics::Registry::new()).unwrap();
    let backup = Store::open(&copied.join("segments"), db, &Config::default(), metrics).unwrap();
    let report = backup.fsck(false).await.unwrap();
    assert!(report.ok, "{report:?}");
    assert_readable(&backup, &kept).await;
}

#[tokio::test]
async fn a_backup_is_only_made_where_nothing_is_and_leaves_nothing_when_it_fails() {
    let fixture = Fixture::new();
    let store = fixture.store();
    pin(&store, &blocks(0, 30, 1000)).await;
    let dir = fixture.directory().join("backup");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("mine"), b"").unwrap();
    assert!(store.backup(dir.clone()).await.is_err());
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    std::fs::remove_file(dir.join("mine")).unwrap();
    store.backup(dir.clone()).await.unwrap();
    assert!(store.backup(dir).await.is_err());

    let (segment, _) = store.inner.segments.active_segment().unwrap();
    std::fs::remove_file(store.inner.segments.disk().path(segment)).unwrap();
    let dir = fixture.directory().join("failed");
    assert!(store.backup(dir.clone()).await.is_err());
    assert!(!dir.exists());
}

#[tokio::test]
async fn segments_that_somebody_copies_stay() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let root = pin(&store, &blocks(0, 100, 1000)).await;
    let before = store.stats().unwrap().disk_bytes;
    let copying = store.inner.removing.lock().await;
    store.unpin(&root).await.unwrap();
    let report = store.gc(true).await.unwrap();
    assert_eq!((report.blocks, report.freed_bytes), (100, 0));
    let files = std::fs::read_dir(fixture.segments_dir()).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(bytes, before);
    // A backup waits for its turn, and then has it.
    let mut backup = std::pin::pin!(store.backup(fixture.directory().join("backup")));
    assert!(futures_util::poll!(&mut backup).is_pending());
    drop(copying);
    backup.await.unwrap();
    assert_eq!(store.gc(true).await.unwrap().freed_bytes, before);
}

#[tokio::test]
async fn least_recently_used_blocks_go_first() {
    let mut fixture = Fixture::new();
    fixture.config.cache_bytes_max = 10_000;
    fixture.crash();
    let store = fixture.store();
    for n in 0..20 {
        store.put_many(vec![block(n, 1000)]).await.unwrap();
        store.inner.flush().await.unwrap();
        fixture.world.now.fetch_add(1, Ordering::SeqCst);
    }
    // One of the oldest is read, later than the coarse clock of use can miss.
    fixture.world.now.fetch_add(4000, Ordering::SeqCst);
    assert!(store.get(block(3, 1000).cid()).await.unwrap().is_some());
    fixture.db().write(|_| Ok::<_, Error>(())).await.unwrap();
    let report = store.gc(false).await.unwrap();
    assert_eq!((report.blocks, report.bytes), (10, 10_000));
    for n in 0..20 {
        let there = store.has(block(n, 1000).cid()).await.unwrap();
        assert_eq!(there, n == 3 || n >= 11, "block {n}");
    }
}

#[tokio::test]
async fn a_pin_that_nobody_waits_for_any_more_is_not_made() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let given_up = blocks(100, 5, 500);
    let mut writing = store.begin().await.unwrap();
    writing.put(given_up.clone()).await.unwrap();
    // Syncs what the other one wrote as well, which then has only to commit.
    pin(&store, &blocks(0, 5, 500)).await;
    let (go, running) = block_writer(&fixture.db());
    running.await.unwrap();
    {
        let mut pin = std::pin::pin!(writing.pin(*given_up[0].cid(), |_| Ok(())));
        assert!(futures_util::poll!(&mut pin).is_pending());
    }
    drop(go);
    fixture.db().write(|_| Ok::<_, Error>(())).await.unwrap();
    assert_eq!(store.pins(None, 10).unwrap().len(), 1);
    assert!(!store.has(given_up[0].cid()).await.unwrap());
}

#[tokio::test]
async fn a_reader_whose_segment_was_compacted_meanwhile_looks_again() {
    let mut fixture = Fixture::new();
    let (kept, dropped) = (blocks(0, 10, 500), blocks(100, 60, 1000));
    let root = pin(&fixture.store(), &dropped[..30]).await;
    pin(&fixture.store(), &kept).await;
    let other = pin(&fixture.store(), &dropped[30..]).await;
    // The active segment alone is open now; another one has to be opened by whoever may wait.
    fixture.crash();
    let store = fixture.store();
    let waiting = store.inner.reads.acquire_many(crate::blockstore::READS_MAX as u32).await;
    let mut read = std::pin::pin!(store.get(kept[0].cid()));
    assert!(futures_util::poll!(&mut read).is_pending());
    for root in [root, other] {
        assert!(store.unpin(&root).await.unwrap());
    }
    assert!(store.gc(true).await.unwrap().freed_bytes > 60_000);
    drop(waiting);
    assert_eq!(read.await.unwrap().as_ref(), Some(&kept[0]));
}
