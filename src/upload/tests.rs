use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::block::{Block, Blockstore as _, codec};
use crate::blockstore;
use crate::ipld::car;
use crate::ipld::dag_pb::{PbLink, PbNode};
use crate::metrics::Registry;

struct Fixture {
    _directory: tempfile::TempDir,
    db: Db,
    store: Store,
    upload: Upload,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let path = directory.path().join("db.redb");
        let metrics = db::Metrics::register(&registry).unwrap();
        let db = Db::open(&path, &db::Config::default(), metrics).unwrap();
        let config = blockstore::Config { free_bytes_min: 0, ..blockstore::Config::default() };
        let metrics = blockstore::Metrics::register(&registry).unwrap();
        let path = directory.path().join("segments");
        let store = Store::open(&path, db.clone(), &config, metrics).unwrap();
        let metrics = Metrics::register(&registry).unwrap();
        let upload = Upload::new(store.clone(), db.clone(), &Config::default(), metrics);
        Self { _directory: directory, db, store, upload }
    }

    /// Uploads a file.
    async fn add(&self, text: &'static str, options: Options) -> Content {
        let mut adding = self.upload.begin(options).await.unwrap();
        adding.file("").unwrap();
        adding.write(Bytes::from_static(text.as_bytes())).await.unwrap();
        adding.end_file().await.unwrap();
        adding.finish(Record::default()).await.unwrap()
    }

    /// Every record has its pin, and its content can be read.
    async fn assert_kept(&self, content: &Content) {
        let contents = self.upload.contents();
        assert_eq!(contents.get(content.id, Whose::All).unwrap().as_ref(), Some(content));
        assert!(self.store.pinned(&content.cid).unwrap().is_some(), "a record without its pin");
        self.store.gc(true).await.unwrap();
        assert!(self.store.has(&content.cid).await.unwrap());
    }
}

#[tokio::test]
async fn an_upload_that_is_acknowledged_while_the_same_is_unpinned_keeps_all_or_nothing() {
    // The upload comes in after so many transactions of the other.
    for after in 0..5 {
        let fixture = Fixture::new();
        let first = fixture.add("estuary", Options::default()).await;
        let mut unpin = std::pin::pin!(fixture.upload.unpin(&first.cid));
        let mut unpinned = None;
        for _ in 0..after {
            if unpinned.is_none()
                && let Poll::Ready(done) = futures_util::poll!(&mut unpin)
            {
                unpinned = Some(done);
            }
            // What was queued before is committed and answered.
            fixture.db.write(|_| Ok::<_, db::Error>(())).await.unwrap();
        }
        let again = fixture.add("estuary", Options::default()).await;
        let unpinned = match unpinned {
            Some(done) => done,
            None => unpin.await,
        };
        assert!(unpinned.unwrap());
        if fixture.upload.contents().get(again.id, Whose::All).unwrap().is_some() {
            fixture.assert_kept(&again).await;
        } else {
            assert_eq!(fixture.store.pinned(&again.cid).unwrap(), None);
        }
    }
}

#[tokio::test]
async fn an_unpinned_content_takes_no_records_of_another_version_of_its_cid() {
    let fixture = Fixture::new();
    let data = Bytes::from_static(b"\x0a\x0d\x08\x02\x12\x07estuary\x18\x07");
    let old = Block::sha2_256_v0(data.clone()).unwrap();
    let new = Block::sha2_256(codec::DAG_PB, data).unwrap();
    let mut kept = Vec::new();
    for block in [&old, &new] {
        let mut writing = fixture.store.begin().await.unwrap();
        writing.put(vec![block.clone()]).await.unwrap();
        let pinned = fixture.upload.pin(writing, *block.cid(), 7, Kind::Car, Record::default());
        kept.push(pinned.await.unwrap());
    }
    assert!(fixture.upload.unpin(old.cid()).await.unwrap());
    assert_eq!(fixture.upload.contents().get(kept[0].id, Whose::All).unwrap(), None);
    fixture.assert_kept(&kept[1]).await;
}

