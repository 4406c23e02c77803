//! The power goes, at any moment.

use std::collections::BTreeMap;

use super::*;
use crate::testing::crash::{Image, Recorder};

/// Images made in one run, unless `ESTUARY_CRASH_IMAGES` says otherwise.
const IMAGES: u64 = 240;
const JOBS: u64 = 60;
const COUNT: &[u8] = b"count";

/// What job `n` changes: rows of many sizes in two tables; rows of earlier jobs go.
fn changes(n: u64) -> Vec<(Table, Vec<u8>, Option<Vec<u8>>)> {
    let hash = |row: u64| *blake3::hash(&(n * 1000 + row).to_le_bytes()).as_bytes();
    let mut changes = vec![(U, COUNT.to_vec(), Some((n + 1).to_le_bytes().to_vec()))];
    for row in 0..20 {
        let length = usize::from(hash(row)[0]) * if n % 10 == 9 { 30 } else { 1 };
        changes.push((T, hash(row).to_vec(), Some(vec![hash(row)[1]; length])));
    }
    if n >= 5 {
        let old = self::changes_of_rows(n - 5);
        changes.extend(old.into_iter().map(|key| (T, key, None)));
    }
    changes
}

fn changes_of_rows(n: u64) -> Vec<Vec<u8>> {
    (0..10)
        .map(|row: u64| blake3::hash(&(n * 1000 + row).to_le_bytes()).as_bytes().to_vec())
        .collect()
}

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What is held after the first `jobs` jobs.
fn model(jobs: u64) -> Model {
    let mut model = Model::new();
    for (table, key, value) in (0..jobs).flat_map(changes) {
        match value {
            Some(value) => model.insert((table, key), value),
            None => model.remove(&(table, key)),
        };
    }
    model
}

pub(super) async fn job(db: &Db, n: u64) -> Result<(), Error> {
    db.write(move |t| {
        for (table, key, value) in changes(n) {
            match value {
                Some(value) => t.put(table, &key, &value)?,
                None => t.remove(table, &key)?,
            }
        }
        Ok(())
    })
    .await
}

/// How many jobs a database holds: it holds each of them whole, and nothing else.
pub(super) fn jobs_held(db: &Db) -> u64 {
    let read = db.read().unwrap();
    let count = read.get(U, COUNT).unwrap();
    let count = count.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let mut held = Model::new();
    for table in [T, U] {
        for row in read.range(table, Unbounded, Unbounded).unwrap() {
            let (key, value) = row.unwrap();
            held.insert((table, key), value);
        }
    }
    assert!(held == model(count), "not what the first {count} jobs wrote");
    count
}

/// Does jobs from `from` on, some of them at once, and marks what is acknowledged.
async fn run(db: &Db, recorder: &Recorder, from: u64, to: u64) {
    let mut next = from;
    while next < to {
        let end = to.min(next + 1 + next % 4);
        let together = (next..end).map(|n| async move {
            job(db, n).await.unwrap();
            recorder.mark(n);
        });
        next = end;
        futures_util::future::join_all(together).await;
    }
}

fn open_recorded(path: &Path, recorder: &Recorder) -> Db {
    let recorder = recorder.clone();
    let disk = move |file| -> Box<dyn Disk> { Box::new(recorder.disk("db", file)) };
    Db::open_with(path, &Config::default(), metrics(), disk).unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn acknowledged(image: &Image) -> u64 {
    image.marks.iter().max().map_or(0, |last| last + 1)
}

#[tokio::test]
async fn every_crash_image_holds_what_was_acknowledged_and_no_half_of_a_job() {
    let place = Place::new();
    place.open().unwrap().close().unwrap();
    let recorder = Recorder::new();
    let db = open_recorded(&place.path(), &recorder);
    run(&db, &recorder, 0, JOBS).await;
    db.close().unwrap();

    let seed = number("ESTUARY_CRASH_SEED", 1);
    println!("ESTUARY_CRASH_SEED={seed}");
    let mut lost = 0;
    for n in 0..number("ESTUARY_CRASH_IMAGES", IMAGES) {
        let seed = blake3::hash(&(seed << 32 | n).to_le_bytes());
        let seed = u64::from_le_bytes(seed.as_bytes()[..8].try_into().unwrap());
        let at = usize::try_from(seed >> 16).unwrap() % (recorder.events() + 1);
        let image = recorder.image(at, seed);
        println!("image {n}: {at} of {} events, seed {seed}", recorder.events());
        let place = Place::new();
        image.write_to(place.dir.path()).unwrap();

        // Recovers, goes on a little, and crashes again.
        let second = Recorder::new();
        let db = open_recorded(&place.path(), &second);
        let held = jobs_held(&db);
        assert!(
            held >= acknowledged(&image),
            "{held} jobs, {} were acknowledged",
            acknowledged(&image)
        );
        lost += u64::from(held < JOBS);
        run(&db, &second, held, held + 2).await;
        drop(db);
        let again = second.image(usize::try_from(seed).unwrap() % (second.events() + 1), seed >> 3);
        let place = Place::new();
        again.write_to(place.dir.path()).unwrap();
        let db = open_recorded(&place.path(), &Recorder::new());
        let still = jobs_held(&db);
        assert!(still >= held.max(acknowledged(&again)), "{still} jobs after {held}");
    }
    assert!(lost > 0, "no image was of a moment before the end");
}
