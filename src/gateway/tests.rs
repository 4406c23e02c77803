//! Stories of requests, told to a gateway over fakes.

mod ahead;
mod conditions;
mod denylist;
mod encoding;
mod hosts;
mod made;
mod names;
mod negotiation;
mod pages;
mod preview;
mod ranges;
mod resume;
mod seams;
mod signed;
mod tar;
mod timing;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt;

use super::*;
use crate::block::{Block, Cid, FetchError, codec};
use crate::cache::{self, BlockCache};
use crate::ipld::dag_pb::{PbLink, PbNode};
use crate::metrics::Registry;
use crate::routing::{self, NameMap};
use crate::testing::{Act, MemoryBlockstore, ScriptedSource};
use crate::{block, retrieval};

struct World {
    store: MemoryBlockstore,
    gateway: Gateway,
    source: ScriptedSource,
}

/// An answer, read to its end.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    /// Whether the body ended as it should.
    whole: bool,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn world() -> World {
    world_of(false)
}

fn world_of(with_source: bool) -> World {
    world_with(with_source, &[])
}

/// A world where these names are fixed.
fn world_with(with_source: bool, fixed: &[&str]) -> World {
    world_configured(with_source, fixed, &Config::default())
}

fn world_configured(with_source: bool, fixed: &[&str], config: &Config) -> World {
    let registry = Registry::new();
    let store = MemoryBlockstore::default();
    let source = ScriptedSource::default();
    let sources: Vec<Arc<dyn crate::provider::BlockSource>> =
        if with_source { vec![Arc::new(source.clone())] } else { Vec::new() };
    let cache =
        BlockCache::new(&cache::Config::default(), cache::Metrics::register(&registry).unwrap());
    let parts =
        retrieval::Parts { sources, ..retrieval::Parts::local(cache, Arc::new(store.clone())) };
    let metrics = retrieval::Metrics::register(&registry).unwrap();
    let retriever = Retriever::new(parts, retrieval::Config::default(), &metrics);
    let metrics = Metrics::register(&registry).unwrap();
    let names = names_of(&registry, fixed);
    let parts = Parts { retriever, names };
    World { store, gateway: Gateway::new(parts, config, &metrics), source }
}

impl World {
    async fn ask(&self, method: Method, uri: &str, headers: &[(&str, &str)]) -> Answer {
        let is_head = method == Method::HEAD;
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.gateway.respond(request.body(()).unwrap(), Peer::default()).await;
        let (mut parts, mut body) = response.into_parts();
        // As whoever writes it does.
        if let Some(length) = http_body::Body::size_hint(&body).exact()
            && !is_head
            && parts.status != StatusCode::NOT_MODIFIED
        {
            parts.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
        }
        let (mut bytes, mut whole) = (Vec::new(), true);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
                Err(_) => whole = false,
            }
        }
        let status = parts.status.as_u16();
        Answer { status, headers: parts.headers, body: bytes.into(), whole }
    }

    async fn get(&self, uri: &str) -> Answer {
        self.ask(Method::GET, uri, &[]).await
    }

    fn raw(&self, data: impl Into<Bytes>) -> Cid {
        let block = Block::sha2_256(codec::RAW, data.into()).unwrap();
        self.store.insert([block.clone()]);
        *block.cid()
    }

    fn links(&self, root: &Cid) -> Vec<Cid> {
        let block =
            futures_util::FutureExt::now_or_never(block::Blockstore::get(&self.store, root));
        crate::ipld::links(&block.unwrap().unwrap().unwrap()).unwrap()
    }
}

/// Names that stand for this.
fn names_of(registry: &Registry, fixed: &[&str]) -> Names {
    let fixed = NameMap::parse(fixed).unwrap();
    let metrics = routing::Metrics::register(registry).unwrap();
    Names::new(routing::Parts { fixed, ..routing::Parts::default() }, metrics)
}

