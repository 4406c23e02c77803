//! Endpoints that behave, and endpoints that do not (outbound fetches).

use std::io;
use std::time::Duration;

use multiaddr::Multiaddr;
use prometheus::Registry;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;
use crate::block::{Block, Cid, FetchError, codec};
use crate::network::{self, Guard};
use crate::provider::{FetchContext, Met, Protocols, Provider, Want};
use crate::task::Tasks;
use crate::testing::http::{Server, path, reply};

type Replied = io::Result<Option<TcpStream>>;

struct Bench {
    session: Arc<dyn SourceSession>,
    source: HttpSource,
    _tasks: Tasks,
}

fn source(client: Client, registry: &Registry) -> HttpSource {
    let traffic = crate::testing::traffic();
    HttpSource::new(client, traffic, Metrics::register(registry).unwrap())
}

fn bench(servers: &[&Server]) -> Bench {
    bench_where(true, servers)
}

fn bench_where(allow_private: bool, servers: &[&Server]) -> Bench {
    let (registry, tasks) = (Registry::new(), Tasks::new());
    let metrics = network::Metrics::register(&registry).unwrap();
    let guard = Guard::new(&network::Config { allow_private });
    let client = Client::guarded(guard, &tasks, &metrics).unwrap();
    let source = source(client, &registry);
    let session = source.open();
    for server in servers {
        session.add_provider(&provider(server));
    }
    Bench { session, source, _tasks: tasks }
}

fn bench_trusting(roots: rustls::RootCertStore) -> Bench {
    let (registry, tasks) = (Registry::new(), Tasks::new());
    let metrics = network::Metrics::register(&registry).unwrap();
    let client = Client::trusting(roots, &tasks, &metrics);
    let source = source(client, &registry);
    Bench { session: source.open(), source, _tasks: tasks }
}

impl Bench {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        self.fetch_within(cid, Duration::from_secs(20)).await
    }

    async fn fetch_within(&self, cid: &Cid, most: Duration) -> Result<Block, FetchError> {
        let context = FetchContext { deadline: Instant::now() + most, root: None };
        self.session.fetch(Want { cid: *cid }, &context).await
    }

    fn outcomes(&self, outcome: &str) -> u64 {
        self.source.shared.metrics.requests.with_label_values(&[outcome]).get()
    }
}

fn provider(server: &Server) -> Provider {
    let port = server.address.port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}/http").parse().unwrap();
    let protocols = Protocols::UNKNOWN;
    Provider { peer: None, addresses: vec![address], protocols, found_by: "test" }
}

fn block(number: u32, bytes: usize) -> Block {
    let mut data = vec![7; bytes.max(4)];
    data[..4].copy_from_slice(&number.to_be_bytes());
    Block::sha2_256(codec::RAW, data.into()).unwrap()
}

/// A server that has these blocks, and 404 for others.
async fn serving(blocks: Vec<Block>) -> Server {
    let blocks = Arc::new(blocks);
    let answer = move |head: String, stream| {
        let blocks = Arc::clone(&blocks);
        async move {
            let asked = path(&head).to_owned();
            let found = blocks.iter().find(|block| asked == asked_for(block.cid()));
            match found {
                Some(block) => reply(stream, "200 OK", "", block.data()).await,
                None => reply(stream, "404 Not Found", "", b"none").await,
            }
        }
    };
    Server::start(answer).await.unwrap()
}

fn asked_for(cid: &Cid) -> String {
    format!("/ipfs/{cid}?format=raw")
}

async fn answering(status: &'static str, headers: &'static str, body: &'static [u8]) -> Server {
    Server::start(move |_, stream| reply(stream, status, headers, body)).await.unwrap()
}

