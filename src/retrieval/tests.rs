use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::block::{Phase, codec};
use crate::cache;
use crate::metrics::Registry;
use crate::provider::{Deed, Met, Protocols, Provider, ProviderId, RouterError};
use crate::testing::{Act, MemoryBlockstore, ScriptedRouter, ScriptedSource};

mod ladder;
mod lookups;

struct World {
    store: MemoryBlockstore,
    source: ScriptedSource,
    /// A second source, which has nothing unless a test says so.
    other: ScriptedSource,
    retriever: Retriever,
}

fn world() -> World {
    world_with(None)
}

fn world_with(router: Option<&ScriptedRouter>) -> World {
    let registry = Registry::new();
    let metrics = cache::Metrics::register(&registry).unwrap();
    let cache = cache::BlockCache::new(&cache::Config::default(), metrics);
    let store = MemoryBlockstore::default();
    let (source, other) = (ScriptedSource::named("first"), ScriptedSource::named("other"));
    let metrics = Metrics::register(&registry).unwrap();
    let parts = Parts {
        sources: vec![Arc::new(source.clone()), Arc::new(other.clone())],
        router: router.cloned().map(|router| Arc::new(router) as Arc<dyn ContentRouter>),
        ..Parts::local(cache, Arc::new(store.clone()))
    };
    let retriever = Retriever::new(parts, Config::default(), &metrics);
    World { store, source, other, retriever }
}

impl World {
    async fn get(&self, block: &Block) -> Result<Block, FetchError> {
        self.retriever.block(block.cid(), &self.retriever.session()).await
    }

    /// Waits until what was fetched is on disk.
    async fn settle(&self) {
        while !self.retriever.shared.keeper.is_idle() {
            tokio::task::yield_now().await;
        }
    }
}

fn block(text: &'static str) -> Block {
    Block::sha2_256(codec::RAW, Bytes::from_static(text.as_bytes())).unwrap()
}

