//! TLS: certificates from files, for browsers and for programs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Estuary, PATIENCE, Process, bytes, config, http2, raw, request};

/// Certificates and keys in files.
struct Issuer(TempDir);

impl Issuer {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.0.path().join(format!("{name}.pem")), self.0.path().join(format!("{name}.key")))
    }

    /// Issues a certificate for `names` into the files of `name`.
    fn issue(&self, name: &str, names: &[&str]) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let (certificate, key_file) = self.files(name);
        std::fs::write(key_file, key.serialize_pem()).unwrap();
        std::fs::write(certificate, issued.pem()).unwrap();
        issued.der().clone()
    }
}

/// A node that shows these certificates.
async fn start(
    issuer: &Issuer,
    names: &[&str],
    change: impl FnOnce(&mut estuary::config::Config),
) -> Estuary {
    Estuary::start_with(|config| {
        config.gateway.tls_listen = Some("127.0.0.1:0".parse().unwrap());
        let files = names.iter().map(|name| issuer.files(name));
        (config.gateway.tls_cert, config.gateway.tls_key) = files.unzip();
        change(config);
    })
    .await
}

fn port(estuary: &Estuary) -> std::net::SocketAddr {
    let url = estuary.info().gateway_tls_url.as_deref().unwrap();
    url.strip_prefix("https://").unwrap().parse().unwrap()
}

/// A client that trusts these certificates alone.
fn client(trusted: &[&CertificateDer<'static>], protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    client
}

async fn connect(
    estuary: &Estuary,
    client: &Arc<ClientConfig>,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(port(estuary)).await.unwrap();
    let connector = TlsConnector::from(Arc::clone(client));
    connector.connect(ServerName::try_from(name).unwrap(), socket).await
}

/// Asks over HTTP/1.1 and reads all that comes.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn content_is_had_over_tls_with_http_1_and_2() {
    let issuer = Issuer::new();
    let trusted = issuer.issue("a", &["a.example"]);
    let estuary = start(&issuer, &["a"], |config| config.http.hsts_max_age_s = 600).await;
    let data = bytes(3 << 20);
    let cid = estuary.add_file(&data, 1 << 20).await;
    let small = estuary.add_block(&b"hello"[..]).await;

    let one = Arc::new(client(&[&trusted], &["http/1.1"]));
    let mut stream = connect(&estuary, &one, "a.example").await.unwrap();
    let answer = ask(&mut stream, &format!("/ipfs/{small}")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age=600\r\n"), "{answer}");
    assert!(
        estuary.get(&format!("/ipfs/{small}")).await.header("strict-transport-security").is_none()
    );

    let two = Arc::new(client(&[&trusted], &["h2", "http/1.1"]));
    let stream = connect(&estuary, &two, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2(stream).await;
    let uri = format!("https://a.example/ipfs/{cid}");
    for (method, status) in [
        (Method::HEAD, StatusCode::OK),
        (Method::OPTIONS, StatusCode::OK),
        (Method::GET, StatusCode::OK),
    ] {
        let request = Request::builder().method(&method).uri(&uri).version(Version::HTTP_2);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{method}");
        let body = response.into_body().collect().await.unwrap();
        assert!(body.trailers().is_none());
        assert_eq!(body.to_bytes().len(), if method == Method::GET { data.len() } else { 0 });
    }
    // What clients of the trustless side probe with, and that nobody is asked for what is not here.
    for (path, accept, status) in [
        ("bafkqaaa?format=raw", "application/vnd.ipld.raw", 200),
        ("bafkqaaa", "application/vnd.ipld.raw", 200),
        ("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy?format=raw", "*/*", 404),
    ] {
        for method in [Method::HEAD, Method::GET] {
            let request =
                Request::builder().method(&method).uri(format!("https://a.example/ipfs/{path}"));
            let request = request.header("accept", accept).body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), status, "{method} {path}");
            assert_eq!(response.version(), Version::HTTP_2);
            response.into_body().collect().await.unwrap();
        }
    }
    let done = r#"estuary_http_tls_handshakes_total{listener="gateway_tls",outcome="done"}"#;
    assert_eq!(estuary.metric(done).await, 2.0);
    let status = estuary.ask_operator(request(Method::GET, "/status")).await.json();
    assert_eq!(status["gateway"]["tls_url"], estuary.info().gateway_tls_url.as_deref().unwrap());
    drop(sender);
    assert!(estuary.stop().await);
}

