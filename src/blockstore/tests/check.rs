use super::fixture::{Fixture, block, blocks, pin};
use crate::block::{Block, Blockstore as _};
use crate::blockstore::index::{BLOCKS, CACHED, Edit, Row, SEGMENTS, cached_key};
use crate::blockstore::manifest::MANIFESTS;
use crate::blockstore::record::Key;
use crate::db::{Error, Transaction};

fn key(block: &Block) -> Key {
    Key::of(block.cid().hash()).unwrap()
}

/// A store with two pins that share blocks, and cached blocks.
async fn store() -> (Fixture, Vec<Block>, Vec<Block>) {
    let fixture = Fixture::new();
    let pinned = blocks(0, 40, 900);
    pin(&fixture.store(), &pinned).await;
    pin(&fixture.store(), &pinned[20..]).await;
    let cached = blocks(100, 10, 900);
    fixture.store().put_many(cached.clone()).await.unwrap();
    assert!(fixture.store().fsck(false).await.unwrap().ok);
    (fixture, pinned, cached)
}

/// Plants damage in the database; a check finds it, a repair mends it, and all is as it was.
async fn mends(plant: impl FnOnce(&mut Transaction<'_>) -> Result<(), Error> + Send + 'static) {
    let (mut fixture, pinned, cached) = store().await;
    let before = fixture.store().stats().unwrap();
    fixture.db().write(plant).await.unwrap();
    let found = fixture.store().fsck(false).await.unwrap();
    assert!(!found.ok && found.repaired == 0 && found.problems_total > 0, "{found:?}");
    let mended = fixture.store().fsck(true).await.unwrap();
    assert!(mended.ok, "{mended:?}");
    assert_eq!(
        (mended.repaired, mended.problems_total),
        (found.problems_total, found.problems_total)
    );
    fixture.crash();
    let after = fixture.store().stats().unwrap();
    assert_eq!(crate::blockstore::Stats { free_bytes: before.free_bytes, ..after }, before);
    for block in pinned.iter().chain(&cached) {
        assert_eq!(fixture.store().get(block.cid()).await.unwrap().as_ref(), Some(block));
    }
    fixture.store().gc(true).await.unwrap();
    assert_eq!(fixture.store().stats().unwrap().blocks, 40);
    assert!(fixture.store().fsck(false).await.unwrap().ok);
}

fn row(tx: &Transaction<'_>, block: &Block) -> Result<Row, Error> {
    Row::from_bytes(&tx.get(BLOCKS, key(block).as_bytes())?.unwrap())
}

#[tokio::test]
async fn totals_and_live_bytes_are_mended() {
    mends(|tx| {
        let mut edit = Edit::begin(tx)?;
        edit.totals.bytes += 77;
        edit.totals.cached_bytes = 3;
        edit.finish()
    })
    .await;
    mends(|tx| tx.put(SEGMENTS, &0_u32.to_be_bytes(), &[0xff, 0xff, 0, 0, 9, 0, 0, 0])).await;
}

#[tokio::test]
async fn counts_are_mended() {
    mends(|tx| {
        // Shared by both pins, by one, and by none.
        for (n, pins) in [(30, 1), (5, 3), (105, 2)] {
            let row = row(tx, &block(n, 900))?;
            tx.put(BLOCKS, key(&block(n, 900)).as_bytes(), &Row { pins, ..row }.to_bytes())?;
        }
        Ok(())
    })
    .await;
    mends(|tx| {
        let row = row(tx, &block(3, 900))?;
        tx.put(BLOCKS, key(&block(3, 900)).as_bytes(), &Row { pins: 0, ..row }.to_bytes())
    })
    .await;
}

#[tokio::test]
async fn the_order_of_eviction_is_mended() {
    mends(|tx| {
        let row = row(tx, &block(104, 900))?;
        tx.remove(CACHED, &cached_key(row.used, &key(&block(104, 900))))
    })
    .await;
    mends(|tx| {
        tx.put(CACHED, &cached_key(5, &key(&block(2, 900))), &[])?;
        tx.put(CACHED, b"odd", &[])
    })
    .await;
}

#[tokio::test]
async fn a_manifest_without_an_owner_is_released() {
    let (fixture, _, _) = store().await;
    let odd = block(102, 900);
    let named = [&[34], key(&odd).as_bytes()].concat();
    fixture
        .db()
        .write(move |tx| tx.put(MANIFESTS, &[0, 0, 0, 0, 0, 0, 9, 9, 0, 0, 0, 0], &named))
        .await
        .unwrap();
    let report = fixture.store().fsck(true).await.unwrap();
    assert!(report.ok && report.problems_total == 2, "{report:?}");
    fixture.store().gc(true).await.unwrap();
    assert!(!fixture.store().has(odd.cid()).await.unwrap());
    assert!(fixture.store().fsck(false).await.unwrap().ok);
}

/// Damages the record of a block.
fn damage(fixture: &Fixture, block: &Block) {
    use std::os::unix::fs::FileExt as _;
    let snapshot = fixture.db().read().unwrap();
    let row = crate::blockstore::index::find(&snapshot, &key(block)).unwrap().unwrap();
    let path = fixture.store().inner.segments.disk().path(row.at.segment);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x5a; 3], u64::from(row.at.offset) + 60).unwrap();
}

