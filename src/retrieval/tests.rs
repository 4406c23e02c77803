use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::block::codec;
use crate::cache;
use crate::metrics::Registry;
use crate::testing::{Act, MemoryBlockstore, ScriptedSource};

struct World {
    store: MemoryBlockstore,
    source: ScriptedSource,
    retriever: Retriever,
}

fn world() -> World {
    let registry = Registry::new();
    let cache = cache::BlockCache::new(
        &cache::Config::default(),
        cache::Metrics::register(&registry).unwrap(),
    );
    let (store, source) = (MemoryBlockstore::default(), ScriptedSource::default());
    let metrics = Metrics::register(&registry).unwrap();
    let retriever = Retriever::new(
        cache,
        Arc::new(store.clone()),
        vec![Arc::new(source.clone())],
        Config::default(),
        &metrics,
    );
    World { store, source, retriever }
}

fn block(text: &'static str) -> Block {
    Block::sha2_256(codec::RAW, Bytes::from_static(text.as_bytes())).unwrap()
}

#[tokio::test]
async fn what_is_on_disk_is_read_once_and_no_source_is_asked() {
    let world = world();
    let block = block("on disk");
    world.store.insert([block.clone()]);
    let session = world.retriever.session();
    for _ in 0..3 {
        assert_eq!(world.retriever.block(block.cid(), &session).await.unwrap(), block);
    }
    assert_eq!((world.store.reads(), world.source.asked()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_share_one_fetch() {
    let world = world();
    let block = block("far away");
    world.source.on(block.cid(), Act::Give(block.clone(), Duration::from_secs(3)));
    let session = world.retriever.session();
    let waiters = (0..1000).map(|_| world.retriever.block(block.cid(), &session));
    for outcome in futures_util::future::join_all(waiters).await {
        assert_eq!(outcome.unwrap(), block);
    }
    assert_eq!(world.source.asked(), 1);
    assert_eq!(world.store.len(), 1);
    assert_eq!(world.retriever.shared.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_to_leave_cancels_the_fetch() {
    let world = world();
    let block = block("stalled");
    world.source.on(block.cid(), Act::Stall);
    let session = world.retriever.session();
    let mut first = Box::pin(world.retriever.block(block.cid(), &session));
    let mut second = Box::pin(world.retriever.block(block.cid(), &session));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(world.source.under_way(), 1);
    drop(second);
    assert_eq!(world.source.under_way(), 0);
    assert_eq!(world.retriever.shared.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stall_ends_in_a_timeout_after_the_patience_for_one_block() {
    let world = world();
    let block = block("stalled");
    world.source.on(block.cid(), Act::Stall);
    let started = Instant::now();
    let outcome = world.retriever.block(block.cid(), &world.retriever.session()).await;
    assert!(matches!(outcome, Err(FetchError::Timeout(..))), "{outcome:?}");
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_lie_is_as_good_as_nothing_and_absence_is_remembered_briefly() {
    let world = world();
    let (wanted, other) = (block("wanted"), block("other"));
    world.source.on(wanted.cid(), Act::Lie(other));
    let session = world.retriever.session();
    for _ in 0..2 {
        let outcome = world.retriever.block(wanted.cid(), &session).await;
        assert!(matches!(outcome, Err(FetchError::NotFound(_))), "{outcome:?}");
    }
    assert_eq!((world.source.asked(), world.store.len()), (1, 0));
}

#[tokio::test]
async fn a_local_only_session_asks_nobody() {
    let world = world();
    let block = block("elsewhere");
    world.source.on(block.cid(), Act::Give(block.clone(), Duration::ZERO));
    let session = world.retriever.session().local_only();
    assert!(world.retriever.block(block.cid(), &session).await.is_err());
    assert_eq!(world.source.asked(), 0);
}
