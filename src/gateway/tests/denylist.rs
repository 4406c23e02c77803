//! What a list blocks is answered by nothing, wherever it is.

use std::net::IpAddr;

use super::*;
use crate::denylist::{self, Denylist};
use crate::ipld::unixfs::import::{DirectoryBuilder, Profile};

/// A world whose denylist and allowlist can be written.
struct Guarded {
    world: World,
    denylist: Denylist,
    metrics: denylist::Metrics,
}

impl std::ops::Deref for Guarded {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

fn guarded(with_source: bool) -> Guarded {
    let metrics = denylist::Metrics::register(&Registry::new()).unwrap();
    let denylist = Denylist::of_texts(&[], metrics.clone()).unwrap();
    let mut world = world_of(with_source);
    let parts = world.gateway.parts.clone();
    world.gateway.parts =
        Parts { retriever: parts.retriever.guarded_by(denylist.clone()), ..parts };
    Guarded { world, denylist, metrics }
}

impl Guarded {
    fn block(&self, lines: &str) {
        self.denylist.replace(&[("own", lines)]).unwrap();
    }

    async fn status(&self, uri: &str) -> u16 {
        self.get(uri).await.status
    }

    /// Asks as one from elsewhere does.
    async fn ask_as_public(&self, uri: &str) -> Answer {
        let peer = Peer { address: Some(IpAddr::from([192, 0, 2, 1])), secure: false };
        let request = http::Request::get(uri).body(()).unwrap();
        let response = self.gateway.respond(request, peer).await;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, body, whole: true }
    }
}

fn other_codec(cid: &Cid, codec: u64) -> Cid {
    Cid::new_v1(codec, *cid.hash())
}

#[tokio::test]
async fn blocked_content_is_answered_by_one_plain_line() {
    let world = guarded(false);
    let cid = world.raw("secret");
    let check = async |lines: &str, status: u16, text: &str| {
        world.block(lines);
        let answer = world.get(&format!("/ipfs/{cid}")).await;
        assert_eq!((answer.status, answer.text()), (status, text), "{lines}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        for name in ["etag", "x-ipfs-path", "x-ipfs-roots"] {
            assert_eq!(answer.header(name), "", "{name}");
        }
        let head = world.ask(Method::HEAD, &format!("/ipfs/{cid}"), &[]).await;
        assert_eq!((head.status, head.body.len()), (status, 0));
    };
    check(&format!("/ipfs/{cid}"), 410, "this content is blocked here\n").await;
    let legal = format!("/ipfs/{cid} gateway_status=451");
    check(&legal, 451, "this content is blocked here for legal reasons\n").await;
    assert!(world.metrics.blocked.with_label_values(&["own", "path"]).get() >= 4);
    world.block("");
    assert_eq!(world.get(&format!("/ipfs/{cid}")).await.text(), "secret");
}

#[tokio::test]
async fn no_spelling_format_or_method_gets_at_it() {
    let world = guarded(false);
    let cid = world.raw("secret");
    let file = world.store.add_file(&bytes(1000), 1000).unwrap();
    world.block(&format!("/ipfs/{}\n/ipfs/{file}\n", other_codec(&cid, codec::DAG_PB)));
    for root in [cid, other_codec(&cid, codec::DAG_CBOR), file] {
        for base in [multibase::Base::Base32Upper, multibase::Base::Base36Lower] {
            let root = root.to_string_of_base(base).unwrap();
            assert_eq!(world.status(&format!("/ipfs/{root}")).await, 410, "{root}");
        }
        for query in [
            "",
            "?format=raw",
            "?format=car",
            "?format=tar",
            "?format=dag-cbor",
            "?format=car&dag-scope=block",
            "?download=true",
            "?format=car&entity-bytes=0:1",
        ] {
            let uri = format!("/ipfs/{root}{query}");
            for headers in [
                &[][..],
                &[("range", "bytes=0-1")],
                // What the client has already is no reason to say that it may have it.
                &[("if-none-match", "*")],
                &[("cache-control", "only-if-cached")],
            ] {
                for method in [Method::GET, Method::HEAD] {
                    let answer = world.ask(method, &uri, headers).await;
                    assert_eq!(answer.status, 410, "{uri} {headers:?}");
                    assert!(!answer.body.windows(6).any(|part| part == b"secret"));
                }
            }
        }
    }
}

