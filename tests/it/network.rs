//! Nodes among others: they meet as the operator says, by every transport, and stay themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{PATIENCE, Process, program};

/// A node that is on the network, but for loopback alone.
fn spawn(dir: Arc<TempDir>, set: &[(&str, &str)]) -> Process {
    Process::spawn_with(dir, |command| {
        command.env_remove("ESTUARY_OFFLINE");
        for (key, value) in [
            ("ESTUARY_P2P__LISTEN", "/ip4/127.0.0.1/tcp/0"),
            ("ESTUARY_P2P__BOOTSTRAP", ""),
            ("ESTUARY_P2P__AUTONAT", "false"),
            ("ESTUARY_ROUTING__DHT", "off"),
            ("ESTUARY_ROUTING__DELEGATED", ""),
        ] {
            command.env(key, value);
        }
        command.envs(set.iter().copied());
    })
}

fn fresh() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// Stops a node.
async fn stop(mut node: Process) {
    node.signal(rustix::process::Signal::TERM);
    assert!(node.wait().await.success(), "{}", node.said());
}

/// What the node says of itself.
fn status(node: &Process) -> Value {
    let said = program(node.dir.path()).args(["status", "--json"]).output().unwrap();
    serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
}

fn addresses(node: &Process) -> Vec<String> {
    let status = status(node);
    let all = status["addresses"].as_array().unwrap().iter();
    all.map(|address| address.as_str().unwrap().to_owned()).collect()
}

/// Waits until the page of metrics says that a connection of this kind is there.
async fn is_connected(node: &Process, direction: &str, transport: &str) {
    let name =
        format!("estuary_p2p_connections{{direction=\"{direction}\",transport=\"{transport}\"}}");
    let connected = async {
        loop {
            let page = crate::harness::get(node.admin, "/metrics").await.text();
            if crate::harness::metric(&page, &name) == 1.0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, connected).await.is_ok(), "no {name}: {}", node.said());
}

#[tokio::test]
async fn nodes_meet_by_tcp_quic_and_websocket() {
    let listen = "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0/ws";
    let server = spawn(fresh(), &[("ESTUARY_P2P__LISTEN", listen)]);
    let at = addresses(&server);
    for (transport, part) in [("tcp", "/tcp/"), ("quic", "/quic-v1/"), ("websocket", "/ws/")] {
        let is_it = |address: &&String| {
            address.contains(part) && (part != "/tcp/" || !address.contains("/ws/"))
        };
        let address = at.iter().find(is_it).unwrap();
        let client = spawn(fresh(), &[("ESTUARY_P2P__PEERING", address)]);
        is_connected(&client, "out", transport).await;
        is_connected(&server, "in", transport).await;
        stop(client).await;
    }
    stop(server).await;
}

#[tokio::test]
async fn a_request_that_comes_while_peers_are_being_dialled_waits_for_them() {
    let listen = "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0/ws";
    let server = spawn(fresh(), &[("ESTUARY_P2P__LISTEN", listen)]);
    let file = server.dir.path().join("file");
    fs::write(&file, [7; 300_000]).unwrap();
    let added = program(server.dir.path()).arg("add").arg(&file).arg("--json").output().unwrap();
    let line = added.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let cid = serde_json::from_slice::<Value>(line).unwrap()["cid"].as_str().unwrap().to_owned();
    for address in addresses(&server) {
        let node = spawn(fresh(), &[("ESTUARY_P2P__PEERING", &address)]);
        let answer = crate::harness::get(node.gateway, &format!("/ipfs/{cid}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body.len()),
            (200, 300_000),
            "{address} {}",
            node.said()
        );
        stop(node).await;
    }
    stop(server).await;
}

#[tokio::test]
async fn a_node_keeps_its_identity_in_a_file_of_its_owner() {
    let dir = fresh();
    let first = spawn(Arc::clone(&dir), &[]);
    let identity = status(&first)["peer_id"].clone();
    assert!(identity.is_string());
    stop(first).await;
    let found = walk(dir.path());
    let file = found.iter().find(|path| path.file_name().unwrap() == "identity.key").unwrap();
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let second = spawn(Arc::clone(&dir), &[]);
    assert_eq!(status(&second)["peer_id"], identity);
    stop(second).await;

    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = program(dir.path());
    let said = command.env_remove("ESTUARY_OFFLINE").output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("chmod 600"), "{said}");
}

