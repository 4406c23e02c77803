//! A private gateway: the command signs URLs, and the node answers those alone.

use std::process::Output;
use std::sync::Arc;

use super::harness::{Process, address, get, program};

const SECRET: &str = "5ec75ec75ec75ec75ec75ec75ec75ec75ec75ec75ec75ec75ec75ec75ec75ec7";

fn run(home: &std::path::Path, keys: &str, args: &[&str]) -> Output {
    let mut command = program(home);
    command.env("ESTUARY_GATEWAY__SIGNING_KEYS", keys).args(args);
    command.output().unwrap()
}

#[tokio::test]
async fn a_url_that_the_command_signs_is_answered_until_it_expires() {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let file = home.path().join("private.txt");
    std::fs::write(&file, "private").unwrap();
    let keys = format!("old:{},new:{SECRET}", SECRET.replace("5e", "6f"));
    let node = Process::spawn_with(Arc::clone(&home), |command| {
        let required = ("ESTUARY_GATEWAY__SIGNED", "required");
        command.env(required.0, required.1).env("ESTUARY_GATEWAY__SIGNING_KEYS", &keys);
    });
    let added = run(home.path(), &keys, &["add", "--json", file.to_str().unwrap()]);
    let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    let path = format!("/ipfs/{}", added["cid"].as_str().unwrap());
    let url = format!("http://{}{path}", node.gateway);
    assert_eq!(get(node.gateway, &path).await.status, 403);
    for key in ["old", "new"] {
        let signed = run(home.path(), &keys, &["sign", &url, "--expires", "1h", "--key", key]);
        let signed = String::from_utf8(signed.stdout).unwrap();
        let signed = signed.trim_end();
        let (base, rest) = signed.split_at(url.len());
        assert_eq!((base, address(&url[..url.len() - path.len()])), (&*url, node.gateway));
        let answer = get(node.gateway, &format!("{path}{rest}")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "private".into()));
        assert!(answer.header("cache-control").unwrap().starts_with("private, max-age="));
        let answer = get(node.gateway, &format!("{path}{rest}x")).await;
        assert_eq!(answer.status, 403);
    }
    // A path is signed as clients send it.
    let dir = home.path().join("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("a ż.txt"), "below").unwrap();
    let added = run(home.path(), &keys, &["add", "--json", dir.to_str().unwrap()]);
    let added = String::from_utf8(added.stdout).unwrap();
    let added: serde_json::Value = serde_json::from_str(added.lines().last().unwrap()).unwrap();
    let cid = estuary::ipld::path::parse_cid(added["cid"].as_str().unwrap()).unwrap();
    let v0 = estuary::block::Cid::new_v0(*cid.hash()).unwrap();
    let url = format!("http://{}/ipfs/{v0}/a ż.txt", node.gateway);
    let signed = run(home.path(), &keys, &["sign", &url, "--expires", "1h", "--key", "new"]);
    let signed = String::from_utf8(signed.stdout).unwrap();
    let (_, rest) = signed.trim_end().split_once("/ipfs/").unwrap();
    assert!(rest.starts_with(&format!("{cid}/a%20%C5%BC.txt?")), "{rest}");
    assert_eq!(get(node.gateway, &format!("/ipfs/{rest}")).await.text(), "below");
    // The operator reads what is private.
    assert_eq!(run(home.path(), &keys, &["cat", &path]).stdout, b"private");
    assert!(!node.said().contains("5ec7"), "{}", node.said());
}

#[test]
fn the_command_complains_well_and_never_says_a_secret() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (format!("a:{SECRET}"), format!("a:{SECRET},b:{SECRET}"));
    let path = "/ipfs/bafkreihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq";
    let check = |keys: &str, args: &[&str], code: i32, want: &str| {
        let output = run(home.path(), keys, args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(want) && !said.contains("5ec7"), "{args:?}: {said}");
    };
    check("", &["sign", path, "--expires", "1h"], 64, "set gateway.signing_keys");
    check(&two, &["sign", path, "--expires", "1h"], 2, "--key a or b");
    check(&one, &["sign", path, "--expires", "1h", "--key", "b"], 2, "there is no key \"b\"");
    check(&one, &["sign", path, "--expires", "soon"], 2, "90s, 15m, 1h, 7d");
    check(&one, &["sign", path, "--expires", "1h", "--prefix"], 2, "a slash at its end");
    check(&one, &["sign", "/ipfs/nonsense", "--expires", "1h"], 2, "nonsense");
    check(&one[..40], &["check-config"], 64, "gateway.signing_keys = … (ESTUARY_GATEWAY__");
    check(&format!("a b:{SECRET}"), &["check-config"], 64, "a key's name is of");
    let output = program(home.path())
        .env("ESTUARY_GATEWAY__SIGNED", "required")
        .arg("check-config")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("set gateway.signing_keys"), "{said}");
}
