//! Which source is asked when.

use super::*;

#[tokio::test(start_paused = true)]
async fn sources_race_for_the_first_block_and_the_others_are_dropped() {
    let world = world();
    let block = block("raced");
    world.source.on(block.cid(), Act::Give(block.clone(), Duration::from_secs(9)));
    world.other.on(block.cid(), Act::Give(block.clone(), millis(20)));
    let session = world.retriever.session();
    let started = Instant::now();
    assert_eq!(world.retriever.block(block.cid(), &session).await.unwrap(), block);
    assert_eq!(started.elapsed(), millis(20));
    assert_eq!(session.trace().tier(), Tier::Source("other"));
    assert_eq!((world.source.asked(), world.source.under_way()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_gave_a_block_is_asked_alone_for_the_next() {
    let world = world();
    let session = world.retriever.session();
    for n in 0..20 {
        let block = numbered(n);
        world.source.on(block.cid(), Act::Give(block.clone(), millis(30)));
        world.other.on(block.cid(), Act::Give(block.clone(), millis(20)));
        assert_eq!(world.retriever.block(block.cid(), &session).await.unwrap(), block);
    }
    assert_eq!((world.source.asked(), world.other.asked()), (1, 20));
}

#[tokio::test(start_paused = true)]
async fn others_are_asked_when_the_proven_one_is_slow_or_lacks_a_block() {
    let world = world();
    let session = world.retriever.session();
    let first = numbered(0);
    world.source.on(first.cid(), Act::Give(first.clone(), millis(10)));
    world.retriever.block(first.cid(), &session).await.unwrap();

    // It stalls: the other gets the block after the least patience, and is then proven.
    let slow = numbered(1);
    world.source.on(slow.cid(), Act::Stall);
    world.other.on(slow.cid(), Act::Give(slow.clone(), millis(10)));
    let started = Instant::now();
    assert_eq!(world.retriever.block(slow.cid(), &session).await.unwrap(), slow);
    assert_eq!(started.elapsed(), millis(510));
    assert_eq!(world.source.under_way(), 0);

    // The other lacks the next: the first is asked at once.
    let lacked = numbered(2);
    world.source.on(lacked.cid(), Act::Give(lacked.clone(), millis(10)));
    let started = Instant::now();
    assert_eq!(world.retriever.block(lacked.cid(), &session).await.unwrap(), lacked);
    assert_eq!(started.elapsed(), millis(10));
}

#[tokio::test(start_paused = true)]
async fn patience_grows_with_what_a_block_takes() {
    let world = world();
    let session = world.retriever.session();
    for n in 0..4 {
        let block = numbered(n);
        world.source.on(block.cid(), Act::Give(block.clone(), Duration::from_secs(2)));
        world.retriever.block(block.cid(), &session).await.unwrap();
    }
    assert_eq!(world.other.asked(), 1, "only for the first");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_leaves_the_block_to_the_others() {
    let world = world();
    let block = block("half");
    world.source.on(block.cid(), Act::Fail(FetchError::Unavailable("down".into())));
    world.other.on(block.cid(), Act::Give(block.clone(), millis(50)));
    assert_eq!(world.get(&block).await.unwrap(), block);
    let lost = super::block("lost");
    for source in [&world.source, &world.other] {
        source.on(lost.cid(), Act::Fail(FetchError::Unavailable("down".into())));
    }
    let outcome = world.get(&lost).await;
    assert!(matches!(outcome, Err(FetchError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_has_one_deadline() {
    let world = world();
    let block = block("stalled");
    world.source.on(block.cid(), Act::Stall);
    let started = Instant::now();
    let session = Session::new(started + Duration::from_secs(4));
    let outcome = world.retriever.block(block.cid(), &session).await;
    assert!(outcome.is_err());
    assert_eq!(started.elapsed().as_secs(), 4);
    assert_eq!((world.source.under_way(), world.other.under_way()), (0, 0));
}
