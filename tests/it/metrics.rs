//! The admin listener: what is counted, and whether the node lives and is ready.

use http::{Method, StatusCode, header};

use crate::harness::{Estuary, get, metric, request, send};

#[tokio::test]
async fn requests_are_counted_by_listener_and_outcome() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    estuary.get(&format!("/ipfs/{cid}")).await;
    estuary.get("/ipfs/nonsense").await;
    let page = estuary.metrics().await;
    let count = |name: &str| metric(&page, name);
    assert_eq!(count(r#"estuary_http_requests_total{listener="gateway",status="2xx"}"#), 1.0);
    assert_eq!(count(r#"estuary_http_requests_total{listener="gateway",status="4xx"}"#), 1.0);
    assert_eq!(count(r#"estuary_http_response_head_seconds_count{listener="gateway"}"#), 2.0);
    assert!(count(r#"estuary_http_response_bytes_total{listener="gateway"}"#) > 5.0);
    assert_eq!(count(r#"estuary_http_connections_accepted_total{listener="gateway"}"#), 2.0);
    assert_eq!(count(r#"estuary_http_requests_under_way{listener="gateway"}"#), 0.0);
    // The request that shows the page is under way while it is shown.
    assert_eq!(count(r#"estuary_http_requests_under_way{listener="admin"}"#), 1.0);
    assert!(count("process_resident_memory_bytes") > 1e6 || cfg!(target_os = "macos"));
    assert!(count("process_open_fds") > 3.0 && count("process_cpu_seconds_total") > 0.0);
    assert!(count("process_start_time_seconds") > 1.7e9);
    estuary.stop().await;
}

#[tokio::test]
async fn the_series_are_few() {
    let estuary = Estuary::start().await;
    for n in 0..200 {
        estuary.get(&format!("/ipfs/{n}?format={n}")).await;
    }
    let page = estuary.metrics().await;
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1000, "{series}");
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.starts_with("estuary_") || name.starts_with("process_"), "{name}");
    }
    estuary.stop().await;
}

#[tokio::test]
async fn it_says_why_it_is_not_ready() {
    let estuary = Estuary::start_with(|config| config.blockstore.free_bytes_min = 1 << 60).await;
    let ready = get(estuary.admin(), "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["ready"], false);
    assert!(ready.json()["reasons"][0].as_str().unwrap().contains("disk is full"));
    assert_eq!(get(estuary.admin(), "/livez").await.status, StatusCode::OK);
    let status = estuary.ask_operator(request(Method::GET, "/status")).await.json();
    assert_eq!(status["ready"], false);
    estuary.stop().await;
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_is_not_answered() {
    let estuary = Estuary::start().await;
    let mut rebound = request(Method::GET, "/metrics");
    rebound.headers_mut().insert(header::HOST, "evil.example:3005".parse().unwrap());
    assert_eq!(send(estuary.admin(), rebound).await.status, StatusCode::MISDIRECTED_REQUEST);
    estuary.stop().await;
}
