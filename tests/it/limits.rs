//! What hostile clients may not do: smuggle, hold connections by being slow, or take more than
//! their share.

mod framing;
mod http2;
mod slow;

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Estuary, PATIENCE, Process, bytes, get, metric, raw, request, send};

/// The first line of an answer.
fn status_line(answer: &[u8]) -> String {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

#[tokio::test]
async fn methods_that_change_things_are_not_known_to_the_gateway() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    for method in ["PUT", "DELETE", "POST", "PATCH", "TRACE", "PROPFIND", "get", "X"] {
        let request = format!(
            "{method} /ipfs/{cid} HTTP/1.1\r\nHost: a\r\nX-Echo: mirror\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(estuary.gateway(), request.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 405"), "{method}: {text}");
        assert!(text.contains("allow: GET, HEAD, OPTIONS") && !text.contains("mirror"), "{text}");
    }
    estuary.stop().await;
}

#[tokio::test]
async fn pages_of_any_site_may_read_why_the_gateway_refused() {
    let estuary = Estuary::start().await;
    let open =
        |answer: &[u8]| String::from_utf8_lossy(answer).contains("access-control-allow-origin: *");
    for request in ["GET /ipfs/x HTTP/1.1\r\n\r\n", "GET /ipfs/x HTTP/1.0\r\n\r\n"] {
        let answer = raw(estuary.gateway(), request.as_bytes()).await;
        assert!(status_line(&answer).contains(" 400 ") && open(&answer), "{request}");
        assert!(!open(&raw(estuary.api(), request.as_bytes()).await));
        assert!(!open(&raw(estuary.admin(), request.as_bytes()).await));
    }
    estuary.stop().await;
}

#[tokio::test]
async fn long_and_odd_urls_are_refused_or_mean_what_they_say() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let long = |count| format!("/ipfs/{cid}/{}", "a".repeat(count));
    let odd = [
        "%00",
        "%2e%2e%2f",
        "%252e%252e",
        "..%2f..%2fetc%2fpasswd",
        "%c0%ae%c0%ae/",
        "%ff",
        "a;b",
        "a\\b",
        "..\\..",
        "%e2%80%a4%e2%80%a4/",
        "../../etc/passwd",
        "%",
        "%z",
    ];
    let odd = odd.iter().map(|rest| format!("/ipfs/{cid}/{rest}"));
    let other = ["/ipfs/", "/ipfs", "//ipfs/x", "/ipfs/%2e%2e/x", "*", "/ipfs/\u{fffd}"];
    let other = other.iter().map(|path| (*path).to_owned());
    let sizes = [8 << 10, 15 << 10, 64 << 10, 1 << 20];
    for path in sizes.into_iter().map(long).chain(odd).chain(other) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw(estuary.gateway(), request.as_bytes()).await;
        let line = status_line(&answer);
        let code: u16 = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        // A cut connection is an answer too, to a megabyte that nobody reads.
        let fits = matches!(code, 301 | 400 | 404 | 414 | 422 | 431 | 501)
            || (code == 0 && path.len() > 1 << 16);
        assert!(fits, "{}: {line}", &path[..path.len().min(200)]);
    }
    assert_eq!(estuary.metric(r#"estuary_http_panics_total{listener="gateway"}"#).await, 0.0);
    assert_eq!(estuary.get(&format!("/ipfs/{cid}")).await.status, StatusCode::OK);
    estuary.stop().await;
}

#[tokio::test]
async fn heads_have_a_size() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let with = |headers: String| {
        format!("GET /ipfs/{cid} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")
    };
    let ask = async |headers| status_line(&raw(estuary.gateway(), with(headers).as_bytes()).await);
    let many = |count| (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    assert_eq!(ask(many(98)).await, "HTTP/1.1 200 OK");
    assert!(ask(many(99)).await.starts_with("HTTP/1.1 431"));
    let large = |size| format!("X: {}\r\n", "y".repeat(size));
    assert_eq!(ask(large(15 << 10)).await, "HTTP/1.1 200 OK");
    assert!(ask(large(17 << 10)).await.starts_with("HTTP/1.1 431"));
    estuary.stop().await;
}

/// Asks for a file and takes no more of it than the first bytes.
async fn hold(estuary: &Estuary, path: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(estuary.gateway()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 64]).await.unwrap();
    stream
}

