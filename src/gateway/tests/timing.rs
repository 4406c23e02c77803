//! `Cache-Status` and `Server-Timing`: where an answer came from, and where its time went.

use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_answer_names_the_farthest_place_that_its_blocks_came_from() {
    let world = world_of(true);
    let far = Block::sha2_256(codec::RAW, Bytes::from_static(b"far")).unwrap();
    world.source.on(far.cid(), Act::Give(far.clone(), Duration::from_millis(250)));
    let root = world.store.add_directory([("far", *far.cid())]).unwrap();
    let uri = format!("/ipfs/{root}/far");

    let first = world.get(&uri).await;
    assert_eq!(first.text(), "far");
    assert_eq!(first.header("cache-status"), "estuary; fwd=miss; stored; detail=scripted");
    // The block of the directory was there at once, the other a quarter of a second later.
    let timing = first.header("server-timing");
    let (path, rest) = timing.split_once(", block;dur=").unwrap();
    assert!(
        path.starts_with("path;dur=") && rest.contains(";desc=scripted, total;dur=250"),
        "{timing}"
    );
    assert_eq!(first.header("timing-allow-origin"), "*");

    let second = world.get(&uri).await;
    assert_eq!(second.header("cache-status"), "estuary; hit; detail=memory");
    assert_eq!((second.header("server-timing"), second.header("timing-allow-origin")), ("", ""));

    let near = world.raw("near");
    for status in ["estuary; hit; detail=disk", "estuary; hit; detail=memory"] {
        let answer = world.get(&format!("/ipfs/{near}")).await;
        assert_eq!(answer.header("cache-status"), status);
        assert_eq!(answer.header("server-timing").is_empty(), status.ends_with("memory"));
    }
    let tag = format!("\"{near}\"");
    let held = world.ask(Method::GET, &format!("/ipfs/{near}"), &[("if-none-match", &tag)]).await;
    assert_eq!((held.status, held.header("cache-status")), (304, "estuary; hit; detail=etag"));
}

#[tokio::test(start_paused = true)]
async fn a_body_ends_with_its_request() {
    let world = world();
    let cid = world.store.add_file(&bytes(400_000), 10_000).unwrap();
    for query in ["", "?format=car"] {
        let request = http::Request::builder().uri(format!("/ipfs/{cid}{query}")).body(());
        let response = world.gateway.respond(request.unwrap(), Peer::default()).await;
        let mut body = response.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        // The client takes an hour for what it has.
        tokio::time::advance(Duration::from_secs(3601)).await;
        let mut whole = true;
        while let Some(frame) = body.frame().await {
            whole &= frame.is_ok();
        }
        assert!(!whole, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_wait_for_one_block_get_the_same_answer() {
    let world = world_of(true);
    let stalled = Block::sha2_256(codec::RAW, Bytes::from_static(b"stalled")).unwrap();
    world.source.on(stalled.cid(), Act::Stall);
    let uri = format!("/ipfs/{}", stalled.cid());
    let answers = futures_util::future::join_all((0..1000).map(|_| world.get(&uri))).await;
    for answer in answers {
        assert_eq!((answer.status, answer.header("retry-after")), (504, "60"));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!((world.source.asked(), world.source.under_way()), (1, 0));
}
