//! Stopping: what is under way is finished or visibly cut, and the process ends.

use std::time::Duration;

use http::StatusCode;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{Estuary, PATIENCE, Process, bytes, get, program};

/// Asks for a file and takes the first bytes of the answer.
async fn begin(estuary: &Estuary, path: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut stream = socket.connect(estuary.gateway()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 16]).await.unwrap();
    stream
}

#[tokio::test]
async fn a_download_under_way_is_finished_and_idle_connections_are_not_waited_for() {
    let estuary = Estuary::start().await;
    let data = bytes(16 << 20);
    let file = estuary.add_file(&data, 1 << 20).await;
    let (gateway, admin) = (estuary.gateway(), estuary.admin());
    let mut download = begin(&estuary, &format!("/ipfs/{file}")).await;
    let mut idle = TcpStream::connect(gateway).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 4096]).await.unwrap() > 0);
    let silent = TcpStream::connect(gateway).await.unwrap();

    let mut stopping = Box::pin(estuary.stop());
    let early = tokio::time::timeout(Duration::from_millis(200), stopping.as_mut()).await;
    assert!(early.is_err(), "it did not wait for the download");
    assert!(TcpStream::connect(gateway).await.is_err(), "it still accepts");
    let ready = get(admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["reasons"][0], "the node is shutting down");
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);

    let mut rest = Vec::new();
    let read = async { download.read_to_end(&mut rest).await.unwrap() };
    let (whole, _) = tokio::join!(stopping, read);
    assert!(whole && rest.ends_with(&data));
    drop(silent);
}

#[tokio::test]
async fn an_upload_under_way_is_finished_and_kept() {
    let estuary = Estuary::start().await;
    let key = crate::api::key(&estuary, "upload").await;
    let form = crate::api::form(&[("f", b"hello")]);
    let head = format!(
        "POST /content/add HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
        crate::api::form_type(),
        form.len(),
    );
    let mut upload = TcpStream::connect(estuary.api()).await.unwrap();
    let (first, rest) = form.split_at(form.len() / 2);
    upload.write_all(&[head.as_bytes(), first].concat()).await.unwrap();
    let under_way = r#"estuary_http_requests_under_way{listener="api"}"#;
    while estuary.metric(under_way).await < 1.0 {}

    let (dir, config) = (std::sync::Arc::clone(&estuary.dir), estuary.config.clone());
    let mut stopping = Box::pin(estuary.stop());
    let early = tokio::time::timeout(Duration::from_millis(200), stopping.as_mut()).await;
    assert!(early.is_err(), "it did not wait for the upload");
    upload.write_all(rest).await.unwrap();
    let mut answer = String::new();
    let read = async { upload.read_to_string(&mut answer).await.unwrap() };
    let (whole, _) = tokio::join!(stopping, read);
    assert!(whole && answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");

    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let again = Estuary::start_in(dir, config).await;
    let kept = again.get(&format!("/ipfs/{}", body["cid"].as_str().unwrap())).await;
    assert_eq!(&kept.body[..], b"hello");
    again.stop().await;
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut() {
    let estuary = Estuary::start_with(|config| config.http.grace_ms = 300).await;
    let data = bytes(32 << 20);
    let file = estuary.add_file(&data, 1 << 20).await;
    let mut download = begin(&estuary, &format!("/ipfs/{file}")).await;
    let begun = Instant::now();
    assert!(!estuary.stop().await);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, download.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection stays open");
    assert!(rest.len() < data.len(), "{}", rest.len());
}

#[tokio::test]
async fn sigterm_and_ctrl_c_end_the_process_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::spawn();
        let socket = estuary::app::socket_path(&process.dir.path().join(".local/share/estuary"));
        assert!(socket.exists() || cfg!(target_os = "macos"));
        assert_eq!(get(process.admin, "/readyz").await.status, StatusCode::OK);
        // A connection that is kept alive does not keep it.
        let mut idle = TcpStream::connect(process.gateway).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(idle.read(&mut [0; 4096]).await.unwrap() > 0);
        process.signal(signal);
        let status = process.wait().await;
        assert_eq!(status.code(), Some(0), "{}", process.said());
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut process = Process::spawn();
    // A request that does not come to its end.
    let mut stuck = TcpStream::connect(process.api).await.unwrap();
    let head = "POST /content/add HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx";
    stuck.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    process.signal(Signal::TERM);
    while !process.said().contains("stopping") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.signal(Signal::TERM);
    let begun = Instant::now();
    process.wait().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn one_node_a_directory_and_one_directory_a_node() {
    let first = Process::spawn();
    let second = program(first.dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(3));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another estuary (pid "), "{said}");
    // Another directory is another node, with ports of its own.
    let other = Process::spawn();
    assert_ne!(first.gateway, other.gateway);
    assert_eq!(get(first.gateway, "/ipfs/x").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(get(other.gateway, "/ipfs/x").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_killed_node_leaves_nothing_in_the_way() {
    let mut killed = Process::spawn();
    killed.signal(Signal::KILL);
    killed.wait().await;
    let dir = std::sync::Arc::clone(&killed.dir);
    let again = Process::spawn_with(dir, |_| {});
    assert_eq!(get(again.admin, "/readyz").await.status, StatusCode::OK);
}
