//! Blocks to disk and back.
//!
//! `ESTUARY_BENCH_BLOCKS=10000000` builds so many blocks of 256 bytes instead, and prints how long
//! the store takes to open, what memory it has, and how fast it reads, with 10^4, 10^6, … blocks.
//! `ESTUARY_BENCH_IMPORT_MIB=4096` writes blocks of 1 MiB, hashed beforehand, and prints the rate.
//! `ESTUARY_BENCH_DIR` is where; the system's temporary directory unless it is set.

#![allow(clippy::print_stdout, reason = "the measurements are what this prints")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use estuary::block::{Block, Blockstore as _, Cid, codec};
use estuary::blockstore::{self, Config, Store};
use estuary::db::{self, Db};
use estuary::metrics::Registry;
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SMALL_BYTES: usize = 256;
const WARM_BYTES: usize = 256 << 10;
const LARGE_BYTES: usize = 1 << 20;
/// Reads whose latency is taken.
const READS: u64 = 20_000;

/// A directory that goes away.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self, Failure> {
        let parent = std::env::var_os("ESTUARY_BENCH_DIR").map(PathBuf::from);
        let parent = parent.unwrap_or_else(std::env::temp_dir);
        Ok(Self { dir: tempfile::tempdir_in(parent)? })
    }

    fn open(&self) -> Result<(Store, Db), Failure> {
        let registry = Registry::new();
        let path: &Path = self.dir.path();
        let metrics = db::Metrics::register(&registry)?;
        let db = Db::open(&path.join("db.redb"), &db::Config::default(), metrics)?;
        let metrics = blockstore::Metrics::register(&registry)?;
        let dir = path.join("segments");
        Ok((Store::open(&dir, db.clone(), &Config::default(), metrics)?, db))
    }
}

/// Numbers that look random (splitmix64).
fn mix(n: u64) -> u64 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn block(n: u64, bytes: usize) -> Result<Block, Failure> {
    let data: Vec<u8> =
        (0..bytes as u64 / 8).flat_map(|at| mix(n << 20 | at).to_le_bytes()).collect();
    Ok(Block::sha2_256(codec::RAW, Bytes::from(data))?)
}

/// Writes blocks `from..to` and pins them.
async fn fill(store: &Store, from: u64, to: u64, bytes: usize) -> Result<(), Failure> {
    let mut writing = store.begin().await?;
    let mut root = None;
    let mut at = from;
    while at < to {
        let end = to.min(at + (4 << 20) / bytes as u64);
        let blocks = (at..end).map(|n| block(n, bytes)).collect::<Result<Vec<_>, _>>()?;
        root = root.or(blocks.first().map(|block| *block.cid()));
        writing.put(blocks).await?;
        at = end;
    }
    writing.pin(root.ok_or("nothing to pin")?, |_| Ok(())).await?;
    Ok(())
}

