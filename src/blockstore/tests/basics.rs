use super::fixture::{Fixture, block, blocks, pin};
use crate::block::{Block, Blockstore as _, Cid, StoreError, codec};
use crate::blockstore::{Config, PinError};
use crate::db::Table;
use crate::ipld::unixfs::import::{FileBuilder, Profile};

#[tokio::test]
async fn what_was_pinned_is_there_after_a_crash() {
    let mut fixture = Fixture::new();
    let written = blocks(0, 100, 1000);
    let root = pin(&fixture.store(), &written).await;
    for _ in 0..2 {
        for block in &written {
            let read = fixture.store().get(block.cid()).await.unwrap();
            assert_eq!(read.as_ref(), Some(block));
            assert!(fixture.store().has(block.cid()).await.unwrap());
        }
        let found = fixture.store().pinned(&root).unwrap().unwrap();
        assert_eq!((found.blocks, found.bytes), (100, 100_000));
        assert_eq!(fixture.store().pins(None, 10).unwrap(), vec![found]);
        let stats = fixture.store().stats().unwrap();
        assert_eq!((stats.blocks, stats.bytes, stats.pins), (100, 100_000, 1));
        assert_eq!(stats.cached_bytes, 0);
        fixture.crash();
    }
    assert_eq!(fixture.store().get(block(1000, 10).cid()).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_not_acknowledged_leaves_nothing() {
    let mut fixture = Fixture::new();
    pin(&fixture.store(), &blocks(0, 3, 1000)).await;
    let lost = blocks(100, 100, 1000);
    let mut writing = fixture.store().begin().await.unwrap();
    writing.put(lost.clone()).await.unwrap();
    // Given up: its first batches are committed already.
    drop(writing);
    let report = fixture.store().gc(false).await.unwrap();
    assert!(report.freed_bytes > 50_000, "{report:?}");
    // And cut off by a crash.
    let mut writing = fixture.store().begin().await.unwrap();
    writing.put(lost.clone()).await.unwrap();
    assert!(fixture.store().stats().unwrap().blocks > 3);
    std::mem::forget(writing);
    fixture.crash();
    fixture.store().gc(false).await.unwrap();
    let stats = fixture.store().stats().unwrap();
    assert_eq!((stats.blocks, stats.cached_bytes, stats.pins), (3, 0, 1));
    assert!(stats.disk_bytes < 64 << 10, "{stats:?}");
    for block in &lost {
        assert!(!fixture.store().has(block.cid()).await.unwrap());
    }
}

#[tokio::test]
async fn other_records_are_written_with_the_pin_or_not_at_all() {
    const OTHER: Table = Table::new("other");
    let fixture = Fixture::new();
    let written = blocks(0, 40, 100);
    let root = *written[0].cid();
    let mut writing = fixture.store().begin().await.unwrap();
    writing.put(written.clone()).await.unwrap();
    let refused = writing.pin(root, |tx| {
        tx.put(OTHER, b"key", b"value")?;
        Err::<(), _>(StoreError::Closed.into())
    });
    assert!(refused.await.is_err());
    assert_eq!(fixture.db().read().unwrap().get(OTHER, b"key").unwrap(), None);
    assert_eq!(fixture.store().pinned(&root).unwrap(), None);
    fixture.store().gc(true).await.unwrap();
    assert_eq!(fixture.store().stats().unwrap().blocks, 0);

    let mut writing = fixture.store().begin().await.unwrap();
    writing.put(written).await.unwrap();
    let (pin, seven) =
        writing.pin(root, |tx| tx.put(OTHER, b"key", b"value").map(|()| 7)).await.unwrap();
    assert_eq!((pin.blocks, seven), (40, 7));
    assert_eq!(fixture.db().read().unwrap().get(OTHER, b"key").unwrap().unwrap(), b"value");
}

/// A file of so many chunks of 100 bytes: its root and its blocks.
fn file(chunks: u64) -> (Cid, Vec<Block>) {
    let profile = Profile::V1_2025;
    let mut builder = FileBuilder::new(profile, 5);
    let mut blocks = Vec::new();
    for n in 0..chunks {
        let leaf = profile.leaf(block(n, 100).into_data()).unwrap();
        blocks.extend(builder.push(&leaf).unwrap());
        blocks.push(leaf.block);
    }
    let built = builder.finish().unwrap();
    blocks.extend(built.blocks);
    (built.root, blocks)
}

#[tokio::test]
async fn a_dag_is_pinned_where_it_lies_if_it_is_whole() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let (root, blocks) = file(100);
    let mut writing = store.begin().await.unwrap();
    writing.put(blocks.clone()).await.unwrap();
    writing.keep().await.unwrap();
    let other = file(101);
    assert!(matches!(store.pin(other.0).await, Err(PinError::Missing(_))));
    let made = store.pin(root).await.unwrap();
    assert_eq!(made.blocks, blocks.len() as u64);
    assert_eq!(store.pin(root).await.unwrap(), made);
    store.put_many(other.1).await.unwrap();
    store.gc(true).await.unwrap();
    assert_eq!(store.stats().unwrap().blocks, blocks.len() as u64);
    for block in &blocks {
        assert_eq!(store.get(block.cid()).await.unwrap().as_ref(), Some(block));
    }
    assert!(store.unpin(&root).await.unwrap());
    assert!(!store.unpin(&root).await.unwrap());
    store.gc(true).await.unwrap();
    assert_eq!(store.stats().unwrap().blocks, 0);
}

#[tokio::test]
async fn identity_blocks_carry_themselves() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let hash = crate::block::Mh::wrap(crate::block::IDENTITY, b"tiny").unwrap();
    let cid = Cid::new_v1(codec::RAW, hash);
    let mut writing = store.begin().await.unwrap();
    writing.put(vec![Block::from_identity(&cid).unwrap()]).await.unwrap();
    let (pin, ()) = writing.pin(cid, |_| Ok(())).await.unwrap();
    assert_eq!((pin.blocks, pin.bytes), (0, 0));
    assert_eq!(store.get(&cid).await.unwrap().unwrap().data().as_ref(), b"tiny");
    assert!(store.has(&cid).await.unwrap());
    assert_eq!(store.pin(cid).await.unwrap(), pin);
    assert_eq!(store.stats().unwrap().blocks, 0);
}