#[tokio::test]
async fn many_records_of_one_content_are_forgotten_with_its_pin() {
    let fixture = Fixture::new();
    let first = fixture.add("estuary", Options::default()).await;
    let root = first.cid;
    let records = move |tx: &mut db::Transaction<'_>| {
        (0..2500).try_for_each(|_| {
            contents::record(tx, root, 7, Kind::File, Record::default()).map(drop)
        })
    };
    fixture.db.write(records).await.unwrap();
    assert!(fixture.upload.unpin(&root).await.unwrap());
    assert!(fixture.upload.contents().list(Whose::All, 0, 1).unwrap().is_empty());
    assert!(!fixture.upload.unpin(&root).await.unwrap());
}

/// A block that links to others.
fn node_of(children: &[Block]) -> Block {
    let link = |block: &Block| PbLink { cid: *block.cid(), name: None, tsize: None };
    let node = PbNode { links: children.iter().map(link).collect(), data: None };
    Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
}

/// A DAG, its root first, and a CAR of it.
fn dag() -> (Vec<Block>, Bytes) {
    let leaves = (0..100_u32).map(|n| n.to_le_bytes().repeat(100));
    let leaves = leaves.map(|data| Block::sha2_256(codec::RAW, data.into()).unwrap());
    let leaves: Vec<_> = leaves.collect();
    let blocks = [vec![node_of(&leaves)], leaves].concat();
    let mut car = BytesMut::from(&car::header_v1(&[*blocks[0].cid()])[..]);
    for block in &blocks {
        car.extend_from_slice(&car::section_prefix(block));
        car.extend_from_slice(block.data());
    }
    (blocks, car.freeze())
}

/// Imports a CAR; between any two steps all that was queued is committed, and then `between` runs.
async fn import(fixture: &Fixture, car: Bytes, mut between: impl AsyncFnMut()) -> Imported {
    let body = futures_util::stream::iter([Ok(car)]);
    let mut import = std::pin::pin!(fixture.upload.import(body, true));
    loop {
        if let Poll::Ready(imported) = futures_util::poll!(&mut import) {
            return imported.unwrap();
        }
        fixture.db.write(|_| Ok::<_, db::Error>(())).await.unwrap();
        between().await;
    }
}

#[tokio::test]
async fn what_is_imported_is_not_collected_before_it_is_pinned() {
    let fixture = Fixture::new();
    let (blocks, car) = dag();
    // Once it is pinned, the import takes the collector's turn itself.
    let collect = async || {
        if fixture.store.pinned(blocks[0].cid()).unwrap().is_none() {
            fixture.store.gc(true).await.unwrap();
        }
    };
    assert_eq!(import(&fixture, car, collect).await.incomplete, []);
    fixture.store.gc(true).await.unwrap();
    for block in &blocks {
        assert_eq!(fixture.store.get(block.cid()).await.unwrap().as_ref(), Some(block));
    }
    assert_eq!(fixture.store.stats().unwrap().blocks, blocks.len() as u64);
}

#[tokio::test]
async fn what_is_unpinned_while_it_is_imported_has_no_record_without_a_pin() {
    let fixture = Fixture::new();
    let (blocks, car) = dag();
    let unpin = async || {
        if fixture.store.pinned(blocks[0].cid()).unwrap().is_some() {
            fixture.upload.unpin(blocks[0].cid()).await.unwrap();
        }
    };
    import(&fixture, car, unpin).await;
    let all = fixture.upload.contents().list(Whose::All, 0, 9).unwrap();
    let paged: Vec<_> = std::iter::successors(Some(u64::MAX), |than| {
        fixture.upload.contents().older(Whose::All, *than, 1).unwrap().first().map(|row| row.id)
    })
    .skip(1)
    .collect();
    assert_eq!(paged, all.iter().map(|row| row.id).collect::<Vec<_>>());
    for content in all {
        fixture.assert_kept(&content).await;
    }
}
