//! Reading CARs, walking DAGs, parsing paths: what a request costs before any I/O.

use std::collections::HashMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estuary::block::{Block, Cid, codec};
use estuary::ipld::car::{CarEvent, CarReader, Limits, header_v1, section_prefix};
use estuary::ipld::dag_pb::{PbLink, PbNode};
use estuary::ipld::path::ContentPath;
use estuary::ipld::walk::{self, DagWalk, Step};

const PIECE_BYTES: usize = 64 << 10;

fn blocks(count: u64, bytes: usize) -> Vec<Block> {
    let fill = |n: u64| n.to_le_bytes().repeat(bytes / 8);
    (0..count).filter_map(|n| Block::sha2_256(codec::RAW, fill(n).into()).ok()).collect()
}

fn car(blocks: &[Block]) -> Bytes {
    let mut car = header_v1(&[]).to_vec();
    for block in blocks {
        car.extend_from_slice(&section_prefix(block));
        car.extend_from_slice(block.data());
    }
    car.into()
}

fn read(car: &Bytes, mut each: impl FnMut(CarEvent)) {
    let mut reader = CarReader::new(Limits::default());
    for start in (0..car.len()).step_by(PIECE_BYTES) {
        reader.feed(car.slice(start..car.len().min(start + PIECE_BYTES)));
        while let Ok(Some(event)) = reader.next() {
            each(event);
        }
    }
    assert_eq!(reader.finish(), Ok(()));
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("car");
    for (name, count, bytes) in [("1 KiB", 32_768, 1 << 10), ("256 KiB", 128, 256 << 10)] {
        let car = car(&blocks(count, bytes));
        group.throughput(Throughput::Bytes(car.len() as u64));
        group.bench_function(format!("read blocks of {name}"), |b| {
            b.iter(|| read(&car, |event| drop(black_box(event))));
        });
    }
    let car = car(&blocks(128, 256 << 10));
    group.throughput(Throughput::Bytes(car.len() as u64));
    group.sample_size(10);
    group.bench_function("read and verify blocks of 256 KiB", |b| {
        b.iter(|| {
            read(&car, |event| {
                if let CarEvent::Block(block) = event {
                    assert!(block.verify().is_ok());
                }
            });
        });
    });
}

fn walking(c: &mut Criterion) {
    let leaves = blocks(10_000, 64);
    let link = |block: &Block| PbLink { cid: *block.cid(), name: None, tsize: None };
    let root = PbNode { links: leaves.iter().map(link).collect(), data: None };
    let Ok(root) = Block::sha2_256(codec::DAG_PB, root.encode()) else { return };
    let top = *root.cid();
    let store: HashMap<Cid, Block> =
        leaves.into_iter().chain([root]).map(|block| (*block.cid(), block)).collect();
    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(store.len() as u64));
    for ahead in [0, 32] {
        group.bench_function(format!("10,000 blocks, {ahead} named ahead"), |b| {
            b.iter(|| {
                let mut walk = DagWalk::new(top, walk::Limits::default());
                loop {
                    match walk.step() {
                        Ok(Step::Need(cid)) => {
                            black_box(walk.upcoming(ahead).count());
                            let block = store.get(&cid).cloned();
                            assert!(block.is_some_and(|block| walk.supply(block).is_ok()));
                        }
                        Ok(Step::Visit(block)) => drop(black_box(block)),
                        Ok(Step::Done) | Err(_) => break,
                    }
                }
            });
        });
    }
}

fn parsing(c: &mut Criterion) {
    let v1 = "/ipfs/bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34";
    let v0 = "/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG";
    let mut group = c.benchmark_group("path");
    for (name, path) in
        [("base32", v1.to_owned()), ("v0", v0.to_owned()), ("names", format!("{v1}/a/b%20c"))]
    {
        group.bench_function(name, |b| b.iter(|| ContentPath::parse(black_box(&path))));
    }
}

criterion_group!(benches, reading, walking, parsing);
criterion_main!(benches);
