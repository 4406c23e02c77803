//! Nodes that meet over loopback.

mod hostile;
mod private;
mod relayed;

use std::time::Duration;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::StreamProtocol;
use tokio::sync::broadcast::Receiver;

use super::*;

/// How long a story waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

/// A configuration that listens on these, and knows nobody.
pub(super) fn listening(addresses: &[&str]) -> Config {
    Config {
        listen: Some(addresses.iter().map(|address| address.parse().unwrap()).collect()),
        bootstrap: Vec::new(),
        ..Config::default()
    }
}

/// A node on loopback that may be spoken to in every way.
pub(super) fn node(tasks: &Tasks) -> P2p {
    let all = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"];
    P2p::start(&listening(&all), Keypair::generate_ed25519(), tasks).unwrap()
}

pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it came in time")
}

/// Waits for an event.
pub(super) async fn hear(
    events: &mut Receiver<PeerEvent>,
    is_it: impl Fn(&PeerEvent) -> bool,
) -> PeerEvent {
    soon(async {
        loop {
            let event = events.recv().await.unwrap();
            if is_it(&event) {
                return event;
            }
        }
    })
    .await
}

/// Answers on the echo protocol for as long as the tasks run.
pub(super) fn echo(node: &P2p, tasks: &Tasks) {
    let mut incoming = node.accept(&[ECHO]);
    let (streams, stop) = (tasks.clone(), tasks.stop_token());
    tasks.spawn(async move {
        while let Some(Some(mut inbound)) = stop.run_until_cancelled(incoming.next()).await {
            let stop = stop.clone();
            let answer = async move {
                let mut bytes = [0; 5];
                while inbound.stream.read_exact(&mut bytes).await.is_ok() {
                    if inbound.stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                    let _ = inbound.stream.flush().await;
                }
            };
            streams.spawn(async move { stop.run_until_cancelled(answer).await });
        }
    });
}

pub(super) async fn say_hello(from: &P2p, to: PeerId) -> Result<(), String> {
    let (_, mut stream) = from.open(to, &[ECHO]).await.map_err(|error| error.to_string())?;
    let mut back = [0; 5];
    stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    stream.read_exact(&mut back).await.map_err(|error| error.to_string())?;
    (back == *b"hello").then_some(()).ok_or_else(|| "another answer".to_owned())
}