fn benches(c: &mut Criterion) {
    if let Err(error) = reads(c).and_then(|()| writes(c)) {
        println!("not measured: {error}");
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn reads(c: &mut Criterion) -> Result<(), Failure> {
    let runtime = runtime()?;
    let mut group = c.benchmark_group("blockstore_read");
    for (blocks, bytes) in [(1000, WARM_BYTES), (10_000, SMALL_BYTES), (1_000_000, SMALL_BYTES)] {
        let place = Place::new()?;
        let (store, db) = place.open()?;
        runtime.block_on(fill(&store, 0, blocks, bytes))?;
        let count = 4096;
        let cids: Vec<Cid> = (0..count)
            .map(|n| Ok(*block(mix(n) % blocks, bytes)?.cid()))
            .collect::<Result<_, Failure>>()?;
        group.throughput(Throughput::Bytes(bytes as u64));
        let name = BenchmarkId::new(format!("{bytes}_bytes"), blocks);
        let mut next = 0;
        group.bench_function(name, |b| {
            b.to_async(&runtime).iter(|| {
                next = (next + 1) % cids.len();
                let (store, cid) = (&store, cids.get(next));
                async move {
                    let Some(cid) = cid else { return };
                    black_box(store.get(cid).await.ok().flatten());
                }
            });
        });
        drop(store);
        db.close()?;
    }
    group.finish();
    Ok(())
}

fn writes(c: &mut Criterion) -> Result<(), Failure> {
    let runtime = runtime()?;
    let place = Place::new()?;
    let (store, db) = place.open()?;
    let mut group = c.benchmark_group("blockstore_write");
    group.sample_size(10);
    let count = 64;
    group.throughput(Throughput::Bytes(count * LARGE_BYTES as u64));
    let mut next = 0;
    // With the hashing, the sync, and the pin.
    group.bench_function(format!("{count}_blocks_of_1_mib"), |b| {
        b.to_async(&runtime).iter(|| {
            next += count;
            let (store, from) = (&store, next);
            async move { black_box(fill(store, from, from + count, LARGE_BYTES).await.is_ok()) }
        });
    });
    group.finish();
    drop(store);
    db.close()?;
    Ok(())
}

/// Memory of this process, in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Times of reads, one after the other: the median, and that of the slowest in a hundred.
async fn latencies(store: &Store, blocks: u64) -> Result<(Duration, Duration), Failure> {
    let mut times = Vec::new();
    for n in 0..READS {
        let cid = *block(mix(n) % blocks, SMALL_BYTES)?.cid();
        let started = Instant::now();
        store.get(&cid).await?.ok_or("a block is missing")?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    Ok((at(50), at(99)))
}

async fn many(blocks: u64) -> Result<(), Failure> {
    let place = Place::new()?;
    let mut filled = 0;
    for size in [10_000, 1_000_000, 10_000_000].into_iter().filter(|size| *size <= blocks) {
        let (store, db) = place.open()?;
        let started = Instant::now();
        fill(&store, filled, size, SMALL_BYTES).await?;
        let took = started.elapsed();
        filled = size;
        store.close().await?;
        drop(store);
        db.close()?;

        let started = Instant::now();
        let (store, db) = place.open()?;
        let opened = started.elapsed();
        let first = latencies(&store, size).await?;
        let (half, most) = latencies(&store, size).await?;
        let stats = store.stats()?;
        let database = std::fs::metadata(place.dir.path().join("db.redb"))?.len() >> 20;
        println!(
            "{size} blocks: filled in {took:.1?}, opened in {opened:.1?}, rss {} MiB, segments {} \
             MiB, database {database} MiB; read {:.1?} p99 {:.1?}, again {half:.1?} p99 {most:.1?}",
            resident_mib(),
            stats.disk_bytes >> 20,
            first.0,
            first.1,
        );
        drop(store);
        db.close()?;
    }
    Ok(())
}

async fn import(mib: u64) -> Result<(), Failure> {
    let place = Place::new()?;
    let (store, db) = place.open()?;
    let blocks = (0..mib).map(|n| block(n, LARGE_BYTES)).collect::<Result<Vec<_>, _>>()?;
    let root = *blocks.first().ok_or("nothing to write")?.cid();
    let started = Instant::now();
    let mut writing = store.begin().await?;
    for blocks in blocks.chunks(4) {
        writing.put(blocks.to_vec()).await?;
    }
    let put = started.elapsed();
    writing.pin(root, |_| Ok(())).await?;
    let took = started.elapsed();
    let rate = mib as f64 / took.as_secs_f64();
    println!("{mib} MiB in {took:.2?}, {rate:.0} MiB/s; the pin took {:.2?}", took - put);
    drop(store);
    db.close()?;
    Ok(())
}

criterion_group!(measured, benches);

fn main() -> Result<(), Failure> {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let runtime = Arc::new(runtime()?);
    match (number("ESTUARY_BENCH_BLOCKS"), number("ESTUARY_BENCH_IMPORT_MIB")) {
        (Some(blocks), _) => runtime.block_on(many(blocks)),
        (None, Some(mib)) => runtime.block_on(import(mib)),
        (None, None) => {
            measured();
            Criterion::default().configure_from_args().final_summary();
            Ok(())
        }
    }
}
