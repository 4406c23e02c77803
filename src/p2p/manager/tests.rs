//! Nodes with many peers, on loopback.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use futures_util::StreamExt as _;
use futures_util::stream;
use libp2p::swarm::{SwarmEvent, dial_opts::DialOpts};
use libp2p::{Swarm, identity::Keypair, noise, tcp, yamux};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::*;
use crate::db::{self, Db};
use crate::metrics::Registry;
use crate::p2p::{Config, P2p, Parts as NodeParts, PeerInfo, swarm};
use crate::task::Tasks;

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node on a free port of loopback.
struct Node {
    p2p: P2p,
    tasks: Tasks,
    metrics: Metrics,
}

impl Node {
    fn start(change: impl FnOnce(&mut Config, &mut NodeParts, &mut Marks)) -> Self {
        let tasks = Tasks::new();
        let listen = Some(vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
        let mut config = Config { listen, bootstrap: Vec::new(), ..Config::default() };
        let mut parts = NodeParts::from(&tasks);
        let mut marks = Marks::new(config.connections_low, config.connections_high);
        change(&mut config, &mut parts, &mut marks);
        let (key, metrics) = (Keypair::generate_ed25519(), parts.metrics.clone());
        let p2p = swarm::start_with(&config, &key, parts, marks).unwrap();
        Self { p2p, tasks, metrics }
    }

    async fn address(&self) -> Multiaddr {
        until(|| async { self.p2p.addresses().await.into_iter().next() }).await
    }

    async fn connections(&self) -> Vec<PeerInfo> {
        self.p2p.peers().await
    }

    fn refused(&self, reason: &str) -> u64 {
        self.metrics.connections_refused.with_label_values(&[reason]).get()
    }

    async fn stop(self) {
        drop(self.p2p);
        assert!(self.tasks.stop(PATIENCE).await);
    }
}

/// Asks until there is an answer.
async fn until<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect("it does not come")
}

/// A peer that does nothing but be there.
struct Light {
    id: PeerId,
    address: Multiaddr,
    dials: mpsc::Sender<(Multiaddr, oneshot::Sender<Result<(), String>>)>,
}

