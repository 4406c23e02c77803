//! Which representation is chosen, and that no cache ever takes one for another.

use std::collections::HashMap;

use super::made::{Made, cbor_links, put};
use super::*;

#[tokio::test]
async fn the_query_then_the_weights_of_accept_decide() {
    let world = world();
    let cid = world.raw("{\"a\": 1}");
    let (raw, car, json) =
        ("application/vnd.ipld.raw", "application/vnd.ipld.car", "application/json");
    for (query, accept, want) in [
        ("", "*/*", json),
        ("", "application/vnd.ipld.raw", raw),
        ("", "application/vnd.ipld.raw;q=0.5, application/vnd.ipld.car", car),
        ("", "application/vnd.ipld.car;q=0, application/vnd.ipld.raw;q=0.1", raw),
        ("", "text/html, */*;q=0.8, application/vnd.ipld.raw;q=0.9", json),
        ("", "application/vnd.nobody, application/vnd.ipld.raw", raw),
        ("?format=raw", car, raw),
        ("?format=car", raw, car),
        ("?format=json", "application/vnd.ipld.raw", json),
    ] {
        let answer =
            world.ask(Method::GET, &format!("/ipfs/{cid}{query}"), &[("accept", accept)]).await;
        assert_eq!(answer.status, 200, "{query} {accept}");
        let got = answer.header("content-type").split(';').next().unwrap();
        assert_eq!(got, want, "{query} {accept}");
    }
    let unknown = world
        .ask(Method::GET, &format!("/ipfs/{cid}"), &[("accept", "application/vnd.nobody")])
        .await;
    assert_eq!(unknown.status, 400);
    // Below the query's format, parameters of the same type count, and the query's own win.
    let dups = |accept: &'static str, query: &'static str| {
        let (world, uri) = (&world, format!("/ipfs/{cid}?format=car{query}"));
        async move {
            world
                .ask(Method::GET, &uri, &[("accept", accept)])
                .await
                .header("content-type")
                .ends_with("dups=y")
        }
    };
    assert!(dups("application/vnd.ipld.car; dups=y", "").await);
    assert!(!dups("application/vnd.ipld.car; dups=y", "&car-dups=n").await);
}

#[tokio::test]
async fn what_accept_chose_is_told_with_the_whole_query() {
    let world = world();
    let cid = world.raw("x");
    for (query, accept, want) in [
        ("?filename=a%20b&x=1", "application/vnd.ipld.raw", "?filename=a%20b&x=1&format=raw"),
        ("", "application/x-tar", "?format=tar"),
        (
            "?dag-scope=block",
            "application/vnd.ipld.car; dups=y; order=unk",
            "?dag-scope=block&format=car&car-dups=y&car-order=unk",
        ),
        ("?car-dups=n", "application/vnd.ipld.car; dups=y", "?car-dups=n&format=car"),
    ] {
        let uri = format!("/ipfs/{cid}{query}");
        let answer = world.ask(Method::GET, &uri, &[("accept", accept)]).await;
        let location = answer.header("content-location");
        assert_eq!(location, format!("/ipfs/{cid}{want}"));
        assert_eq!(answer.header("vary"), "Accept");
        assert_eq!(world.get(location).await.body, answer.body);
    }
    let asked = world.get(&format!("/ipfs/{cid}?format=raw")).await;
    assert_eq!((asked.header("content-location"), asked.header("vary")), ("", ""));
}

#[tokio::test]
async fn codecs_are_not_converted() {
    let world = world();
    let json = put(&world, codec::DAG_JSON, "{}");
    let cbor = put(&world, codec::DAG_CBOR, vec![0xa0]);
    let file = world.store.add_file(&bytes(500), 100).unwrap();
    let folder = world.store.add_directory([("a", file)]).unwrap();
    for (cid, formats) in [
        (json, &["dag-cbor", "cbor", "tar"][..]),
        (cbor, &["dag-json", "json", "tar"]),
        (file, &["dag-json", "dag-cbor"]),
        (folder, &["dag-json", "dag-cbor", "json", "cbor"]),
    ] {
        for format in formats {
            for held in ["\"x\"", "*"] {
                let uri = format!("/ipfs/{cid}?format={format}");
                let answer = world.ask(Method::GET, &uri, &[("if-none-match", held)]).await;
                assert_eq!(answer.status, 406, "{uri} {held}");
                assert!(answer.text().contains("?format=raw"));
            }
        }
    }
}

