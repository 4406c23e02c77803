//! A DHT of their own: nodes on loopback that find each other's content and names by nobody else.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::command::run;
use crate::harness::{PATIENCE, Process, bytes, get, program};

/// A server of the DHT that this address leads in.
fn server(bootstrap: &str) -> Process {
    Process::spawn_with(Arc::new(tempfile::tempdir().unwrap()), |command| {
        for (key, value) in [
            ("OFFLINE", "0"),
            ("P2P__LISTEN", "/ip4/127.0.0.1/tcp/0"),
            ("P2P__BOOTSTRAP", bootstrap),
            ("P2P__PEERING", ""),
            ("P2P__AUTONAT", "false"),
            ("ROUTING__DHT", "server"),
            ("ROUTING__DELEGATED", ""),
            ("NETWORK__ALLOW_PRIVATE", "true"),
        ] {
            command.env(format!("ESTUARY_{key}"), value);
        }
    })
}

/// What a command prints, each line JSON; nothing where it fails.
async fn lines(node: &Process, args: &[&str]) -> Vec<Value> {
    let mut command = program(node.dir.path());
    command.args(args).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = if output.status.success() { output.stdout } else { Vec::new() };
    let text = String::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn line(node: &Process, args: &[&str]) -> Value {
    let mut lines = lines(node, args).await;
    assert!(!lines.is_empty(), "{args:?}: {}", node.said());
    lines.remove(0)
}

/// Asks until the answer is so.
async fn until(node: &Process, args: &[&str], is_so: impl Fn(&[Value]) -> bool) {
    let asking = async {
        while !is_so(&lines(node, args).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "{args:?}: {}", node.said());
}

#[tokio::test]
async fn what_one_node_adds_and_publishes_another_finds_by_the_dht() {
    let first = server("");
    let status = line(&first, &["status"]).await;
    let address = status["addresses"][0].as_str().unwrap().to_owned();
    // Neither of the two knows the other.
    let (second, third) = (server(&address), server(&address));
    for node in [&second, &third] {
        until(node, &["swarm", "peers"], |peers| !peers.is_empty()).await;
    }

    let data = bytes(600_000);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&data).unwrap();
    let added = line(&second, &["add", file.path().to_str().unwrap()]).await;
    let cid = added["cid"].as_str().unwrap();
    let owner = line(&second, &["status"]).await["peer_id"].clone();
    let names_owner = |found: &[Value]| {
        found.iter().any(|line| line["peer"] == owner && line["found_by"] == "dht")
    };
    until(&third, &["find", cid], names_owner).await;
    let answer = get(third.gateway, &format!("/ipfs/{cid}")).await;
    assert!(answer.body == data, "{answer:?}");

    // A name by the node's own key, and one whose record was signed elsewhere.
    let path = format!("/ipfs/{cid}");
    let published = line(&second, &["name", "publish", &path]).await;
    let name = published["name"].as_str().unwrap();
    assert!(published["taken"].as_u64().unwrap() >= 1, "{published}");
    assert_eq!(line(&third, &["name", "resolve", name]).await["path"], path);
    let answer = get(third.gateway, &format!("/ipns/{name}")).await;
    assert!(answer.body == data, "{answer:?}");

    let elsewhere = tempfile::tempdir().unwrap();
    let keypair = libp2p_identity::Keypair::generate_ed25519();
    let key = elsewhere.path().join("key");
    std::fs::write(&key, keypair.to_protobuf_encoding().unwrap()).unwrap();
    let signed = ["name", "publish", &path, "--key", key.to_str().unwrap(), "--json"];
    let signed: Value =
        serde_json::from_slice(&run(elsewhere.path(), &signed, b"").stdout).unwrap();
    let name = signed["name"].as_str().unwrap();
    assert_eq!(signed["taken"], 0, "that home has no node: {signed}");
    let record = run(elsewhere.path(), &["name", "get", name], b"").stdout;
    let file = elsewhere.path().join("record");
    std::fs::write(&file, record).unwrap();
    let put = line(&second, &["name", "put", name, file.to_str().unwrap()]).await;
    assert!(put["taken"].as_u64().unwrap() >= 1, "{put}");
    assert_eq!(line(&third, &["name", "resolve", name]).await["path"], path);
}
