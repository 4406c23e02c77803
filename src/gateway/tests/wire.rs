//! What responses look like on an HTTP/1.1 connection.

use http::Method;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// All bytes of the answer to one request, up to the end of the connection.
async fn exchange(world: &World, method: Method, uri: &str) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async {
        Ok::<_, std::convert::Infallible>(
            world.gateway.respond(request.map(drop), Peer::default()).await,
        )
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let talk = async {
        let head =
            format!("{method} {uri} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
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