#[tokio::test]
async fn any_is_held_only_where_there_is_one() {
    let world = world();
    let file = world.raw("x");
    let gone = Block::sha2_256(codec::RAW, Bytes::from_static(b"gone")).unwrap();
    let any = [("if-none-match", "*")];
    for query in ["", "?format=raw", "?format=car", "?format=tar"] {
        let there = world.ask(Method::GET, &format!("/ipfs/{file}{query}"), &any).await;
        assert_eq!((there.status, there.body.len()), (304, 0), "{query}");
        assert!(!there.header("etag").is_empty() && !there.header("cache-control").is_empty());
        let absent = world.ask(Method::GET, &format!("/ipfs/{}{query}", gone.cid()), &any).await;
        assert_eq!(absent.status, 404, "{query}");
    }
    let cached = [("cache-control", "only-if-cached")];
    for method in [Method::GET, Method::HEAD] {
        for query in ["", "?format=raw", "?format=car", "?format=tar", "?format=dag-json"] {
            let uri = format!("/ipfs/{}{query}", gone.cid());
            let status = if query == "?format=dag-json" { 406 } else { 412 };
            assert_eq!(world.ask(method.clone(), &uri, &cached).await.status, status, "{query}");
        }
        let here = world.ask(method, &format!("/ipfs/{file}"), &cached).await;
        assert_eq!(here.status, 200);
    }
}

#[tokio::test]
async fn an_index_that_is_no_file_is_422() {
    let world = world();
    let folder = world.store.add_directory([("x", world.raw("x"))]).unwrap();
    let link = Made::link("x").put(&world);
    for index in [folder, link] {
        let root = world.store.add_directory([("index.html", index)]).unwrap();
        let answer = world.get(&format!("/ipfs/{root}/")).await;
        assert_eq!((answer.status, answer.header("cache-control")), (422, "no-store"));
    }
    let svg = world.raw("<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    for query in ["", "?filename=a.svg"] {
        let answer = world.get(&format!("/ipfs/{svg}{query}")).await;
        assert_eq!(answer.header("content-type"), "image/svg+xml");
    }
}

/// Every way to ask, crossed: over 10^5 pairs of answers that a cache could take for one another.
#[tokio::test]
async fn one_entity_tag_is_one_body_and_vary_says_what_decided() {
    let world = world();
    let file = world.store.add_file(&bytes(1000), 100).unwrap();
    let page = world.raw("<!DOCTYPE html><p>hi");
    let node = cbor_links(&world, &[("a", file)]);
    let json = put(&world, codec::JSON, "{\"a\":1}");
    let site = world.store.add_directory([("index.html", page)]).unwrap();
    let link = Made::link("elsewhere").put(&world);
    let root = world.store.add_directory([("a", file), ("b", site), ("l", link)]).unwrap();
    let paths = [
        format!("{root}/"),
        format!("{root}"),
        format!("{root}/a"),
        format!("{root}/b/"),
        format!("{root}/l"),
        format!("{node}/"),
        format!("{node}/a"),
        format!("{json}"),
        format!("{page}"),
        format!("{root}/missing"),
    ];
    let mut queries = vec![
        String::new(),
        "junk=1".into(),
        "page=2".into(),
        "filename=a.txt".into(),
        "download=true".into(),
    ];
    for format in ["raw", "tar", "json", "cbor", "dag-json", "dag-cbor"] {
        queries.push(format!("format={format}"));
    }
    for scope in ["", "&dag-scope=block", "&dag-scope=entity"] {
        for span in ["", "&entity-bytes=0:99", "&entity-bytes=-150:*"] {
            for dups in ["", "&car-dups=y", "&car-order=unk"] {
                queries.push(format!("format=car{scope}{span}{dups}"));
            }
        }
    }
    let accepts = [
        "*/*",
        "text/html,*/*;q=0.8",
        "application/vnd.ipld.raw",
        "application/vnd.ipld.car",
        "application/vnd.ipld.car; dups=y",
        "application/x-tar",
        "application/json",
        "application/vnd.ipld.dag-cbor",
    ];
    let (mut by_tag, mut count): (HashMap<String, (String, Bytes)>, u64) = (HashMap::new(), 0);
    for path in &paths {
        for query in &queries {
            let uri = format!("/ipfs/{path}?{query}");
            let mut of_uri: Vec<(u16, Bytes, bool)> = Vec::new();
            for accept in accepts {
                let accept = ("accept", accept);
                let get = world.ask(Method::GET, &uri, &[accept]).await;
                let head = world.ask(Method::HEAD, &uri, &[accept]).await;
                assert_eq!(
                    (head.status, stable(head.headers)),
                    (get.status, stable(get.headers.clone())),
                    "{uri} {accept:?}"
                );
                assert!(head.body.is_empty());
                let stored = get.header("cache-control") != "no-store";
                of_uri.push((
                    get.status,
                    get.body.clone(),
                    !stored || get.header("vary").split(", ").any(|name| name == "Accept"),
                ));
                count += 1;
                let tag = get.header("etag").to_owned();
                if get.status != 200 {
                    assert!(tag.is_empty(), "{uri}");
                    continue;
                }
                assert!(!tag.is_empty(), "{uri}");
                let held = world.ask(Method::GET, &uri, &[accept, ("if-none-match", &tag)]).await;
                assert_eq!(
                    (held.status, held.header("etag")),
                    (304, tag.as_str()),
                    "{uri} {accept:?}"
                );
                for name in ["cache-control", "content-location"] {
                    assert_eq!(held.header(name), get.header(name), "{uri} {name}");
                }
                // What a 304 does not know may vary, too: whether the type is one to be compressed.
                let varies: Vec<_> = held.header("vary").split(", ").collect();
                let mut needed = get.header("vary").split(", ").filter(|name| !name.is_empty());
                assert!(needed.all(|name| varies.contains(&name)), "{uri}");
                if get.header("accept-ranges") == "bytes" {
                    let range = [accept, ("range", "bytes=1-3"), ("if-range", &tag)];
                    let part = world.ask(Method::GET, &uri, &range).await;
                    assert_eq!((part.status, part.header("etag")), (206, tag.as_str()), "{uri}");
                    assert_eq!(part.body, get.body[1..4], "{uri}");
                }
                let (first, body) =
                    by_tag.entry(tag.clone()).or_insert((uri.clone(), get.body.clone()));
                assert_eq!(*body, get.body, "{tag}: {uri} and {first}");
            }
            // Whoever keeps one of these answers must be told that another was possible.
            let differ = of_uri
                .iter()
                .any(|(status, body, _)| (*status, body) != (of_uri[0].0, &of_uri[0].1));
            assert!(!differ || of_uri.iter().all(|(_, _, varies)| *varies), "{uri}");
        }
    }
    assert!(count * (count - 1) / 2 >= 100_000, "{count}");
}

