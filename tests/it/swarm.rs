//! Peers from the command line: two nodes on loopback, each a process of its own.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::{Process, program};

/// A node among peers: on loopback, and knowing nobody.
fn node() -> Process {
    Process::spawn_with(Arc::new(tempfile::tempdir().unwrap()), |command| {
        command.env("ESTUARY_OFFLINE", "0");
        command.env("ESTUARY_P2P__LISTEN", "/ip4/127.0.0.1/tcp/0");
        for none in ["P2P__PEERING", "P2P__BOOTSTRAP", "ROUTING__DELEGATED"] {
            command.env(format!("ESTUARY_{none}"), "");
        }
        command.env("ESTUARY_ROUTING__DHT", "off");
    })
}

async fn run(home: &Path, args: &[&str]) -> Output {
    let mut command = program(home);
    command.args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What a command prints, each line JSON.
async fn lines(home: &Path, args: &[&str]) -> Vec<Value> {
    let output = run(home, &[args, &["--json"]].concat()).await;
    assert!(output.status.success(), "{args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a command complains of.
async fn complaint(home: &Path, args: &[&str]) -> String {
    let output = run(home, args).await;
    assert!(!output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn peers_are_connected_shown_pinged_and_parted_from() {
    let (one, two) = (node(), node());
    let (home, other) = (one.dir.path(), two.dir.path());
    let status = lines(other, &["status"]).await.remove(0);
    let (peer, address) = (status["peer_id"].as_str().unwrap(), &status["addresses"][0]);
    let address = address.as_str().unwrap();
    assert!(lines(home, &["swarm", "peers"]).await.is_empty());

    // Nothing allows private addresses but that the operator named this one.
    let connected = lines(home, &["swarm", "connect", address]).await.remove(0);
    assert_eq!(connected["peer"], peer);
    let pings = lines(home, &["ping", peer, "-n", "2"]).await;
    assert!(pings[0]["latency_ms"].as_f64().unwrap() > 0.0 && pings.len() == 3, "{pings:?}");
    assert_eq!((&pings[2]["received"], &pings[2]["loss_percent"]), (&2.into(), &0.0.into()));
    let shown = lines(home, &["swarm", "peers"]).await.remove(0);
    assert_eq!(shown["connections"][0]["direction"], "out");
    assert!(shown["agent"].as_str().unwrap().starts_with("estuary/"), "{shown}");
    assert!(shown["protocols"].as_array().unwrap().contains(&"/ipfs/ping/1.0.0".into()));
    let table = String::from_utf8(run(home, &["swarm", "peers"]).await.stdout).unwrap();
    assert!(table.starts_with("PEER ") && table.lines().nth(1).unwrap().starts_with(peer));
    let seen = lines(other, &["swarm", "peers"]).await.remove(0);
    assert_eq!(seen["connections"][0]["direction"], "in");

    assert_eq!(lines(home, &["swarm", "disconnect", peer]).await[0]["peer"], peer);
    assert!(lines(home, &["swarm", "peers"]).await.is_empty());
    assert!(complaint(home, &["swarm", "disconnect", peer]).await.contains("not connected with"));
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let node = node();
    let home = node.dir.path();
    let own = lines(home, &["status"]).await[0]["peer_id"].as_str().unwrap().to_owned();
    let other = "12D3KooWCSPUidZSmCbjaRJ5qRLzCid7jpjre3F8diq8RwkJQLhu";
    let check = async |args: &[&str], said: &str| {
        let complaint = complaint(home, args).await;
        assert!(complaint.contains(said), "{args:?}: {complaint}");
    };
    check(&["swarm", "connect", "/ip4/127.0.0.1/tcp/4001"], "add /p2p/ and its peer id").await;
    check(&["swarm", "connect", "nonsense"], "neither a peer id nor an address").await;
    check(&["swarm", "connect", &own], "is this node itself").await;
    check(&["swarm", "connect", other], "was not reached").await;
    let closed = format!("/ip4/127.0.0.1/tcp/1/p2p/{other}");
    check(&["swarm", "connect", &closed], "refused").await;
    check(&["ping", &closed, "-n", "3"], "refused").await;

    let offline = Process::spawn();
    let told = complaint(offline.dir.path(), &["swarm", "peers"]).await;
    assert!(told.contains("without --offline"), "{told}");
    let nobody = tempfile::tempdir().unwrap();
    let told = complaint(nobody.path(), &["swarm", "peers"]).await;
    assert!(!told.is_empty() && told.contains("estuary serve"), "{told}");
}