#[tokio::test]
async fn pins_are_listed_page_by_page() {
    let fixture = Fixture::new();
    for n in 0..10 {
        pin(&fixture.store(), &blocks(n, 1, 100)).await;
    }
    let all = fixture.store().pins(None, 100).unwrap();
    assert_eq!(all.len(), 10);
    let mut paged = Vec::new();
    while let page =
        fixture.store().pins(paged.last().map(|pin: &crate::blockstore::Pin| &pin.cid), 3).unwrap()
        && !page.is_empty()
    {
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn many_segments_are_read_with_few_files_open() {
    let mut fixture = Fixture::new();
    fixture.sizes.segment_bytes_max = 1000;
    fixture.crash();
    let written = blocks(0, 600, 500);
    pin(&fixture.store(), &written).await;
    // Those that wait to be synced stay open.
    let dirty = (fixture.sizes.dirty_bytes_max / 1000) as usize;
    assert!(fixture.store().inner.segments.files_open() <= dirty);
    fixture.crash();
    let store = fixture.store();
    assert!(store.inner.segments.idle().len() > 500);
    for block in written.iter().chain(&written) {
        assert_eq!(store.get(block.cid()).await.unwrap().as_ref(), Some(block));
    }
    assert!(store.inner.segments.files_open() <= 2);
}

/// Waits until the maintenance has brought the store to a state.
async fn until(fixture: &Fixture, what: impl Fn(crate::blockstore::Stats) -> bool) {
    let reached = async {
        while !what(fixture.store().stats().unwrap()) {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, reached).await.unwrap();
}

#[tokio::test]
async fn the_maintenance_releases_evicts_and_compacts_by_itself() {
    let mut fixture = Fixture::new();
    fixture.config = Config { cache_bytes_max: 50_000, free_bytes_min: 1 << 20 };
    fixture.crash();
    let tasks = crate::task::Tasks::new();
    tasks.spawn(fixture.store().maintain(tasks.stop_token()));
    let store = fixture.store();
    let kept = pin(&store, &blocks(1000, 3, 1000)).await;
    let root = pin(&store, &blocks(0, 200, 1000)).await;
    store.unpin(&root).await.unwrap();
    until(&fixture, |stats| stats.cached_bytes == 50_000 && stats.disk_bytes < 200_000).await;
    assert!(store.pinned(&kept).unwrap().is_some());
    // Cached blocks make way when space runs short.
    fixture.world.room.store(1 << 20, std::sync::atomic::Ordering::SeqCst);
    store.inner.wake.notify_one();
    until(&fixture, |stats| stats.cached_bytes <= 25_000).await;
    assert_eq!(fixture.store().pins(None, 10).unwrap().len(), 1);
    assert!(tasks.stop(std::time::Duration::from_secs(10)).await);
}
