use std::collections::HashMap;
use std::sync::Mutex;

use futures_util::TryStreamExt;
use prometheus::Registry;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::block::{Block, codec};
use crate::network;
use crate::provider::Protocol;
use crate::task::Tasks;
use crate::testing::http::{Server, path, reply};

const PEER: &str = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";
const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

fn delegated(urls: &[&str]) -> (Delegated, Tasks) {
    let (registry, tasks) = (Registry::new(), Tasks::new());
    let metrics = network::Metrics::register(&registry).unwrap();
    let client = Client::unguarded(&tasks, &metrics).unwrap();
    let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
    (Delegated::new(&urls, &client, Metrics::register(&registry).unwrap()), tasks)
}

fn cid(text: &'static str) -> Cid {
    *Block::sha2_256(codec::RAW, Bytes::from_static(text.as_bytes())).unwrap().cid()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn line(port: u16) -> String {
    format!(
        "{{\"Schema\":\"peer\",\"ID\":\"{PEER}\",\"Addrs\":[\"/ip4/1.1.1.1/tcp/{port}\"],\"Protocols\":[\"transport-bitswap\"]}}\n"
    )
}

async fn answering(status: &'static str, headers: &'static str, body: String) -> Server {
    let answer = move |_, stream| {
        let body = body.clone();
        async move { reply(stream, status, headers, body.as_bytes()).await }
    };
    Server::start(answer).await.unwrap()
}

/// A server that answers nothing.
async fn silent() -> Server {
    let answer = |_, stream| async move {
        std::future::pending::<()>().await;
        Ok(Some(stream))
    };
    Server::start(answer).await.unwrap()
}

#[tokio::test]
async fn a_record_is_given_as_its_line_arrives() {
    let answer = |_, mut stream: tokio::net::TcpStream| async move {
        let head = format!("HTTP/1.1 200 OK\r\n{NDJSON}Connection: close\r\n\r\n{}", line(1));
        stream.write_all(head.as_bytes()).await?;
        std::future::pending::<()>().await;
        Ok(Some(stream))
    };
    let server = Server::start(answer).await.unwrap();
    let (delegated, _tasks) = delegated(&[&server.url()]);
    let mut found = delegated.providers(&cid("a"), soon());
    let first = found.next().await.unwrap().unwrap();
    assert!(first.protocols.contains(Protocol::Bitswap));
    assert_eq!(first.addresses[0].to_string(), "/ip4/1.1.1.1/tcp/1");
    let head = server.heads().remove(0).to_lowercase();
    assert!(head.contains("accept: application/x-ndjson"), "{head}");
    assert!(
        head.contains("filter-protocols=unknown,transport-bitswap,transport-ipfs-gateway-http")
    );
}

#[tokio::test]
async fn the_slow_and_the_failing_delay_nobody() {
    let (slow, good) = (silent().await, answering("200 OK", NDJSON, line(2)).await);
    let bad = answering("500 Oh", "", String::new()).await;
    let (delegated, _tasks) =
        delegated(&[&slow.url(), &bad.url(), "http://127.0.0.1:9", &good.url()]);
    let mut found = delegated.providers(&cid("a"), Instant::now() + Duration::from_millis(1500));
    let (mut providers, mut errors) = (0, Vec::new());
    let started = Instant::now();
    while let Some(each) = found.next().await {
        match each {
            Ok(_) => {
                assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
                providers += 1;
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert_eq!(providers, 1);
    // Port 9 is none to be asked at, so that router is none.
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("500"), "{errors:?}");
    assert!(errors[1].contains("in time"), "{errors:?}");
}

#[tokio::test]
async fn nothing_found_is_no_error_however_it_is_said() {
    for (status, headers, body) in [
        ("404 Not Found", "", ""),
        ("200 OK", NDJSON, ""),
        ("200 OK", "Content-Type: application/json\r\n", "{\"Providers\":null}"),
        ("200 OK", "Content-Type: application/json\r\n", "{\"Providers\":[]}"),
    ] {
        let server = answering(status, headers, body.to_owned()).await;
        let (delegated, _tasks) = delegated(&[&server.url()]);
        for _ in 0..3 {
            let found: Vec<_> = delegated.providers(&cid("a"), soon()).try_collect().await.unwrap();
            assert!(found.is_empty());
        }
        assert_eq!(server.heads().len(), 1, "{status} {body} was asked for again");
    }
}

#[tokio::test]
async fn what_was_found_is_held_for_a_minute() {
    let server = answering("200 OK", NDJSON, line(1) + &line(2)).await;
    let (delegated, _tasks) = delegated(&[&server.url()]);
    for content in ["a", "a", "b", "a"] {
        let found: Vec<_> = delegated.providers(&cid(content), soon()).try_collect().await.unwrap();
        assert_eq!(found.len(), 2);
    }
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn answers_are_read_as_far_as_they_may_go_and_bad_lines_passed_over() {
    let many = "{\"half\":\nnot json\n".to_owned() + &line(1).repeat(3000);
    let server = answering("200 OK", NDJSON, many).await;
    let (delegated, _tasks) = delegated(&[&server.url()]);
    let found: Vec<_> = delegated.providers(&cid("a"), soon()).try_collect().await.unwrap();
    assert_eq!(found.len(), 998);
    let huge = format!("{{\"Providers\":[\"{}\"]}}", "x".repeat(5 << 20));
    let server = answering("200 OK", "Content-Type: application/json\r\n", huge).await;
    let (delegated, _tasks) = self::delegated(&[&server.url()]);
    let found: Result<Vec<_>, _> = delegated.providers(&cid("a"), soon()).try_collect().await;
    assert!(found.unwrap_err().to_string().contains("over 4194304 bytes"));
}

#[tokio::test]
async fn a_router_that_fails_is_left_alone_for_a_while() {
    let server = answering("500 Oh", "", String::new()).await;
    let (delegated, _tasks) = delegated(&[&server.url()]);
    for _ in 0..5 {
        let found: Result<Vec<_>, _> = delegated.providers(&cid("a"), soon()).try_collect().await;
        assert!(found.unwrap_err().to_string().contains("500"));
    }
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn a_router_that_asks_to_be_left_alone_is() {
    let server = answering("429 Slow", "Retry-After: 30\r\n", String::new()).await;
    let (delegated, _tasks) = delegated(&[&server.url()]);
    for _ in 0..3 {
        let found: Result<Vec<_>, _> = delegated.providers(&cid("a"), soon()).try_collect().await;
        assert!(found.is_err());
    }
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn records_of_names_go_both_ways() {
    let held: Arc<Mutex<HashMap<String, &'static str>>> = Arc::default();
    let answer = move |head: String, mut stream: tokio::net::TcpStream| {
        let held = Arc::clone(&held);
        async move {
            let at = path(&head).to_owned();
            if head.starts_with("PUT") {
                let mut record = [0; 6];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut record).await?;
                assert_eq!(&record, b"record");
                held.lock().unwrap().insert(at, "record");
                return reply(stream, "200 OK", "", b"").await;
            }
            let record = held.lock().unwrap().get(&at).copied();
            match record {
                Some(record) => {
                    let kind = "Content-Type: application/vnd.ipfs.ipns-record\r\n";
                    reply(stream, "200 OK", kind, record.as_bytes()).await
                }
                None => reply(stream, "200 OK", "Content-Type: text/plain\r\n", b"not found").await,
            }
        }
    };
    let server = Server::start(answer).await.unwrap();
    let (delegated, _tasks) = delegated(&[&server.url(), "http://127.0.0.1:20001"]);
    let key = Key::from_hash_bytes(&PEER.parse::<PeerId>().unwrap().to_bytes()).unwrap();
    let found: Vec<_> = delegated.ipns(&key, soon()).collect().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].is_err());
    let record = Bytes::from_static(b"record");
    assert_eq!(delegated.put_ipns(&key, &record, soon()).await.unwrap(), 1);
    // The router that cannot be reached may say so first.
    let found: Vec<_> = delegated.ipns(&key, soon()).collect().await;
    let found: Vec<_> = found.into_iter().flatten().collect();
    assert_eq!(found, [record]);
}

#[tokio::test]
async fn a_peer_is_asked_for_by_the_cid_of_its_key() {
    let other = line(3).replace(PEER, "12D3KooWGRRU1DDe2D1ZSCJ2SFLQ8AWZyLwMmZmH2gZCXoG9sZxo");
    let body = line(1) + &other;
    let server = answering("200 OK", NDJSON, body).await;
    let (delegated, _tasks) = delegated(&[&server.url()]);
    let peer: PeerId = PEER.parse().unwrap();
    let found: Vec<_> = delegated.peer(peer, soon()).try_collect().await.unwrap();
    assert_eq!(found.iter().map(|found| found.peer).collect::<Vec<_>>(), [Some(peer)]);
    assert!(path(&server.heads()[0]).starts_with("/routing/v1/peers/k51"), "{:?}", server.heads());
}

#[test]
fn urls_of_routers_are_checked() {
    let check = |url: &str, good: bool| {
        assert_eq!(Delegated::check(&[url.to_owned()]).is_ok(), good, "{url}");
    };
    check("https://delegated-ipfs.dev", true);
    check("http://127.0.0.1:8190/", true);
    check("https://router.example/below", true);
    check("router.example", false);
    check("https://user@router.example", false);
    check("https://router.example?x=y", false);
    assert!(Delegated::check(&vec!["https://a.example".into(); ROUTERS_MAX + 1]).is_err());
}
