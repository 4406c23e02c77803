//! Content codings on real connections.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{Estuary, PATIENCE, http2, request, send};

#[tokio::test]
async fn encoded_answers_are_whole_over_http_1_and_2() {
    let estuary = Estuary::start().await;
    let text = "salmon swim up the estuary\n".repeat(100_000);
    let cid = estuary.add_file(text.as_bytes(), 256 << 10).await;
    let path = format!("/ipfs/{cid}?filename=a.txt");
    let mut asked = request(Method::GET, &path);
    asked.headers_mut().insert(header::ACCEPT_ENCODING, "zstd".parse().unwrap());
    let one = send(estuary.gateway(), asked).await;
    assert_eq!(one.header("content-encoding"), Some("zstd"));
    assert!(zstd::decode_all(&one.body[..]).unwrap() == text.as_bytes());

    let stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    let sender = http2(stream).await;
    for method in [Method::GET, Method::HEAD] {
        let request = Request::builder().method(&method).uri(format!("http://a{path}"));
        let request = request.header(header::ACCEPT_ENCODING, "zstd");
        let mut sender = sender.clone();
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.status(), answer.headers().get(header::CONTENT_LENGTH)),
            (StatusCode::OK, None)
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body == if method == Method::GET { one.body.clone() } else { Bytes::new() });
    }
    estuary.stop().await;
}

#[tokio::test]
async fn others_are_served_while_much_is_encoded() {
    let estuary = Estuary::start().await;
    let text = "salmon swim up the estuary\n".repeat(400_000);
    let large = estuary.add_file(text.as_bytes(), 1 << 20).await;
    let small = estuary.add_block(&b"hello"[..]).await;
    let mut encoded = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let mut asked = request(Method::GET, &format!("/ipfs/{large}?filename=a.txt"));
        asked.headers_mut().insert(header::ACCEPT_ENCODING, "br".parse().unwrap());
        let address = estuary.gateway();
        encoded.spawn(async move {
            let answer = send(address, asked).await;
            assert_eq!(answer.header("content-encoding"), Some("br"));
        });
    }
    let begun = Instant::now();
    let mut served = 0;
    while !encoded.is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        let asked = Instant::now();
        assert_eq!(estuary.get(&format!("/ipfs/{small}")).await.status, StatusCode::OK);
        assert!(asked.elapsed().as_millis() < 1000, "{:?}", asked.elapsed());
        served += 1;
        while encoded.try_join_next().is_some_and(|ended| ended.is_ok()) {}
    }
    assert!(served > 0);
    estuary.stop().await;
}
