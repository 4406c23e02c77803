//! Content that is fetched while it is sent: what is fetched ahead, and what is not.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// What a block takes from the source, in milliseconds.
const ROUND_TRIP: u64 = 20;

/// A world whose blocks are all at the source, each a round trip away.
fn far(world: World) -> World {
    for block in world.store.take_all() {
        let act = Act::Give(block.clone(), Duration::from_millis(ROUND_TRIP));
        world.source.on(block.cid(), act);
    }
    world
}

/// An answer, and how many round trips it took.
async fn timed(world: &World, uri: &str) -> (Answer, u64) {
    let began = Instant::now();
    let answer = world.get(uri).await;
    (answer, u64::try_from(began.elapsed().as_millis()).unwrap() / ROUND_TRIP)
}

#[tokio::test(start_paused = true)]
async fn a_cold_car_of_a_thousand_small_blocks_takes_few_round_trips() {
    let world = world_of(true);
    let data = bytes(1_000_000);
    let cid = world.store.add_file(&data, 1000).unwrap();
    let whole = world.get(&format!("/ipfs/{cid}?format=car")).await.body;
    let world = world_of(true);
    world.store.add_file(&data, 1000).unwrap();
    let world = far(world);
    let (answer, trips) = timed(&world, &format!("/ipfs/{cid}?format=car")).await;
    assert_eq!((answer.status, answer.whole, answer.body == whole), (200, true, true));
    assert!(trips <= 16, "{trips}");
    assert_eq!(world.source.asked(), 1001, "each block is asked for once");
}

