//! What importing costs before any disk: cutting, hashing and building trees, on one core; and the
//! whole way of an upload into a store that has its blocks already, on all cores.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estuary::blockstore::{self, Store};
use estuary::db::{self, Db};
use estuary::ipld::unixfs::import::{FileBuilder, Profile};
use estuary::metrics::Registry;
use estuary::upload::{self, Options, Record, Upload};

type Failure = Box<dyn std::error::Error>;

const FILE_BYTES: usize = 256 << 20;
/// What arrives at once.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes that differ from chunk to chunk.
fn content() -> Bytes {
    let mut content = vec![0; FILE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    content.into()
}

fn pieces(content: &Bytes, bytes: usize) -> impl Iterator<Item = Bytes> {
    let content = content.clone();
    (0..content.len())
        .step_by(bytes)
        .map(move |at| content.slice(at..content.len().min(at + bytes)))
}

fn one_core(c: &mut Criterion) {
    let content = content();
    let mut group = c.benchmark_group("import on one core");
    group.throughput(Throughput::Bytes(FILE_BYTES as u64)).sample_size(10);
    for profile in Profile::ALL {
        group.bench_function(profile.name(), |b| {
            b.iter(|| {
                let mut file = FileBuilder::new(profile, profile.links_max());
                for chunk in pieces(&content, profile.chunker().bytes_max()) {
                    let Ok(leaf) = profile.leaf(chunk) else { continue };
                    drop(black_box(file.push(&leaf)));
                }
                black_box(file.finish())
            });
        });
    }
}

fn upload(dir: &std::path::Path) -> Result<Upload, Failure> {
    let registry = Registry::new();
    let metrics = db::Metrics::register(&registry)?;
    let db = Db::open(&dir.join("db"), &db::Config::default(), metrics)?;
    let metrics = blockstore::Metrics::register(&registry)?;
    let config = blockstore::Config::default();
    let store = Store::open(&dir.join("segments"), db.clone(), &config, metrics)?;
    let metrics = upload::Metrics::register(&registry)?;
    Ok(Upload::new(store, db, &upload::Config::default(), metrics))
}

async fn add(upload: &Upload, profile: Profile, content: &Bytes) -> Result<(), upload::Error> {
    let mut adding = upload.begin(Options { profile, chunker: None }).await?;
    adding.file("")?;
    for piece in pieces(content, PIECE_BYTES) {
        adding.write(piece).await?;
    }
    adding.end_file().await?;
    adding.finish(Record::default()).await.map(drop)
}

fn all_cores(c: &mut Criterion) {
    let content = content();
    let (Ok(dir), Ok(runtime)) = (tempfile::tempdir(), tokio::runtime::Runtime::new()) else {
        return;
    };
    let Ok(upload) = runtime.block_on(async { upload(dir.path()) }) else { return };
    let mut group = c.benchmark_group("upload of what is there");
    group.throughput(Throughput::Bytes(FILE_BYTES as u64)).sample_size(10);
    for profile in Profile::ALL {
        assert!(runtime.block_on(add(&upload, profile, &content)).is_ok());
        group.bench_function(profile.name(), |b| {
            b.iter(|| runtime.block_on(add(&upload, profile, &content)).is_ok());
        });
    }
}

criterion_group!(benches, one_core, all_cores);
criterion_main!(benches);