#[tokio::test]
async fn damaged_blocks_are_found_and_dropped_and_their_pins_named() {
    let (fixture, pinned, cached) = store().await;
    let store = fixture.store();
    damage(&fixture, &pinned[3]);
    damage(&fixture, &cached[3]);
    let scrubbed = store.scrub().await.unwrap();
    assert!(!scrubbed.ok && scrubbed.problems_total == 2, "{scrubbed:?}");
    assert_eq!(scrubbed.blocks, 50);
    assert_eq!(store.inner.metrics.corrupt_records.get(), 2);

    let report = store.fsck(true).await.unwrap();
    // The cached one is mended by dropping it; the other one is lost until it comes again.
    assert!(!report.ok, "{report:?}");
    assert_eq!(store.stats().unwrap().blocks, 48);
    let report = store.fsck(true).await.unwrap();
    let sentence = format!("pin {} lacks block {}", pinned[0].cid(), pinned[3].cid());
    assert!(report.problems.contains(&sentence), "{report:?}");
    assert!(!store.has(pinned[3].cid()).await.unwrap());

    // It comes again with another pin, whose end does not take it away from the first.
    let other = pin(&store, &[block(500, 10), pinned[3].clone()]).await;
    assert!(store.fsck(false).await.unwrap().ok);
    store.unpin(&other).await.unwrap();
    store.gc(true).await.unwrap();
    assert_eq!(store.get(pinned[3].cid()).await.unwrap().as_ref(), Some(&pinned[3]));
    assert!(store.fsck(false).await.unwrap().ok);
}

#[tokio::test]
async fn lost_rows_and_lost_files_end_well() {
    let (mut fixture, pinned, _) = store().await;
    let lost = key(&pinned[7]);
    fixture.db().write(move |tx| tx.remove(BLOCKS, lost.as_bytes())).await.unwrap();
    std::fs::remove_file(fixture.store().inner.segments.disk().path(0)).unwrap();
    fixture.crash();
    let report = fixture.store().fsck(true).await.unwrap();
    assert!(!report.ok && report.problems.len() <= 100, "{report:?}");
    // Everything comes again.
    pin(&fixture.store(), &[&[block(900, 10)], &pinned[..]].concat()).await;
    fixture.store().gc(true).await.unwrap();
    fixture.crash();
    let report = fixture.store().fsck(false).await.unwrap();
    assert!(report.ok, "{report:?}");
    for block in &pinned {
        assert_eq!(fixture.store().get(block.cid()).await.unwrap().as_ref(), Some(block));
    }
}

#[tokio::test]
async fn a_damaged_segment_is_compacted_around_the_damage() {
    let (fixture, pinned, _) = store().await;
    let store = fixture.store();
    damage(&fixture, &pinned[25]);
    // Half of the first pin's blocks are dead now; those of the second one are in between.
    store.unpin(pinned[0].cid()).await.unwrap();
    store.gc(true).await.unwrap();
    for (n, block) in pinned.iter().enumerate().skip(20) {
        let there = store.get(block.cid()).await.unwrap();
        assert_eq!(there.as_ref(), (n != 25).then_some(block), "{n}");
    }
    store.fsck(true).await.unwrap();
    store.gc(true).await.unwrap();
    let report = store.fsck(false).await.unwrap();
    assert_eq!(report.problems_total, 2, "{report:?}");
}