#[tokio::test]
async fn nodes_reach_each_other_by_tcp_quic_and_websocket() {
    let tasks = Tasks::new();
    let server = node(&tasks);
    echo(&server, &tasks);
    let addresses = soon(server.addresses()).await;
    for transport in ["tcp", "quic", "websocket"] {
        let of_it = |address: &&Multiaddr| metrics::transport(address) == transport;
        let address = addresses.iter().find(of_it).unwrap();
        let (client, peer) = (node(&tasks), server.peer_id());
        let mut events = client.events();
        soon(client.connect(peer, std::slice::from_ref(address))).await.unwrap();
        say_hello(&client, peer).await.unwrap();
        assert!(soon(client.ping(peer)).await.unwrap() < Duration::from_secs(5));
        hear(&mut events, |event| matches!(event, PeerEvent::Identified(..))).await;
        let info = client.peer(peer).await.unwrap();
        assert!(info.agent.starts_with("estuary/"), "{transport}");
        let protocols = client.protocols(peer).await.unwrap();
        assert!(protocols.contains(&ECHO), "{transport}: {protocols:?}");
        assert_eq!(metrics::transport(&info.connections[0].address), transport);
        assert!(client.disconnect(peer).await);
        hear(&mut events, |event| matches!(event, PeerEvent::Disconnected(_))).await;
        assert!(client.peer(peer).await.is_none() && !client.is_connected(&peer));
    }
    tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_peer_to_stay_connected_with_is_dialled_again_when_it_comes_back() {
    let (tasks, of_server) = (Tasks::new(), Tasks::new());
    let key = Keypair::generate_ed25519();
    let start = |config: &Config, tasks: &Tasks| P2p::start(config, key.clone(), tasks).unwrap();
    let server = start(&listening(&["/ip4/127.0.0.1/tcp/0"]), &of_server);
    let address = soon(server.addresses()).await.remove(0);
    let peering = vec![address.clone()];
    let client = Config { peering, ..listening(&[]) };
    let client = P2p::start(&client, Keypair::generate_ed25519(), &tasks).unwrap();
    let (mut events, peer) = (client.events(), server.peer_id());
    if !client.is_connected(&peer) {
        hear(&mut events, |event| matches!(event, PeerEvent::Connected(_))).await;
    }
    assert!(client.peer(peer).await.unwrap().protected.contains(&peering::REASON));

    assert!(of_server.stop(PATIENCE).await);
    hear(&mut events, |event| matches!(event, PeerEvent::Disconnected(_))).await;
    let port = address.iter().find(|part| matches!(part, Protocol::Tcp(_))).unwrap();
    let again = format!("/ip4/127.0.0.1{}", Multiaddr::from(port));
    let _server = start(&listening(&[&again]), &tasks);
    hear(&mut events, |event| matches!(event, PeerEvent::Connected(_))).await;
    tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn who_waits_for_a_peer_is_told_what_each_address_came_to() {
    let tasks = Tasks::new();
    let node = node(&tasks);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let addresses = [
        format!("/ip4/127.0.0.1/tcp/{}", closed.port()),
        "/ip4/127.0.0.1/udp/4001/quic".to_owned(),
        "/ip4/127.0.0.1/tcp/22".to_owned(),
    ];
    let addresses = addresses.map(|address| address.parse().unwrap());
    let error = soon(node.connect(PeerId::random(), &addresses)).await.unwrap_err().to_string();
    for part in ["refused", "no transport leads there", "port 22 is none of peers"] {
        assert!(error.contains(part), "{error}");
    }
    tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_second_way_to_a_peer_is_tried_while_the_first_hangs() {
    let tasks = Tasks::new();
    let (server, client) = (node(&tasks), node(&tasks));
    // It accepts and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let peer = server.peer_id();
    let (first, second) = (client.clone(), client.clone());
    let waiting = tasks.spawn(async move {
        first.connect(peer, &[hanging.parse().unwrap()]).await.map_err(|error| error.to_string())
    });
    let _held = silent.accept().await.unwrap();
    let addresses = soon(server.addresses()).await;
    tokio::time::timeout(Duration::from_secs(5), second.connect(peer, &addresses))
        .await
        .unwrap()
        .unwrap();
    soon(waiting).await.unwrap().unwrap();
    tasks.stop(PATIENCE).await;
}

/// A node, and a client that is connected with it in one way.
async fn connected(by: &str, tasks: &Tasks) -> (P2p, P2p) {
    let (server, client) = (node(tasks), node(tasks));
    let addresses = soon(server.addresses()).await;
    let address = addresses.into_iter().find(|each| metrics::transport(each) == by).unwrap();
    soon(client.connect(server.peer_id(), &[address])).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn inbound_streams_of_one_connection_are_capped() {
    const CAP: usize = streams::INBOUND_STREAMS_MAX;
    let tasks = Tasks::new();
    let (server, client) = connected("tcp", &tasks).await;
    let mut incoming = server.accept(&[ECHO]);
    let mut ours = Vec::new();
    for _ in 0..CAP + 50 {
        ours.push(soon(client.open(server.peer_id(), &[ECHO])).await.unwrap().1);
    }
    let mut theirs = Vec::new();
    for _ in 0..CAP {
        theirs.push(soon(incoming.next()).await.unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(300), incoming.next()).await;
    assert!(more.is_err(), "more than {CAP} streams were let in");
    // What is given back may be had again.
    theirs.truncate(CAP / 2);
    ours.push(soon(client.open(server.peer_id(), &[ECHO])).await.unwrap().1);
    soon(incoming.next()).await.unwrap();
    tasks.stop(PATIENCE).await;
}

/// As Kubo does it with the messages of Bitswap.
#[tokio::test]
async fn a_thousand_streams_that_are_opened_at_once_are_all_read() {
    const STREAMS: usize = 1000;
    const BYTES: usize = 16 << 10;
    for by in ["tcp", "quic", "websocket"] {
        let tasks = Tasks::new();
        let (server, client) = connected(by, &tasks).await;
        let mut incoming = server.accept(&[ECHO]);
        let (written, mut all_written) = tokio::sync::mpsc::channel::<()>(1);
        for n in 0..STREAMS {
            let (client, peer, written) = (client.clone(), server.peer_id(), written.clone());
            tasks.spawn(async move {
                let (_, mut stream) = client.open(peer, &[ECHO]).await.unwrap();
                stream.write_all(&vec![n as u8; BYTES]).await.unwrap();
                stream.close().await.unwrap();
                drop(written);
            });
        }
        drop(written);
        // QUIC lets its sender wait; over the others nothing is taken before all is there.
        if by != "quic" {
            assert_eq!(soon(all_written.recv()).await, None);
        }
        let read = async {
            for _ in 0..STREAMS {
                let mut bytes = Vec::new();
                let mut inbound = incoming.next().await.unwrap();
                inbound.stream.read_to_end(&mut bytes).await.unwrap();
                assert_eq!(bytes.len(), BYTES, "{by}");
            }
        };
        soon(read).await;
        tasks.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_at_start() {
    let tasks = Tasks::new();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _held = std::net::UdpSocket::bind(("127.0.0.1", taken)).unwrap();
    let config = listening(&[&format!("/ip4/127.0.0.1/udp/{taken}/quic-v1")]);
    let error = P2p::start(&config, Keypair::generate_ed25519(), &tasks).unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    assert!(P2p::check_listen(&config).is_err());
}

#[tokio::test]
async fn loopback_is_announced_only_where_private_addresses_may_be_dialled() {
    let tasks = Tasks::new();
    let open = node(&tasks);
    soon(open.addresses()).await;
    assert_eq!(open.announced().await.len(), 3);
    let strict = private::strict(&listening(&["/ip4/127.0.0.1/tcp/0"]), &tasks);
    assert_eq!(soon(strict.addresses()).await.len(), 1);
    assert_eq!(strict.announced().await, []);
    let announce = vec!["/dns4/box.example/tcp/4001".parse().unwrap()];
    let named = Config { announce, ..listening(&["/ip4/127.0.0.1/tcp/0"]) };
    let named = private::strict(&named, &tasks);
    soon(named.addresses()).await;
    let announced: Vec<_> = named.announced().await.iter().map(ToString::to_string).collect();
    assert_eq!(announced, [format!("/dns4/box.example/tcp/4001/p2p/{}", named.peer_id())]);
    tasks.stop(PATIENCE).await;
}
