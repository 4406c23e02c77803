//! Hosts of the gateway, as they are asked for over a socket: directly, as a proxy, and through a
//! tunnel.

use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dns_server::DnsServer;
use crate::harness::{Answer, Estuary, PATIENCE, raw, request, send};

async fn at(estuary: &Estuary, host: &str, path: &str) -> Answer {
    let mut request = request(Method::GET, path);
    request.headers_mut().insert("host", host.parse().unwrap());
    send(estuary.gateway(), request).await
}

/// Sends a head and reads until the connection ends; each head asks for that itself.
async fn talk(estuary: &Estuary, sent: &str) -> String {
    String::from_utf8_lossy(&raw(estuary.gateway(), sent.as_bytes()).await).into_owned()
}

#[tokio::test]
async fn localhost_gives_each_root_an_origin_of_its_own() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let port = estuary.gateway().port();
    let sent = at(&estuary, &format!("localhost:{port}"), &format!("/ipfs/{cid}?a=b")).await;
    assert_eq!(sent.status, 301);
    let location = format!("http://{cid}.ipfs.localhost:{port}/?a=b");
    assert_eq!(sent.header("location"), Some(location.as_str()));
    let page = at(&estuary, &format!("{cid}.ipfs.localhost:{port}"), "/").await;
    assert_eq!((page.status.as_u16(), page.text().as_str()), (200, "hello"));
    // By address, and by a name that is not ours, it is a path gateway.
    for host in [format!("127.0.0.1:{port}"), "evil.example".to_owned()] {
        assert_eq!(at(&estuary, &host, &format!("/ipfs/{cid}")).await.text(), "hello", "{host}");
    }
    let told = r#"estuary_gateway_hosted_requests_total{site="subdomain"}"#;
    assert!((estuary.metric(told).await - 1.0).abs() < 0.5);
    estuary.stop().await;
}

#[tokio::test]
async fn forwarded_hosts_count_from_trusted_proxies_alone() {
    let asked = async |estuary: &Estuary| {
        let cid = estuary.add_block(&b"hello"[..]).await;
        let mut request = request(Method::GET, &format!("/ipfs/{cid}"));
        for (name, value) in [
            ("host", "x.example"),
            ("x-forwarded-host", "localhost"),
            ("x-forwarded-proto", "https"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = send(estuary.gateway(), request).await;
        let location = answer.header("location").map(str::to_owned);
        (location, format!("https://{cid}.ipfs.localhost/"))
    };
    let estuary = Estuary::start().await;
    assert_eq!(asked(&estuary).await.0, None);
    estuary.stop().await;
    let proxied =
        Estuary::start_with(|c| c.gateway.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]);
    let proxied = proxied.await;
    let (location, want) = asked(&proxied).await;
    assert_eq!(location, Some(want));
    proxied.stop().await;
}

#[tokio::test]
async fn a_request_line_with_a_host_is_routed_by_it_and_must_agree_with_host() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let host = format!("{cid}.ipfs.localhost");
    let line = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    let page = talk(&estuary, &line(&format!("http://{host}/"), &host)).await;
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("hello"), "{page}");
    let bare = talk(&estuary, &line(&format!("http://{host}"), &host)).await;
    assert!(bare.starts_with("HTTP/1.1 200") && bare.ends_with("hello"), "{bare}");
    let sent = talk(&estuary, &line(&format!("http://localhost/ipfs/{cid}/"), "localhost")).await;
    assert!(sent.contains(&format!("location: http://{host}/\r\n")), "{sent}");
    let other = talk(&estuary, &line(&format!("http://{host}/"), "evil.example")).await;
    assert!(other.starts_with("HTTP/1.1 400"), "{other}");
    estuary.stop().await;
}

#[tokio::test]
async fn a_tunnel_leads_to_the_gateway_itself_wherever_it_was_wanted_to() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    // Nobody listens there, and nobody is asked.
    stream.write_all(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read_buf(&mut head);
        assert_ne!(tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap(), 0);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    // It is open, one connection as before, and holds several requests.
    let open = r#"estuary_http_connections_open{listener="gateway"}"#;
    assert!((estuary.metric(open).await - 1.0).abs() < 0.5);
    let asked = format!(
        "GET / HTTP/1.1\r\nHost: {cid}.ipfs.localhost\r\n\r\n\
         GET /ipfs/{cid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answers = String::new();
    let read = stream.read_to_string(&mut answers);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("hello"), "{answers}");
    assert!(answers.contains(&format!("location: http://{cid}.ipfs.localhost/\r\n")), "{answers}");
    estuary.stop().await;
}

