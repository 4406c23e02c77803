//! What denylists cost: to read, to hold, and to ask.
//!
//! `LINES=10000000 cargo bench --features testing --bench denylist` for another size than 10^6.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::hint::black_box;
use std::io::{BufWriter, Write};

use bytes::Bytes;
use criterion::Criterion;
use estuary::block::{Block, Cid, codec};
use estuary::denylist::{Config, Denylist, Metrics};
use estuary::metrics::Registry;
use tokio::time::Instant;

fn cid(n: u64) -> Cid {
    *Block::sha2_256(codec::RAW, Bytes::from(n.to_string())).unwrap().cid()
}

/// One line of each form that large lists are in.
fn line(form: &str, n: u64) -> String {
    let cid = cid(n);
    match form {
        "legacy" => format!("//{}\n", data_encoding::HEXLOWER.encode(cid.hash().digest())),
        "double" => format!("//{}\n", Cid::new_v0(*cid.hash()).unwrap()),
        _ => format!("/ipfs/{cid}\n"),
    }
}

/// Memory of this process, in MiB: what it has (`VmRSS:`), or the most it had (`VmHWM:`).
fn memory_mib(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn open(paths: Vec<std::path::PathBuf>) -> Denylist {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Denylist::open(&Config { paths, ..Config::default() }, metrics).unwrap()
}

fn main() {
    let lines: u64 = std::env::var("LINES").map_or(1_000_000, |lines| lines.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut criterion = Criterion::default().configure_from_args();
    let off = open(Vec::new());
    let (hit, miss) = (cid(lines / 2), cid(lines + 1));
    criterion.bench_function("denylist/off", |b| {
        b.iter(|| black_box(off.would_block(black_box(&miss))));
    });
    for form in ["cid", "double", "legacy"] {
        let path = dir.path().join(format!("{form}.deny"));
        let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
        (0..lines).for_each(|n| file.write_all(line(form, n).as_bytes()).unwrap());
        drop(file);
        // Begins to note the most memory anew.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let (before, started) = (memory_mib("VmRSS:"), Instant::now());
        let list = open(vec![path.clone()]);
        let took = started.elapsed();
        let more = |what| memory_mib(what).saturating_sub(before);
        let (has, had) = (more("VmRSS:"), more("VmHWM:"));
        println!("{form}: {lines} lines read in {took:.2?}, {has} MiB, at most {had} MiB");
        for (name, cid) in [("miss", &miss), ("hit", &hit)] {
            criterion.bench_function(&format!("denylist/{form}/{name}"), |b| {
                b.iter(|| black_box(list.would_block(black_box(cid))));
            });
        }
        std::fs::remove_file(&path).unwrap();
    }
}
