//! The gateway by itself, without sockets: what a request costs that is answered from memory.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use estuary::block::{Block, Cid, codec};
use estuary::cache::{self, BlockCache};
use estuary::gateway::{self, Gateway};
use estuary::metrics::Registry;
use estuary::retrieval::{self, Retriever};
use estuary::routing::{self, Names};
use estuary::testing::MemoryBlockstore;
use http_body_util::BodyExt;

type Failure = Box<dyn std::error::Error>;

fn gateway(store: MemoryBlockstore) -> Result<Gateway, Failure> {
    let registry = Registry::new();
    let cache = cache::Config { bytes_max: 512 << 20 };
    let cache = BlockCache::new(&cache, cache::Metrics::register(&registry)?);
    let config = retrieval::Config::default();
    let metrics = retrieval::Metrics::register(&registry)?;
    let retriever =
        Retriever::new(retrieval::Parts::local(cache, Arc::new(store)), config, &metrics);
    let metrics = routing::Metrics::register(&registry)?;
    let names = Names::new(routing::Parts::default(), metrics);
    let parts = gateway::Parts { retriever, names };
    let metrics = gateway::Metrics::register(&registry)?;
    Ok(Gateway::new(parts, &gateway::Config::default(), &metrics))
}

/// A request, how many bytes its answer has at least, and what to call it.
struct Case {
    name: &'static str,
    uri: String,
    held: Option<String>,
    bytes: u64,
}

fn cases(store: &MemoryBlockstore) -> Result<Vec<Case>, Failure> {
    let data: Vec<u8> =
        (0..64_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let leaf =
        Block::sha2_256(codec::RAW, Bytes::copy_from_slice(data.get(..1024).unwrap_or_default()))?;
    let leaf_cid = *leaf.cid();
    store.insert([leaf]);
    let file = store.add_file(&data, 1 << 20)?;
    let small_blocks = store.add_file(&data, 16 << 10)?;
    let names = (0..100).map(|n| (format!("file-{n:03}.txt"), leaf_cid));
    let directory = store.add_directory(names)?;
    let case = |name, cid: &Cid, below: &str, bytes| {
        let uri = format!("/ipfs/{cid}{below}");
        Case { name, uri, held: None, bytes }
    };
    Ok(vec![
        case("leaf_1k", &leaf_cid, "", 1024),
        Case { held: Some(format!("\"{leaf_cid}\"")), ..case("not_modified", &leaf_cid, "", 0) },
        case("listing_100", &directory, "/", 1024),
        case("below_directory", &directory, "/file-050.txt", 1024),
        case("file_64m", &file, "", 64 << 20),
        case("car_64m_of_16k", &small_blocks, "?format=car", 64 << 20),
    ])
}

async fn answer(gateway: &Gateway, case: &Case) -> u64 {
    let mut request = http::Request::builder().uri(case.uri.as_str());
    if let Some(held) = &case.held {
        request = request.header(http::header::IF_NONE_MATCH, held);
    }
    let Ok(request) = request.body(()) else { return 0 };
    let mut body = gateway.respond(request, gateway::Peer::default()).await.into_body();
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

fn requests(criterion: &mut Criterion) {
    let store = MemoryBlockstore::default();
    let (Ok(cases), Ok(gateway)) = (cases(&store), gateway(store)) else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let mut group = criterion.benchmark_group("gateway");
    for case in &cases {
        assert!(runtime.block_on(answer(&gateway, case)) >= case.bytes, "{}", case.name);
        if case.bytes > 1 << 20 {
            group.throughput(Throughput::Bytes(case.bytes)).sample_size(10);
        } else {
            group.throughput(Throughput::Elements(1)).sample_size(100);
        }
        group.bench_with_input(BenchmarkId::from_parameter(case.name), case, |bencher, case| {
            bencher.to_async(&runtime).iter(|| async { black_box(answer(&gateway, case).await) });
        });
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
