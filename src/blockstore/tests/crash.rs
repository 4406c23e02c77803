//! The power goes, at any moment: images that lose or tear what was not synced.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::fixture::{Fixture, blocks};
use crate::block::{Block, Blockstore as _};
use crate::blockstore::{Config, FileOp, Metrics, Outside, Sizes, Store};
use crate::db::{self, Db, Disk};
use crate::testing::crash::{Image, Recorder};

/// Images made in one run, unless `ESTUARY_CRASH_IMAGES` says otherwise.
const IMAGES: u64 = 240;
const UPLOADS: u64 = 24;
/// What is marked when the removal of pin `n` is asked for, and when it is acknowledged.
const ASKED: u64 = 1000;
const REMOVED: u64 = 2000;

/// A world that writes down what is done to the segments.
#[derive(Debug)]
struct Recording(Recorder);

impl Outside for Recording {
    fn before(&self, op: &FileOp<'_>) -> io::Result<()> {
        let name = |id: &u32| format!("segments/{id:08}.seg");
        match op {
            FileOp::Create(id) => self.0.created(&name(id)),
            FileOp::Write(id, offset, slices) => {
                let bytes: Vec<u8> =
                    slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                self.0.wrote(&name(id), *offset, &bytes);
            }
            FileOp::Sync(id) => self.0.sync(&name(id), || Ok(()))?,
            FileOp::SyncDirectory => self.0.sync_dir(|| Ok(()))?,
            FileOp::Cut(id, bytes) => self.0.resized(&name(id), *bytes),
            FileOp::Remove(id) => self.0.removed(&name(id)),
        }
        Ok(())
    }
}

/// Opens what is in a directory, and records what is done to it.
fn open(dir: &Path, recorder: &Recorder) -> (Store, Db) {
    let registry = crate::metrics::Registry::new();
    let log = recorder.clone();
    let disk = move |file| -> Box<dyn Disk> { Box::new(log.disk("db.redb", file)) };
    let metrics = db::Metrics::register(&registry).unwrap();
    let db = Db::open_with(&dir.join("db.redb"), &db::Config::default(), metrics, disk).unwrap();
    let segments = dir.join("segments");
    for entry in std::fs::read_dir(&segments).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = format!("segments/{}", path.file_name().unwrap().to_str().unwrap());
        recorder.begin(&name, std::fs::read(path).unwrap());
    }
    let config = Config { cache_bytes_max: 8_000, free_bytes_min: 0 };
    let sizes = Sizes {
        segment_bytes_max: 16 << 10,
        batch_blocks_max: 8,
        write_back_bytes: 8 << 10,
        dirty_bytes_max: 24 << 10,
        files_open_max: 2,
    };
    let metrics = Metrics::register(&registry).unwrap();
    let outside = Arc::new(Recording(recorder.clone()));
    (Store::open_on(&segments, db.clone(), &config, metrics, sizes, outside).unwrap(), db)
}

/// The blocks of upload `n`: some of its own, some of its neighbours'.
fn upload(n: u64) -> Vec<Block> {
    let own = blocks(n * 100, 4 + n % 9, 300 + (n as usize * 37) % 500);
    own.into_iter().chain(blocks(50_000 + n / 3 * 5, 6, 400)).collect()
}

async fn put(store: &Store, recorder: &Recorder, n: u64) {
    let mut writing = store.begin().await.unwrap();
    for part in upload(n).chunks(5) {
        writing.put(part.to_vec()).await.unwrap();
    }
    writing.pin(*upload(n)[0].cid(), |_| Ok(())).await.unwrap();
    recorder.mark(n);
}

async fn remove(store: &Store, recorder: &Recorder, n: u64) {
    recorder.mark(ASKED + n);
    store.unpin(upload(n)[0].cid()).await.unwrap();
    recorder.mark(REMOVED + n);
}

