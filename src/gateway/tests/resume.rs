//! A CAR taken up where a download broke off.

use super::made::cbor_links;
use super::*;

/// Paths of CARs of many shapes, with the whole of each.
async fn cars(world: &World) -> Vec<(String, Answer)> {
    let file = world.store.add_file(&bytes(100_000), 40_000).unwrap();
    let small = world.store.add_file(&bytes(3000), 256).unwrap();
    let inner = world.store.add_directory([("a", file), ("b", small), ("c", file)]).unwrap();
    let outer = world.store.add_directory([("inner", inner), ("again", inner)]).unwrap();
    let data = cbor_links(world, &[("x", small), ("y", outer), ("z", small)]);
    let mut cars = Vec::new();
    for path in [
        format!("{outer}"),
        format!("{outer}/inner"),
        format!("{outer}/inner/a"),
        format!("{data}"),
        format!("{data}/y/again/b"),
        world.raw("leaf").to_string(),
    ] {
        for query in [
            "",
            "&car-dups=y",
            "&dag-scope=block",
            "&dag-scope=entity&car-dups=y",
            "&entity-bytes=1000:50000",
            "&entity-bytes=-500:*&car-dups=y",
        ] {
            let uri = format!("/ipfs/{path}?format=car{query}");
            let whole = world.get(&uri).await;
            assert_eq!((whole.status, whole.whole), (200, true), "{uri}");
            cars.push((uri, whole));
        }
    }
    cars
}

#[tokio::test]
async fn a_car_goes_on_at_any_byte_as_it_would_have() {
    let world = world();
    for (uri, whole) in cars(&world).await {
        let (tag, size) = (whole.header("etag"), whole.body.len());
        assert_eq!(whole.header("accept-ranges"), "none");
        let cuts = [0, 1, 58, 59, 60, 99, 100, 4096, size / 3, size / 2, size - 2, size - 1];
        for from in cuts.into_iter().chain((0..size).step_by(7919)).filter(|cut| *cut < size) {
            let until = (from + 1 + from % 70_000).min(size);
            for (range, want) in [
                (format!("bytes={from}-"), from..size),
                (format!("bytes={from}-{}", until - 1), from..until),
            ] {
                let headers = [("range", range.as_str()), ("if-range", tag)];
                let part = world.ask(Method::GET, &uri, &headers).await;
                assert_eq!((part.status, part.whole), (206, true), "{uri} {range}");
                assert!(part.body == whole.body[want.clone()], "{uri} {range}");
                let content_range = format!("bytes {}-{}/{size}", want.start, want.end - 1);
                assert_eq!(part.header("content-range"), content_range, "{uri}");
                assert_eq!(part.header("content-length"), want.len().to_string(), "{uri}");
                for same in ["etag", "content-type", "x-ipfs-roots", "accept-ranges", "vary"] {
                    assert_eq!(part.header(same), whole.header(same), "{uri} {range} {same}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_range_of_a_car_that_does_not_hold_is_the_whole_or_416() {
    let world = world();
    for (uri, whole) in cars(&world).await {
        let size = whole.body.len();
        let weak = format!("W/{}", whole.header("etag"));
        let part = ("range", "bytes=1-");
        for headers in [
            &[part, ("if-range", "\"other\"")] as &[_],
            &[part, ("if-range", weak.as_str())],
            &[part, ("if-range", "Thu, 01 Jan 2026 00:00:00 GMT")],
            &[("range", "bytes=0-0,5-5")],
            &[("range", "bytes=2-1")],
        ] {
            let answer = world.ask(Method::GET, &uri, headers).await;
            assert_eq!((answer.status, answer.header("content-range")), (200, ""), "{headers:?}");
            assert!(answer.body == whole.body, "{uri} {headers:?}");
        }
        let beyond = format!("bytes={size}-");
        let answer = world.ask(Method::GET, &uri, &[("range", &beyond)]).await;
        assert_eq!(answer.status, 416, "{uri}");
        assert_eq!(answer.header("content-range"), format!("bytes */{size}"), "{uri}");
        let head = world.ask(Method::HEAD, &uri, &[part]).await;
        assert_eq!((head.status, head.header("content-range")), (200, ""), "{uri}");
    }
}

#[tokio::test]
async fn a_part_of_a_car_does_not_read_the_leaves_before_it() {
    let world = world();
    let cid = world.store.add_file(&bytes(100_000), 1000).unwrap();
    let uri = format!("/ipfs/{cid}?format=car");
    let size = {
        let elsewhere = super::world();
        elsewhere.store.add_file(&bytes(100_000), 1000).unwrap();
        elsewhere.get(&uri).await.body.len()
    };
    let range = format!("bytes={}-", size - 1);
    let part = world.ask(Method::GET, &uri, &[("range", &range)]).await;
    assert_eq!((part.status, part.body.len()), (206, 1));
    assert!(world.store.reads() < 5, "{}", world.store.reads());
}

#[tokio::test]
async fn a_car_that_cannot_be_measured_is_sent_whole() {
    let world = world();
    let cid = world.store.add_file(&bytes(10_000), 1000).unwrap();
    world.store.remove(world.links(&cid).get(7).unwrap());
    let uri = format!("/ipfs/{cid}?format=car");
    let answer = world.ask(Method::GET, &uri, &[("range", "bytes=100-")]).await;
    assert_eq!((answer.status, answer.whole, answer.header("content-range")), (200, false, ""));
}

#[tokio::test(start_paused = true)]
async fn a_car_whose_measure_takes_long_is_sent_whole() {
    let world = world_of(true);
    let leaves: Vec<Block> = (0..30_u8)
        .map(|n| Block::sha2_256(codec::RAW, Bytes::from(vec![n; 100])).unwrap())
        .collect();
    for leaf in &leaves {
        world.source.on(leaf.cid(), Act::Give(leaf.clone(), std::time::Duration::from_secs(20)));
    }
    let names: Vec<String> = (0..leaves.len()).map(|n| format!("{n:02}")).collect();
    let entries = names.iter().zip(&leaves).map(|(name, leaf)| (name.as_str(), *leaf.cid()));
    let root = world.store.add_directory(entries).unwrap();
    let uri = format!("/ipfs/{root}?format=car");
    let began = Instant::now();
    let answer = world.ask(Method::GET, &uri, &[("range", "bytes=100-")]).await;
    assert_eq!((answer.status, answer.whole, answer.header("content-range")), (200, true, ""));
    assert!(began.elapsed() > std::time::Duration::from_secs(10));
    // By now all of it is here.
    let part = world.ask(Method::GET, &uri, &[("range", "bytes=100-")]).await;
    assert_eq!((part.status, &part.body), (206, &answer.body.slice(100..)));
}
