use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use super::fixture::{Fixture, block, blocks, pin};
use crate::block::{Block, Blockstore as _, StoreError};
use crate::blockstore::index;
use crate::blockstore::record::Key;
use crate::db::Error;

#[tokio::test]
async fn a_flipped_byte_is_found_and_never_served_and_mended_by_writing_again() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let only = block(7, 40);
    pin(&store, std::slice::from_ref(&only)).await;
    let path = store.inner.segments.disk().path(0);
    let intact = std::fs::read(&path).unwrap();
    for (at, byte) in intact.iter().enumerate() {
        let mut fixture = Fixture::new();
        pin(&fixture.store(), std::slice::from_ref(&only)).await;
        let file = std::fs::File::options()
            .write(true)
            .open(fixture.segments_dir().join("00000000.seg"))
            .unwrap();
        file.write_all_at(&[byte ^ 0x10], at as u64).unwrap();
        let store = fixture.store();
        for _ in 0..2 {
            assert_eq!(store.get(only.cid()).await.unwrap(), None, "byte {at}");
        }
        assert!(!store.has(only.cid()).await.unwrap());
        assert_eq!(store.inner.metrics.corrupt_records.get(), 1);
        pin(&store, &[only.clone(), block(8, 10)]).await;
        drop(store);
        fixture.crash();
        assert_eq!(fixture.store().get(only.cid()).await.unwrap().as_ref(), Some(&only));
        assert!(fixture.store().fsck(false).await.unwrap().ok);
    }
}

#[tokio::test]
async fn what_follows_the_recorded_length_is_cut() {
    let mut fixture = Fixture::new();
    let first = blocks(0, 5, 100);
    pin(&fixture.store(), &first).await;
    let path = fixture.segments_dir().join("00000000.seg");
    let length = std::fs::metadata(&path).unwrap().len();
    let torn = std::fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &torn, &[0xe5; 1000]).unwrap();
    std::fs::write(fixture.segments_dir().join("00000009.seg"), b"unknown").unwrap();
    std::fs::write(fixture.segments_dir().join("notes.txt"), b"not ours").unwrap();
    fixture.crash();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    assert!(!fixture.segments_dir().join("00000009.seg").exists());
    assert!(fixture.segments_dir().join("notes.txt").exists());
    let second = blocks(100, 5, 100);
    pin(&fixture.store(), &second).await;
    fixture.crash();
    for block in first.iter().chain(&second) {
        assert_eq!(fixture.store().get(block.cid()).await.unwrap().as_ref(), Some(block));
    }
}

#[tokio::test]
async fn segments_are_not_taken_for_rubbish_when_the_database_is_another_one() {
    let fixture = Fixture::new();
    pin(&fixture.store(), &blocks(0, 5, 100)).await;
    let db = super::fixture::open_db(&fixture.directory().join("other.redb"));
    let metrics = crate::blockstore::Metrics::register(&crate::metrics::Registry::new()).unwrap();
    let dir = fixture.segments_dir();
    let opened = crate::blockstore::Store::open(&dir, db, &fixture.config, metrics);
    assert!(opened.unwrap_err().to_string().contains("restore the database"));
    assert!(dir.join("00000000.seg").exists());
}

async fn put(fixture: &Fixture, blocks: &[Block]) -> Result<(), StoreError> {
    let mut writing = fixture.store().begin().await?;
    for part in blocks.chunks(3) {
        writing.put(part.to_vec()).await?;
    }
    writing.pin(*blocks[0].cid(), |_| Ok(())).await.map(|_| ())
}

#[tokio::test]
async fn a_full_disk_refuses_writes_wherever_it_fills_up_and_goes_on_when_there_is_room() {
    for room in [0, 1, 500, 3000, 10_000, 40_000, 80_000] {
        let mut fixture = Fixture::new();
        let there = blocks(0, 10, 500);
        put(&fixture, &there).await.unwrap();
        fixture.world.room.store(room, Ordering::SeqCst);
        let refused = put(&fixture, &blocks(100, 100, 1000)).await;
        assert!(matches!(refused, Err(StoreError::Full { .. })), "room {room}: {refused:?}");
        // What was torn has given its space back.
        let files = std::fs::read_dir(fixture.segments_dir()).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(bytes, fixture.store().stats().unwrap().disk_bytes);
        for block in &there {
            assert_eq!(fixture.store().get(block.cid()).await.unwrap().as_ref(), Some(block));
        }
        fixture.store().gc(false).await.unwrap();
        fixture.world.room.store(u64::MAX, Ordering::SeqCst);
        let more = blocks(200, 100, 1000);
        put(&fixture, &more).await.unwrap();
        fixture.crash();
        for block in there.iter().chain(&more) {
            assert_eq!(fixture.store().get(block.cid()).await.unwrap().as_ref(), Some(block));
        }
        let report = fixture.store().fsck(false).await.unwrap();
        assert!(report.ok, "{report:?}");
        fixture.store().gc(true).await.unwrap();
        assert_eq!(fixture.store().stats().unwrap().blocks, 110);
    }
}