/// Uploads, some at once; removals, given up uploads, cached blocks, collections.
async fn run(store: &Store, recorder: &Recorder, from: u64, to: u64) {
    let mut n = from;
    while n < to {
        let end = to.min(n + 1 + n % 3);
        futures_util::future::join_all((n..end).map(|n| put(store, recorder, n))).await;
        let mut given_up = store.begin().await.unwrap();
        given_up.put(blocks(70_000 + n * 10, 10, 200)).await.unwrap();
        store.put_many(blocks(90_000 + n * 10, 7, 350)).await.unwrap();
        drop(given_up);
        if n % 2 == 1 {
            remove(store, recorder, n - 1).await;
        }
        if n % 4 == 3 {
            store.gc(n % 8 == 7).await.unwrap();
        }
        n = end;
    }
}

/// What was acknowledged is there whole, what is there is whole, and all sums are right.
async fn check(store: &Store, image: &Image, what: &str) {
    let marked = |mark: u64| image.marks.contains(&mark);
    let mut kept = BTreeSet::new();
    for n in 0..UPLOADS * 2 {
        let pin = store.pinned(upload(n)[0].cid()).unwrap();
        if marked(n) && !marked(ASKED + n) {
            assert!(pin.is_some(), "{what}: upload {n} is lost");
        }
        if marked(REMOVED + n) {
            assert!(pin.is_none(), "{what}: the removal of {n} is lost");
        }
        if pin.is_some() {
            for block in upload(n) {
                let read = store.get(block.cid()).await.unwrap();
                assert_eq!(read.as_ref(), Some(&block), "{what}: of upload {n}");
                kept.insert(*block.cid());
            }
        }
    }
    let report = store.fsck(false).await.unwrap();
    assert!(report.ok, "{what}: {report:?}");
    store.gc(true).await.unwrap();
    assert_eq!(store.stats().unwrap().blocks, kept.len() as u64, "{what}");
    let report = store.fsck(false).await.unwrap();
    assert!(report.ok, "{what}, collected: {report:?}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn write(image: &Image) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("segments")).unwrap();
    image.write_to(dir.path()).unwrap();
    dir
}

#[tokio::test]
async fn every_crash_image_holds_what_was_acknowledged_and_nothing_half() {
    let fixture = Fixture::new();
    let dir = fixture.directory().join("recorded");
    std::fs::create_dir(&dir).unwrap();
    super::fixture::open_db(&dir.join("db.redb")).close().unwrap();
    let recorder = Recorder::new();
    let (store, db) = open(&dir, &recorder);
    run(&store, &recorder, 0, UPLOADS).await;
    drop(store);
    db.close().unwrap();

    let seed = number("ESTUARY_CRASH_SEED", 1);
    println!("ESTUARY_CRASH_SEED={seed}");
    for n in 0..number("ESTUARY_CRASH_IMAGES", IMAGES) {
        let seed = xxhash_rust::xxh3::xxh3_64(&(seed << 32 | n).to_le_bytes());
        let at = usize::try_from(seed >> 16).unwrap() % (recorder.events() + 1);
        let what = format!("image {n} after {at} of {} events", recorder.events());
        let image = recorder.image(at, seed);
        let dir = write(&image);
        // Recovers, goes on a little, and crashes again.
        let second = Recorder::new();
        image.marks.iter().for_each(|mark| second.mark(*mark));
        let (store, db) = open(dir.path(), &second);
        if n % 2 == 0 {
            check(&store, &image, &what).await;
        }
        run(&store, &second, UPLOADS, UPLOADS + 3).await;
        drop(store);
        db.close().unwrap();
        let begun = image.marks.len();
        let at = begun + usize::try_from(seed >> 8).unwrap() % (second.events() + 1 - begun);
        let image = second.image(at, seed >> 3);
        let dir = write(&image);
        let (store, db) = open(dir.path(), &Recorder::new());
        check(&store, &image, &format!("{what}, then after {at} of {}", second.events())).await;
        drop(store);
        db.close().unwrap();
    }
}
