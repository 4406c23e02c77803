//! Ranges, validators of ranges, and times of modification.

use super::made::{Made, huge_file, put};
use super::*;

/// The parts of a `multipart/byteranges` body: where each stands, and its bytes.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let kind = answer.header("content-type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    let (mut rest, mut parts) = (&answer.body[..], Vec::new());
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|at| at == what);
    loop {
        let line = format!("--{boundary}\r\n");
        rest = rest.strip_prefix(line.as_bytes()).unwrap();
        let end = find(rest, b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let range = head.split("Content-Range: bytes ").nth(1).unwrap().to_owned();
        assert!(head.starts_with("Content-Type: "), "{head}");
        let (from, to) = range.split('/').next().unwrap().split_once('-').unwrap();
        let length = to.parse::<usize>().unwrap() - from.parse::<usize>().unwrap() + 1;
        parts.push((range, rest[end + 4..end + 4 + length].to_vec()));
        rest = rest[end + 4 + length..].strip_prefix(b"\r\n").unwrap();
        if rest == format!("--{boundary}--\r\n").as_bytes() {
            return parts;
        }
    }
}

#[tokio::test]
async fn several_ranges_come_as_parts_of_one_response() {
    let world = world();
    let data = bytes(10_000);
    let file = world.store.add_file(&data, 256).unwrap();
    let leaf = world.raw(data.clone());
    for uri in
        [format!("/ipfs/{file}"), format!("/ipfs/{leaf}"), format!("/ipfs/{leaf}?format=raw")]
    {
        let range = [("range", "bytes=9000-9300, 1-3,5-5,-2")];
        let answer = world.ask(Method::GET, &uri, &range).await;
        assert_eq!((answer.status, answer.whole), (206, true));
        let got = parts(&answer);
        let want = [(9000, 9300), (1, 3), (5, 5), (9998, 9999)]
            .map(|(from, to)| (format!("{from}-{to}/10000"), data[from..=to].to_vec()));
        assert_eq!(got, want);
        assert_eq!(answer.header("content-range"), "");
        assert_eq!(world.ask(Method::GET, &uri, &range).await.body, answer.body, "deterministic");
        // What overlaps or touches is one range, and a range of its own.
        let one = world.ask(Method::GET, &uri, &[("range", "bytes=0-5,6-9,3-7")]).await;
        assert_eq!((one.status, one.header("content-range")), (206, "bytes 0-9/10000"));
        assert_eq!(one.body, data[..10]);
        // Ranges are for GET (RFC 9110 section 14.2).
        let head = world.ask(Method::HEAD, &uri, &range).await;
        assert_eq!((head.status, head.header("content-length")), (200, "10000"));
        let beyond = world.ask(Method::GET, &uri, &[("range", "bytes=10000-,20000-")]).await;
        assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10000"));
    }
}

#[tokio::test]
async fn parts_need_only_the_blocks_that_hold_them() {
    let all = world();
    let data = bytes(10_000);
    let file = all.store.add_file(&data, 1000).unwrap();
    let leaves = all.links(&file);
    let world = world();
    for kept in [file, leaves[2], leaves[7]] {
        world.store.insert(block::Blockstore::get(&all.store, &kept).await.unwrap());
    }
    let uri = format!("/ipfs/{file}?filename=a.txt");
    let answer = world.ask(Method::GET, &uri, &[("range", "bytes=2000-2999,7500-7510")]).await;
    assert_eq!((answer.status, answer.whole, parts(&answer).len()), (206, true, 2));
    // A part that is missing is told by the status where it is the first, by a cut where not.
    let first = world.ask(Method::GET, &uri, &[("range", "bytes=0-1,2000-2001")]).await;
    assert_eq!(first.status, 404);
    let later = world.ask(Method::GET, &uri, &[("range", "bytes=2000-2001,0-1")]).await;
    assert_eq!((later.status, later.whole), (206, false));
}

#[tokio::test]
async fn many_ranges_never_give_more_than_the_file() {
    let world = world();
    let file = world.store.add_file(&bytes(1000), 100).unwrap();
    let small =
        |count: usize| -> Vec<String> { (0..count).map(|n| format!("{0}-{0}", 2 * n)).collect() };
    let all = ["0-"; 8].join(",");
    let overlapping = ["-999"; 1000].join(",");
    for ranges in [small(500).join(","), small(8).join(","), all, overlapping] {
        let range = format!("bytes={ranges}");
        let answer = world.ask(Method::GET, &format!("/ipfs/{file}"), &[("range", &range)]).await;
        assert!(matches!(answer.status, 200 | 206), "{}", answer.status);
        assert!(answer.body.len() <= 1000 + (64 << 10));
    }
}

