//! Clients that are slow on purpose, and some that are slow in earnest.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::hold;
use crate::harness::{Estuary, PATIENCE, bytes};

/// Sends a piece again and again until the connection is cut.
async fn dribble(estuary: &Estuary, begin: &[u8], piece: u8, pause: Duration) -> TcpStream {
    let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    stream.write_all(begin).await.unwrap();
    let mut pieces = tokio::time::interval(pause);
    let mut answer = [0; 64];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => match read {
                Ok(0) | Err(_) => return stream,
                Ok(_) => {}
            },
            _ = pieces.tick() => {
                if stream.write_all(&[piece]).await.is_err() {
                    return stream;
                }
            }
        }
    }
}

#[tokio::test]
async fn heads_that_do_not_come_to_an_end_are_cut_and_others_are_served() {
    const EACH: usize = 100;
    let estuary = Estuary::start_with(|config| config.http.head_timeout_ms = 500).await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let estuary = std::sync::Arc::new(estuary);
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..EACH {
        for begin in ["", "GET / HTTP/1.1\r\nX: ", "PRI * HT"] {
            let estuary = std::sync::Arc::clone(&estuary);
            clients.spawn(async move {
                let pause = Duration::from_millis(if begin.is_empty() { 60_000 } else { 50 });
                // An interval ticks at once: what is silent must not even begin.
                if begin.is_empty() {
                    let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
                    let _ = stream.read(&mut [0]).await;
                } else {
                    dribble(&estuary, begin.as_bytes(), b'a', pause).await;
                }
            });
        }
    }
    let mut served = 0;
    // Not as fast as can be: each leaves a port that rests for a minute.
    let mut others = tokio::time::interval(Duration::from_millis(10));
    while !clients.is_empty() {
        others.tick().await;
        assert!(begun.elapsed() < PATIENCE, "{} are left", clients.len());
        assert_eq!(estuary.get(&format!("/ipfs/{cid}")).await.status, StatusCode::OK);
        served += 1;
        while clients.try_join_next().is_some() {}
    }
    assert!(served > 10);
    let cut = r#"estuary_http_connections_cut_total{listener="gateway",why="slow_head"}"#;
    // Those that pretend to begin HTTP/2 are found out by their next byte and get a 400.
    assert_eq!(estuary.metric(cut).await, 2.0 * EACH as f64);
}

#[tokio::test]
async fn who_takes_nothing_is_cut_and_who_takes_slowly_is_not() {
    let estuary = Estuary::start_with(|config| config.http.stall_timeout_ms = 1000).await;
    let large = estuary.add_file(&bytes(32 << 20), 1 << 20).await;
    let path = format!("/ipfs/{large}");
    let mut stalled = hold(&estuary, &path).await;
    let mut slow = hold(&estuary, &path).await;
    let cut = r#"estuary_http_connections_cut_total{listener="gateway",why="stalled"}"#;
    let begun = Instant::now();
    let mut piece = vec![0; 16 << 10];
    let mut taken = 0;
    // Some hundred KiB a second, for longer than the other is waited for.
    while estuary.metric(cut).await < 1.0 || begun.elapsed() < Duration::from_secs(3) {
        assert!(begun.elapsed() < PATIENCE, "it is not cut");
        taken += slow.read(&mut piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(estuary.metric(cut).await, 1.0);
    // The one goes on, the other has to learn that it has not got the whole.
    while taken < 1 << 20 {
        taken += slow.read(&mut piece).await.unwrap();
    }
    let mut rest = 0;
    while let Ok(count @ 1..) = stalled.read(&mut piece).await {
        rest += count;
    }
    assert!(rest < 32 << 20, "{rest}");
    estuary.stop().await;
}

#[tokio::test]
async fn an_upload_that_hardly_comes_is_cut_and_leaves_nothing() {
    let estuary = Estuary::start_with(|config| config.http.stall_timeout_ms = 1000).await;
    let key = crate::api::key(&estuary, "upload").await;
    let head = format!(
        "POST /content/add HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: {}\r\nContent-Length: 1000000\r\n\r\n",
        crate::api::form_type(),
    );
    let part = crate::api::part("data", Some("f"), b"");
    let mut stream = TcpStream::connect(estuary.api()).await.unwrap();
    stream.write_all(&[head.into_bytes(), part].concat()).await.unwrap();
    let begun = Instant::now();
    while stream.write_all(b"a").await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it is not cut");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cut = r#"estuary_http_connections_cut_total{listener="api",why="stalled"}"#;
    assert_eq!(estuary.metric(cut).await, 1.0);
    assert_eq!(estuary.node().app().store().stats().unwrap().pins, 0);
    estuary.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_while_and_a_busy_one_is_kept() {
    let estuary = Estuary::start_with(|config| {
        config.http.idle_timeout_ms = 300;
        config.http.head_timeout_ms = 5000;
    })
    .await;
    let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    let mut answer = vec![0; 4096];
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut answer).await.unwrap() > 0);
    }
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await;
    assert_eq!(ended.unwrap().unwrap(), 0);
    estuary.stop().await;
}
