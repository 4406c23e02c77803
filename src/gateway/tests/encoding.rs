//! Content codings: the same bytes, each coding with a tag of its own, and only where it is safe.

use std::io::Read;

use super::*;

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// Text that gets smaller.
fn text(bytes: usize) -> Vec<u8> {
    let words = (0_u64..).map(|n| format!("{} salmon swim up the estuary\n", n * n % 1000));
    let mut text: Vec<u8> = words.take(bytes / 20).flat_map(String::into_bytes).collect();
    text.truncate(bytes);
    text
}

fn decode(coding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match coding {
        "zstd" => zstd::stream::copy_decode(body, &mut out)?,
        "br" => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut out)?),
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut out)?),
        _ => out.extend_from_slice(body),
    }
    Ok(out)
}

async fn ask(world: &World, uri: &str, headers: &[(&str, &str)]) -> Answer {
    world.ask(Method::GET, uri, headers).await
}

#[tokio::test]
async fn each_coding_holds_the_same_bytes_under_a_tag_of_its_own() {
    let world = world();
    let small = text(2000);
    let large = text(3_000_000);
    let files = [
        (world.raw(small.clone()), &small),
        (world.store.add_file(&small, 100).unwrap(), &small),
        (world.store.add_file(&large, 100_000).unwrap(), &large),
        (world.store.add_file(&large, 3000).unwrap(), &large),
    ];
    for (cid, data) in &files {
        let uri = format!("/ipfs/{cid}?filename=a.txt");
        let plain = ask(&world, &uri, &[]).await;
        assert_eq!((plain.header("vary"), &plain.body[..]), ("Accept, Accept-Encoding", &data[..]));
        assert_eq!(plain.header("content-encoding"), "");
        for coding in CODINGS {
            let answer = ask(&world, &uri, &[("accept-encoding", coding)]).await;
            assert_eq!((answer.status, answer.whole), (200, true), "{coding}");
            assert_eq!(answer.header("content-encoding"), coding);
            assert_eq!(answer.header("etag"), format!("\"{cid}-{coding}\""));
            assert_eq!(answer.header("vary"), "Accept, Accept-Encoding");
            assert_eq!(answer.header("content-length"), "");
            assert_eq!(answer.header("accept-ranges"), "");
            assert!(answer.body.len() < data.len() / 3, "{coding}: {}", answer.body.len());
            assert!(&decode(coding, &answer.body).unwrap() == *data, "{coding}");

            let head = world.ask(Method::HEAD, &uri, &[("accept-encoding", coding)]).await;
            assert!(head.body.is_empty());
            assert_eq!((head.status, stable(head.headers)), (200, stable(answer.headers)));
        }
    }
    let file = files[0].0;
    let entries = (0..200).map(|n| (format!("file-{n}"), file));
    let root = world.store.add_directory(entries).unwrap();
    let uri = format!("/ipfs/{root}/");
    let plain = ask(&world, &uri, &[]).await;
    let page = ask(&world, &uri, &[("accept-encoding", "br")]).await;
    assert_eq!(
        page.header("etag"),
        plain.header("etag").strip_suffix('"').unwrap().to_owned() + "-br\""
    );
    assert!(decode("br", &page.body).unwrap() == plain.body);
}

#[tokio::test]
async fn tags_of_encoded_content_are_known_and_ranges_are_of_the_content() {
    let world = world();
    let data = text(5000);
    let cid = world.raw(data.clone());
    let uri = format!("/ipfs/{cid}");
    for coding in CODINGS {
        let tag = format!("\"{cid}-{coding}\"");
        for held in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
            let headers = [("accept-encoding", coding), ("if-none-match", &held)];
            let answer = ask(&world, &uri, &headers).await;
            assert_eq!((answer.status, answer.header("etag")), (304, tag.as_str()), "{held}");
            assert!(answer.header("vary").contains("Accept-Encoding"));
        }
        // It has it as it is, too.
        let plain = format!("\"{cid}\"");
        let headers = [("accept-encoding", coding), ("if-none-match", &*plain)];
        let answer = ask(&world, &uri, &headers).await;
        assert_eq!((answer.status, answer.header("etag")), (304, plain.as_str()));
        // Who takes no coding cannot use what is held.
        let answer = ask(&world, &uri, &[("if-none-match", &*tag)]).await;
        assert_eq!((answer.status, answer.body.len()), (200, data.len()));

        let range = [("accept-encoding", coding), ("range", "bytes=10-19")];
        let part = ask(&world, &uri, &range).await;
        assert_eq!((part.status, &part.body[..]), (206, &data[10..20]));
        assert_eq!((part.header("etag"), part.header("content-encoding")), (plain.as_str(), ""));
        assert!(part.header("vary").contains("Accept-Encoding"));
        // Bytes of the content must not be joined to those of a coding.
        let resumed = [range[0], range[1], ("if-range", &*tag)];
        let whole = ask(&world, &uri, &resumed).await;
        assert_eq!((whole.status, &whole.body[..]), (200, &data[..]));
        let resumed = [range[0], range[1], ("if-range", &*plain)];
        assert_eq!(ask(&world, &uri, &resumed).await.status, 206);
    }
}

