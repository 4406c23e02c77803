//! What responses look like on an HTTP/1.1 connection.

use http::Method;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// All bytes of the answer to one request, up to the end of the connection.
async fn exchange(world: &World, method: Method, uri: &str) -> Vec<u8> {
    exchange_with(world, method, uri, "").await
}

/// The same, with further lines in the request's head.
async fn exchange_with(world: &World, method: Method, uri: &str, lines: &str) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async {
        Ok::<_, std::convert::Infallible>(
            world.gateway.respond(request.map(drop), Peer::default()).await,
        )
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let talk = async {
        let head = format!(
            "{method} {uri} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n{lines}\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (_, answer) = tokio::join!(connection, talk);
    answer
}

fn split(answer: &[u8]) -> (String, &[u8]) {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..at].to_vec()).unwrap(), &answer[at + 4..])
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[tokio::test]
async fn a_cut_at_any_block_never_looks_like_an_end() {
    let world = world();
    let cid = world.store.add_file(&bytes(4000), 400).unwrap();
    let uri = format!("/ipfs/{cid}");
    let car_uri = format!("/ipfs/{cid}?format=car");
    let whole = exchange(&world, Method::GET, &car_uri).await;
    assert!(whole.ends_with(LAST_CHUNK));
    for (at, leaf) in world.links(&cid).into_iter().enumerate().skip(1) {
        let fresh = super::world();
        let all = world.links(&cid).into_iter().chain([cid]);
        for kept in all.filter(|kept| *kept != leaf) {
            let block = block::Blockstore::get(&world.store, &kept).await.unwrap().unwrap();
            fresh.store.insert([block]);
        }
        let car = exchange(&fresh, Method::GET, &car_uri).await;
        assert!(!car.ends_with(LAST_CHUNK), "block {at}");
        let tar = exchange(&fresh, Method::GET, &format!("/ipfs/{cid}?format=tar")).await;
        assert!(!tar.ends_with(LAST_CHUNK), "block {at}");
        let file = exchange(&fresh, Method::GET, &uri).await;
        let (head, body) = split(&file);
        assert!(head.contains("content-length: 4000"), "{head}");
        assert_eq!(body.len(), at * 400);
    }
}

#[tokio::test]
async fn heads_have_no_body_and_no_false_length() {
    let world = world();
    let cid = world.store.add_file(&bytes(4000), 400).unwrap();
    let answer = exchange(&world, Method::HEAD, &format!("/ipfs/{cid}")).await;
    let (head, body) = split(&answer);
    assert!(head.contains("content-length: 4000") && body.is_empty(), "{head}");
    let answer = exchange(&world, Method::HEAD, &format!("/ipfs/{cid}?format=car")).await;
    let (head, body) = split(&answer);
    assert!(!head.contains("content-length") && body.is_empty(), "{head}");
    let held = exchange(&world, Method::HEAD, "/ipfs/nonsense").await;
    let (head, body) = split(&held);
    assert!(head.starts_with("HTTP/1.1 400") && body.is_empty(), "{head}");
}

/// Text that has no two equal blocks.
fn numbers(count: u32) -> String {
    (0..count).map(|n| format!("{n}\n")).collect()
}

#[tokio::test]
async fn an_encoded_answer_ends_only_where_its_content_does() {
    let world = world();
    let text = numbers(30_000);
    let cid = world.store.add_file(text.as_bytes(), 1000).unwrap();
    let uri = format!("/ipfs/{cid}?filename=a.txt");
    for coding in ["zstd", "br", "gzip"] {
        let lines = format!("Accept-Encoding: {coding}\r\n");
        let whole = exchange_with(&world, Method::GET, &uri, &lines).await;
        let (head, _) = split(&whole);
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert!(!head.contains("content-length") && whole.ends_with(LAST_CHUNK), "{head}");
        let answer = exchange_with(&world, Method::HEAD, &uri, &lines).await;
        let (of_head, body) = split(&answer);
        assert!(!of_head.contains("content-length") && body.is_empty(), "{of_head}");
    }
    let leaves = world.links(&cid);
    let fresh = super::world();
    for kept in leaves.iter().take(139).chain([&cid]) {
        if let Some(block) = block::Blockstore::get(&world.store, kept).await.unwrap() {
            fresh.store.insert([block]);
        }
    }
    for coding in ["zstd", "br", "gzip"] {
        let lines = format!("Accept-Encoding: {coding}\r\n");
        let cut = exchange_with(&fresh, Method::GET, &uri, &lines).await;
        assert!(cut.starts_with(b"HTTP/1.1 200") && !cut.ends_with(LAST_CHUNK), "{coding}");
    }
}

/// The body of the answer over HTTP/2, or why it broke off.
async fn multiplexed(world: &World, uri: &str, coding: &str) -> Result<Bytes, hyper::Error> {
    let (client, server) = tokio::io::duplex(64 << 10);
    let gateway = world.gateway.clone();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let gateway = gateway.clone();
        async move {
            let response = gateway.respond(request.map(drop), Peer::default()).await;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let executor = hyper_util::rt::TokioExecutor::new();
    let server = hyper::server::conn::http2::Builder::new(executor.clone())
        .serve_connection(TokioIo::new(server), service);
    let tasks = crate::task::Tasks::new();
    tasks.spawn(server);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(client)).await?;
    tasks.spawn(connection);
    let request = http::Request::builder()
        .uri(format!("https://a{uri}"))
        .header("accept-encoding", coding)
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await?;
    assert_eq!(response.status(), 200);
    Ok(response.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn a_cut_answer_is_a_reset_stream_over_http_2() {
    let world = world();
    let text = numbers(60_000);
    let cid = world.store.add_file(text.as_bytes(), 1000).unwrap();
    let uris = [format!("/ipfs/{cid}?filename=a.txt"), format!("/ipfs/{cid}?format=car")];
    for uri in &uris {
        assert!(multiplexed(&world, uri, "gzip").await.is_ok(), "{uri}");
    }
    let fresh = super::world();
    for kept in world.links(&cid).iter().take(200).chain([&cid]) {
        let block = block::Blockstore::get(&world.store, kept).await.unwrap().unwrap();
        fresh.store.insert([block]);
    }
    for coding in ["identity", "zstd", "br", "gzip"] {
        for uri in &uris {
            let error = multiplexed(&fresh, uri, coding).await.map(|body| body.len()).unwrap_err();
            assert!(format!("{error:?}").contains("Reset("), "{uri} {coding}: {error:?}");
        }
    }
}