#[tokio::test]
async fn tunnels_do_not_nest_and_have_no_bodies() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"secret"[..]).await;
    let connect = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n";
    let nested = talk(&estuary, &format!("{connect}\r\n{connect}Connection: close\r\n\r\n")).await;
    assert!(nested.starts_with("HTTP/1.1 200") && nested.contains("HTTP/1.1 405"), "{nested}");
    // What another reader could take for a body is not looked at as a request.
    let marker = format!("GET /ipfs/{cid} HTTP/1.1\r\nHost: a\r\n\r\n");
    for framing in [
        format!("Content-Length: {}\r\n\r\n{marker}", marker.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{marker}"),
    ] {
        let answer = talk(&estuary, &format!("{connect}{framing}")).await;
        assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("secret"), "{answer}");
    }
    // A bare line feed is no end of a line in a tunnel either.
    let bare =
        talk(&estuary, &format!("{connect}\r\nGET /ipfs/{cid} HTTP/1.1\nHost: a\r\n\r\n")).await;
    assert!(bare.contains("HTTP/1.1 400") && !bare.contains("secret"), "{bare}");
    let two = format!("{connect}Host: b\r\n\r\n{marker}");
    let answer = talk(&estuary, &two).await;
    assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("secret"), "{answer}");
    estuary.stop().await;
}

#[tokio::test]
async fn a_tunnel_counts_as_a_connection_is_watched_and_ends_with_the_node() {
    let estuary = Estuary::start_with(|config| {
        config.http.connections_max = 1;
        config.http.idle_timeout_ms = 400;
        config.http.head_timeout_ms = 400;
    });
    let estuary = estuary.await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    stream.write_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // The only place is taken until the idle tunnel is cut; then the next is served.
    let next = tokio::time::timeout(PATIENCE, estuary.get(&format!("/ipfs/{cid}"))).await.unwrap();
    assert_eq!(next.text(), "hello");
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();

    let mut stream = TcpStream::connect(estuary.gateway()).await.unwrap();
    stream.write_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, estuary.stop()).await.unwrap());
}

#[tokio::test]
async fn a_domain_that_is_not_allowed_is_no_site_and_is_not_asked_about() {
    let server = DnsServer::start().unwrap();
    let estuary = Estuary::start_with(|config| {
        config.offline = false;
        config.routing.resolvers = vec![format!(".:{}", server.address())];
        config.gateway.dnslink_hosts = vec!["*.allowed.test".parse().unwrap()];
    });
    let estuary = estuary.await;
    let cid = estuary.add_block(&b"site"[..]).await;
    for domain in ["site.allowed.test", "a.b.allowed.test", "stranger.test"] {
        server.link(domain, 60, &format!("/ipfs/{cid}"));
    }
    let port = estuary.gateway().port();
    let site = at(&estuary, &format!("Site.Allowed.test.:{port}"), "/").await;
    assert_eq!((site.status.as_u16(), site.text().as_str()), (200, "site"));
    assert!(site.header("cache-control").unwrap().starts_with("public, max-age="));
    assert_eq!(site.header("x-ipfs-path"), Some("/ipns/site.allowed.test/"));
    let mut only_here = request(Method::GET, "/");
    for (name, value) in [("host", "unasked.allowed.test"), ("cache-control", "only-if-cached")] {
        only_here.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(send(estuary.gateway(), only_here).await.status, 412);
    assert_eq!(server.asked_below("unasked.allowed.test"), 0);
    // Without a DNSLink it is a path gateway like any other.
    assert_eq!(at(&estuary, "none.allowed.test", &format!("/ipfs/{cid}")).await.text(), "site");
    for host in ["stranger.test", "a.b.allowed.test", "allowed.test", "127.0.0.1", "192.0.2.1:80"] {
        assert_eq!(at(&estuary, host, "/").await.status, 404, "{host}");
        assert_eq!(at(&estuary, host, &format!("/ipfs/{cid}")).await.text(), "site", "{host}");
    }
    assert_eq!(server.asked_below("stranger.test"), 0);
    assert_eq!(server.asked_below("a.b.allowed.test"), 0);
    assert_eq!(server.asked("_dnslink.allowed.test"), 0);
    estuary.stop().await;
}

#[tokio::test]
async fn content_and_what_changes_things_have_different_listeners() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let site = format!("{cid}.ipfs.localhost");
    for host in ["127.0.0.1", "localhost", "evil.example", site.as_str()] {
        for path in
            ["/content/stats", "/viewer", "/user/api-keys", "/metrics", "/readyz", "/status"]
        {
            let answer = at(&estuary, host, path).await;
            assert_eq!(answer.status, 404, "{host}{path}");
            assert_eq!(answer.header("set-cookie"), None);
        }
        let mut post = request(Method::POST, "/content/add");
        post.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(send(estuary.gateway(), post).await.status, 405, "{host}");
    }
    for host in ["127.0.0.1", site.as_str()] {
        for path in [format!("/ipfs/{cid}"), format!("/ipfs/{cid}?format=raw")] {
            let mut asked = request(Method::GET, &path);
            asked.headers_mut().insert("host", host.parse().unwrap());
            let answer = send(estuary.api(), asked).await;
            assert_eq!(answer.status, 404, "{host}{path}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    estuary.stop().await;
}