#[tokio::test]
async fn more_requests_than_there_is_room_for_are_told_to_come_back() {
    let estuary = Estuary::start_with(|config| config.http.requests_max = 1).await;
    let large = estuary.add_file(&bytes(32 << 20), 1 << 20).await;
    let held = hold(&estuary, &format!("/ipfs/{large}")).await;
    let refused = estuary.get("/ipfs/x").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let busy = r#"estuary_http_refused_total{listener="gateway",why="busy"}"#;
    assert_eq!(estuary.metric(busy).await, 1.0);
    // Each listener has room of its own.
    assert_eq!(get(estuary.admin(), "/livez").await.status, StatusCode::OK);
    drop(held);
    let begun = tokio::time::Instant::now();
    while estuary.get("/ipfs/x").await.status == StatusCode::SERVICE_UNAVAILABLE {
        assert!(begun.elapsed() < PATIENCE);
    }
    estuary.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let estuary = Estuary::start_with(|config| config.http.connections_max = 2).await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let address = estuary.gateway();
    let held =
        [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    let open = r#"estuary_http_connections_open{listener="gateway"}"#;
    while estuary.metric(open).await < 2.0 {}
    let path = format!("/ipfs/{cid}");
    let mut asked = Box::pin(get(address, &path));
    let early = tokio::time::timeout(Duration::from_millis(100), asked.as_mut()).await;
    assert!(early.is_err(), "a third connection was served");
    drop(held);
    assert_eq!(asked.await.status, StatusCode::OK);
    estuary.stop().await;
}

#[tokio::test]
async fn without_file_descriptors_accepting_rests_and_then_goes_on() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let process = Process::spawn_with(dir, |command| {
        let program = command.get_program().to_owned();
        let limited = r#"ulimit -n 96 && exec "$0""#;
        let mut shell = std::process::Command::new("/bin/sh");
        shell.env_clear();
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap());
        }
        shell.args(["-c", limited]).arg(program).stdin(std::process::Stdio::null());
        shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        *command = shell;
    });
    let begun = tokio::time::Instant::now();
    let mut held = Vec::new();
    for _ in 0..150 {
        held.push(TcpStream::connect(process.gateway).await.unwrap());
    }
    while !process.said().contains("cannot be accepted") {
        assert!(begun.elapsed() < PATIENCE, "{}", process.said());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(held);
    assert_eq!(get(process.gateway, "/ipfs/x").await.status, StatusCode::BAD_REQUEST);
    let page = get(process.admin, "/metrics").await.text();
    let failures = metric(&page, r#"estuary_http_accept_failures_total{listener="gateway"}"#);
    assert!(failures >= 1.0, "{page}");
    // It rested between its attempts instead of turning round and round.
    let seconds = begun.elapsed().as_secs_f64();
    assert!(failures <= 2.0 + seconds * 20.0, "{failures} in {seconds} s");
}

/// A request for `path` that a proxy passes on for `client`.
async fn passed_on(estuary: &Estuary, path: &str, client: &str) -> Answer {
    let mut passed = request(Method::GET, path);
    passed.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
    send(estuary.gateway(), passed).await
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let estuary = Estuary::start_with(|config| {
        config.gateway.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.http.requests_per_second_per_address = 1;
        config.http.requests_burst_per_address = 3;
    })
    .await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let path = format!("/ipfs/{cid}");
    let mut refused = None;
    for _ in 0..20 {
        let answer = passed_on(&estuary, &path, "192.0.2.7").await;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("it never has enough");
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (refused.header("retry-after"), refused.header("cache-control")),
        (Some("1"), Some("no-store"))
    );
    let rate = r#"estuary_http_refused_total{listener="gateway",why="rate"}"#;
    assert!(estuary.metric(rate).await >= 1.0);
    // Neighbours, and what the proxy itself asks for, are not told so.
    assert_eq!(passed_on(&estuary, &path, "192.0.2.8").await.status, StatusCode::OK);
    // A household of IPv6 is one; what a client puts before its own address changes nothing.
    let mut told = 0;
    for n in 0..12 {
        let client = format!("203.0.113.{n}, 2001:db8::{n}");
        told += usize::from(passed_on(&estuary, &path, &client).await.status != StatusCode::OK);
    }
    assert!(told >= 5, "{told}");
    for _ in 0..10 {
        assert_eq!(estuary.get(&path).await.status, StatusCode::OK);
    }
    estuary.stop().await;
}

#[tokio::test]
async fn who_is_behind_a_proxy_has_its_share_under_way() {
    let estuary = Estuary::start_with(|config| {
        config.gateway.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.http.requests_per_address_max = 1;
    })
    .await;
    let large = estuary.add_file(&bytes(32 << 20), 1 << 20).await;
    let mut held = TcpStream::connect(estuary.gateway()).await.unwrap();
    let head =
        format!("GET /ipfs/{large} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    held.write_all(head.as_bytes()).await.unwrap();
    held.read_exact(&mut [0; 64]).await.unwrap();
    let refused = passed_on(&estuary, "/ipfs/bafkqaaa", "192.0.2.7").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(passed_on(&estuary, "/ipfs/bafkqaaa", "192.0.2.8").await.status, StatusCode::OK);
    drop(held);
    let begun = tokio::time::Instant::now();
    while passed_on(&estuary, "/ipfs/bafkqaaa", "192.0.2.7").await.status != StatusCode::OK {
        assert!(begun.elapsed() < PATIENCE);
    }
    estuary.stop().await;
}

#[tokio::test]
async fn clients_that_leave_at_any_byte_leave_nothing_behind() {
    let estuary = Estuary::start().await;
    let file = estuary.add_file(&bytes(4 << 20), 64 << 10).await;
    let paths = [format!("/ipfs/{file}"), format!("/ipfs/{file}?format=car")];
    let mut seed = 1_u64;
    for n in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
        // Whoever aborts resets the connection.
        stream.set_zero_linger().unwrap();
        let path = &paths[n % 2];
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        let sent = if n % 8 == 0 { (seed >> 33) as usize % head.len() } else { head.len() };
        stream.write_all(&head.as_bytes()[..sent]).await.unwrap();
        if sent == head.len() {
            let mut left = (seed >> 33) as usize % (1 << 20);
            let mut piece = vec![0; 16 << 10];
            while left > 0 {
                let wanted = left.min(piece.len());
                left -= stream.read(&mut piece[..wanted]).await.unwrap().max(1);
            }
        }
    }
    let begun = tokio::time::Instant::now();
    loop {
        let page = estuary.metrics().await;
        let left = metric(&page, r#"estuary_http_requests_under_way{listener="gateway"}"#)
            + metric(&page, r#"estuary_http_connections_open{listener="gateway"}"#);
        if left == 0.0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{left} are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(estuary.get(&paths[0]).await.body.len(), 4 << 20);
    assert!(estuary.stop().await);
}

#[tokio::test]
async fn connections_that_come_and_go_leave_no_files_open() {
    let process = Process::spawn();
    let count = async || {
        let page = get(process.admin, "/metrics").await.text();
        let open = metric(&page, r#"estuary_http_connections_open{listener="gateway"}"#);
        (open, metric(&page, "process_open_fds"))
    };
    get(process.gateway, "/ipfs/bafkqaaa").await;
    let (_, before) = count().await;
    for n in 0..3000 {
        let mut stream = TcpStream::connect(process.gateway).await.unwrap();
        stream.set_zero_linger().unwrap();
        if n % 3 == 0 {
            let _ = stream.write_all(b"GET /ipfs/bafkqaaa HTTP/1.1\r\nHost: a\r\n\r\n").await;
        }
    }
    let begun = tokio::time::Instant::now();
    loop {
        let (open, files) = count().await;
        if open == 0.0 && files <= before + 2.0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{open} connections, {files} files, {before} before");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