/// A file in ten blocks, one of them blocked, on every way to it.
#[tokio::test]
async fn a_blocked_child_is_served_on_no_route_whatever_its_position() {
    let world = guarded(false);
    let data = bytes(1000);
    let file = world.store.add_file(&data, 100).unwrap();
    let leaves: Vec<_> = world.links(&file).into_iter().filter(|cid| *cid != file).collect();
    assert_eq!(leaves.len(), 10);
    let root = world.store.add_directory([("file", file)]).unwrap();
    for (at, leaf) in leaves.iter().enumerate() {
        world.block("");
        // All of it is in memory before.
        assert_eq!(world.get(&format!("/ipfs/{root}/file")).await.body, data);
        world.block(&format!("/ipfs/{leaf}"));
        let secret = &data[at * 100..(at + 1) * 100];
        let holds = |body: &[u8]| body.windows(100).any(|part| part == secret);
        for uri in [
            format!("/ipfs/{file}"),
            format!("/ipfs/{root}/file"),
            format!("/ipfs/{file}?format=car"),
            format!("/ipfs/{root}?format=car&dag-scope=all"),
            format!("/ipfs/{root}/file?format=car&dag-scope=entity"),
            format!("/ipfs/{root}/file?format=car&entity-bytes={}:{}", at * 100, at * 100 + 99),
        ] {
            let answer = world.get(&uri).await;
            assert!(answer.status == 410 || !answer.whole, "{uri} {at}: {}", answer.status);
            assert!(!holds(&answer.body), "{uri} {at}");
            // What comes before it may be sent.
            let file_before = !uri.contains("car") && answer.status == 200;
            assert!(!file_before || answer.body == data[..at * 100], "{uri} {at}");
        }
        let range = format!("bytes={}-{}", at * 100, at * 100 + 99);
        let part = world.ask(Method::GET, &format!("/ipfs/{file}"), &[("range", &range)]).await;
        assert_eq!(part.status, 410, "{at}");
        // Ranges beside it are served.
        let beside = (at + 1) % 10 * 100;
        let range = format!("bytes={beside}-{}", beside + 99);
        let part = world.ask(Method::GET, &format!("/ipfs/{file}"), &[("range", &range)]).await;
        assert_eq!((part.status, &part.body[..]), (206, &data[beside..beside + 100]), "{at}");
    }
}

#[tokio::test]
async fn a_blocked_entry_is_named_by_a_listing_and_served_by_nothing() {
    let world = guarded(false);
    let (secret, index) = (world.raw("secret"), world.raw("<title>secret</title>"));
    let root = world.store.add_directory([("a", secret), ("b", world.raw("b"))]).unwrap();
    let site = world.store.add_directory([("index.html", index)]).unwrap();
    let outer = world.store.add_directory([("site", site), ("inner", root)]).unwrap();
    let held = format!("\"{secret}\"");
    let car_tag = world.get(&format!("/ipfs/{root}/a?format=car")).await.header("etag").to_owned();
    world.block(&format!("/ipfs/{secret}\n/ipfs/{index}\n"));

    let listing = world.get(&format!("/ipfs/{root}/")).await;
    assert_eq!(listing.status, 200);
    assert!(listing.text().contains(">a<"));
    for uri in [
        format!("/ipfs/{root}/a"),
        format!("/ipfs/{root}/a?format=raw"),
        format!("/ipfs/{root}/a?format=car"),
        format!("/ipfs/{outer}/inner/a"),
        format!("/ipfs/{site}/"),
        format!("/ipfs/{outer}/site/"),
        format!("/ipfs/{site}/index.html"),
    ] {
        for tag in ["\"x\"", "*", &held, &car_tag] {
            let answer = world.ask(Method::GET, &uri, &[("if-none-match", tag)]).await;
            assert_eq!(answer.status, 410, "{uri} {tag}");
        }
    }
    // Before it was blocked, a client's CAR was still good; what is not blocked still is.
    let tag = world.get(&format!("/ipfs/{root}/b?format=car")).await.header("etag").to_owned();
    let uri = format!("/ipfs/{root}/b?format=car");
    assert_eq!(world.ask(Method::GET, &uri, &[("if-none-match", &tag)]).await.status, 304);
}

