use super::fixture::{Fixture, block, blocks, pin};
use crate::block::{Blockstore as _, StoreError};
use crate::db::Table;

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