#[tokio::test]
async fn native_nodes_are_served_in_ranges_too() {
    let world = world();
    let json = put(&world, codec::DAG_JSON, r#"{"hello":"world of links"}"#);
    let cbor = put(&world, codec::DAG_CBOR, b"\xa1\x65hello\x6eworld of links".to_vec());
    for (cid, own, plain) in [
        (json, "application/vnd.ipld.dag-json", "application/json"),
        (cbor, "application/vnd.ipld.dag-cbor", "application/cbor"),
    ] {
        let uri = format!("/ipfs/{cid}/");
        let whole = world.get(&uri).await.body;
        for (accept, kind) in [("*/*", own), (own, own), (plain, plain)] {
            let one =
                world.ask(Method::GET, &uri, &[("accept", accept), ("range", "bytes=7-9")]).await;
            assert_eq!((one.status, one.header("content-type")), (206, kind));
            assert_eq!(one.header("content-range"), format!("bytes 7-9/{}", whole.len()));
            assert_eq!(one.body, whole[7..10]);
            let two = world
                .ask(Method::GET, &uri, &[("accept", accept), ("range", "bytes=7-9,1-3")])
                .await;
            assert_eq!(two.status, 206);
            assert!(
                String::from_utf8_lossy(&two.body).contains(&format!("Content-Type: {kind}\r\n"))
            );
            let bytes: Vec<_> = parts(&two).into_iter().map(|(_, bytes)| bytes).collect();
            assert_eq!(bytes, [&whole[7..10], &whole[1..4]]);
        }
    }
}

#[tokio::test]
async fn heads_of_a_terabyte_read_little_and_ranges_of_it_are_refused() {
    let world = world();
    let file = huge_file(&world, 1 << 40);
    for query in ["", "?filename=a.mp4", "?format=raw", "?format=car", "?format=tar"] {
        let before = world.store.reads();
        let head = world.ask(Method::HEAD, &format!("/ipfs/{file}{query}"), &[]).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{query}");
        assert!(world.store.reads() - before <= 8, "{query}: {}", world.store.reads() - before);
    }
    let range = [("range", "bytes=0-0")];
    let refused = world.ask(Method::GET, &format!("/ipfs/{file}"), &range).await;
    assert_eq!(refused.status, 501);
    assert!(refused.text().contains("format=raw"));
    let raw = world.ask(Method::GET, &format!("/ipfs/{file}?format=raw"), &range).await;
    assert_eq!((raw.status, raw.body.len()), (206, 1));
    let head = world.ask(Method::HEAD, &format!("/ipfs/{file}"), &[]).await;
    assert_eq!(head.header("accept-ranges"), "");
    // Whoever runs the gateway may think otherwise.
    let config = Config { range_bytes_max: u64::MAX, ..Config::default() };
    let world = world_configured(false, &[], &config);
    let file = huge_file(&world, 1 << 40);
    let far = [("range", "bytes=1099511627000-1099511627003")];
    let part = world.ask(Method::GET, &format!("/ipfs/{file}"), &far).await;
    assert_eq!((part.status, part.text()), (206, "xxxx"));
}

#[tokio::test]
async fn times_of_modification_are_validators() {
    let world = world();
    let dated = |mtime| Made {
        kind: 2,
        data: Some(b"0123456789".to_vec()),
        mtime: Some(mtime),
        ..Made::default()
    };
    let file = dated(1_000_000_000).put(&world);
    let root = world.store.add_directory([("f.txt", file), ("index.html", file)]).unwrap();
    let date = "Sun, 09 Sep 2001 01:46:40 GMT";
    for uri in [format!("/ipfs/{file}"), format!("/ipfs/{root}/f.txt"), format!("/ipfs/{root}/")] {
        let first = world.ask(Method::GET, &uri, &[]).await;
        assert_eq!((first.status, first.header("last-modified")), (200, date));
        for (since, status) in [
            (date, 304),
            ("Mon, 10 Sep 2001 00:00:00 GMT", 304),
            ("Sat, 08 Sep 2001 00:00:00 GMT", 200),
            ("tomorrow", 200),
        ] {
            let again = world.ask(Method::GET, &uri, &[("if-modified-since", since)]).await;
            assert_eq!((again.status, again.header("last-modified")), (status, date), "{since}");
            assert_eq!(again.header("etag"), first.header("etag"));
            assert_eq!(again.body.is_empty(), status == 304);
        }
        // An entity tag wins over a date.
        assert_eq!(
            world
                .ask(Method::GET, &uri, &[("if-modified-since", date), ("if-none-match", "\"x\"")])
                .await
                .status,
            200
        );
        let etag = first.header("etag");
        let weak = format!("W/{etag}");
        for (held, status) in [
            (date, 206),
            ("Sat, 08 Sep 2001 00:00:00 GMT", 200),
            (etag, 206),
            (&weak, 200),
            ("\"x\"", 200),
        ] {
            let part =
                world.ask(Method::GET, &uri, &[("range", "bytes=1-2"), ("if-range", held)]).await;
            assert_eq!(part.status, status, "{held}");
        }
    }
    // A date that is yet to come is none.
    let future = dated(40_000_000_000).put(&world);
    assert_eq!(world.get(&format!("/ipfs/{future}")).await.header("last-modified"), "");
}