#[tokio::test]
async fn a_path_is_blocked_from_wherever_it_is_reached() {
    let world = guarded(false);
    let (a, b) = (world.raw("a"), world.raw("b"));
    let inner = world.store.add_directory([("a", a), ("b", b)]).unwrap();
    let outer = world.store.add_directory([("inner", inner)]).unwrap();
    world.block(&format!("/ipfs/{inner}/a\n"));
    for (path, want) in [
        (format!("{inner}/a"), 410),
        (format!("{inner}/%61"), 410),
        (format!("{inner}//a"), 410),
        (format!("{outer}/inner/a"), 410),
        (format!("{outer}/inner/a?format=car"), 410),
        (format!("{outer}/inner/b"), 200),
        (format!("{inner}/b"), 200),
        // The content itself is not blocked, only this way to it.
        (format!("{a}"), 200),
    ] {
        assert_eq!(world.status(&format!("/ipfs/{path}")).await, want, "{path}");
    }
    world.block(&format!("/ipfs/{outer}/inner*\n!/ipfs/{outer}/inner/b\n"));
    assert_eq!(world.status(&format!("/ipfs/{outer}/inner/a")).await, 410);
    assert_eq!(world.status(&format!("/ipfs/{outer}/inner/b")).await, 200);
    assert_eq!(world.status(&format!("/ipfs/{outer}/")).await, 200);
    assert_eq!(world.status(&format!("/ipfs/{inner}/a")).await, 200);
}

#[tokio::test]
async fn a_shard_of_a_directory_that_is_blocked_is_not_read() {
    let world = guarded(false);
    let leaf = world.raw("leaf");
    let mut builder = DirectoryBuilder::new(Profile::V1_2025);
    (0..8000).for_each(|n| builder.insert(format!("a-rather-long-name-{n:08}"), &leaf, 1));
    let built = builder.finish().unwrap();
    world.store.insert(built.blocks);
    let shards = world.links(&built.root);
    let shard = shards.iter().find(|cid| **cid != leaf).unwrap();
    world.block(&format!("/ipfs/{shard}"));
    assert_eq!(world.status(&format!("/ipfs/{}/?page=1", built.root)).await, 410);
    let car = world.get(&format!("/ipfs/{}?format=car", built.root)).await;
    assert!(!car.whole);
}

#[tokio::test]
async fn a_name_is_blocked_before_it_is_looked_up() {
    let world = guarded(false);
    world.block("/ipns/bad.example\n/ipns/half.example/path*\n");
    for (path, want) in [
        ("bad.example", 410),
        ("BAD.example/", 410),
        ("half.example/path/x", 410),
        // These are looked up, and nobody is there to be asked.
        ("half.example/", 502),
        ("bad.example/path", 502),
        ("good.example", 502),
    ] {
        assert_eq!(world.status(&format!("/ipns/{path}")).await, want, "{path}");
    }
}

#[tokio::test]
async fn what_is_blocked_is_asked_of_no_source_and_is_no_miss() {
    let world = guarded(true);
    let block = Block::sha2_256(codec::RAW, Bytes::from_static(b"far away")).unwrap();
    let act = Act::Give(block.clone(), std::time::Duration::ZERO);
    world.source.on(block.cid(), act);
    let uri = format!("/ipfs/{}", block.cid());
    world.block(&uri);
    assert_eq!(world.status(&uri).await, 410);
    assert_eq!((world.source.asked(), world.store.reads()), (0, 0));
    // Unblocked it is had at once: nothing remembers it as absent.
    world.block("");
    assert_eq!(world.status(&uri).await, 200);
}

