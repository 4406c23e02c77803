//! A node that is reached through a relay. That a direct way is found afterwards is shown with real
//! NATs, in tests/peers.

use futures_util::StreamExt as _;
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{identify, noise, relay, tcp, yamux};

use super::*;

/// A relay as others run it.
#[derive(NetworkBehaviour)]
struct Relay {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

/// Runs a relay on loopback; where it is.
async fn run_relay(tasks: &Tasks) -> Multiaddr {
    let key = Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let behaviour = Relay {
        relay: relay::Behaviour::new(peer, relay::Config::default()),
        identify: identify::Behaviour::new(identify::Config::new("a".to_owned(), key.public())),
    };
    let config = libp2p::swarm::Config::with_tokio_executor();
    let mut swarm = Swarm::new(transport, behaviour, peer, config);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.add_external_address(address.clone());
    tasks.spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    address.with_p2p(peer).unwrap()
}

#[tokio::test]
async fn a_node_is_reached_through_its_relay() {
    let tasks = Tasks::new();
    let relay = soon(run_relay(&tasks)).await;
    let config = Config { relays: vec![relay], ..listening(&["/ip4/127.0.0.1/tcp/0"]) };
    let behind = P2p::start(&config, Keypair::generate_ed25519(), &tasks).unwrap();
    echo(&behind, &tasks);
    let is_slot = |address: &Multiaddr| metrics::transport(address) == "relay";
    let slot = soon(async {
        loop {
            if let Some(slot) = behind.announced().await.into_iter().find(is_slot) {
                return slot;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let client = node(&tasks);
    soon(client.connect(behind.peer_id(), &[slot])).await.unwrap();
    say_hello(&client, behind.peer_id()).await.unwrap();
    let known = client.peer(behind.peer_id()).await.unwrap();
    assert!(known.connections.iter().any(|one| is_slot(&one.address)));
    tasks.stop(Duration::from_secs(1)).await;
}