fn numbered(n: u32) -> Block {
    Block::sha2_256(codec::RAW, n.to_le_bytes().to_vec().into()).unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn missing(outcome: Result<Block, FetchError>) -> Arc<Missing> {
    match outcome {
        Err(FetchError::Missing(missing)) => missing,
        other => panic!("{other:?}"),
    }
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
    let waiters = (0..1000).map(|_| world.get(&block));
    for outcome in futures_util::future::join_all(waiters).await {
        assert_eq!(outcome.unwrap(), block);
    }
    assert_eq!(world.source.asked(), 1);
    world.settle().await;
    assert_eq!(world.store.len(), 1);
    assert_eq!(world.retriever.shared.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_to_leave_cancels_the_fetch() {
    let world = world();
    let block = block("stalled");
    world.source.on(block.cid(), Act::Stall);
    let mut first = Box::pin(world.get(&block));
    let mut second = Box::pin(world.get(&block));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(world.source.under_way(), 1);
    drop(second);
    assert_eq!(world.source.under_way(), 0);
    assert_eq!(world.retriever.shared.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_when_whoever_began_it_leaves() {
    let world = world();
    let block = block("far away");
    world.source.on(block.cid(), Act::Give(block.clone(), Duration::from_secs(3)));
    let mut first = Box::pin(world.get(&block));
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = world.get(&block);
    let leaving = async {
        tokio::time::sleep(millis(1000)).await;
        drop(first);
    };
    let (outcome, ()) = tokio::join!(second, leaving);
    assert_eq!((outcome.unwrap(), world.source.asked()), (block, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_came_later_waits_as_long_as_whoever_came_first() {
    let world = world();
    let block = block("late");
    world.source.on(block.cid(), Act::Stall);
    let second = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let later = world.get(&block);
        world.source.on(block.cid(), Act::Give(block.clone(), Duration::from_secs(5)));
        later.await
    };
    // The first ends after 25 s; the second has 20 s more, and asks anew.
    let (first, second) = tokio::join!(world.get(&block), second);
    assert!(missing(first).timed_out);
    assert_eq!(second.unwrap(), block);
}

#[tokio::test(start_paused = true)]
async fn a_stall_ends_in_a_timeout_after_the_patience_for_one_block() {
    let world = world();
    let block = block("stalled");
    world.source.on(block.cid(), Act::Stall);
    let started = Instant::now();
    let report = missing(world.get(&block).await);
    assert!(report.timed_out);
    assert_eq!(started.elapsed().as_secs(), 25);
    assert_eq!(world.source.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lie_is_as_good_as_nothing_and_absence_is_remembered_briefly() {
    let world = world();
    let (wanted, other) = (block("wanted"), block("other"));
    world.source.on(wanted.cid(), Act::Lie(other));
    world.source.meets(Met { known: 1, reached: 1, answered: 1, gave: 0 });
    let first = missing(world.get(&wanted).await);
    let asked = world.other.asked();
    let second = missing(world.get(&wanted).await);
    assert!(!first.timed_out && Arc::ptr_eq(&first, &second), "its report is kept");
    assert_eq!((world.source.asked(), world.other.asked()), (1, asked));
    assert_eq!(world.store.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_appears_while_it_is_asked_for_is_found() {
    let world = world();
    let block = block("just provided");
    world.source.on(block.cid(), Act::GiveLate(block.clone(), Duration::from_secs(3)));
    let started = Instant::now();
    let waiters = (0..1000).map(|_| world.get(&block));
    for outcome in futures_util::future::join_all(waiters).await {
        assert_eq!(outcome.unwrap(), block);
    }
    assert_eq!((started.elapsed(), world.source.asked()), (Duration::from_secs(3), 1));
}

#[tokio::test(start_paused = true)]
async fn a_miss_ends_at_once_when_nothing_can_come_any_more() {
    let started = Instant::now();
    let report = missing(world().get(&block("nowhere")).await);
    assert_eq!(started.elapsed(), Duration::ZERO, "no router, nobody known");
    let text = "no providers found: no peer is connected, and there is no router to ask";
    assert!(report.to_string().ends_with(text), "{report}");

    let error = RouterError { router: "test".into(), reason: "it is down".into() };
    let router = ScriptedRouter::naming(vec![(millis(70), Err(error))]);
    let world = world_with(Some(&router));
    let started = Instant::now();
    missing(world.get(&block("nowhere")).await);
    assert_eq!(started.elapsed(), millis(70), "when the last router has answered");

    // Whoever gave the other blocks lacks this one, and does not keep the want.
    let (session, first) = (world.retriever.session(), block("first"));
    world.source.on(first.cid(), Act::Give(first.clone(), millis(5)));
    world.retriever.block(first.cid(), &session).await.unwrap();
    let started = Instant::now();
    missing(world.retriever.block(block("second").cid(), &session).await);
    assert_eq!(started.elapsed(), millis(70));
}

#[tokio::test(start_paused = true)]
async fn where_somebody_may_come_by_it_a_miss_is_told_after_five_seconds() {
    let world = world();
    let block = block("kept");
    world.source.on(block.cid(), Act::Keep);
    let started = Instant::now();
    let report = missing(world.get(&block).await);
    assert!(!report.timed_out);
    assert_eq!((started.elapsed(), world.source.asked()), (Duration::from_secs(5), 1));
}

#[tokio::test(start_paused = true)]
async fn who_gave_this_request_blocks_and_falls_silent_is_waited_for_a_while_longer() {
    let world = world();
    let block = block("slow");
    world.source.meets(Met { gave: 1, ..Met::default() });
    world.source.on(block.cid(), Act::Keep);
    let started = Instant::now();
    missing(world.get(&block).await);
    assert_eq!((started.elapsed(), world.source.asked()), (Duration::from_secs(10), 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_of_a_miss_when_there_was_nobody_to_ask() {
    let world = world();
    let block = block("early");
    missing(world.get(&block).await);
    world.source.on(block.cid(), Act::Give(block.clone(), Duration::ZERO));
    assert_eq!(world.get(&block).await.unwrap(), block);
}

#[tokio::test]
async fn a_local_only_session_asks_nobody() {
    let world = world();
    let block = block("elsewhere");
    world.source.on(block.cid(), Act::Give(block.clone(), Duration::ZERO));
    let session = world.retriever.session().local_only();
    let outcome = world.retriever.block(block.cid(), &session).await;
    assert!(matches!(outcome, Err(FetchError::NotFound(_))), "{outcome:?}");
    assert_eq!(world.source.asked(), 0);
}