#[tokio::test]
async fn no_file_name_makes_another_header() {
    let world = world();
    let file = world.raw("x");
    for (name, ascii) in [
        ("a%22b", "a%22b"),
        ("a%0D%0AX-Evil:%201", "a%0D%0AX-Evil:%201"),
        ("a;b", "a%3Bb"),
        ("..%2F..%2Fx", "..%2F..%2Fx"),
        ("%E2%80%AEgpj.exe", "_gpj.exe"),
        ("%F0%9F%98%80", "_"),
        ("%00", "%00"),
        ("%FF", "_"),
        ("a+b", "a%20b"),
    ] {
        for query in
            ["", "&format=raw", "&format=car", "&format=tar", "&format=json", "&download=true"]
        {
            let answer = world.get(&format!("/ipfs/{file}?filename={name}{query}")).await;
            assert_eq!(answer.status, 200, "{name}{query}");
            assert_eq!(answer.headers.get_all("content-disposition").iter().count(), 1);
            let value = answer.header("content-disposition");
            assert!(
                value.contains(&format!("; filename=\"{ascii}\"; filename*=UTF-8''")),
                "{value}"
            );
            assert_eq!((value.matches('"').count(), value.matches(';').count()), (2, 2), "{value}");
            assert_eq!(answer.header("x-evil"), "");
        }
    }
    let long = "x".repeat(64 << 10);
    assert_eq!(world.get(&format!("/ipfs/{file}?filename={}", &long[..50_000])).await.status, 400);
}

#[tokio::test]
async fn no_path_leaves_its_root() {
    let world = world();
    let file = world.raw("inside");
    let names = ["..", ".", "%2e%2e", "\\..\\", "\u{2024}\u{2024}", ";x", "a%2Fb", "+"];
    let root = world.store.add_directory(names.map(|name| (name, file))).unwrap();
    for (path, status) in [
        ("%2e%2e", 200),
        ("%2E", 200),
        ("%252e%252e", 200),
        ("%5C..%5C", 200),
        ("%E2%80%A4%E2%80%A4", 200),
        (";x", 200),
        ("a%252Fb", 200),
        ("+", 200),
        ("%2e%2e%2f%2e%2e", 404),
        ("%2e%2e/%2e%2e/etc/passwd", 404),
        ("%00", 404),
        ("%c0%ae%c0%ae", 400),
        ("%ff", 400),
        ("%2", 400),
        ("%zz", 400),
        (&"x".repeat(8 << 10), 414),
        (&"x/".repeat(257), 400),
    ] {
        let answer = world.get(&format!("/ipfs/{root}/{path}")).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(status != 200 || answer.text() == "inside");
    }
}