/// All files below a directory.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn a_node_that_is_offline_has_no_socket_for_peers() {
    let node = Process::spawn_with(fresh(), |command| {
        command.env("ESTUARY_P2P__LISTEN", "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1");
    });
    let status = status(&node);
    assert!(status["peer_id"].is_null(), "{status}");
    let mine = sockets(node.pid());
    assert_eq!(mine, 3, "the gateway, the API and the admin listener");
    stop(node).await;
}

/// TCP listeners and UDP sockets that a process has.
fn sockets(process: i32) -> usize {
    let links = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    let inodes: Vec<_> = targets
        .filter_map(|target| {
            let target = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
            Some(target)
        })
        .collect();
    let count = |table: &str, state: Option<&str>| {
        let text = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| state.is_none_or(|state| row[3] == state))
            .filter(|row| inodes.iter().any(|inode| inode == row[9]))
            .count()
    };
    const LISTENS: Option<&str> = Some("0A");
    count("tcp", LISTENS) + count("tcp6", LISTENS) + count("udp", None) + count("udp6", None)
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_before_anything_is_opened() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let dir = fresh();
    let mut command = program(dir.path());
    command.env_remove("ESTUARY_OFFLINE").env("ESTUARY_P2P__LISTEN", &address);
    let said = command.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        !said.status.success() && text.contains("p2p.listen") && text.contains(&address),
        "{text}"
    );
    assert!(walk(dir.path()).iter().all(|path| path.extension().is_none_or(|end| end != "redb")));
}

/// A command where no node runs, which is on the network for loopback alone.
fn alone(home: &TempDir, peering: &str) -> std::process::Command {
    let mut command = program(home.path());
    command.env_remove("ESTUARY_OFFLINE");
    for (key, value) in [
        ("ESTUARY_P2P__PEERING", peering),
        ("ESTUARY_P2P__BOOTSTRAP", ""),
        ("ESTUARY_ROUTING__DHT", "off"),
        ("ESTUARY_ROUTING__DELEGATED", ""),
    ] {
        command.env(key, value);
    }
    command
}

#[tokio::test]
async fn commands_that_read_fetch_from_peers_where_no_node_runs() {
    let server = spawn(fresh(), &[]);
    let files = tempfile::tempdir().unwrap();
    let content = crate::harness::bytes(1_500_000);
    fs::write(files.path().join("one.bin"), &content).unwrap();
    fs::write(files.path().join("two.txt"), "two").unwrap();
    let mut adds = program(server.dir.path());
    let added = adds.args(["add", "--json"]).arg(files.path()).output().unwrap();
    let said: Value = serde_json::from_slice(&added.stdout).unwrap_or_else(|_| panic!("{added:?}"));
    let root = said["cid"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
    let address = addresses(&server).remove(0);

    let home = tempfile::tempdir().unwrap();
    let ran = |args: &[&str]| {
        let said = alone(&home, &address).args(args).output().unwrap();
        assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
        said.stdout
    };
    let listed = String::from_utf8(ran(&["ls", &root])).unwrap();
    assert!(listed.contains("one.bin") && listed.contains("two.txt"), "{listed}");
    assert!(ran(&["cat", &format!("{root}/one.bin")]) == content);
    let copy = home.path().join("copy");
    ran(&["get", &root, "-o", copy.to_str().unwrap()]);
    assert!(fs::read(copy.join("one.bin")).unwrap() == content);
    let car = home.path().join("it.car");
    ran(&["export", &root, "-o", car.to_str().unwrap()]);
    assert!(fs::metadata(&car).unwrap().len() > 1_500_000);

    // What nobody has is told at once, and offline nobody is asked.
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let began = tokio::time::Instant::now();
    let said = alone(&tempfile::tempdir().unwrap(), "").args(["cat", absent]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && text.contains("no peer is connected"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let said = alone(&home, &address).args(["--offline", "cat", absent]).output().unwrap();
    assert!(!said.status.success());
    stop(server).await;
}
