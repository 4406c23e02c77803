use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http::metrics::Metrics;
use crate::http::server::{self, Addresses, Limits, Listener, Server};
use crate::metrics::Registry;

fn check(uri: &str, version: Version, headers: &[(&str, &str)], expected: Result<(), Framing>) {
    let mut request = Request::builder().uri(uri).version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    assert_eq!(check_framing(&request, true), expected, "{uri} {headers:?}");
}

#[test]
fn a_request_must_be_readable_in_one_way_only() {
    const HOST: (&str, &str) = ("host", "a");
    let te = |value| ("transfer-encoding", value);
    check("/", Version::HTTP_11, &[HOST], Ok(()));
    check("/", Version::HTTP_11, &[], Err(Framing::Host));
    check("/", Version::HTTP_11, &[HOST, HOST], Err(Framing::Host));
    check("/", Version::HTTP_10, &[], Ok(()));
    check("/", Version::HTTP_10, &[HOST, HOST], Err(Framing::Host));
    check("http://A/", Version::HTTP_11, &[HOST], Ok(()));
    check("http://b/", Version::HTTP_11, &[HOST], Err(Framing::Authority));
    check("http://b/", Version::HTTP_2, &[HOST], Err(Framing::Authority));
    // Whoever reads it otherwise takes what is before the @ for the host.
    let with_user = ("host", "evil@a");
    check("/", Version::HTTP_11, &[with_user], Err(Framing::Userinfo));
    check("http://evil@a/", Version::HTTP_11, &[with_user], Err(Framing::Userinfo));
    check("http://evil@a/", Version::HTTP_2, &[], Err(Framing::Userinfo));
    check("http://b/", Version::HTTP_2, &[], Ok(()));
    check("/", Version::HTTP_11, &[HOST, te("chunked")], Ok(()));
    check("/", Version::HTTP_11, &[HOST, te("Chunked")], Ok(()));
    for encodings in [vec![te("gzip, chunked")], vec![te("chunked"), te("chunked")]] {
        let headers: Vec<_> = [HOST].into_iter().chain(encodings).collect();
        check("/", Version::HTTP_11, &headers, Err(Framing::TransferEncoding));
    }
}

/// A service that answers, panics or never answers, as its path says, behind the stack.
async fn misbehaving() -> (Server, SocketAddr, ListenerMetrics) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = Listener::tcp(listener).unwrap();
    let metrics = Metrics::register(&Registry::new()).unwrap().of("gateway");
    let manners = Manners {
        patience: Some(Duration::from_millis(50)),
        bodies: false,
        public: false,
        hsts: None,
    };
    let of_listener = metrics.clone();
    let limits = Limits::default();
    let addresses = Arc::new(Addresses::new(&limits));
    let server = server::serve(listener, limits, addresses, metrics.clone(), move |client| {
        let service = service_fn(|request: Request<Incoming>| async move {
            match request.uri().path() {
                "/panic" => panic!("planted"),
                "/never" => std::future::pending().await,
                _ => Ok(Response::new(Body::service(Full::new(Bytes::from_static(b"well"))))),
            }
        });
        stack(service, &client, &of_listener, &manners)
    });
    (server, address, metrics)
}

#[tokio::test]
async fn a_bug_or_a_delay_is_one_answer_and_the_connection_goes_on() {
    let (server, address, metrics) = misbehaving().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for (path, expected) in [
        ("/panic", "HTTP/1.1 500 Internal Server Error"),
        ("/", "HTTP/1.1 200 OK"),
        ("/never", "HTTP/1.1 504 Gateway Timeout"),
        ("/", "HTTP/1.1 200 OK"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }
    assert_eq!((metrics.panics.get(), metrics.under_way.get()), (1, 0));
    drop(stream);
    assert!(server.stop(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn browsers_get_a_page_and_programs_a_line_where_the_front_door_answers() {
    let (server, address, _) = misbehaving().await;
    for (request, status) in [("GET /never HTTP/1.1\r\nHost: a", 504), ("GET / HTTP/1.1", 400)] {
        for (accept, media_type) in [
            ("text/html,*/*;q=0.8", "content-type: text/html; charset=utf-8"),
            ("*/*", "content-type: text/plain; charset=utf-8"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("{request}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(media_type) && answer.contains("vary: Accept"), "{answer}");
            let page = accept != "*/*";
            assert_eq!(answer.contains("default-src 'none'"), page, "{answer}");
            assert_eq!(answer.contains("</html>"), page, "{answer}");
            assert_eq!(answer.contains("Try again</a>"), page && status == 504, "{answer}");
        }
    }
    assert!(server.stop(Duration::from_secs(10)).await);
}

#[test]
fn what_a_client_is_refused_is_a_page_to_a_browser() {
    for error in [Error::TooMany, Error::TooOften(3), Error::Busy] {
        let response =
            error.response_to::<Full<Bytes>>(Some(HeaderValue::from_static("text/html")));
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        let plain = error.response_to::<Full<Bytes>>(None);
        assert_eq!(plain.status(), response.status());
        assert_eq!(plain.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}
