//! What people see: error pages, and listings.

use std::sync::Arc;

use super::*;
use crate::block::{StoreError, VerifyError};
use crate::ipld::Error as IpldError;
use crate::routing;

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// One of each kind, with texts that an attacker or our own rooms may put into them.
fn errors() -> Vec<Error> {
    let cid = Box::new(*Block::sha2_256(codec::RAW, Bytes::from_static(b"x")).unwrap().cid());
    let evil: Box<str> = format!("<script>\n\u{202e}{}", "y".repeat(9000)).into();
    let inside: Arc<str> = "/var/lib/estuary/segments/7: permission denied; key=hunter2".into();
    let no_link = IpldError::NoLink { parent: cid.clone(), name: evil.clone() };
    let all = vec![
        Error::Method,
        Error::NoSuchRoute,
        Error::PathTooLong,
        Error::BadPath(IpldError::Path { path: evil.clone(), reason: evil.clone() }),
        Error::BadParameter { name: "format", reason: "it is none" },
        Error::UnknownMediaType,
        Error::ServiceWorker,
        Error::NotAcceptable { cid: cid.clone(), format: "tar" },
        Error::RangeOfLarge(5),
        Error::OutsideArchive(evil.clone()),
        Error::RecordOfContent,
        Error::Range(7),
        Error::Condition,
        Error::NameNotCached(routing::Error::NotAtHand(evil.clone())),
        Error::Index,
        Error::Content(IpldError::UnknownCodec(9)),
        Error::Path { path: evil.clone(), error: no_link },
        Error::Path { path: evil.clone(), error: IpldError::NotALink(cid.clone()) },
        Error::Name(routing::Error::Malformed { name: evil.clone(), reason: "it is empty" }),
        Error::Name(routing::Error::NotFound(evil)),
        Error::Fetch(FetchError::NotFound(cid.clone())),
        Error::Fetch(FetchError::Timeout(cid.clone(), std::time::Duration::from_secs(30))),
        Error::Fetch(FetchError::Unavailable(inside.clone())),
        Error::Fetch(FetchError::Corrupt(VerifyError::Mismatch(cid.clone()))),
        Error::Fetch(FetchError::Store(StoreError::Io(inside.clone()))),
        Error::Fetch(FetchError::Store(StoreError::ReadOnly(inside))),
        Error::Fetch(FetchError::Store(StoreError::Closed)),
        Error::NotCached(cid),
    ];
    all
}

#[tokio::test]
async fn no_error_shows_what_is_inside_or_becomes_markup() {
    for error in errors() {
        for page in [false, true] {
            for method in [Method::GET, Method::HEAD] {
                let accept = if page { BROWSER.1 } else { "*/*" };
                let request = http::Request::builder()
                    .method(&method)
                    .uri(
                        "/ipfs/x/%3Cscript%3E/\"><script>?\"><script>"
                            .replace(['"', '<', '>'], "'"),
                    )
                    .header("accept", accept)
                    .body(())
                    .unwrap();
                let response = error.response(&request, Some(Format::Default));
                let (head, body) = response.into_parts();
                assert!(head.status.is_client_error() || head.status.is_server_error());
                assert_eq!(head.headers["cache-control"], "no-store");
                assert_eq!(head.headers["vary"], "Accept");
                assert_eq!(head.headers["x-content-type-options"], "nosniff");
                let retry = matches!(head.status.as_u16(), 429 | 502..=504);
                assert_eq!(head.headers.contains_key("retry-after"), retry, "{error}");
                let body = body.collect().await.unwrap().to_bytes();
                let text = std::str::from_utf8(&body).unwrap();
                if method == Method::HEAD {
                    assert!(text.is_empty());
                    continue;
                }
                assert_eq!(head.headers["content-length"], text.len().to_string());
                assert!(text.len() < 10_000, "{error}: {}", text.len());
                for secret in ["/var", "hunter2", "estuary/", "segments", "\u{202e}"] {
                    assert!(!text.contains(secret), "{secret} in {text}");
                }
                if page {
                    assert_eq!(head.headers["content-type"], "text/html; charset=utf-8");
                    let policy = head.headers["content-security-policy"].to_str().unwrap();
                    assert!(policy.starts_with("default-src 'none'"));
                    assert!(!text.contains("<script") && text.contains("<html lang=\"en\">"));
                } else {
                    assert_eq!(head.headers["content-type"], "text/plain; charset=utf-8");
                    assert_eq!(text.lines().count(), 1, "{text}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_page_offers_what_helps() {
    let world = world_of(true);
    let file = world.raw("x");
    let inner = world.store.add_directory([("here", file)]).unwrap();
    let root = world.store.add_directory([("a b", inner)]).unwrap();
    let world = &world;
    let ask = |uri: String| async move { world.ask(Method::GET, &uri, &[BROWSER]).await };
    let missing = ask(format!("/ipfs/{root}/a%20b/not%20here/x?y=z")).await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("not here"));
    assert!(missing.text().contains(&format!("href=\"/ipfs/{root}/a%20b/\"")));
    assert!(missing.text().contains(&format!("href=\"/ipfs/{root}/\"")));
    let codec = ask(format!("/ipfs/{file}?format=dag-json")).await;
    assert_eq!(codec.status, 406);
    assert!(codec.text().contains("href=\"?format=raw\""));
    let slow = Block::sha2_256(codec::RAW, Bytes::from_static(b"slow")).unwrap();
    let down = Act::Fail(FetchError::Unavailable("10.0.0.7 refused".into()));
    world.source.on(slow.cid(), down);
    let failed = ask(format!("/ipfs/{}", slow.cid())).await;
    assert_eq!(failed.status, 502);
    assert!(failed.text().contains("href=\"\">Try again") && !failed.text().contains("10.0.0.7"));
    let absent = Block::sha2_256(codec::RAW, Bytes::from_static(b"absent")).unwrap();
    let absent = ask(format!("/ipfs/{}", absent.cid())).await;
    assert!(absent.text().contains("findprovs"));
    // Two slashes would begin another host.
    let twice = ask("//evil.example/x".to_owned()).await;
    assert!(!twice.text().contains("//evil"), "{}", twice.text());
    // Programs that read blocks get a line whatever they accept.
    for format in ["raw", "car"] {
        let cid = Block::sha2_256(codec::RAW, Bytes::from_static(b"absent")).unwrap();
        let answer = ask(format!("/ipfs/{}?format={format}", cid.cid())).await;
        assert_eq!((answer.status, answer.text().lines().count()), (502, 1));
    }
}

#[tokio::test]
async fn listings_are_pages_for_people() {
    let world = world();
    let file = world.raw("x");
    let inner = world.store.add_directory([("b", file), ("a", file)]).unwrap();
    let root = world.store.add_directory([("inner", inner)]).unwrap();
    let page = world.get(&format!("/ipfs/{root}/inner/")).await;
    assert_eq!(page.header("etag"), format!("\"DirIndex-2_CID-{inner}\""));
    for part in [
        "<html lang=\"en\">",
        "name=\"viewport\"",
        "Index of",
        "<th scope=\"col\">",
        "prefers-color-scheme:dark",
        ">..</a>",
    ] {
        assert!(page.text().contains(part), "{part}");
    }
    assert!(page.text().find(">a</a>") < page.text().find(">b</a>"));
    assert!(!page.text().contains("<script") && !page.text().contains("http"));
    assert!(!world.get(&format!("/ipfs/{root}/")).await.text().contains(">..</a>"));
}
