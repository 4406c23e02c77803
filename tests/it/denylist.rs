//! Taking content down: lists are files that change while the node serves, and what they block
//! neither leaves nor comes in.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use estuary::block::{Block, Cid};
use estuary::config::Config;
use estuary::http::api::operator::framing::{self, Entry};
use http::{Method, StatusCode};

use super::api::{car, form, held, key, node_of, post, post_car, raw, with};
use super::harness::{Answer, Estuary, PATIENCE, Process, bytes, get, program, request};

/// A directory of lists, and a node that looks at it often.
struct Lists(tempfile::TempDir);

impl Lists {
    fn new() -> Self {
        let lists = Self(tempfile::tempdir().unwrap());
        lists.write("# nothing yet\n");
        lists
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("own.deny")
    }

    fn write(&self, text: &str) {
        // As an editor does: the whole at once.
        let new = self.0.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    async fn node(&self) -> Estuary {
        let paths = vec![self.0.path().to_owned()];
        Estuary::start_with(|config| {
            config.denylist.paths = paths;
            config.denylist.reload_ms = 100;
        })
        .await
    }
}

/// Asks until the answer has this status.
async fn until(node: &Estuary, path: &str, status: u16) -> Answer {
    let begun = tokio::time::Instant::now();
    loop {
        let answer = node.get(path).await;
        if answer.status == status {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{path} stays {}", answer.status);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_changed_list_counts_while_the_node_serves_what_is_cached_too() {
    let lists = Lists::new();
    let node = lists.node().await;
    let cid = node.add_block("taken down later").await;
    let path = format!("/ipfs/{cid}");
    // It is in memory now.
    assert_eq!(node.get(&path).await.text(), "taken down later");
    lists.write(&format!("{path}\n"));
    let answer = until(&node, &path, 410).await;
    assert_eq!(answer.text(), "this content is blocked here\n");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let blocked = r#"estuary_denylist_blocked_total{kind="path",list="own"}"#;
    assert!(node.metric(blocked).await >= 1.0);
    assert_eq!(node.metric(r#"estuary_denylist_rules{list="own"}"#).await, 1.0);
    lists.write(&format!("{path} gateway_status=451\nnonsense\n"));
    until(&node, &path, 451).await;
    assert_eq!(node.metric(r#"estuary_denylist_bad_lines{list="own"}"#).await, 1.0);
    // One that cannot be read changes nothing.
    lists.write("version: 2\n---\n");
    let stale = r#"estuary_denylist_stale{list="own"}"#;
    let begun = tokio::time::Instant::now();
    while node.metric(stale).await != 1.0 {
        assert!(begun.elapsed() < PATIENCE, "nobody is told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.get(&path).await.status, 451);
    lists.write("# nothing any more\n");
    assert_eq!(until(&node, &path, 200).await.text(), "taken down later");
    assert_eq!(node.metric(stale).await, 0.0);
    assert!(node.stop().await);
}

#[tokio::test]
async fn blocked_content_does_not_come_in_and_nothing_of_it_is_kept() {
    let lists = Lists::new();
    let bad = raw("a blocked leaf");
    let good = raw("a good leaf");
    let root = node_of(&[&good, &bad]);
    lists.write(&format!("/ipfs/{} gateway_status=451\n", bad.cid()));
    let node = lists.node().await;
    let key = key(&node, "upload").await;
    let before = held(&node).await;
    let blocks = [root.clone(), good.clone(), bad.clone()];
    let whole = car(&[*root.cid()], &blocks);
    let alone = car(&[], std::slice::from_ref(&bad));
    let entry = [
        framing::entry(&Entry::File("f".into())),
        framing::piece_head(bad.data().len() as u32),
        bad.data().clone(),
        framing::piece_head(0),
        framing::end(),
    ];
    let operator = async |path: &str, body: Vec<u8>| {
        node.ask_operator(with(Method::POST, path, &[], body)).await
    };
    for (what, answer) in [
        ("add", post(&node, "/content/add", &key, form(&[("f", bad.data())])).await),
        ("add-car", post_car(&node, &key, whole.clone()).await),
        ("import", operator("/import", whole.clone()).await),
        ("import without a pin", operator("/import?pin=false", alone).await),
        ("the operator's add", operator("/add", entry.concat()).await),
    ] {
        assert_eq!(answer.status, 451, "{what}: {}", answer.text());
        let error = answer.json()["error"].clone();
        assert_eq!(error["reason"], "ERR_CONTENT_BLOCKED", "{what}");
        assert_eq!(error["details"], "this content is blocked here for legal reasons");
        assert_eq!(held(&node).await, before, "{what}");
    }
    // The rest of it is welcome.
    let answer = post(&node, "/content/add", &key, form(&[("f", good.data())])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(node.stop().await);
}

#[tokio::test]
async fn what_is_blocked_by_now_cannot_be_pinned() {
    let lists = Lists::new();
    let node = lists.node().await;
    let (a, b) = (raw("a"), raw("b"));
    let root = node_of(&[&a, &b]);
    let whole = car(&[*root.cid()], &[root.clone(), a, b.clone()]);
    let path = "/import?pin=false";
    let imported = node.ask_operator(with(Method::POST, path, &[], whole)).await;
    assert_eq!(imported.status, StatusCode::OK, "{}", imported.text());
    lists.write(&format!("/ipfs/{}\n", b.cid()));
    until(&node, &format!("/ipfs/{}", b.cid()), 410).await;
    let pin =
        async |cid: &Cid| node.ask_operator(request(Method::PUT, &format!("/pins/{cid}"))).await;
    for cid in [root.cid(), b.cid()] {
        assert_eq!(pin(cid).await.status, StatusCode::GONE);
    }
    assert_eq!(node.ask_operator(request(Method::GET, "/pins")).await.text(), "[]");
    // The operator's own reads are no way around it, and a listing may name it.
    let read = node.ask_operator(request(Method::GET, &format!("/ipfs/{}", b.cid()))).await;
    assert_eq!(read.status, StatusCode::GONE);
    lists.write("# nothing\n");
    until(&node, &format!("/ipfs/{}", b.cid()), 200).await;
    assert_eq!(pin(root.cid()).await.status, StatusCode::OK);
    assert!(node.stop().await);
}

/// Over sockets: what is cut never looks whole.
#[tokio::test]
async fn a_stream_that_meets_a_blocked_block_is_cut_visibly() {
    let lists = Lists::new();
    let node = lists.node().await;
    let data = bytes(600_000);
    let file = node.add_file(&data, 100_000).await;
    let leaf = Block::sha2_256(
        estuary::block::codec::RAW,
        bytes::Bytes::copy_from_slice(&data[300_000..400_000]),
    )
    .unwrap();
    lists.write(&format!("/ipfs/{}\n", leaf.cid()));
    until(&node, &format!("/ipfs/{}", leaf.cid()), 410).await;
    for uri in [format!("/ipfs/{file}"), format!("/ipfs/{file}?format=car")] {
        let answer = super::harness::try_send(node.gateway(), request(Method::GET, &uri)).await;
        assert!(answer.is_err(), "{uri}");
    }
    assert!(node.stop().await);
}

#[tokio::test]
async fn an_allowlist_changes_while_the_node_serves() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("public.allow");
    std::fs::write(&list, "# nothing yet\n").unwrap();
    let paths = vec![dir.path().to_owned()];
    let node = Estuary::start_with(|config| {
        config.gateway.allow = paths;
        config.denylist.reload_ms = 100;
    })
    .await;
    let cid = node.add_block("public").await;
    let path = format!("/ipfs/{cid}");
    assert_eq!(node.get(&path).await.status, 403);
    assert_eq!(node.get("/ipfs/bafkqaaa").await.status, 200);
    std::fs::write(&list, format!("{path}\n")).unwrap();
    assert_eq!(until(&node, &path, 200).await.text(), "public");
    assert!(node.stop().await);
}

#[test]
fn a_node_does_not_start_without_a_list_that_it_is_to_have() {
    let home = tempfile::tempdir().unwrap();
    let missing = home.path().join("missing.deny");
    let mut command = program(home.path());
    let output = command.env("ESTUARY_DENYLIST__PATHS", &missing).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("missing.deny cannot be used: No such file"), "{said}");
}

#[test]
fn a_command_says_which_line_blocks_what() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("own.deny");
    let cid = "bafkreihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq";
    let text = format!("# x\n/ipfs/{cid}\n/ipns/a.example gateway_status=451\n");
    std::fs::write(&list, text).unwrap();
    let check = |path: &str, want: &str| {
        let mut command: Command = program(home.path());
        command.env("ESTUARY_DENYLIST__PATHS", &list).args(["denylist", "check", path]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{want}\n"));
    };
    check(cid, &format!("blocked (410) by line 2 of own: /ipfs/{cid}"));
    check(&format!("/ipfs/{cid}/a"), &format!("blocked (410) by line 2 of own: /ipfs/{cid}/a"));
    check("a.example", "blocked (451) by line 3 of own: /ipns/a.example");
    check("b.example", "not blocked: /ipns/b.example");
}

/// The log says what was refused, for those who must answer for it.
#[tokio::test]
async fn what_is_blocked_is_written_to_the_log() {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let list = home.path().join("own.deny");
    let cid = *raw("x").cid();
    std::fs::write(&list, format!("/ipfs/{cid}\n")).unwrap();
    let node = Process::spawn_with(home, |command| {
        command.env("ESTUARY_DENYLIST__PATHS", &list);
    });
    assert_eq!(get(node.gateway, &format!("/ipfs/{cid}")).await.status, 410);
    let begun = tokio::time::Instant::now();
    let want = format!("path=/ipfs/{cid}");
    while !node.said().contains(&want) {
        assert!(begun.elapsed() < PATIENCE, "{}", node.said());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let said = node.said();
    let line = said.lines().find(|line| line.contains(&want)).unwrap();
    assert!(line.contains("estuary::denylist") && line.contains("list=own line=1"), "{line}");
}

#[test]
fn nothing_is_blocked_unless_it_is_configured() {
    let config = Config::default();
    assert!(config.denylist.paths.is_empty() && config.gateway.allow.is_empty());
}