/// Headers without those that depend on what was in memory.
fn stable(mut headers: HeaderMap) -> HeaderMap {
    for name in ["cache-status", "server-timing", "timing-allow-origin"] {
        headers.remove(name);
    }
    headers
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[tokio::test]
async fn a_file_of_many_blocks_comes_whole_and_in_every_range() {
    let world = world();
    let data = bytes(10_000);
    let cid = world.store.add_file(&data, 256).unwrap();
    let whole = world.get(&format!("/ipfs/{cid}")).await;
    assert_eq!((whole.status, whole.whole), (200, true));
    assert_eq!(whole.body, data);
    assert_eq!(whole.header("content-length"), "10000");
    assert_eq!(whole.header("etag"), format!("\"{cid}\""));
    assert_eq!(whole.header("cache-control"), "public, max-age=29030400, immutable");
    for (range, want) in
        [("0-0", 0..1), ("255-256", 255..257), ("9999-", 9999..10_000), ("-300", 9700..10_000)]
    {
        let range = format!("bytes={range}");
        let part = world.ask(Method::GET, &format!("/ipfs/{cid}"), &[("range", &range)]).await;
        assert_eq!(part.status, 206);
        assert_eq!(part.body, data.get(want.clone()).unwrap());
        let content_range = format!("bytes {}-{}/10000", want.start, want.end - 1);
        assert_eq!(part.header("content-range"), content_range);
    }
}

#[tokio::test]
async fn the_type_of_a_file_does_not_depend_on_the_part_asked_for() {
    let world = world();
    let mut film = b"\x00\x00\x00\x18ftypmp42 and so on".to_vec();
    film.extend(bytes(4000));
    let cid = world.store.add_file(&film, 700).unwrap();
    let uri = format!("/ipfs/{cid}");
    let whole = world.ask(Method::GET, &uri, &[]).await;
    assert_eq!(whole.header("content-type"), "video/mp4");
    for range in ["bytes=0-1", "bytes=0-699", "bytes=1-2", "bytes=3000-", "bytes=-1"] {
        for (method, status) in [(Method::GET, 206), (Method::HEAD, 200)] {
            let part = world.ask(method, &uri, &[("range", range)]).await;
            let told = (part.status, part.header("content-type"));
            assert_eq!(told, (status, "video/mp4"), "{range}");
        }
    }
    // A part that is there is served even where the beginning is not.
    let fresh = super::tests::world();
    for kept in world.links(&cid).into_iter().skip(1).chain([cid]) {
        let block = block::Blockstore::get(&world.store, &kept).await.unwrap();
        fresh.store.insert(block);
    }
    let part = fresh.ask(Method::GET, &uri, &[("range", "bytes=3000-3009")]).await;
    assert_eq!((part.status, part.header("content-type")), (206, "application/octet-stream"));
    assert_eq!(part.body, film[3000..3010]);
}

#[tokio::test]
async fn strange_ranges_never_give_more_than_the_file() {
    let world = world();
    let cid = world.store.add_file(&bytes(1000), 100).unwrap();
    let many = format!("bytes={}", vec!["0-"; 1000].join(","));
    for (range, status) in [
        (many.as_str(), 206),
        ("bytes=0-0,2-2", 206),
        ("bytes=-0", 416),
        ("bytes=9999999999999999999999-", 416),
        ("bytes=5-2", 200),
        ("bytes=x", 200),
    ] {
        let answer = world.ask(Method::GET, &format!("/ipfs/{cid}"), &[("range", range)]).await;
        assert_eq!(answer.status, status, "{range}");
        assert!(answer.body.len() <= 1000);
        if status == 416 {
            assert_eq!(answer.header("content-range"), "bytes */1000");
        }
    }
    let stale = [("range", "bytes=0-1"), ("if-range", "\"other\"")];
    assert_eq!(world.ask(Method::GET, &format!("/ipfs/{cid}"), &stale).await.status, 200);
}

#[tokio::test]
async fn what_the_client_has_is_not_read_again() {
    let world = world();
    let file = world.raw("hello");
    let root = world.store.add_directory([("a.txt", file)]).unwrap();
    for uri in [
        format!("/ipfs/{file}"),
        format!("/ipfs/{file}?format=raw"),
        format!("/ipfs/{file}?format=json"),
        format!("/ipfs/{root}/"),
        format!("/ipfs/{root}/a.txt"),
        format!("/ipfs/{root}?format=car&dag-scope=entity"),
    ] {
        let first = world.get(&uri).await;
        let etag = first.header("etag");
        assert!(etag.starts_with('"'), "{uri}: {etag}");
        for held in [etag.to_owned(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
            let again = world.ask(Method::GET, &uri, &[("if-none-match", &held)]).await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{uri} {held}");
            assert_eq!(again.header("x-ipfs-path"), first.header("x-ipfs-path"));
            assert!(!again.header("cache-control").is_empty());
        }
    }
    // Without the blocks: the tag of a root follows from its CID.
    let gone = Block::sha2_256(codec::RAW, Bytes::from_static(b"gone")).unwrap();
    let held = format!("\"{}\"", gone.cid());
    let uri = format!("/ipfs/{}", gone.cid());
    let reads = world.store.reads();
    assert_eq!(world.ask(Method::GET, &uri, &[("if-none-match", &held)]).await.status, 304);
    assert_eq!(world.store.reads(), reads);
}

#[tokio::test]
async fn every_entity_tag_belongs_to_one_body() {
    let world = world();
    let file = world.store.add_file(&bytes(1000), 100).unwrap();
    let root = world.store.add_directory([("a", file), ("b", file)]).unwrap();
    let mut seen: Vec<(String, Bytes)> = Vec::new();
    for path in [format!("{root}/"), format!("{root}/a"), format!("{file}")] {
        for query in [
            "",
            "?format=raw",
            "?format=car",
            "?format=car&dag-scope=block",
            "?format=car&dag-scope=entity",
            "?format=car&entity-bytes=0:99",
            "?format=car&entity-bytes=0:299",
            "?format=car&entity-bytes=-100:*",
            "?format=car&car-dups=y",
            "?format=car&car-dups=n&junk=1",
        ] {
            let answer = world.get(&format!("/ipfs/{path}{query}")).await;
            assert_eq!(answer.status, 200, "{path}{query}");
            let etag = answer.header("etag").to_owned();
            if let Some((_, body)) = seen.iter().find(|(seen, _)| *seen == etag) {
                assert_eq!(*body, answer.body, "{path}{query} {etag}");
            }
            seen.push((etag, answer.body));
        }
    }
}

#[tokio::test]
async fn roots_are_what_each_name_led_to_in_every_format() {
    let world = world();
    let file = world.store.add_file(b"estuary", 100).unwrap();
    let inner = world.store.add_directory([("file", file)]).unwrap();
    let outer = world.store.add_directory([("inner", inner)]).unwrap();
    let path = format!("/ipfs/{outer}/inner/file");
    for query in ["", "?format=raw", "?format=car", "?format=car&dag-scope=block"] {
        let answer = world.get(&format!("{path}{query}")).await;
        assert_eq!(answer.header("x-ipfs-roots"), format!("{outer},{inner},{file}"), "{query}");
        let held = [("if-none-match", answer.header("etag"))];
        let again = world.ask(Method::GET, &format!("{path}{query}"), &held).await;
        assert_eq!(again.status, 304, "{query}");
        let roots = again.headers.get("x-ipfs-roots").is_some();
        assert_eq!(roots, !query.contains("car"), "{query}");
    }
}

#[tokio::test]
async fn what_is_missing_is_404_before_the_head_and_a_cut_after_it() {
    let world = world();
    let cid = world.store.add_file(&bytes(10_000), 1000).unwrap();
    let leaves = world.links(&cid);
    assert_eq!(leaves.len(), 10);
    world.store.remove(leaves.get(7).unwrap());

    let answer = world.get(&format!("/ipfs/{cid}")).await;
    assert_eq!((answer.status, answer.whole, answer.body.len()), (200, false, 7000));
    let car = world.get(&format!("/ipfs/{cid}?format=car")).await;
    assert_eq!((car.status, car.whole), (200, false));
    // Ranges that do not touch the hole are whole.
    for range in ["bytes=0-6999", "bytes=8000-9999"] {
        let part = world.ask(Method::GET, &format!("/ipfs/{cid}"), &[("range", range)]).await;
        assert_eq!((part.status, part.whole), (206, true), "{range}");
    }
    let range = [("range", "bytes=7000-7001")];
    let hole = world.ask(Method::GET, &format!("/ipfs/{cid}"), &range).await;
    assert_eq!(hole.status, 404);
    assert_eq!(hole.header("cache-control"), "no-store");

    world.store.remove(&cid);
    for uri in ["", "?format=raw", "?format=car"] {
        let other = Block::sha2_256(codec::RAW, Bytes::from_static(b"absent")).unwrap();
        let answer = world.get(&format!("/ipfs/{}{uri}", other.cid())).await;
        assert_eq!(answer.status, 404, "{uri}");
        assert!(answer.text().contains(&other.cid().to_string()));
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_is_named() {
    let world = world();
    let root = world.store.add_directory([("here", world.raw("x"))]).unwrap();
    for uri in [format!("/ipfs/{root}/not%20here"), format!("/ipfs/{root}/not%20here?format=car")] {
        let answer = world.get(&uri).await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("\"not here\""), "{}", answer.text());
    }
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let world = world();
    let cid = world.raw("x");
    for (uri, status, says) in [
        ("/ipfs/QmInvalidCID".to_owned(), 400, "invalid path \"/ipfs/QmInvalidCID\""),
        (format!("/ipfs/{cid}?format=zip"), 400, "format"),
        (format!("/ipfs/{cid}?format=car&dag-scope=some"), 400, "dag-scope"),
        (format!("/ipfs/{cid}?format=car&entity-bytes=9:1"), 400, "entity-bytes"),
        (format!("/ipfs/{cid}?format=car&entity-bytes=9223372036854775808:*"), 400, "entity-bytes"),
        (format!("/ipfs/{cid}?format=car&car-version=2"), 400, "car-version"),
        (format!("/ipfs/{cid}?format=car&car-order=bfs"), 400, "car-order"),
        (format!("/ipfs/{cid}?format=dag-json"), 406, "format=raw"),
        (format!("/ipfs/{cid}/{}", "a".repeat(9000)), 414, "8192"),
        ("/ipfs/?uri=http://evil.example/".to_owned(), 400, "uri"),
        ("/ipfs/?uri=ipfs:////evil.example".to_owned(), 400, "uri"),
        ("/ipfs/?uri=ipfs://x/..//evil".to_owned(), 400, "uri"),
        ("/ipfs/?uri=ipfs://x/%252e./evil".to_owned(), 400, "uri"),
        ("/elsewhere".to_owned(), 404, "/ipfs/"),
    ] {
        let answer = world.get(&uri).await;
        assert_eq!(answer.status, status, "{uri}: {}", answer.text());
        assert!(answer.text().contains(says), "{uri}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.text().lines().count(), 1);
    }
    // The second is what browsers send: a URI has escapes of its own.
    for (path, location) in [
        ("a%20b", "a%20b"),
        ("a%2520b%2Fc..d", "a%20b/c..d"),
        ("100%2525%2F%25C5%25BA%252F", "100%25/%C5%BA%2F"),
    ] {
        let redirect = world.get(&format!("/ipfs/?uri=ipfs%3A%2F%2F{cid}%2F{path}")).await;
        assert_eq!(redirect.header("location"), format!("/ipfs/{cid}/{location}"));
    }
    for method in [Method::PUT, Method::DELETE, Method::TRACE, Method::POST] {
        let answer = world.ask(method, &format!("/ipfs/{cid}"), &[("x-marker", "echo")]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, OPTIONS"));
        assert!(!answer.text().contains("echo"));
    }
    let worker = [("service-worker", "script")];
    assert_eq!(world.ask(Method::GET, &format!("/ipfs/{cid}"), &worker).await.status, 400);
}

#[tokio::test]
async fn what_a_car_must_hold_back_for_its_header_is_bounded() {
    let world = world();
    let mut inner = world.raw("x");
    let mut path = String::new();
    for _ in 0..17 {
        // A map of a link and of nearly as many bytes as a block may have.
        let padding = vec![0; (2 << 20) - 100];
        let mut map = b"\xa2\x61a\xd8\x2a\x58\x25\0".to_vec();
        map.extend_from_slice(&inner.to_bytes());
        map.extend_from_slice(b"\x61p\x5a");
        map.extend_from_slice(&u32::try_from(padding.len()).unwrap().to_be_bytes());
        map.extend_from_slice(&padding);
        let block = Block::sha2_256(codec::DAG_CBOR, map.into()).unwrap();
        world.store.insert([block.clone()]);
        inner = *block.cid();
        path.push_str("/a");
    }
    let answer = world.get(&format!("/ipfs/{inner}{path}?format=raw")).await;
    assert_eq!((answer.status, answer.text()), (200, "x"));
    let answer = world.get(&format!("/ipfs/{inner}{path}?format=car")).await;
    assert_eq!(answer.status, 422);
    let shorter = world.get(&format!("/ipfs/{inner}/a/a?format=car&dag-scope=block")).await;
    assert!(shorter.status == 200 && shorter.whole && shorter.body.len() > 6_000_000);
}

#[tokio::test]
async fn names_in_listings_and_headers_stay_text() {
    let world = world();
    let file = world.raw("x");
    let names =
        ["<script>alert(1)</script>", "javascript:alert(1)", "\"onload=x", "a&lt;", "\u{7}"];
    let root = world.store.add_directory(names.map(|name| (name, file))).unwrap();
    let page = world.get(&format!("/ipfs/{root}/")).await;
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("<script"));
    assert!(!page.text().contains("\"onload"));
    assert!(page.text().contains("a&amp;lt;"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.text().split("href=\"").skip(1).all(|href| href.starts_with("/ipfs/")));

    let uri = format!("/ipfs/{file}?filename=a%22%0D%0AX-Evil:%201;..%2F%F0%9F%98%80");
    let named = world.get(&uri).await;
    assert_eq!(named.headers.get_all("content-disposition").iter().count(), 1);
    assert_eq!(named.header("x-evil"), "");
}

#[tokio::test]
async fn directories_show_their_index_or_a_listing_in_pages() {
    let world = world();
    let index = world.raw("<!DOCTYPE html><p>hi");
    let site = world.store.add_directory([("index.html", index)]).unwrap();
    let redirect = world.get(&format!("/ipfs/{site}?a=b")).await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (301, format!("/ipfs/{site}/?a=b").as_str())
    );
    let page = world.get(&format!("/ipfs/{site}/")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html"));
    assert_eq!(page.header("etag"), format!("\"{site}\""));

    let file = world.raw("x");
    let many = (0..20_500).map(|n| (format!("file-{n:05}"), file));
    let root = world.store.add_directory(many).unwrap();
    let mut count = 0;
    for number in 1..=21 {
        let page = world.get(&format!("/ipfs/{root}/?page={number}")).await;
        assert_eq!(page.status, 200);
        assert!(page.body.len() < 1 << 20);
        count += page.text().matches("class=\"ipfs-hash\"").count();
        assert_eq!(page.text().contains("rel=\"next\""), number < 21);
    }
    assert_eq!(count, 20_500);
    assert_eq!(world.get(&format!("/ipfs/{root}/file-12345")).await.body, "x");
}

#[tokio::test]
async fn names_of_any_length_leave_a_page_small() {
    let world = world();
    let file = world.raw("x");
    let long = "<".repeat(64 << 10);
    let entries = (0..2000).map(|n| (format!("{n}{long}"), file));
    let root = world.store.add_directory(entries).unwrap();
    let page = world.get(&format!("/ipfs/{root}/")).await;
    assert_eq!(page.status, 200);
    assert!(page.body.len() < 4 << 20, "{}", page.body.len());
    assert!(!page.text().contains("<<"));
}

#[tokio::test]
async fn blocks_that_look_like_pages_are_not_shown_as_pages() {
    let world = world();
    let cid = world.raw("<html><script>alert(1)</script>");
    for (query, media_type) in [
        ("?format=raw", "application/vnd.ipld.raw"),
        ("?format=car", "application/vnd.ipld.car; version=1; order=dfs; dups=n"),
    ] {
        let answer = world.get(&format!("/ipfs/{cid}{query}")).await;
        assert_eq!(answer.header("content-type"), media_type);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.header("content-disposition").starts_with("attachment"));
    }
}

#[tokio::test]
async fn heads_are_as_for_get_and_read_little() {
    let world = world();
    let cid = world.store.add_file(&bytes(100_000), 100).unwrap();
    for query in ["", "?filename=a.txt", "?format=raw", "?format=car"] {
        let uri = format!("/ipfs/{cid}{query}");
        let before = world.store.reads();
        let head = world.ask(Method::HEAD, &uri, &[]).await;
        assert!(world.store.reads() - before <= 4, "{query}");
        let get = world.get(&uri).await;
        let (head_headers, get_headers) = (stable(head.headers), stable(get.headers));
        assert_eq!((head.status, head_headers), (get.status, get_headers), "{query}");
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn a_diamond_is_bounded_and_without_duplicates_short() {
    let world = world();
    let mut below = world.raw("bottom");
    for _ in 0..40 {
        let link = |name: &'static str| PbLink { cid: below, name: Some(name.into()), tsize: None };
        let node = PbNode { links: vec![link("a"), link("b")], data: Some(vec![8, 1].into()) };
        let block = Block::sha2_256(codec::DAG_PB, node.encode()).unwrap();
        world.store.insert([block.clone()]);
        below = *block.cid();
    }
    let answer = world.get(&format!("/ipfs/{below}?format=car")).await;
    assert_eq!((answer.status, answer.whole), (200, true));
    assert!(answer.body.len() < 41 * 300, "{}", answer.body.len());
}

#[tokio::test]
async fn identity_cids_carry_their_content() {
    let world = world();
    let hello = world.get("/ipfs/bafkqabtimvwgy3yk").await;
    assert_eq!((hello.status, hello.text()), (200, "hello\n"));
    let probe = world.get("/ipfs/bafkqaaa?format=raw").await;
    assert_eq!((probe.status, probe.header("content-length")), (200, "0"));
    assert_eq!(world.get("/ipfs/bafkqaaa?format=car").await.status, 200);
    assert_eq!(world.store.reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn sources_that_stall_are_504_and_failing_ones_502() {
    let world = world_of(true);
    let slow = Block::sha2_256(codec::RAW, Bytes::from_static(b"slow")).unwrap();
    let broken = Block::sha2_256(codec::RAW, Bytes::from_static(b"broken")).unwrap();
    world.source.on(slow.cid(), Act::Stall);
    world.source.on(broken.cid(), Act::Fail(FetchError::Unavailable("down".into())));
    for (cid, status) in [(slow.cid(), 504), (broken.cid(), 502)] {
        let answer = world.get(&format!("/ipfs/{cid}")).await;
        assert_eq!(answer.status, status);
        assert!(!answer.header("retry-after").is_empty());
    }
    let cached = [("cache-control", "only-if-cached")];
    let asked = world.source.asked();
    let answer = world.ask(Method::HEAD, &format!("/ipfs/{}", slow.cid()), &cached).await;
    assert_eq!((answer.status, world.source.asked()), (412, asked));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_502_and_what_does_not_come_504_with_what_was_tried() {
    use crate::provider::Met;

    let world = world_of(true);
    let browser = [("accept", "text/html")];
    let absent = Block::sha2_256(codec::RAW, Bytes::from_static(b"absent")).unwrap();
    let uri = format!("/ipfs/{}", absent.cid());
    world.source.meets(Met { known: 5, reached: 5, answered: 5, gave: 0 });
    let answer = world.get(&uri).await;
    assert_eq!((answer.status, answer.header("retry-after")), (502, "60"));
    let said = format!("{}: no providers found: asked 5 connected peers\n", absent.cid());
    assert_eq!(answer.text(), said);
    let page = world.ask(Method::GET, &uri, &browser).await;
    for part in ["Looking for providers: 0 found", "Connecting: 5 of 5 reached", "findprovs"] {
        assert!(page.text().contains(part), "{part} in {}", page.text());
    }

    let slow = Block::sha2_256(codec::RAW, Bytes::from_static(b"slow")).unwrap();
    world.source.on(slow.cid(), Act::Stall);
    world.source.meets(Met { known: 3, reached: 2, answered: 0, gave: 0 });
    let uri = format!("/ipfs/{}", slow.cid());
    let answer = world.get(&uri).await;
    assert_eq!((answer.status, answer.header("retry-after")), (504, "60"));
    let said = "3 connected peers asked, none gave it within 25 s";
    assert!(answer.text().contains(said), "{}", answer.text());
    let page = world.ask(Method::GET, &uri, &browser).await;
    for part in ["Connecting: 2 of 3 reached", "Fetching: 0 answered, none gave it within 25 s"] {
        assert!(page.text().contains(part), "{part} in {}", page.text());
    }
}

#[tokio::test]
async fn what_is_not_here_is_404_where_nobody_is_asked() {
    let world = world();
    let absent = Block::sha2_256(codec::RAW, Bytes::from_static(b"absent")).unwrap();
    assert_eq!(world.get(&format!("/ipfs/{}", absent.cid())).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn slow_blocks_are_fetched_ahead_of_their_turn() {
    let world = world_of(true);
    let data = bytes(64_000);
    let cid = world.store.add_file(&data, 1000).unwrap();
    for leaf in world.links(&cid) {
        let block = block::Blockstore::get(&world.store, &leaf).await.unwrap().unwrap();
        world.source.on(&leaf, Act::Give(block, std::time::Duration::from_millis(100)));
        world.store.remove(&leaf);
    }
    let started = tokio::time::Instant::now();
    let answer = world.get(&format!("/ipfs/{cid}")).await;
    assert_eq!(answer.body, data);
    assert!(started.elapsed().as_millis() < 1500, "{:?}", started.elapsed());
}
