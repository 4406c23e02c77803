use futures_util::StreamExt as _;
use libp2p_identity::Keypair;
use tokio::time::{Instant, timeout};

use super::*;
use crate::metrics::Registry;
use crate::network;
use crate::p2p::{Config, Metrics, Parts};

const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    p2p: P2p,
    dht: Dht,
    tasks: Tasks,
}

fn guard() -> Guard {
    Guard::new(&network::Config { allow_private: true })
}

/// Values are good that begin with their key, and better where they are longer.
fn validator() -> Validator {
    Arc::new(|key, value, held| {
        value.starts_with(key) && held.is_none_or(|held| value.len() > held.len())
    })
}

async fn node(part: Part) -> Node {
    let node = led_by(part, Vec::new());
    until(|| async { !node.p2p.addresses().await.is_empty() }).await;
    node
}

/// A node that has just been started.
fn led_by(part: Part, bootstrap: Vec<Multiaddr>) -> Node {
    let tasks = Tasks::new();
    let config = Config {
        listen: Some(vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]),
        bootstrap: Vec::new(),
        ..Config::default()
    };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let parts = Parts { guard: guard(), metrics, tasks: tasks.clone(), db: None };
    let p2p = P2p::start(&config, Keypair::generate_ed25519(), parts).unwrap();
    let setup = Setup { part, guard: guard(), bootstrap, validator: validator() };
    let dht = Dht::start(&p2p, setup, &tasks);
    Node { p2p, dht, tasks }
}

async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes to be so");
}

impl Node {
    async fn connect(&self, other: &Self) {
        let addresses = other.p2p.addresses().await;
        self.p2p.connect(other.p2p.peer_id(), &addresses).await.unwrap();
        let known = || async { self.dht.peers().1 > 0 };
        until(known).await;
    }

    async fn provide(&self, key: &[u8]) -> usize {
        let region = self.dht.region(key).await.unwrap();
        region.announce(&[key.to_vec()]).await[0]
    }
}

