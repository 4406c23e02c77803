//! Commands: they go to the node that runs, or open the store themselves, and say the same.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::harness::{Process, bytes, get, program};

/// Runs a command with something on its standard input.
pub(crate) fn run(home: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = program(home);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn a_node_may_run_or_not() {
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let data = bytes(3_000_000);
    let added = run(home.path(), &["add", "--json"], &data);
    let cid = json(&added)["cid"].as_str().unwrap().to_owned();
    assert_eq!(json(&added)["size"], 3_000_000);
    assert!(run(home.path(), &["cat", &cid], b"").stdout == data);

    let node = Process::spawn_with(std::sync::Arc::clone(&home), |_| {});
    let status = json(&run(home.path(), &["status", "--json"], b""));
    assert_eq!(status["gateway"]["url"], format!("http://{}", node.gateway));
    assert_eq!(status["api"]["url"], format!("http://{}", node.api));
    assert_eq!(status["admin"]["url"], format!("http://{}", node.admin));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(run(home.path(), &["cat", &cid], b"").stdout == data);
    assert!(get(node.gateway, &format!("/ipfs/{cid}")).await.body == data);
    let second = json(&run(home.path(), &["add", "--json"], b"second"));
    let path = format!("/ipfs/{}", second["cid"].as_str().unwrap());
    assert_eq!(&get(node.gateway, &path).await.body[..], b"second");
}

#[test]
fn help_and_version_need_nothing() {
    let home = tempfile::tempdir().unwrap();
    for args in [["--help"], ["--version"]] {
        assert!(!run(home.path(), &args, b"").stdout.is_empty());
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