#[tokio::test]
async fn the_name_decides_on_the_certificate_and_sessions_are_resumed() {
    let issuer = Issuer::new();
    let a = issuer.issue("a", &["a.example"]);
    let wild = issuer.issue("wild", &["*.ipfs.b.example"]);
    let estuary = start(&issuer, &["a", "wild"], |_| {}).await;
    let trusts_wild = Arc::new(client(&[&wild], &[]));
    assert!(connect(&estuary, &trusts_wild, "bafy.ipfs.b.example").await.is_ok());
    assert!(connect(&estuary, &trusts_wild, "a.example").await.is_err());

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add(a.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Arc::new(client);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = connect(&estuary, &client, "a.example").await.unwrap();
            assert!(ask(&mut stream, "/ipfs/x").await.starts_with("HTTP/1.1 400"));
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected), "{version:?}");
        }
    }
    estuary.stop().await;
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart_and_a_broken_one_is_not_shown() {
    let issuer = Issuer::new();
    let old = issuer.issue("a", &["a.example"]);
    let estuary = start(&issuer, &["a"], |_| {}).await;
    let large = estuary.add_file(&bytes(8 << 20), 1 << 20).await;
    let expiry = r#"estuary_http_certificate_expiry_seconds{listener="gateway_tls"}"#;
    assert!(estuary.metric(expiry).await > 1e9);
    // A download goes on while the certificate changes.
    let trusts_old = Arc::new(client(&[&old], &["http/1.1"]));
    let mut download = connect(&estuary, &trusts_old, "a.example").await.unwrap();
    let request =
        format!("GET /ipfs/{large} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    download.write_all(request.as_bytes()).await.unwrap();
    download.read_exact(&mut [0; 64]).await.unwrap();

    let outcome = |what| {
        format!(
            r#"estuary_http_certificate_reloads_total{{listener="gateway_tls",outcome="{what}"}}"#
        )
    };
    std::fs::write(issuer.files("a").0, "no certificate").unwrap();
    let begun = tokio::time::Instant::now();
    while estuary.metric(&outcome("failed")).await < 1.0 {
        assert!(begun.elapsed() < PATIENCE, "it does not look");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(connect(&estuary, &trusts_old, "a.example").await.is_ok());
    let ready = crate::harness::get(estuary.admin(), "/readyz").await;
    assert_eq!(ready.status, StatusCode::OK);

    let new = issuer.issue("a", &["a.example"]);
    while estuary.metric(&outcome("done")).await < 1.0 {
        assert!(begun.elapsed() < PATIENCE, "it does not look");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Those who know nothing of a session that could be resumed.
    let trusts_old = Arc::new(client(&[&old], &[]));
    assert!(connect(&estuary, &trusts_old, "a.example").await.is_err());
    assert!(connect(&estuary, &Arc::new(client(&[&new], &[])), "a.example").await.is_ok());
    let mut rest = Vec::new();
    download.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > 8 << 20);
    estuary.stop().await;
}

#[tokio::test]
async fn a_hello_that_dribbles_is_cut_and_others_are_served() {
    const EACH: usize = 20;
    let issuer = Issuer::new();
    let trusted = issuer.issue("a", &["a.example"]);
    let estuary = start(&issuer, &["a"], |config| config.http.head_timeout_ms = 1000).await;
    let address = port(&estuary);
    let mut slow = tokio::task::JoinSet::new();
    // A record of a handshake of 16 KiB, a byte now and then; and one that never says a thing.
    for n in 0..2 * EACH {
        slow.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if n % 2 == 0 {
                let _ = stream.write_all(&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]).await;
                while stream.write_all(&[3]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            let _ = stream.read(&mut [0]).await;
        });
    }
    let client = Arc::new(client(&[&trusted], &[]));
    let begun = tokio::time::Instant::now();
    while !slow.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{} are left", slow.len());
        assert!(connect(&estuary, &client, "a.example").await.is_ok());
        tokio::time::sleep(Duration::from_millis(20)).await;
        while slow.try_join_next().is_some() {}
    }
    let cut = r#"estuary_http_connections_cut_total{listener="gateway_tls",why="slow_head"}"#;
    assert_eq!(estuary.metric(cut).await, 2.0 * EACH as f64);
    let failed = r#"estuary_http_tls_handshakes_total{listener="gateway_tls",outcome="failed"}"#;
    assert_eq!(estuary.metric(failed).await, 2.0 * EACH as f64);
    estuary.stop().await;
}

