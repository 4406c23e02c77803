//! The memory of a node with a thousand peers: before them, with them, and when the connection
//! manager has let most of them go. `cargo bench --bench peers -- target/release/estuary [PEERS]`

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "it is a measurement")]
#![allow(missing_docs, reason = "as above")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use estuary::task::Tasks;
use futures_util::{StreamExt as _, stream};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, identify, noise, ping, tcp, yamux};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const PEERS: usize = 1000;
/// How many the node is to be left with.
const LOW: usize = 400;
/// Peers that connect at a time.
const AT_ONCE: usize = 32;
/// From the first peer that is let go until memory is looked at. Those that were in their grace may
/// stay, where without them there are few enough.
const SETTLE: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(120);

/// What every peer speaks.
#[derive(NetworkBehaviour)]
struct Light {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// The node, killed at the end.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(binary: &Path, home: &Path, peers: usize) -> Command {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(home).stderr(Stdio::null());
    command.env("ESTUARY_P2P__CONNECTIONS_LOW", LOW.min(peers / 2).to_string());
    command.env("ESTUARY_P2P__CONNECTIONS_HIGH", peers.to_string());
    for listener in ["GATEWAY", "API", "ADMIN"] {
        command.env(format!("ESTUARY_{listener}__LISTEN"), "127.0.0.1:0");
    }
    let peers = [
        ("P2P__LISTEN", "/ip4/127.0.0.1/tcp/0"),
        ("P2P__PEERING", ""),
        ("P2P__BOOTSTRAP", ""),
        ("ROUTING__DHT", "off"),
        ("ROUTING__DELEGATED", ""),
    ];
    command.envs(peers.map(|(key, value)| (format!("ESTUARY_{key}"), value)));
    command
}

/// What a command of the node's prints.
fn ask(mut command: Command) -> Option<serde_json::Value> {
    let output = command.arg("--json").output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// Resident memory, in KiB.
fn resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A peer that connected, and stays until it is let go.
async fn connected(address: Multiaddr) -> Swarm<Light> {
    let mut swarm = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Light {
            identify: identify::Behaviour::new(identify::Config::new("light".into(), key.public())),
            ping: ping::Behaviour::default(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE * 10))
        .build();
    swarm.dial(address).unwrap();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => return swarm,
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error:?}"),
            _ => {}
        }
    }
}

/// How many of them are connected.
fn there(peers: &[JoinHandle<()>]) -> usize {
    peers.iter().filter(|peer| !peer.is_finished()).count()
}

async fn stay(mut swarm: Swarm<Light>) {
    while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let Some(binary) = args.next() else {
        println!(
            "SKIPPED: name the binary, as in `cargo bench --bench peers -- target/release/estuary`"
        );
        return;
    };
    let peers: usize = args.next().map_or(PEERS, |number| number.parse().unwrap());
    let (binary, home) = (Path::new(&binary), tempfile::tempdir().unwrap());
    let node = Node(command(binary, home.path(), peers).stdout(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    let address: Multiaddr = loop {
        let mut status = command(binary, home.path(), peers);
        status.arg("status");
        let found = ask(status).and_then(|said| said["addresses"][0].as_str().map(str::to_owned));
        match found {
            Some(address) => break address.parse().unwrap(),
            None if begun.elapsed() > PATIENCE => panic!("the node does not start"),
            None => sleep(Duration::from_millis(100)).await,
        }
    };
    sleep(Duration::from_secs(2)).await;
    let before = resident(&node);
    println!("before: {before} KiB");

    let tasks = Tasks::new();
    let mut staying: Vec<JoinHandle<()>> = Vec::new();
    // The second time shows whether what the first took is used again.
    for wave in ["first", "second"] {
        let begun = Instant::now();
        let fresh = peers - there(&staying);
        let mut all =
            stream::iter(0..fresh).map(|_| connected(address.clone())).buffer_unordered(AT_ONCE);
        while let Some(swarm) = all.next().await {
            staying.push(tasks.spawn(stay(swarm)));
        }
        let (took, with) = (begun.elapsed(), resident(&node));
        let each = with.saturating_sub(before) as f64 / peers as f64;
        println!(
            "{wave}: {peers} peers, {fresh} connected in {took:.1?}: {with} KiB, {each:.1} KiB each"
        );
        let begun = async {
            while there(&staying) == peers {
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(PATIENCE, begun).await.unwrap();
        sleep(SETTLE).await;
        let left = there(&staying);
        println!("{wave}: let go until {left} were left: {} KiB", resident(&node));
    }
    staying.iter().for_each(JoinHandle::abort);
}