#[tokio::test]
async fn where_only_some_is_answered_the_rest_is_not_even_looked_up() {
    let mut world = guarded(true);
    let (a, b) = (world.raw("a"), world.raw("b"));
    let root = world.store.add_directory([("a", a), ("b", b)]).unwrap();
    let metrics = denylist::Metrics::register(&Registry::new()).unwrap();
    let text = format!("/ipfs/{root}\n!/ipfs/{root}/b*\n/ipns/ok.example\n");
    let listed = Denylist::of_texts(&[("public", &text)], metrics).unwrap();
    world.world.gateway = world.world.gateway.clone().admitting(listed.as_allowlist());
    let reads = world.store.reads();
    for (path, want) in [
        (format!("/ipfs/{a}"), 403),
        (format!("/ipfs/{b}?format=raw"), 403),
        (format!("/ipfs/{root}/b"), 403),
        ("/ipns/other.example".into(), 403),
        ("/ipns/ok.example".into(), 502),
        ("/ipfs/bafkqaaa".into(), 200),
        ("/ipfs/bafkqaaik".into(), 403),
    ] {
        let answer = world.ask_as_public(&path).await;
        assert_eq!(answer.status, want, "{path}: {}", answer.text());
    }
    assert_eq!((world.store.reads(), world.source.asked()), (reads, 0));
    let refused = world.ask_as_public(&format!("/ipfs/{a}")).await;
    assert_eq!(
        refused.text(),
        "this gateway answers what its operator lists, and this is not listed\n"
    );
    assert_eq!(world.ask_as_public(&format!("/ipfs/{root}/a")).await.text(), "a");
    assert_eq!(world.ask_as_public(&format!("/ipfs/{root}/")).await.status, 200);
    assert_eq!(world.ask_as_public(&format!("/ipfs/{root}?format=car")).await.status, 200);
    // The operator's own socket is not the public.
    assert_eq!(world.get(&format!("/ipfs/{a}")).await.text(), "a");
    // What is blocked stays so.
    world.block(&format!("/ipfs/{root}/*\n"));
    assert_eq!(world.ask_as_public(&format!("/ipfs/{root}/a")).await.status, 410);
}

impl Guarded {
    /// These names stand for this.
    fn name(&mut self, fixed: &[&str]) {
        self.world.gateway.parts.names = names_of(&Registry::new(), fixed);
    }
}

#[tokio::test]
async fn no_name_or_path_on_the_way_of_a_name_gets_at_it() {
    let mut world = guarded(false);
    let sub = world.store.add_directory([("f", world.raw("f"))]).unwrap();
    let root = world.store.add_directory([("x", sub)]).unwrap();
    let top = world.store.add_directory([("y", root)]).unwrap();
    world.name(&["a.test:/ipns/b.test/x", "b.test:/ipns/c.test", &format!("c.test:/ipfs/{top}/y")]);
    for (rule, [by_a, by_b, by_c]) in [
        ("/ipns/a.test", [200, 200, 200]),
        ("/ipns/b.test", [200, 200, 200]),
        ("/ipns/b.test/*", [410, 410, 200]),
        ("/ipns/b.test/x/f", [410, 410, 200]),
        ("/ipns/b.test/f", [200, 200, 200]),
        ("/ipns/c.test/*", [410, 410, 410]),
        ("/ipns/c.test/x/f", [410, 410, 410]),
        ("/ipns/d.test/*", [200, 200, 200]),
    ] {
        world.block(rule);
        for (uri, want) in [
            ("/ipns/a.test/f", by_a),
            ("/ipns/a.test/f?format=raw", by_a),
            ("/ipns/a.test/f?format=car", by_a),
            ("/ipns/b.test/x/f", by_b),
            ("/ipns/c.test/x/f", by_c),
        ] {
            for tag in ["*", "\"x\""] {
                let answer = world.ask(Method::GET, uri, &[("if-none-match", tag)]).await;
                let want = if want == 200 && tag == "*" { 304 } else { want };
                assert_eq!(answer.status, want, "{rule} {uri} {tag}");
            }
        }
        let on_site = world.ask(Method::GET, "/f", &[("host", "a.test")]).await;
        assert_eq!(on_site.status, by_a, "{rule} on its site");
    }
    // A name by itself is blocked where it is all that was asked for.
    world.block("/ipns/c.test\n/ipns/b.test/x");
    for (uri, want) in [("/ipns/c.test/", 410), ("/ipns/b.test/", 410), ("/ipns/a.test/", 410)] {
        assert_eq!(world.status(uri).await, want, "{uri}");
    }
}