#[tokio::test]
async fn what_is_no_tls_is_told_or_dropped() {
    let issuer = Issuer::new();
    issuer.issue("a", &["a.example"]);
    let estuary = start(&issuer, &["a"], |_| {}).await;
    let plain = raw(port(&estuary), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let plain = String::from_utf8(plain).unwrap();
    assert!(
        plain.starts_with("HTTP/1.1 400") && plain.ends_with("use an https:// URL\n"),
        "{plain}"
    );
    for noise in [&[22, 3, 1, 0xff, 0xff][..], &[0; 64], &[0x80, 0x2e, 1, 3, 1], &[22, 3, 1, 0, 0]]
    {
        let answer = raw(port(&estuary), &[noise, &[0; 70_000]].concat()).await;
        assert!(answer.len() < 64, "{noise:?}");
    }
    let open = r#"estuary_http_connections_open{listener="gateway_tls"}"#;
    assert_eq!(estuary.metric(open).await, 0.0);
    assert!(estuary.stop().await);
}

#[tokio::test]
async fn who_takes_nothing_over_tls_is_cut() {
    let issuer = Issuer::new();
    let trusted = issuer.issue("a", &["a.example"]);
    let estuary = start(&issuer, &["a"], |config| config.http.stall_timeout_ms = 500).await;
    let large = estuary.add_file(&bytes(32 << 20), 1 << 20).await;
    let client = Arc::new(client(&[&trusted], &["http/1.1"]));
    let mut stream = connect(&estuary, &client, "a.example").await.unwrap();
    let request = format!("GET /ipfs/{large} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let cut = r#"estuary_http_connections_cut_total{listener="gateway_tls",why="stalled"}"#;
    let begun = tokio::time::Instant::now();
    while estuary.metric(cut).await < 1.0 {
        assert!(begun.elapsed() < PATIENCE, "it is not cut");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It learns that it has not got the whole: TLS did not end as TLS ends.
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest).await;
    assert!(ended.is_err() && rest.len() < 32 << 20, "{ended:?}");
    estuary.stop().await;
}

#[tokio::test]
async fn uploads_are_taken_over_tls_with_a_key_alone() {
    let issuer = Issuer::new();
    let trusted = issuer.issue("a", &["localhost"]);
    let estuary = Estuary::start_with(|config| {
        let (certificate, key) = issuer.files("a");
        config.api.tls_listen = Some("127.0.0.1:0".parse().unwrap());
        (config.api.tls_cert, config.api.tls_key) = (vec![certificate], vec![key]);
    })
    .await;
    let key = crate::api::key(&estuary, "upload").await;
    let url = estuary.info().api_tls_url.clone().unwrap();
    let address = url.strip_prefix("https://").unwrap().to_owned();
    let form = crate::api::form(&[("f", b"hello")]);
    let connector = TlsConnector::from(Arc::new(client(&[&trusted], &["http/1.1"])));
    for (authorization, expected) in
        [(format!("Authorization: Bearer {key}\r\n"), "200"), (String::new(), "403")]
    {
        let socket = TcpStream::connect(&address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, socket).await.unwrap();
        let head = format!(
            "POST /content/add HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\
             Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
            crate::api::form_type(),
            form.len(),
        );
        stream.write_all(&[head.as_bytes(), &form].concat()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
    }
    estuary.stop().await;
}

#[tokio::test]
async fn one_certificate_can_be_named_by_the_environment_and_a_wrong_one_is_said() {
    let issuer = Issuer::new();
    issuer.issue("a", &["localhost"]);
    let (certificate, key) = issuer.files("a");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let process = Process::spawn_with(Arc::clone(&dir), |command| {
        command.env("ESTUARY_GATEWAY__TLS_LISTEN", "127.0.0.1:0");
        command.env("ESTUARY_GATEWAY__TLS_CERT", &certificate);
        command.env("ESTUARY_GATEWAY__TLS_KEY", &key);
    });
    let said = process.said();
    assert!(said.contains("https://127.0.0.1:"), "{said}");
    drop(process);
    let mut command = crate::harness::program(dir.path());
    command.env("ESTUARY_GATEWAY__TLS_LISTEN", "127.0.0.1:0");
    command.env("ESTUARY_GATEWAY__TLS_CERT", &key).env("ESTUARY_GATEWAY__TLS_KEY", &key);
    let ended = command.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        !ended.status.success()
            && said.contains("gateway.tls_cert: ")
            && said.contains("PEM is wanted"),
        "{said}"
    );

    let mut wrong = config();
    wrong.gateway.tls_cert = vec![certificate];
    let text = toml::to_string(&wrong).unwrap();
    std::fs::write(dir.path().join("wrong.toml"), text).unwrap();
    let mut command = crate::harness::program(dir.path());
    command.arg("check-config").arg("--config").arg(dir.path().join("wrong.toml"));
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("as many certificates as keys"), "{said}");
}

#[tokio::test]
async fn an_address_has_one_budget_over_plain_and_encrypted_connections() {
    let issuer = Issuer::new();
    let certificate = issuer.issue("a", &["localhost"]);
    let estuary = start(&issuer, &["a"], |config| {
        config.gateway.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.http.requests_per_address_max = 1;
    })
    .await;
    let large = estuary.add_file(&bytes(32 << 20), 1 << 20).await;
    let mut held = TcpStream::connect(estuary.gateway()).await.unwrap();
    let head = |path: &str, client: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n"
        )
    };
    held.write_all(head(&format!("/ipfs/{large}"), "192.0.2.7").as_bytes()).await.unwrap();
    held.read_exact(&mut [0; 64]).await.unwrap();
    let http_1 = Arc::new(client(&[&certificate], &["http/1.1"]));
    for (address, status) in [("192.0.2.7", "429"), ("192.0.2.8", "200")] {
        let mut stream = connect(&estuary, &http_1, "localhost").await.unwrap();
        stream.write_all(head("/ipfs/bafkqaaa", address).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{address}: {answer}");
    }
    drop(held);
    estuary.stop().await;
}
