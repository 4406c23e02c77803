//! What a fetched block costs from the source to the reader and to disk, with a source that has
//! all of it in memory, and what a request costs that waits for one. Prints rates and bytes.

#![allow(clippy::print_stdout, reason = "the measurements are what this prints")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estuary::block::{Block, Blockstore, Cid, codec};
use estuary::blockstore::{self, Store};
use estuary::cache::{self, BlockCache};
use estuary::db::{self, Db};
use estuary::gateway::{self, Gateway};
use estuary::metrics::Registry;
use estuary::retrieval::{self, Parts, Retriever};
use estuary::routing::{self, Names};
use estuary::testing::{Act, MemoryBlockstore, ScriptedSource};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Requests that wait at once for one block.
const WAITERS: usize = 20_000;

fn retriever(store: Arc<dyn Blockstore>, source: &ScriptedSource) -> Result<Retriever, Failure> {
    let registry = Registry::new();
    let config = cache::Config::default();
    let cache = BlockCache::new(&config, cache::Metrics::register(&registry)?);
    let parts = Parts { sources: vec![Arc::new(source.clone())], ..Parts::local(cache, store) };
    let metrics = retrieval::Metrics::register(&registry)?;
    Ok(Retriever::new(parts, retrieval::Config::default(), &metrics))
}

fn gateway(retriever: Retriever) -> Result<Gateway, Failure> {
    let registry = Registry::new();
    let names = Names::new(routing::Parts::default(), routing::Metrics::register(&registry)?);
    let parts = gateway::Parts { retriever, names };
    let metrics = gateway::Metrics::register(&registry)?;
    Ok(Gateway::new(parts, &gateway::Config::default(), &metrics))
}

/// Content of so many blocks of so many bytes, all of it at the source.
fn content(blocks: usize, block_bytes: usize) -> Result<(Cid, ScriptedSource), Failure> {
    let (store, source) = (MemoryBlockstore::default(), ScriptedSource::default());
    let numbers = (0..(blocks * block_bytes / 8) as u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let root = store.add_file(&numbers.collect::<Vec<u8>>(), block_bytes)?;
    for block in store.take_all() {
        source.on(block.cid(), Act::Give(block.clone(), Duration::ZERO));
    }
    Ok((root, source))
}

async fn read(gateway: &Gateway, uri: &str) -> Result<usize, Failure> {
    let request = http::Request::builder().uri(uri).body(())?;
    let response = gateway.respond(request, gateway::Peer::default()).await;
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.into_data().map_or(0, |data| data.len());
    }
    Ok(bytes)
}

async fn rates() -> Result<(), Failure> {
    for (blocks, block_bytes) in [(1024, 256 << 10), (10_000, 16 << 10)] {
        for query in ["", "?format=car"] {
            for on_disk in [false, true] {
                let (root, source) = content(blocks, block_bytes)?;
                let (dir, stop) = (tempfile::tempdir()?, CancellationToken::new());
                let (store, closing): (Arc<dyn Blockstore>, _) = if on_disk {
                    let registry = Registry::new();
                    let metrics = db::Metrics::register(&registry)?;
                    let db =
                        Db::open(&dir.path().join("db.redb"), &db::Config::default(), metrics)?;
                    let metrics = blockstore::Metrics::register(&registry)?;
                    let config = blockstore::Config::default();
                    let store = Store::open(&dir.path().join("s"), db.clone(), &config, metrics)?;
                    tokio::task::spawn_local(store.clone().maintain(stop.clone()));
                    (Arc::new(store.clone()), Some((store, db)))
                } else {
                    (Arc::new(MemoryBlockstore::default()), None)
                };
                let gateway = gateway(retriever(store, &source)?)?;
                let began = Instant::now();
                let bytes = read(&gateway, &format!("/ipfs/{root}{query}")).await?;
                let took = began.elapsed();
                println!(
                    "{blocks} blocks of {block_bytes} bytes{query}, {}: {:.0} MiB/s, {:.1} us a block",
                    if on_disk { "store" } else { "memory" },
                    bytes as f64 / took.as_secs_f64() / f64::from(1 << 20),
                    took.as_secs_f64() * 1e6 / blocks as f64,
                );
                if let Some((store, db)) = closing {
                    stop.cancel();
                    store.close().await?;
                    db.close()?;
                }
            }
        }
    }
    Ok(())
}

/// Bytes of memory that this process has.
fn resident_bytes() -> Result<usize, Failure> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).unwrap_or_default().parse::<usize>()? * 4096)
}

async fn waiters() -> Result<(), Failure> {
    let source = ScriptedSource::default();
    let block = Block::sha2_256(codec::RAW, Bytes::from_static(b"awaited"))?;
    source.on(block.cid(), Act::Give(block.clone(), Duration::from_secs(3)));
    let gateway = gateway(retriever(Arc::new(MemoryBlockstore::default()), &source)?)?;
    let uri = format!("/ipfs/{}", block.cid());
    let before = resident_bytes()?;
    let all = futures_util::future::join_all((0..WAITERS).map(|_| read(&gateway, &uri)));
    let measure = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        resident_bytes()
    };
    let (answers, after) = tokio::join!(all, measure);
    let whole = answers.into_iter().filter(|answer| answer.is_ok()).count();
    let each = after?.saturating_sub(before) / WAITERS;
    println!(
        "{whole} of {WAITERS} wait for one block: {} fetch, {each} bytes each",
        source.asked()
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        waiters().await?;
        rates().await
    })
}