#[tokio::test]
async fn the_page_of_a_directory_is_blocked_by_its_own_path() {
    let mut world = guarded(false);
    let site = world.store.add_directory([("index.html", world.raw("<p>secret"))]).unwrap();
    let above = world.store.add_directory([("site", site)]).unwrap();
    world.name(&[&format!("site.test:/ipfs/{above}/site")]);
    let uris =
        [format!("/ipfs/{site}/"), format!("/ipfs/{above}/site/"), "/ipns/site.test/".to_owned()];
    let tag = format!("\"{site}\"");
    for (rule, blocked) in [
        (format!("/ipfs/{site}/index.html"), [true, true, true]),
        (format!("/ipfs/{above}/site/index.html"), [false, true, true]),
        ("/ipns/site.test/index.html".to_owned(), [false, false, true]),
    ] {
        world.block(&rule);
        for (uri, blocked) in uris.iter().zip(blocked) {
            for method in [Method::GET, Method::HEAD] {
                let answer = world.ask(method, uri, &[]).await;
                assert_eq!(answer.status, if blocked { 410 } else { 200 }, "{rule} {uri}");
            }
            let again = world.ask(Method::GET, uri, &[("if-none-match", &tag)]).await;
            assert_eq!(again.status, if blocked { 410 } else { 304 }, "{rule} {uri}");
        }
    }
}

#[tokio::test]
async fn a_rewrite_leads_past_no_list() {
    let mut world = guarded(false);
    let rules = "/x /secret 200\n/missing /secret 404\n/ok /a 200\n";
    let files = [("_redirects", rules), ("a", "a"), ("secret", "secret")];
    let files: Vec<_> = files.map(|(name, text)| (name, world.raw(text))).into();
    let root = world.store.add_directory(files).unwrap();
    world.name(&[&format!("site.test:/ipfs/{root}")]);
    let own = format!("{root}.ipfs.localhost");
    let at = async |world: &Guarded, host: &str, path: &str| {
        let peer = Peer { address: Some(IpAddr::from([192, 0, 2, 1])), secure: false };
        let request = http::Request::get(path).header("host", host).body(()).unwrap();
        world.gateway.respond(request, peer).await.status().as_u16()
    };
    world.block(&format!("/ipns/site.test/secret\n/ipfs/{root}/none"));
    assert_eq!(at(&world, &own, "/x").await, 200);
    for path in ["/secret", "/x", "/missing"] {
        assert_eq!(at(&world, "site.test", path).await, 410, "{path}");
    }
    assert_eq!(at(&world, "site.test", "/ok").await, 200);
    world.block("");

    let metrics = denylist::Metrics::register(&Registry::new()).unwrap();
    let text: String = ["a", "ok", "x", "missing"]
        .map(|name| format!("/ipfs/{root}/{name}\n/ipns/site.test/{name}\n"))
        .concat();
    let listed = Denylist::of_texts(&[("public", &text)], metrics).unwrap();
    world.world.gateway = world.world.gateway.clone().admitting(listed.as_allowlist());
    for host in [own.as_str(), "site.test"] {
        for (path, want) in [("/a", 200), ("/ok", 200), ("/secret", 403), ("/x", 403)] {
            assert_eq!(at(&world, host, path).await, want, "{host}{path}");
        }
        assert_eq!(at(&world, host, "/missing").await, 403, "{host}");
    }
}

#[tokio::test]
async fn the_name_of_a_blocked_site_is_not_even_looked_up() {
    let mut world = guarded(false);
    let dnslink_hosts = vec!["*.sites.test".parse().unwrap()];
    let config = Config { dnslink_hosts, ..Config::default() };
    world.world.gateway.hosts = Hosts::new(&config, Vec::new().into());
    let at = async |world: &Guarded, path: &str| {
        let headers = [("host", "Bad.Sites.test."), ("cache-control", "only-if-cached")];
        world.ask(Method::GET, path, &headers).await.status
    };
    assert_eq!(at(&world, "/a").await, 412, "nobody can be asked");
    for (rule, [page, root]) in [
        ("/ipns/bad.sites.test/*", [410, 410]),
        ("/ipns/bad.sites.test/a", [410, 412]),
        ("/ipns/good.sites.test/*", [412, 412]),
    ] {
        world.block(rule);
        assert_eq!([at(&world, "/a").await, at(&world, "/").await], [page, root], "{rule}");
    }
}