#[tokio::test]
async fn every_answer_may_be_read_by_other_sites_and_options_says_how() {
    let world = world();
    let file = world.raw("x");
    let held = [("if-none-match", "*")];
    let missing = [("range", "bytes=9-")];
    let uri = format!("/ipfs/{file}");
    let options = world.ask(Method::OPTIONS, &uri, &[]).await;
    assert_eq!((options.status, options.header("allow")), (200, "GET, HEAD, OPTIONS"));
    assert_eq!(options.header("access-control-allow-methods"), "GET, HEAD, OPTIONS");
    for answer in [
        options,
        world.get(&uri).await,
        world.ask(Method::GET, &uri, &held).await,
        world.ask(Method::GET, &uri, &missing).await,
        world.get("/ipfs/nonsense").await,
        world.get(&format!("{uri}?format=tar")).await,
        world.ask(Method::DELETE, &uri, &[]).await,
    ] {
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let exposed = answer.header("access-control-expose-headers");
        for name in ["Content-Range", "Content-Length", "X-Ipfs-Path", "X-Ipfs-Roots"] {
            assert!(exposed.contains(name), "{} {exposed}", answer.status);
        }
    }
}

#[tokio::test]
async fn entity_bytes_at_their_extremes_are_a_subset() {
    let world = world();
    let file = world.store.add_file(&bytes(1000), 100).unwrap();
    let root = world.store.add_directory([("a", file)]).unwrap();
    let max = i64::MAX;
    for (path, span, status) in [
        (file, "-9999:*".to_owned(), 200),
        (file, format!("0:{max}"), 200),
        (file, format!("{}:{max}", i64::MIN), 200),
        (file, format!("{max}:*"), 200),
        (file, "499:-1000".to_owned(), 200),
        (root, "0:*".to_owned(), 200),
        (file, "9:1".to_owned(), 400),
        (file, "-1:-9".to_owned(), 400),
        (file, "9223372036854775808:*".to_owned(), 400),
        (file, "*:1".to_owned(), 400),
        (file, "1".to_owned(), 400),
    ] {
        let answer = world.get(&format!("/ipfs/{path}?format=car&entity-bytes={span}")).await;
        assert_eq!((answer.status, answer.whole), (status, true), "{span}");
    }
}

#[tokio::test]
async fn plain_json_and_cbor_were_not_checked_to_be_more() {
    let world = world();
    let of = |codec, data: &'static [u8]| put(&world, codec, data);
    for (cid, format, status) in [
        (of(codec::JSON, b"{}"), "dag-json", 406),
        (of(codec::CBOR, b"\xa0"), "dag-cbor", 406),
        (of(codec::DAG_JSON, b"{}"), "json", 200),
        (of(codec::DAG_CBOR, b"\xa0"), "cbor", 200),
    ] {
        let answer = world.get(&format!("/ipfs/{cid}?format={format}")).await;
        assert_eq!(answer.status, status, "{cid} {format}");
    }
}

#[tokio::test]
async fn a_car_of_a_path_that_ends_inside_a_node_has_what_proves_it() {
    let world = world();
    let leaf = world.raw("leaf");
    let json = put(&world, codec::DAG_JSON, format!(r#"{{"a":[1,{{"/":"{leaf}"}}]}}"#));
    let root = cbor_links(&world, &[("j", json)]);
    for query in ["", "&dag-scope=block", "&dag-scope=entity", "&car-dups=y"] {
        let car = world.get(&format!("/ipfs/{root}/j/a/0?format=car{query}")).await;
        assert_eq!((car.status, car.whole), (200, true), "{query}");
        let whole = world.get(&format!("/ipfs/{root}/j?format=car&dag-scope=block")).await;
        assert_eq!(car.body, whole.body, "{query}");
        assert_eq!(car.header("x-ipfs-roots"), format!("{root},{json}"));
        let held = [("if-none-match", car.header("etag"))];
        let uri = format!("/ipfs/{root}/j/a/0?format=car{query}");
        assert_eq!(world.ask(Method::GET, &uri, &held).await.status, 304);
    }
    assert_eq!(world.get(&format!("/ipfs/{root}/j/b?format=car")).await.status, 404);
    assert_eq!(world.get(&format!("/ipfs/{root}/j/a/0")).await.status, 501);
}

#[tokio::test]
async fn a_link_with_a_date_says_it_and_is_revalidated_by_it() {
    let world = world();
    let link = Made { mtime: Some(1_600_000_000), ..Made::link("target") }.put(&world);
    let uri = format!("/ipfs/{link}");
    let date = "Sun, 13 Sep 2020 12:26:40 GMT";
    let answer = world.get(&uri).await;
    assert_eq!((answer.status, answer.header("last-modified")), (200, date));
    for (since, status) in [(date, 304), ("Sun, 13 Sep 2020 12:26:39 GMT", 200)] {
        let again = world.ask(Method::GET, &uri, &[("if-modified-since", since)]).await;
        assert_eq!((again.status, again.header("last-modified")), (status, date));
    }
}