#[tokio::test(start_paused = true)]
async fn the_window_reaches_beyond_the_nodes_of_a_deep_file() {
    let data = bytes(1_000_000);
    for format in ["raw-leaves", "car", "tar"] {
        let world = world_of(true);
        let cid = world.store.add_narrow_file(&data, 1000, 10).unwrap();
        let world = far(world);
        let query =
            if format == "raw-leaves" { String::new() } else { format!("?format={format}") };
        let (answer, trips) = timed(&world, &format!("/ipfs/{cid}{query}")).await;
        assert!(answer.whole && answer.body.len() >= data.len(), "{format}");
        // Depth alone takes four.
        assert!(trips <= 14, "{format}: {trips}");
        assert_eq!(world.source.asked(), 1111, "{format}: each block is asked for once");
    }
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_large_folder_are_fetched_beside_each_other() {
    let world = world_of(true);
    let file = world.raw("x");
    let names = (0..10_000).map(|n| (format!("entry number {n:05} of a large folder"), file));
    let root = world.store.add_directory(names).unwrap();
    let world = far(world);
    let (answer, trips) = timed(&world, &format!("/ipfs/{root}/")).await;
    assert_eq!(answer.status, 200);
    assert!(world.source.asked() > 100, "it has shards: {}", world.source.asked());
    assert!(trips <= 30, "{trips} for {} shards", world.source.asked());
}

#[tokio::test(start_paused = true)]
async fn the_files_of_a_folder_are_fetched_beside_each_other() {
    let world = world_of(true);
    let files: Vec<Cid> = (0..500).map(|n| world.raw(format!("content of file {n}"))).collect();
    let names = files.iter().enumerate().map(|(n, cid)| (format!("file {n:03}"), *cid));
    let root = world.store.add_directory(names).unwrap();
    let world = far(world);
    for format in ["tar", "car"] {
        let (answer, trips) = timed(&world, &format!("/ipfs/{root}?format={format}")).await;
        assert!(answer.whole && answer.status == 200);
        assert!(trips <= 16, "{format}: {trips}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_fetches_its_blocks_alone() {
    let world = world_of(true);
    let data = bytes(1_000_000);
    let cid = world.store.add_narrow_file(&data, 1000, 10).unwrap();
    let world = far(world);
    let range = [("range", "bytes=500000-519999")];
    let answer = world.ask(Method::GET, &format!("/ipfs/{cid}"), &range).await;
    assert_eq!((answer.status, answer.body == data[500_000..520_000]), (206, true));
    // Twenty leaves, the nodes above them, and the three blocks whose beginning tells the type.
    assert_eq!(world.source.asked(), 20 + 4 + 3);
    let entity = format!("/ipfs/{cid}?format=car&entity-bytes=900000:909999");
    let before = world.source.asked();
    assert!(world.get(&entity).await.whole);
    assert!(world.source.asked() - before <= 10 + 4, "{}", world.source.asked() - before);
}

/// A body that has begun, and how much of it came.
async fn begin(world: &World, uri: &str) -> (Body, usize) {
    let request = http::Request::builder().uri(uri).body(()).unwrap();
    let response = world.gateway.respond(request, Peer::default()).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    (body, first)
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_leave_when_the_first_block_is_there() {
    let world = world_of(true);
    let cid = world.store.add_file(&bytes(400_000), 1000).unwrap();
    let leaves = world.links(&cid);
    let first = block::Blockstore::get(&world.store, &leaves[0]).await.unwrap().unwrap();
    for leaf in &leaves {
        world.store.remove(leaf);
        world.source.on(leaf, Act::Stall);
    }
    world.source.on(first.cid(), Act::Give(first.clone(), Duration::from_millis(ROUND_TRIP)));
    for query in ["", "?format=car", "?format=tar"] {
        let world = far_first(&world, &first);
        let began = Instant::now();
        let (body, _) = begin(world, &format!("/ipfs/{cid}{query}")).await;
        assert!(began.elapsed().as_millis() <= u128::from(ROUND_TRIP), "{query}");
        drop(body);
        assert_eq!(world.source.under_way(), 0, "{query}");
    }
}

/// The same, but the first block is not here any more.
fn far_first<'a>(world: &'a World, first: &Block) -> &'a World {
    world.store.remove(first.cid());
    world
}

#[tokio::test(start_paused = true)]
async fn when_the_client_leaves_the_work_stops() {
    let data = bytes(1_000_000);
    for query in ["", "?format=car", "?format=tar"] {
        let world = world_of(true);
        let cid = world.store.add_file(&data, 1000).unwrap();
        let world = far(world);
        let (mut body, mut taken) = begin(&world, &format!("/ipfs/{cid}{query}")).await;
        while taken < 100_000 || world.source.under_way() == 0 {
            taken += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        drop(body);
        let asked = world.source.asked();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!((world.source.under_way(), world.source.asked()), (0, asked), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_run_far_ahead_of() {
    let world = world_of(true);
    let data = bytes(24_000_000);
    let cid = world.store.add_file(&data, 100_000).unwrap();
    let world = far(world);
    let (mut body, mut taken) = begin(&world, &format!("/ipfs/{cid}")).await;
    let mut most_ahead = 0;
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().into_data().unwrap().len();
        tokio::time::sleep(Duration::from_millis(200)).await;
        if taken > 3_000_000 {
            let blocks = taken / 100_000;
            most_ahead = most_ahead.max(world.source.asked().saturating_sub(blocks + 1));
        }
    }
    assert_eq!(taken, data.len());
    assert!(most_ahead <= 12, "{most_ahead} blocks");
}

#[tokio::test(start_paused = true)]
async fn large_blocks_are_bounded_in_bytes() {
    let world = world_of(true);
    let data = bytes(80 << 20);
    let cid = world.store.add_file(&data, 1 << 20).unwrap();
    let world = far(world);
    let (answer, trips) = timed(&world, &format!("/ipfs/{cid}")).await;
    assert_eq!(answer.body.len(), data.len());
    assert!(world.source.most_under_way() <= 17, "{}", world.source.most_under_way());
    assert!(trips <= 20, "{trips}");
}

#[tokio::test(start_paused = true)]
async fn what_failed_before_its_turn_is_tried_again() {
    let world = world_of(true);
    let data = bytes(20_000);
    let cid = world.store.add_file(&data, 1000).unwrap();
    let leaves = world.links(&cid);
    let broken = leaves[5];
    let good = block::Blockstore::get(&world.store, &broken).await.unwrap().unwrap();
    let world = far(world);
    world.source.on(&broken, Act::Fail(FetchError::Unavailable("once".into())));
    let (mut body, mut taken) = begin(&world, &format!("/ipfs/{cid}")).await;
    taken += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    world.source.on(&broken, Act::Give(good, Duration::from_millis(ROUND_TRIP)));
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(taken, data.len());
}