/// A server that writes this, and then what `then` does.
async fn writing<T, F>(what: &'static str, then: T) -> Server
where
    T: Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Replied> + Send + 'static,
{
    let answer = move |_, mut stream: TcpStream| {
        let then = then.clone();
        async move {
            stream.write_all(what.as_bytes()).await?;
            then(stream).await
        }
    };
    Server::start(answer).await.unwrap()
}

#[tokio::test]
async fn blocks_are_fetched_many_at_once_over_few_connections() {
    let blocks: Vec<_> = (0..200).map(|number| block(number, 50_000)).collect();
    let server = serving(blocks.clone()).await;
    let bench = bench(&[&server]);
    let fetches = blocks.iter().map(|block| bench.fetch(block.cid()));
    for (fetched, block) in futures_util::future::join_all(fetches).await.iter().zip(&blocks) {
        assert_eq!(fetched.as_ref().unwrap(), block);
    }
    assert!(server.accepted() <= 20, "{} connections", server.accepted());
    assert_eq!(server.heads().len(), 200);
    let head = server.heads()[0].to_lowercase();
    assert!(head.contains("accept: application/vnd.ipld.raw\r\n"), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
    assert_eq!(bench.session.met(), Met { known: 1, reached: 1, answered: 1, gave: 1 });
    let deeds = bench.session.deeds();
    assert_eq!((deeds.len(), deeds[0].blocks, deeds[0].bytes), (1, 200, 200 * 50_000));
    assert!(deeds[0].failures == 0 && deeds[0].latency.is_some() && !deeds[0].busy.is_zero());
    assert_eq!(bench.source.shared.traffic.today().await.http_in, 200 * 50_000);
}

#[tokio::test]
async fn over_http2_all_requests_share_one_connection() {
    let blocks: Vec<_> = (0..300).map(|number| block(number, 20_000)).collect();
    let (server, roots) = secure(blocks.clone()).await;
    let bench = bench_trusting(roots);
    let address = format!("/dns4/localhost/tcp/{}/tls/http", server.port);
    let addresses = vec![address.parse().unwrap()];
    let protocols = Protocols::UNKNOWN;
    let provider = Provider { peer: None, addresses, protocols, found_by: "test" };
    assert!(bench.session.add_provider(&provider));
    let fetches = blocks.iter().map(|block| bench.fetch(block.cid()));
    for (fetched, block) in futures_util::future::join_all(fetches).await.iter().zip(&blocks) {
        assert_eq!(fetched.as_ref().unwrap(), block);
    }
    assert_eq!(server.accepted.load(std::sync::atomic::Ordering::SeqCst), 1);
    let most = server.most.load(std::sync::atomic::Ordering::SeqCst);
    assert!((8..=64).contains(&most), "{most} at once");
}

/// A server of blocks over TLS, with HTTP/2.
struct Secure {
    port: u16,
    accepted: Arc<std::sync::atomic::AtomicUsize>,
    /// Most requests that were under way at once.
    most: Arc<std::sync::atomic::AtomicUsize>,
    tasks: Tasks,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

async fn secure(blocks: Vec<Block>) -> (Secure, rustls::RootCertStore) {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use std::sync::atomic::{AtomicUsize, Ordering};

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Secure {
        port: listener.local_addr().unwrap().port(),
        accepted: Arc::default(),
        most: Arc::default(),
        tasks: Tasks::new(),
    };
    let (accepted, most) = (Arc::clone(&server.accepted), Arc::clone(&server.most));
    let (stop, blocks, now) =
        (server.tasks.stop_token(), Arc::new(blocks), Arc::new(AtomicUsize::new(0)));
    let serve = async move {
        let mut connections = futures_util::stream::FuturesUnordered::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let (acceptor, blocks) = (acceptor.clone(), Arc::clone(&blocks));
                    let (most, now) = (Arc::clone(&most), Arc::clone(&now));
                    connections.push(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let answer = move |request: http::Request<hyper::body::Incoming>| {
                            let asked = request.uri().path_and_query().unwrap().to_string();
                            let found = blocks.iter().find(|block| asked == asked_for(block.cid()));
                            let body = found.unwrap().data().clone();
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            let now = Arc::clone(&now);
                            async move {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                                now.fetch_sub(1, Ordering::SeqCst);
                                let body = http_body_util::Full::new(body);
                                Ok::<_, std::convert::Infallible>(http::Response::new(body))
                            }
                        };
                        let service = hyper::service::service_fn(answer);
                        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
                Some(()) = futures_util::StreamExt::next(&mut connections) => {}
            }
        }
    };
    server.tasks.spawn(async move { stop.run_until_cancelled(serve).await });
    (server, roots)
}

#[tokio::test]
async fn what_nobody_has_is_not_found_until_somebody_is_added_who_has_it() {
    let (wanted, other) = (block(1, 10), serving(vec![]).await);
    let bench = bench(&[]);
    assert!(matches!(bench.fetch(wanted.cid()).await, Err(FetchError::NotFound(_))));
    bench.session.add_provider(&provider(&other));
    for _ in 0..2 {
        assert!(matches!(bench.fetch(wanted.cid()).await, Err(FetchError::NotFound(_))));
    }
    assert_eq!(other.heads().len(), 1, "asked again for what it has not");
    let server = serving(vec![wanted.clone()]).await;
    assert!(bench.session.add_provider(&provider(&server)));
    assert_eq!(bench.fetch(wanted.cid()).await.unwrap(), wanted);
    assert_eq!(bench.session.met(), Met { known: 2, reached: 2, answered: 2, gave: 1 });
}

#[tokio::test]
async fn all_ways_to_say_no_are_understood() {
    let wanted = block(1, 10);
    for status in ["404 N", "410 G", "451 L", "500 I", "502 B", "504 T"] {
        let server = answering(status, "", b"no").await;
        let bench = bench(&[&server]);
        let fetched = bench.fetch(wanted.cid()).await;
        assert!(matches!(fetched, Err(FetchError::NotFound(_))), "{status}: {fetched:?}");
        assert_eq!(bench.outcomes("missing"), 1, "{status}");
    }
}

#[tokio::test]
async fn a_provider_that_comes_while_another_is_slow_is_asked() {
    let wanted = block(1, 10);
    let silent = writing("", |stream| async move {
        std::future::pending::<()>().await;
        Ok(Some(stream))
    })
    .await;
    let server = serving(vec![wanted.clone()]).await;
    let bench = bench(&[&silent]);
    let add = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.session.add_provider(&provider(&server));
    };
    let (fetched, ()) = tokio::join!(bench.fetch_within(wanted.cid(), Duration::from_secs(3)), add);
    assert_eq!(fetched.unwrap(), wanted);
    assert_eq!(bench.source.shared.metrics.hedges.get(), 1);
}

#[tokio::test]
async fn a_busy_endpoint_is_left_alone_for_as_long_as_it_says() {
    let wanted = block(1, 10);
    let server = answering("429 Slow", "Retry-After: 60\r\n", b"").await;
    let bench = bench(&[&server]);
    for _ in 0..3 {
        assert!(matches!(bench.fetch(wanted.cid()).await, Err(FetchError::Unavailable(_))));
    }
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn a_block_is_fetched_from_an_endpoint_that_was_busy_for_a_moment() {
    let wanted = block(1, 10);
    let held = wanted.clone();
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let answer = move |_, stream| {
        let (held, first) = (held.clone(), first.swap(false, std::sync::atomic::Ordering::SeqCst));
        async move {
            match first {
                true => reply(stream, "503 Busy", "Retry-After: 1\r\n", b"").await,
                false => reply(stream, "200 OK", "", held.data()).await,
            }
        }
    };
    let server = Server::start(answer).await.unwrap();
    assert_eq!(bench(&[&server]).fetch(wanted.cid()).await.unwrap(), wanted);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_looks_elsewhere_is_told_not_to() {
    let (held, lacking, other) = (block(1, 10), block(2, 10), block(3, 10));
    let good = held.clone();
    let answer = move |head: String, stream| {
        let good = good.clone();
        async move {
            if path(&head) == asked_for(good.cid()) {
                return reply(stream, "200 OK", "", good.data()).await;
            }
            if head.to_lowercase().contains("cache-control: only-if-cached") {
                return reply(stream, "412 Not held", "", b"").await;
            }
            std::future::pending::<()>().await;
            Ok(Some(stream))
        }
    };
    let server = Server::start(answer).await.unwrap();
    let bench = bench(&[&server]);
    assert_eq!(bench.fetch(held.cid()).await.unwrap(), held);
    let began = Instant::now();
    assert!(matches!(bench.fetch(lacking.cid()).await, Err(FetchError::NotFound(_))));
    assert!(began.elapsed() >= Duration::from_secs(9));
    let began = Instant::now();
    assert!(matches!(bench.fetch(other.cid()).await, Err(FetchError::NotFound(_))));
    assert!(began.elapsed() < Duration::from_secs(9));
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let victim = serving(vec![block(1, 10)]).await;
    for status in ["301 M", "302 F", "303 S", "307 T", "308 P"] {
        let location = format!("Location: {}{}\r\n", victim.url(), asked_for(block(1, 10).cid()));
        let location: &'static str = Box::leak(location.into_boxed_str());
        let server = answering(status, location, b"").await;
        let bench = bench(&[&server]);
        assert!(bench.fetch(block(1, 10).cid()).await.is_err(), "{status}");
        assert_eq!((bench.outcomes("unfit"), victim.accepted()), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn other_bytes_and_pages_with_200_ban_an_endpoint() {
    let (wanted, next) = (block(1, 10), block(2, 10));
    for body in [&b"<html>Not found</html>"[..], b"", &[7; 11]] {
        let server = answering("200 OK", "Content-Type: application/vnd.ipld.raw\r\n", body).await;
        let bench = bench(&[&server]);
        assert!(matches!(bench.fetch(wanted.cid()).await, Err(FetchError::Unavailable(_))));
        assert!(bench.fetch(next.cid()).await.is_err());
        assert_eq!((bench.outcomes("wrong"), server.heads().len()), (1, 1));
        // It is not asked by other sessions either.
        let other = bench.source.open();
        other.add_provider(&provider(&server));
        let context =
            FetchContext { deadline: Instant::now() + Duration::from_secs(5), root: None };
        assert!(other.fetch(Want { cid: *next.cid() }, &context).await.is_err());
        assert_eq!(server.heads().len(), 1);
    }
}

#[tokio::test]
async fn a_liar_costs_its_neighbours_nothing() {
    let wanted = block(1, 300_000);
    let liar = answering("200 OK", "", b"lies").await;
    let good = serving(vec![wanted.clone()]).await;
    let bench = bench(&[&liar, &good]);
    assert_eq!(bench.fetch(wanted.cid()).await.unwrap(), wanted);
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_size_of_a_block() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n"]
    {
        let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let server = writing(head, move |mut stream| {
            let counted = Arc::clone(&counted);
            async move {
                loop {
                    stream.write_all(&[7; 1 << 16]).await?;
                    counted.fetch_add(1 << 16, std::sync::atomic::Ordering::SeqCst);
                }
            }
        })
        .await;
        let bench = bench(&[&server]);
        assert!(bench.fetch(block(1, 10).cid()).await.is_err());
        assert_eq!(bench.outcomes("wrong"), 1, "{head}");
        let sent = sent.load(std::sync::atomic::Ordering::SeqCst);
        assert!(sent < 16 << 20, "{sent} bytes were taken");
    }
}

#[tokio::test]
async fn a_compressed_body_is_not_opened() {
    let server = answering("200 OK", "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08").await;
    let bench = bench(&[&server]);
    let fetched = bench.fetch(block(1, 10).cid()).await;
    assert!(fetched.unwrap_err().to_string().contains("compressed"));
}

#[tokio::test]
async fn heads_without_end_and_wrong_lengths_are_failures() {
    let forever = |mut stream: TcpStream| async move {
        loop {
            stream.write_all(b"X-Filler: 0123456789012345678901234567890123456789\r\n").await?;
        }
    };
    let close = |_| async { Ok(None) };
    let many = "HTTP/1.1 200 OK\r\n".to_owned() + &"a: b\r\n".repeat(100_000) + "\r\n";
    let many: &'static str = Box::leak(many.into_boxed_str());
    let servers = [
        writing("HTTP/1.1 200 OK\r\n", forever).await,
        writing(many, close).await,
        writing("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", close).await,
        writing(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            close,
        )
        .await,
        writing("SSH-2.0-OpenSSH_9.2\r\n", close).await,
        writing("", close).await,
    ];
    for (place, server) in servers.iter().enumerate() {
        let bench = bench(&[server]);
        let fetched = bench.fetch_within(block(1, 10).cid(), Duration::from_secs(5)).await;
        assert!(matches!(fetched, Err(FetchError::Unavailable(_))), "{place}: {fetched:?}");
        assert!(bench.outcomes("failed") >= 1, "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_one_byte_a_second_is_cut() {
    let drip = |mut stream: TcpStream| async move {
        loop {
            stream.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let server = writing("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", drip).await;
    let bench = bench(&[&server]);
    let began = Instant::now();
    let fetched = bench.fetch_within(block(1, 10).cid(), Duration::from_secs(600)).await;
    assert!(matches!(fetched, Err(FetchError::Unavailable(_))), "{fetched:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[tokio::test]
async fn tls_that_nobody_vouches_for_is_not_spoken() {
    let wanted = block(1, 10);
    let (server, _) = secure(vec![wanted.clone()]).await;
    let bench = bench(&[]);
    let addresses = vec![format!("/dns/localhost/tcp/{}/https", server.port).parse().unwrap()];
    let protocols = Protocols::UNKNOWN;
    let secure = Provider { peer: None, addresses, protocols, found_by: "test" };
    assert!(bench.session.add_provider(&secure));
    let fetched = bench.fetch(wanted.cid()).await;
    assert!(
        matches!(&fetched, Err(FetchError::Unavailable(why)) if why.contains("certificate")),
        "{fetched:?}"
    );
}

#[tokio::test]
async fn private_addresses_are_not_dialled() {
    let server = serving(vec![block(1, 10)]).await;
    let port = server.address.port();
    let bench = bench_where(false, &[]);
    for address in [
        "/ip4/127.0.0.1",
        "/ip4/127.1.2.3",
        "/ip4/0.0.0.0",
        "/ip6/::1",
        "/ip6/::ffff:127.0.0.1",
        "/ip6/64:ff9b::7f00:1",
        "/ip4/10.0.0.1",
        "/ip4/169.254.169.254",
        "/ip6/fd00::1",
    ] {
        let mut private = provider(&server);
        private.addresses = vec![format!("{address}/tcp/{port}/http").parse().unwrap()];
        assert!(!bench.session.add_provider(&private), "{address}");
    }
    // A name is allowed until it is known where it leads.
    let mut named = provider(&server);
    named.addresses = vec![format!("/dns/localhost/tcp/{port}/http").parse().unwrap()];
    assert!(bench.session.add_provider(&named));
    let fetched = bench.fetch(block(1, 10).cid()).await;
    assert!(matches!(fetched, Err(FetchError::Unavailable(_))), "{fetched:?}");
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_victim_is_dialled_once_however_many_providers_name_it() {
    let victim = writing("220 mail.example ESMTP\r\n", |_| async { Ok(None) }).await;
    let bench = bench(&[]);
    let port = victim.address.port();
    for number in 0..200 {
        let mut named = provider(&victim);
        let address = format!("/ip4/127.0.0.1/tcp/{port}/http/http-path/p{number}");
        named.addresses = vec![address.parse().unwrap()];
        bench.session.add_provider(&named);
    }
    assert_eq!(bench.session.met().known, 32);
    for number in 0..20 {
        let _ = bench.fetch_within(block(number, 10).cid(), Duration::from_secs(2)).await;
    }
    assert_eq!(victim.accepted(), 1);
}

#[tokio::test]
async fn a_dropped_fetch_leaves_nothing_under_way() {
    let silent = writing("", |stream| async move {
        std::future::pending::<()>().await;
        Ok(Some(stream))
    })
    .await;
    let bench = bench(&[&silent]);
    let fetched = bench.fetch_within(block(1, 10).cid(), Duration::from_millis(100)).await;
    assert!(matches!(fetched, Err(FetchError::Timeout(..))));
    assert_eq!(bench.source.shared.metrics.under_way.get(), 0);
}

#[tokio::test]
async fn blocks_from_peers_with_other_protocols_are_for_others() {
    let bench = bench(&[]);
    for (address, of_use) in [
        ("/ip4/127.0.0.1/tcp/4001", false),
        ("/ip4/127.0.0.1/udp/4001/quic-v1", false),
        ("/dns4/a.example/tcp/443/wss", false),
        ("/dns4/a.example/tcp/443/tls/http", true),
        ("/dns4/a.example/tcp/443/https", true),
        ("/dnsaddr/a.example", false),
    ] {
        let addresses = vec![address.parse().unwrap()];
        let protocols = Protocols::UNKNOWN;
        let provider = Provider { peer: None, addresses, protocols, found_by: "test" };
        assert_eq!(bench.session.add_provider(&provider), of_use, "{address}");
    }
}