impl Light {
    /// Listens on a free port of an address of loopback.
    async fn start(ip: &str, tasks: &Tasks) -> Self {
        let swarm = libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p::swarm::dummy::Behaviour)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE * 10))
            .build();
        let id = *swarm.local_peer_id();
        let (dials, asked) = mpsc::channel(1);
        let (listens, address) = oneshot::channel();
        let ip = format!("/ip4/{ip}/tcp/0").parse().unwrap();
        tasks.spawn(Self::run(swarm, ip, asked, listens, tasks.stop_token()));
        Self { id, address: address.await.unwrap(), dials }
    }

    async fn run(
        mut swarm: Swarm<libp2p::swarm::dummy::Behaviour>,
        ip: Multiaddr,
        mut asked: mpsc::Receiver<(Multiaddr, oneshot::Sender<Result<(), String>>)>,
        listens: oneshot::Sender<Multiaddr>,
        stop: tokio_util::sync::CancellationToken,
    ) {
        swarm.listen_on(ip).unwrap();
        let (mut listens, mut waiting) = (Some(listens), None);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some((address, reply)) = asked.recv() => {
                    waiting = Some(reply);
                    swarm.dial(DialOpts::unknown_peer_id().address(address).build()).unwrap();
                }
                event = swarm.select_next_some() => match event {
                    SwarmEvent::NewListenAddr { address, .. } => {
                        listens.take().map(|listens| listens.send(address));
                    }
                    SwarmEvent::ConnectionEstablished { .. } => {
                        waiting.take().map(|reply: oneshot::Sender<_>| reply.send(Ok(())));
                    }
                    SwarmEvent::OutgoingConnectionError { error, .. } => {
                        waiting.take().map(|reply: oneshot::Sender<_>| reply.send(Err(format!("{error:?}"))));
                    }
                    _ => {}
                },
            }
        }
    }

    /// Dials a node; whether it was let in.
    async fn dial(&self, address: &Multiaddr) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.dials.send((address.clone(), reply)).await.unwrap();
        answer.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_1000_peers_a_trim_to_low_water_leaves_every_protected_and_busy_one() {
    const PEERS: usize = 1000;
    let grace = Duration::from_secs(1);
    let node = Node::start(|_, _, marks| {
        *marks = Marks { low: 300, high: PEERS, grace, silence: grace };
    });
    let (address, tasks) = (node.address().await, Tasks::new());
    let connected = stream::iter(0..PEERS).map(|number| {
        let (address, tasks, p2p) = (address.clone(), tasks.clone(), node.p2p.clone());
        async move {
            let peer = Light::start("127.0.0.1", &tasks).await;
            if number % 2 == 0 {
                peer.dial(&address).await.unwrap();
            } else {
                p2p.connect(peer.id, std::slice::from_ref(&peer.address)).await.unwrap();
            }
            peer
        }
    });
    let peers: Vec<_> = connected.buffered(32).collect().await;

    let (mut kept, mut work) = (HashSet::new(), Vec::new());
    for (number, peer) in peers.iter().enumerate() {
        match number % 10 {
            0 => node.p2p.protect(&peer.id, "peering"),
            1 => work.push(node.p2p.busy(peer.id)),
            // These are worth more than nothing, and there are as many as places left.
            2 => node.p2p.bump(&peer.id, "blocks", 10, PATIENCE * 60),
            _ => continue,
        }
        kept.insert(peer.id);
    }
    until(|| async {
        let all = node.connections().await;
        let aged = all.iter().filter(|peer| peer.connections[0].age > grace * 2).count();
        (aged == PEERS).then_some(())
    })
    .await;
    let last = Light::start("127.0.0.1", &tasks).await;
    last.dial(&address).await.expect("one too many");
    let left = until(|| async {
        let left = node.connections().await;
        (left.len() <= 301).then_some(left)
    })
    .await;
    let left: HashSet<_> = left.iter().map(|peer| peer.peer).collect();
    assert_eq!(left.len(), 301, "the low water, and one in its grace");
    assert!(left.is_superset(&kept) && left.contains(&last.id));
    assert_eq!(node.metrics.peers_trimmed.get(), 700);
    assert_eq!(node.metrics.trims.get(), 1);
    tasks.stop(PATIENCE).await;
    node.stop().await;
}

/// Where connections are passed on to a port of loopback, as coming from this address.
async fn from(ip: Ipv4Addr, port: u16, tasks: &Tasks) -> Multiaddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().port();
    let (stop, own) = (tasks.stop_token(), tasks.clone());
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        while let Ok((mut inner, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((ip, 0).into()).unwrap();
            let mut outer = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
            own.spawn(own.stop_token().run_until_cancelled_owned(async move {
                let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
            }));
        }
    }));
    format!("/ip4/127.0.0.1/tcp/{at}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_half_open_connections_keep_no_protected_peer_out() {
    let node = Node::start(|_, _, _| {});
    let (address, tasks) = (node.address().await, Tasks::new());
    let friend = Light::start("127.0.0.2", &tasks).await;
    node.p2p.connect(friend.id, std::slice::from_ref(&friend.address)).await.unwrap();
    node.p2p.protect(&friend.id, "peering");
    node.p2p.disconnect(friend.id).await;
    until(|| async { node.connections().await.is_empty().then_some(()) }).await;
    let Some(Protocol::Tcp(port)) = address.iter().nth(1) else { panic!("{address}") };
    let dial = |_| TcpStream::connect(("127.0.0.1", port));
    let flood: Vec<_> = stream::iter(0..5000).map(dial).buffer_unordered(64).collect().await;
    until(|| async { (node.refused("pending") > 4000).then_some(()) }).await;
    let stranger = Light::start("127.0.0.1", &tasks).await;
    stranger.dial(&address).await.expect_err("there is no room for just anybody");
    let begun = Instant::now();
    let by_its_address = from(Ipv4Addr::new(127, 0, 0, 2), port, &tasks).await;
    while let Err(error) = friend.dial(&by_its_address).await {
        // The half-open ones are given up after 10 s.
        assert!(begun.elapsed() < Duration::from_secs(5), "the flood keeps a friend out: {error}");
    }
    let other = Light::start("127.0.0.1", &tasks).await;
    let dialled = node.p2p.connect(other.id, std::slice::from_ref(&other.address)).await;
    dialled.expect("whom we dial needs no room among those that come");
    drop(flood);
    until(|| async { stranger.dial(&address).await.ok() }).await;
    tasks.stop(PATIENCE).await;
    node.stop().await;
}

