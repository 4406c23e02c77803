//! HTTP/2: served without TLS, and no way around the limits.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Estuary, PATIENCE, Process, bytes, get, http2, metric};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET http://a/` by HPACK's static table.
const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PRIORITY: u8 = 2;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xfe;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sends frames until the node ends the connection; whether it said that it was too much.
async fn flood(address: SocketAddr, mut next: impl FnMut(u32) -> Vec<u8>) -> bool {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let send = async {
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let _ = write.write_all(&begin).await;
        for n in 0..200_000 {
            if write.write_all(&next(n)).await.is_err() {
                return;
            }
        }
    };
    let receive = async {
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        answer
    };
    let both = async { tokio::join!(send, receive).1 };
    let answer = tokio::time::timeout(PATIENCE, both).await.expect("it goes on for ever");
    has_goaway(&answer)
}

fn has_goaway(mut answer: &[u8]) -> bool {
    while let Some((head, rest)) = answer.split_at_checked(9) {
        if head[3] == GOAWAY {
            return true;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        answer = rest.get(length..).unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let estuary = Estuary::start().await;
    let data = bytes(3 << 20);
    let cid = estuary.add_file(&data, 1 << 20).await;
    let stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    let sender = http2(stream).await;
    let asked = (0..20).map(|_| {
        let mut sender = sender.clone();
        let uri = format!("http://{}/ipfs/{cid}", estuary.gateway());
        async move {
            let request = Request::builder().method(Method::GET).uri(uri);
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            response.into_body().collect().await.unwrap().to_bytes()
        }
    });
    for body in futures_util::future::join_all(asked).await {
        assert!(body == data);
    }
    estuary.stop().await;
}

#[tokio::test]
async fn floods_end_the_connection_and_nothing_else() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let id = |n: u32| 2 * n + 1;
    let reset = flood(estuary.gateway(), |n| {
        let begin = frame(HEADERS, END_STREAM | END_HEADERS, id(n), HEAD);
        [begin, frame(RST_STREAM, 0, id(n), &8_u32.to_be_bytes())].concat()
    });
    assert!(reset.await, "rapid reset");
    let endless = flood(estuary.gateway(), |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, HEAD),
        _ => frame(CONTINUATION, 0, 1, &[0x40, 1, b'x', 1, b'y'].repeat(1000)),
    });
    assert!(endless.await, "continuation");
    let window_error = flood(estuary.gateway(), |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, HEAD),
        _ => frame(DATA, 0, 1, &[0; 16 << 10]),
    });
    window_error.await;
    let streams = flood(estuary.gateway(), |n| match n {
        0..200 => frame(HEADERS, END_HEADERS, id(n), HEAD),
        _ => frame(PING, 0, 0, &[0; 7]),
    });
    assert!(streams.await, "a malformed ping");
    let answer = estuary.get(&format!("/ipfs/{cid}")).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
    let panics = r#"estuary_http_panics_total{listener="gateway"}"#;
    assert_eq!(estuary.metric(panics).await, 0.0);
    let under_way = r#"estuary_http_requests_under_way{listener="gateway"}"#;
    assert_eq!(estuary.metric(under_way).await, 0.0);
    estuary.stop().await;
}

#[tokio::test]
async fn a_shut_window_holds_nothing_for_ever() {
    let estuary = Estuary::start_with(|config| config.http.stall_timeout_ms = 500).await;
    let large = estuary.add_file(&bytes(4 << 20), 1 << 20).await;
    let path = format!("/ipfs/{large}");
    let mut head = vec![0x82, 0x86, 0x04, path.len() as u8];
    head.extend(path.as_bytes());
    head.extend([0x41, 0x01, b'a']);
    let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let mut sent = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    for n in 0..100 {
        sent.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head));
    }
    stream.write_all(&sent).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "it stays open");
    let cut = r#"estuary_http_connections_cut_total{listener="gateway",why="stalled"}"#;
    assert_eq!(estuary.metric(cut).await, 1.0);
    estuary.stop().await;
}

/// What a node of its own says of itself.
async fn numbers(process: &Process) -> (f64, f64) {
    let page = get(process.admin, "/metrics").await.text();
    let memory = metric(&page, "process_resident_memory_bytes");
    (memory, metric(&page, r#"estuary_http_connections_cut_total{listener="gateway",why="flood"}"#))
}

#[tokio::test]
async fn frames_that_mean_nothing_are_cut_and_cost_little() {
    const EMPTY: &str = "/ipfs/bafkqaaa";
    let process = Process::spawn();
    assert_eq!(get(process.gateway, EMPTY).await.status, StatusCode::OK);
    let (memory, _) = numbers(&process).await;
    // A request that never ends, and data for it that is none.
    let empty_data = |n: u32| match n {
        0 => frame(HEADERS, END_HEADERS, 1, HEAD),
        _ => frame(DATA, 0, 1, &[]),
    };
    flood(process.gateway, |_| frame(PING, 0, 0, &[0; 8])).await;
    flood(process.gateway, |_| frame(SETTINGS, 0, 0, &[])).await;
    flood(process.gateway, |n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, n as u8])).await;
    flood(process.gateway, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])).await;
    flood(process.gateway, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
    flood(process.gateway, |_| frame(UNKNOWN, 0, 0, &[])).await;
    flood(process.gateway, empty_data).await;
    let (after, cut) = numbers(&process).await;
    assert!(cut >= 4.0, "{cut}");
    assert!(after - memory < 32e6, "{memory} to {after}");
    assert_eq!(get(process.gateway, EMPTY).await.status, StatusCode::OK);
}

#[tokio::test]
async fn headers_that_unpack_to_megabytes_are_refused() {
    let process = Process::spawn();
    let (memory, _) = numbers(&process).await;
    // An entry of 4,000 bytes for the dynamic table, and references to it of one byte each.
    let mut bomb = HEAD.to_vec();
    bomb.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend([b'y'; 4000]);
    bomb.extend([0xbe; 12_000]);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (bomb, address) = (bomb.clone(), process.gateway);
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
            let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb);
            let refs =
                frame(HEADERS, END_STREAM | END_HEADERS, 3, &[HEAD, &[0xbe; 16_000]].concat());
            let _ = stream.write_all(&[begin, head, refs].concat()).await;
            let mut answer = vec![0; 64 << 10];
            // It answers, one way or the other.
            assert!(stream.read(&mut answer).await.is_ok());
        });
    }
    let all = async { while clients.join_next().await.is_some_and(|ended| ended.is_ok()) {} };
    tokio::time::timeout(PATIENCE, all).await.expect("it does not answer");
    let (after, _) = numbers(&process).await;
    assert!(after - memory < 32e6, "{memory} to {after}");
    let page = get(process.admin, "/metrics").await.text();
    let served = r#"estuary_http_requests_total{listener="gateway",status="2xx"}"#;
    assert_eq!(metric(&page, served), 0.0);
}
