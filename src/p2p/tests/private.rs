//! What is named by others is never dialled where it is private.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::Ordering;

use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, PortUse, Transport as _};

use super::*;
use crate::p2p::gate::Gate;
use crate::p2p::manager::Dials;
use crate::p2p::names::Names;
use crate::p2p::names::tests::Told;
use crate::p2p::tags::Tags;
use crate::p2p::transport;

/// A node that dials the public internet alone.
pub(super) fn strict(config: &Config, tasks: &Tasks) -> P2p {
    let guard = Guard::new(&crate::network::Config::default());
    P2p::start(config, Keypair::generate_ed25519(), Parts { guard, ..tasks.into() }).unwrap()
}

/// A port of loopback, over TCP and UDP, v4 and v6 where there is one, that nobody should come to.
struct Trap {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    port: u16,
}

impl Trap {
    fn set() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let tcp: Vec<_> =
            [Some(tcp), TcpListener::bind(("::1", port)).ok()].into_iter().flatten().collect();
        let udp = [UdpSocket::bind(("127.0.0.1", port)).ok(), UdpSocket::bind(("::1", port)).ok()];
        let udp: Vec<_> = udp.into_iter().flatten().collect();
        tcp.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        udp.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        Self { tcp, udp, port }
    }

    fn came(&self) -> usize {
        let tcp = self.tcp.iter().filter(|socket| socket.accept().is_ok()).count();
        tcp + self.udp.iter().filter(|socket| socket.recv(&mut [0; 64]).is_ok()).count()
    }
}

#[tokio::test]
async fn a_private_address_that_somebody_named_gets_no_packet() {
    let (tasks, trap) = (Tasks::new(), Trap::set());
    let node = strict(&listening(&[]), &tasks);
    let hosts = [
        "/ip4/127.0.0.1",
        "/ip4/127.8.9.1",
        "/ip4/0.0.0.0",
        "/ip6/::1",
        "/ip6/::",
        "/ip6/::ffff:127.0.0.1",
        "/ip6/64:ff9b::7f00:1",
        "/dns4/localhost",
        "/dns6/localhost",
        "/dns/localhost",
    ];
    let mut addresses = Vec::new();
    for host in hosts {
        let port = trap.port;
        for rest in [format!("tcp/{port}"), format!("udp/{port}/quic-v1"), format!("tcp/{port}/ws")]
        {
            addresses.push(format!("{host}/{rest}").parse().unwrap());
        }
    }
    let relay = PeerId::random();
    let through = format!("/ip4/127.0.0.1/tcp/{}/p2p/{relay}/p2p-circuit", trap.port);
    addresses.push(through.parse().unwrap());
    for address in addresses {
        let peer = PeerId::random();
        let outcome = soon(node.connect(peer, std::slice::from_ref(&address))).await;
        assert!(outcome.is_err(), "{address}");
        assert_eq!(trap.came(), 0, "{address}");
    }
    tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_private_address_that_the_operator_named_is_dialled() {
    let (tasks, trap) = (Tasks::new(), Trap::set());
    let address: Multiaddr =
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", trap.port, PeerId::random()).parse().unwrap();
    let _node = strict(&Config { peering: vec![address], ..listening(&[]) }, &tasks);
    soon(async {
        while trap.came() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    tasks.stop(PATIENCE).await;
}

/// The transports of a strict node whose resolver gives these answers, one after the other.
fn transports(answers: Vec<Vec<IpAddr>>) -> (transport::Transport, impl Fn() -> usize) {
    let told = Told { addresses: answers, ..Told::default() };
    let asked = told.asked.clone();
    let gate = Gate::new(Guard::new(&crate::network::Config::default()));
    let (dials, names) = (Dials::new(Tags::default()), Names::of(told));
    let key = Keypair::generate_ed25519();
    let transport = transport::build(&key, &gate, &names, &dials, None).unwrap();
    (transport, move || asked.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_name_is_checked_by_the_address_that_is_dialled() {
    let trap = Trap::set();
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    // Documentation addresses stand for what passes a first look; nothing is sent to them either.
    let first = IpAddr::from([192, 0, 2, 1]);
    let (mut transport, asked) = transports(vec![vec![first], vec![loopback]]);
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
    for rest in ["", "/ws"] {
        for turn in 1..=4 {
            let before = asked();
            let address = format!("/dns4/flips.example/tcp/{}{rest}", trap.port);
            let dial = transport.dial(address.parse().unwrap(), options).unwrap();
            let error = soon(dial).await.map(drop).expect_err("it was refused").to_string();
            assert!(error.contains("no public address"), "{turn}: {error}");
            assert_eq!((asked() - before, trap.came()), (1, 0));
        }
    }
}

#[tokio::test]
async fn a_node_never_dials_itself() {
    let tasks = Tasks::new();
    let node = node(&tasks);
    let own = soon(node.addresses()).await;
    let bare = own.iter().map(|address| {
        let mut address = address.clone();
        address.pop();
        address
    });
    let error = node.connect(PeerId::random(), &bare.collect::<Vec<_>>()).await.unwrap_err();
    assert!(!error.to_string().contains("refused by"), "{error}");
    assert_eq!(node.peers().await.len(), 0);
    tasks.stop(PATIENCE).await;
}