/// Servers that all know the first, and a client.
async fn network(servers: usize) -> (Vec<Node>, Node) {
    let first = node(Part::Server).await;
    let mut nodes = vec![first];
    for _ in 1..servers {
        let next = node(Part::Server).await;
        next.connect(&nodes[0]).await;
        nodes.push(next);
    }
    let client = node(Part::Client).await;
    client.connect(&nodes[0]).await;
    let met = || async { nodes.iter().all(|node| node.dht.peers().1 >= servers / 2) };
    until(met).await;
    (nodes, client)
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        assert!(node.tasks.stop(PATIENCE).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_provides_and_puts_another_finds() {
    let (nodes, client) = network(12).await;
    let (provider, other) = (&nodes[3], &nodes[9]);

    assert!(provider.provide(b"content").await >= 10);
    for node in [other, &client] {
        let found = timeout(PATIENCE, node.dht.providers(b"content").next()).await.unwrap();
        let (peer, addresses) = found.unwrap();
        assert_eq!(peer, provider.p2p.peer_id());
        assert!(!addresses.is_empty());
    }
    // A client provides as well, though nobody learns of it as a server.
    assert!(client.provide(b"more").await >= 10);
    let found: Vec<_> = other.dht.providers(b"more").collect().await;
    assert_eq!(found[0].0, client.p2p.peer_id());
    assert!(nodes.iter().all(|node| {
        node.dht.sides.iter().all(|side| side.table().get(&client.p2p.peer_id()).is_none())
    }));

    // Records: the best that a peer was given stays.
    assert!(client.dht.put_record(b"name", b"name 22").await >= 10);
    assert_eq!(other.dht.put_record(b"name", b"name 1").await, 0);
    assert_eq!(other.dht.put_record(b"name", b"forged").await, 0);
    let records: Vec<_> = other.dht.records(b"name").collect().await;
    assert!(!records.is_empty() && records.iter().all(|record| record == b"name 22"));

    // Nobody has it: the lookup ends.
    assert_eq!(timeout(PATIENCE, client.dht.providers(b"nothing").next()).await, Ok(None));
    let somebody = nodes[7].p2p.peer_id();
    assert!(!client.dht.find_peer(somebody).await.is_empty());
    stop(nodes.into_iter().chain([client])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_while_the_node_starts_is_answered_when_it_is_led_in() {
    let (nodes, provider) = network(3).await;
    assert_eq!(provider.provide(b"content").await, 3);
    let newcomer = led_by(Part::Client, nodes[0].p2p.addresses().await);
    let found = timeout(PATIENCE, newcomer.dht.providers(b"content").next()).await.unwrap();
    assert_eq!(found.map(|(peer, _)| peer), Some(provider.p2p.peer_id()));

    // Nobody is there to lead in: the lookup ends.
    let nobody =
        "/ip4/127.0.0.1/tcp/60001/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";
    let lonely = led_by(Part::Client, vec![nobody.parse().unwrap()]);
    assert_eq!(timeout(PATIENCE, lonely.dht.providers(b"content").next()).await, Ok(None));
    stop(nodes.into_iter().chain([provider, newcomer, lonely])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_keys_are_announced_by_one_lookup() {
    let (nodes, client) = network(5).await;
    let keys: Vec<_> = (0..1000u32).map(|key| key.to_be_bytes().to_vec()).collect();
    let region = client.dht.region(&keys[0]).await.unwrap();
    assert!(
        keys.iter().all(|key| region.holds(&Position::of(key))),
        "it is all of a small network"
    );
    let heard = region.announce(&keys).await;
    assert!(heard.iter().all(|heard| *heard == region.peers()), "{heard:?}");
    let found: Vec<_> = nodes[2].dht.providers(&keys[400]).collect().await;
    assert_eq!(found[0].0, client.p2p.peer_id());
    stop(nodes.into_iter().chain([client])).await;
}

fn contact(peer: PeerId, address: &str) -> Contact {
    Contact { peer, addresses: vec![address.parse().unwrap()] }
}

fn side(node: &Node, scope: Scope, guard: Guard) -> Side {
    let store = Store::new(&node.p2p.peer_id(), validator());
    Side::new(scope, node.p2p.clone(), guard, Arc::new(Semaphore::new(1)), Some(store))
}

#[tokio::test]
async fn a_peer_provides_for_itself_alone() {
    let node = node(Part::Server).await;
    let side = side(&node, Scope::Wan, Guard::new(&network::Config::default()));
    let (peer, other) = (PeerId::random(), PeerId::random());
    let mut message = Message::new(Kind::AddProvider, b"key");
    message.providers = vec![
        contact(other, "/ip4/9.9.9.9/tcp/4001"),
        contact(peer, "/ip4/127.0.0.1/tcp/4001"),
        contact(node.p2p.peer_id(), "/ip4/9.9.9.9/tcp/4001"),
    ];
    let now = Instant::now();
    assert_eq!(server::answer(&side, peer, message, Vec::new(), now).unwrap(), None);
    let asked = Message::new(Kind::GetProviders, b"key");
    let answer = server::answer(&side, other, asked, Vec::new(), now).unwrap().unwrap();
    // And a private address is not kept where public ones belong.
    assert_eq!(answer.providers, [Contact { peer, addresses: Vec::new() }]);
    stop([node]).await;
}

#[tokio::test]
async fn records_that_are_not_valid_end_the_stream() {
    let node = node(Part::Server).await;
    let side = side(&node, Scope::Lan, guard());
    let peer = PeerId::random();
    let put = |value: &[u8]| {
        let mut message = Message::new(Kind::PutValue, b"key");
        message.value = Some(value.to_vec());
        server::answer(&side, peer, message, Vec::new(), Instant::now())
    };
    assert!(put(b"forged").is_err());
    assert!(put(b"key 1").is_ok());
    let empty = Message::new(Kind::PutValue, b"key");
    assert!(server::answer(&side, peer, empty, Vec::new(), Instant::now()).is_err());
    stop([node]).await;
}

#[tokio::test]
async fn private_addresses_and_ourselves_are_dropped_from_answers() {
    let node = node(Part::Client).await;
    let public = side(&node, Scope::Wan, Guard::new(&network::Config::default()));
    let peer = PeerId::random();
    let mut named = contact(peer, "/ip4/9.9.9.9/tcp/4001");
    named.addresses.push("/ip4/10.0.0.1/tcp/4001".parse().unwrap());
    let heard = public.heard(named.clone()).unwrap();
    assert_eq!(heard.addresses, named.addresses[..1]);
    assert_eq!(public.heard(contact(peer, "/ip4/127.0.0.1/tcp/4001")), None);
    assert_eq!(public.heard(contact(node.p2p.peer_id(), "/ip4/9.9.9.9/tcp/4001")), None);
    // In a private network nobody leads us to other private addresses unless that is allowed.
    let private = side(&node, Scope::Lan, Guard::new(&network::Config::default()));
    assert_eq!(private.heard(contact(peer, "/ip4/10.0.0.1/tcp/4001")), None);
    let allowed = side(&node, Scope::Lan, guard());
    assert!(allowed.heard(contact(peer, "/ip4/10.0.0.1/tcp/4001")).is_some());
    stop([node]).await;
}