#[tokio::test]
async fn the_floor_of_free_space_is_left_alone() {
    let mut fixture = Fixture::new();
    fixture.config.free_bytes_min = 1 << 20;
    fixture.crash();
    fixture.world.room.store((1 << 20) + 1000, Ordering::SeqCst);
    let refused = put(&fixture, &blocks(0, 10, 500)).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_sync_that_fails_makes_the_store_read_only_and_nothing_is_acknowledged_again() {
    for good in 0..8 {
        let mut fixture = Fixture::new();
        let there = blocks(0, 10, 500);
        put(&fixture, &there).await.unwrap();
        fixture.world.syncs.store(good, Ordering::SeqCst);
        let mut acknowledged = Vec::new();
        let mut refused = None;
        for n in 1..20 {
            let more = blocks(n * 100, 20, 900);
            match put(&fixture, &more).await {
                Ok(()) => acknowledged.extend(more),
                Err(error) => refused = refused.or(Some(error)),
            }
            // Whatever the disk says now: pages may be lost.
            if refused.is_some() {
                fixture.world.syncs.store(u64::MAX, Ordering::SeqCst);
                let error = put(&fixture, &blocks(9000, 2, 10)).await.unwrap_err();
                assert!(matches!(error, StoreError::ReadOnly(_)), "{error:?}");
            }
        }
        assert!(matches!(refused, Some(StoreError::ReadOnly(_))), "{refused:?}");
        for block in there.iter().chain(&acknowledged) {
            assert_eq!(fixture.store().get(block.cid()).await.unwrap().as_ref(), Some(block));
        }
        fixture.crash();
        put(&fixture, &blocks(9000, 2, 10)).await.unwrap();
        assert!(fixture.store().fsck(false).await.unwrap().ok);
    }
}

#[tokio::test]
async fn a_put_that_fails_or_is_given_up_is_never_pinned() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let mut writing = store.begin().await.unwrap();
    {
        let mut put = std::pin::pin!(writing.put(blocks(0, 50, 1000)));
        assert!(futures_util::poll!(&mut put).is_pending());
    }
    assert!(writing.put(blocks(0, 1, 10)).await.is_err());
    assert!(writing.pin(*block(0, 1000).cid(), |_| Ok(())).await.is_err());
    assert_eq!(store.pins(None, 10).unwrap(), vec![]);
}

#[tokio::test]
async fn a_closed_store_reads_and_takes_no_more() {
    let fixture = Fixture::new();
    let there = blocks(0, 10, 500);
    fixture.store().put_many(there.clone()).await.unwrap();
    fixture.store().close().await.unwrap();
    assert!(matches!(put(&fixture, &there).await, Err(StoreError::Closed)));
    assert_eq!(fixture.store().get(there[3].cid()).await.unwrap().as_ref(), Some(&there[3]));
}

#[tokio::test]
async fn times_of_use_that_a_full_disk_refused_hold_up_no_later_ones() {
    let mut fixture = Fixture::new();
    let cached = blocks(0, 2, 500);
    fixture.store().put_many(cached.clone()).await.unwrap();
    fixture.reopen().await;
    // Nobody makes a file here, as on a disk that is full.
    let reserve = fixture.directory().join("db.redb.reserve");
    std::fs::remove_file(&reserve).unwrap();
    std::fs::create_dir(&reserve).unwrap();
    let now = fixture.world.now.fetch_add(7200, Ordering::SeqCst) as u32 + 7200;
    let (store, db) = (fixture.store(), fixture.db());
    store.get(cached[0].cid()).await.unwrap().unwrap();
    db.write_to_free(|_| Ok::<_, Error>(())).await.unwrap();
    std::fs::remove_dir(&reserve).unwrap();
    store.get(cached[1].cid()).await.unwrap().unwrap();
    db.write(|_| Ok::<_, Error>(())).await.unwrap();
    let key = Key::of(cached[1].cid().hash()).unwrap();
    let row = index::find(&db.read().unwrap(), &key).unwrap().unwrap();
    assert_eq!(row.used, now);
}