#[tokio::test]
async fn a_peer_is_reached_by_its_identity_alone_after_a_restart() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let metrics = db::Metrics::register(&Registry::new()).unwrap();
    let db = Db::open(&dir.path().join("db"), &db::Config::default(), metrics).unwrap();
    let with_db = |_: &mut Config, parts: &mut NodeParts, _: &mut Marks| {
        parts.db = Some(db.clone());
    };
    let dialled = Light::start("127.0.0.1", &tasks).await;
    let named = Node::start(|_, _, _| {});
    let first = Node::start(with_db);
    first.p2p.connect(dialled.id, std::slice::from_ref(&dialled.address)).await.unwrap();
    // The other comes to us, and says where it listens.
    let here = first.address().await;
    named.p2p.connect(first.p2p.peer_id(), std::slice::from_ref(&here)).await.unwrap();
    let id = named.p2p.peer_id();
    until(|| async {
        let peer = first.p2p.peer(id).await?;
        peer.agent.starts_with("estuary/").then_some(())
    })
    .await;
    first.stop().await;

    let second = Node::start(with_db);
    second.p2p.connect(dialled.id, &[]).await.expect("it was dialled before");
    second.p2p.connect(id, &[]).await.expect("it said where it is");
    assert!(second.p2p.connect(PeerId::random(), &[]).await.is_err());
    second.stop().await;
    named.stop().await;
    tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_peer_that_was_dialled_in_vain_is_not_dialled_again_at_once() {
    let node = Node::start(|_, _, _| {});
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let dead: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let (peer, dead) = (PeerId::random(), std::slice::from_ref(&dead));
    node.p2p.connect(peer, dead).await.unwrap_err();
    assert_eq!(node.refused("back_off"), 0);
    node.p2p.connect(peer, dead).await.unwrap_err();
    assert_eq!(node.refused("back_off"), 1);
    // Another address may be the right one, and the operator knows what he does.
    let tasks = Tasks::new();
    let light = Light::start("127.0.0.1", &tasks).await;
    node.p2p.connect(light.id, dead).await.unwrap_err();
    node.p2p.connect(light.id, std::slice::from_ref(&light.address)).await.unwrap();
    node.p2p.connect_named(peer, dead).await.unwrap_err();
    assert_eq!(node.refused("back_off"), 1);
    tasks.stop(PATIENCE).await;
    node.stop().await;
}

#[tokio::test]
async fn where_memory_is_short_nobody_is_let_in_but_dialling_goes_on() {
    let node = Node::start(|config, _, _| config.memory_bytes_max = Some(1));
    let (address, tasks) = (node.address().await, Tasks::new());
    let light = Light::start("127.0.0.1", &tasks).await;
    light.dial(&address).await.unwrap_err();
    assert_eq!(node.refused("memory"), 1);
    node.p2p.connect(light.id, std::slice::from_ref(&light.address)).await.unwrap();
    tasks.stop(PATIENCE).await;
    node.stop().await;
}

#[tokio::test]
async fn a_peer_is_pinged() {
    let (one, two) = (Node::start(|_, _, _| {}), Node::start(|_, _, _| {}));
    let peer = two.p2p.peer_id();
    one.p2p.ping(peer).await.unwrap_err();
    one.p2p.connect(peer, &[two.address().await]).await.unwrap();
    assert!(one.p2p.ping(peer).await.unwrap() < PATIENCE);
    two.stop().await;
    one.stop().await;
}
