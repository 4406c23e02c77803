//! `If-Match` and `If-Unmodified-Since`.

use super::made::{Made, cbor_links};
use super::*;

#[tokio::test]
async fn what_is_not_as_the_client_has_it_is_412_in_every_representation() {
    let world = world();
    let file = world.store.add_file(&bytes(5000), 1000).unwrap();
    let root = world.store.add_directory([("a", file)]).unwrap();
    let node = cbor_links(&world, &[("x", file)]);
    for uri in [
        format!("/ipfs/{file}"),
        format!("/ipfs/{root}/"),
        format!("/ipfs/{root}/a"),
        format!("/ipfs/{node}"),
        format!("/ipfs/{root}/a?format=raw"),
        format!("/ipfs/{root}?format=car"),
        format!("/ipfs/{file}?format=json"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let plain = world.ask(method.clone(), &uri, &[]).await;
            let tag = plain.header("etag").to_owned();
            let weak = format!("W/{tag}");
            for holds in [tag.clone(), format!("\"x\", {tag}"), "*".to_owned()] {
                let answer = world.ask(method.clone(), &uri, &[("if-match", &holds)]).await;
                assert_eq!((answer.status, &answer.body), (200, &plain.body), "{uri} {holds}");
            }
            for not in ["\"x\"", &weak, "x", ""] {
                // It is looked at before all that the client has or wants of it.
                for more in [("if-none-match", tag.as_str()), ("range", "bytes=99999-")] {
                    let answer = world.ask(method.clone(), &uri, &[("if-match", not), more]).await;
                    assert_eq!(answer.status, 412, "{uri} {not} {more:?}");
                    assert_eq!(answer.header("cache-control"), "no-store");
                    assert!(method != Method::GET || answer.text().contains("If-Match"));
                }
            }
        }
    }
    let tar = world.get(&format!("/ipfs/{root}?format=tar")).await;
    let held = [("if-match", tar.header("etag"))];
    let again = world.ask(Method::GET, &format!("/ipfs/{root}?format=tar"), &held).await;
    assert_eq!(again.status, 412, "its tag is weak");
}

#[tokio::test]
async fn conditions_are_of_what_there_is() {
    let world = world();
    let gone = Block::sha2_256(codec::RAW, Bytes::from_static(b"gone")).unwrap();
    let root = world.store.add_directory([("a", world.raw("x"))]).unwrap();
    for (uri, status) in [
        (format!("/ipfs/{}", gone.cid()), 404),
        (format!("/ipfs/{root}"), 301),
        (format!("/ipfs/{root}/none"), 404),
        ("/ipfs/nonsense".to_owned(), 400),
    ] {
        let answer = world.ask(Method::GET, &uri, &[("if-match", "\"x\"")]).await;
        assert_eq!(answer.status, status, "{uri}");
    }
    let uri = format!("/ipfs/{root}");
    let options = world.ask(Method::OPTIONS, &uri, &[("if-match", "\"x\"")]).await;
    assert_eq!(options.status, 200);
}

#[tokio::test]
async fn what_was_modified_since_is_412() {
    let world = world();
    let (data, mtime) = (Some(b"dated".to_vec()), Some(1_600_000_000));
    let file = Made { kind: 2, data, mtime, ..Made::default() }.put(&world);
    let uri = format!("/ipfs/{file}");
    let tag = format!("\"{file}\"");
    let (before, same) = ("Sun, 13 Sep 2020 12:26:39 GMT", "Sun, 13 Sep 2020 12:26:40 GMT");
    for (date, status) in [(before, 412), (same, 200), ("Fri, 01 Jan 2021 00:00:00 GMT", 200)]
        .into_iter()
        .chain([("no date", 200)])
    {
        let answer = world.ask(Method::GET, &uri, &[("if-unmodified-since", date)]).await;
        assert_eq!(answer.status, status, "{date}");
    }
    // An entity tag wins over a date.
    let both = [("if-match", tag.as_str()), ("if-unmodified-since", before)];
    assert_eq!(world.ask(Method::GET, &uri, &both).await.status, 200);
    // What keeps no date was modified at none.
    let undated = world.raw("undated");
    let ask = [("if-unmodified-since", before)];
    assert_eq!(world.ask(Method::GET, &format!("/ipfs/{undated}"), &ask).await.status, 200);
}

#[tokio::test]
async fn the_tag_of_a_coding_matches_where_it_is_served() {
    let world = world();
    let text = world.store.add_file("estuary ".repeat(1000).as_bytes(), 1 << 20).unwrap();
    let (uri, br) = (format!("/ipfs/{text}?filename=a.txt"), format!("\"{text}-br\""));
    let asked = [("accept-encoding", "br"), ("if-match", br.as_str())];
    assert_eq!(world.ask(Method::GET, &uri, &asked).await.header("content-encoding"), "br");
    assert_eq!(world.ask(Method::GET, &uri, &[("if-match", &br)]).await.status, 412);
    let part = [asked[0], asked[1], ("range", "bytes=0-1")];
    assert_eq!(world.ask(Method::GET, &uri, &part).await.status, 412);
}