#[tokio::test]
async fn what_is_checked_small_or_dense_is_left_as_it_is() {
    let world = world();
    let data = text(5000);
    let cid = world.store.add_file(&data, 1000).unwrap();
    let tiny = world.raw(text(1023));
    let all = [("accept-encoding", "gzip, br, zstd")];
    for (uri, vary) in [
        (format!("/ipfs/{cid}?format=raw"), false),
        (format!("/ipfs/{cid}?format=car"), false),
        (format!("/ipfs/{cid}?filename=a.png"), false),
        (format!("/ipfs/{cid}?filename=a.zip"), false),
        (format!("/ipfs/{tiny}"), true),
    ] {
        let plain = ask(&world, &uri, &[]).await;
        let answer = ask(&world, &uri, &all).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, ""), "{uri}");
        assert_eq!((answer.header("etag"), &answer.body), (plain.header("etag"), &plain.body));
        assert_eq!(answer.header("vary").contains("Accept-Encoding"), vary, "{uri}");
    }
    for accepted in ["", "identity", "identity;q=1, gzip;q=0.5", "deflate", "gzip;q=0", "*;q=0"] {
        let answer = ask(&world, &format!("/ipfs/{cid}"), &[("accept-encoding", accepted)]).await;
        assert_eq!((answer.header("content-encoding"), &answer.body[..]), ("", &data[..]));
    }
    // Who refuses it as it is gets even that encoded which does not gain; but what it could not
    // check any more.
    let insisting = [("accept-encoding", "identity;q=0, gzip")];
    for uri in [format!("/ipfs/{tiny}"), format!("/ipfs/{cid}?filename=a.png")] {
        let answer = ask(&world, &uri, &insisting).await;
        assert_eq!(answer.header("content-encoding"), "gzip", "{uri}");
        assert!(!decode("gzip", &answer.body).unwrap().is_empty());
    }
    let raw = ask(&world, &format!("/ipfs/{cid}?format=raw"), &insisting).await;
    assert_eq!(raw.header("content-encoding"), "");
    // Of nothing, no coding could be decoded.
    let empty = ask(&world, "/ipfs/bafkqaaa", &insisting).await;
    assert_eq!((empty.header("content-encoding"), empty.body.len()), ("", 0));
}

#[tokio::test]
async fn an_encoded_answer_that_fails_has_no_end() {
    let world = world();
    let data = text(600_000);
    let cid = world.store.add_file(&data, 1000).unwrap();
    let leaves = world.links(&cid);
    world.store.remove(&leaves[500]);
    for coding in CODINGS {
        let uri = format!("/ipfs/{cid}?filename=a.txt");
        let answer = ask(&world, &uri, &[("accept-encoding", coding)]).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, coding));
        assert!(!answer.whole, "{coding}");
        // What came cannot be taken for the whole, even by who sees no more than the bytes.
        let decoded = decode(coding, &answer.body);
        assert!(decoded.is_err(), "{coding}");
    }
}

#[tokio::test]
async fn more_than_can_be_encoded_at_once_is_given_as_it_is() {
    let world = world();
    let large = world.store.add_file(&text(200_000), 10_000).unwrap();
    let small = world.raw(text(2000));
    let places = world.gateway.encoders.hold_all();
    let gzip = [("accept-encoding", "gzip")];
    let answer = ask(&world, &format!("/ipfs/{large}"), &gzip).await;
    assert_eq!((answer.header("content-encoding"), answer.body.len()), ("", 200_000));
    let answer = ask(&world, &format!("/ipfs/{small}"), &gzip).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    drop(places);
    for _ in 0..40 {
        let answer = ask(&world, &format!("/ipfs/{large}"), &gzip).await;
        assert_eq!(answer.header("content-encoding"), "gzip");
    }
}

#[tokio::test]
async fn several_parts_and_several_lines_of_tags_are_told_apart_by_coding() {
    let world = world();
    let cid = world.raw(text(2000));
    let uri = format!("/ipfs/{cid}?filename=a.txt");
    let parts = ask(&world, &uri, &[("range", "bytes=0-1,5-6"), ("accept-encoding", "br")]).await;
    assert_eq!((parts.status, parts.header("vary")), (206, "Accept, Accept-Encoding"));
    let (other, own) = ("\"other\"", format!("\"{cid}-br\""));
    for tags in [[other, &own], [&own, other]] {
        let [one, two] = tags.map(|tag| ("if-none-match", tag));
        let held = ask(&world, &uri, &[one, two, ("accept-encoding", "br")]).await;
        assert_eq!((held.status, held.header("etag")), (304, own.as_str()), "{tags:?}");
    }
}
