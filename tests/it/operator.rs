//! The operator's socket: what the commands ask of a node.

use bytes::Bytes;
use estuary::http::api::operator::framing::{self, Entry};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::api::{assert_refused, held, with};
use super::harness::{Answer, Estuary, bytes, request};

/// A folder as the `add` command sends it.
fn folder(files: usize) -> Vec<u8> {
    let mut body = vec![framing::entry(&Entry::Folder(String::new()))];
    for number in 0..files {
        body.push(framing::entry(&Entry::File(format!("files/{number:05}"))));
        let data = number.to_string();
        body.push(framing::piece_head(data.len() as u32));
        body.push(Bytes::from(data));
        body.push(framing::piece_head(0));
    }
    body.push(framing::entry(&Entry::Folder("empty".into())));
    body.push(framing::entry(&Entry::Link("link".into(), "files/00000".into())));
    body.push(framing::end());
    body.concat()
}

async fn add(node: &Estuary, query: &str, body: Vec<u8>) -> Answer {
    node.ask_operator(with(Method::POST, &format!("/add?{query}"), &[], body)).await
}

async fn lines(node: &Estuary, path: &str) -> Vec<Value> {
    let answer = node.ask_operator(request(Method::GET, path)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_folder_is_added_listed_and_read_also_when_it_is_sharded() {
    let node = Estuary::start().await;
    let files = 6000;
    let answer = add(&node, "name=site", folder(files)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let added = answer.json();
    let size: usize = (0..files).map(|number| number.to_string().len()).sum();
    assert_eq!(added["size"], size);
    let cid = added["cid"].as_str().unwrap();
    let top = lines(&node, &format!("/ls/{cid}")).await;
    let kinds: Vec<_> = top.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["directory", "directory", "symlink"]);
    assert_eq!(top[2]["target"], "files/00000");
    let mut names: Vec<_> = lines(&node, &format!("/ls/{cid}/files")).await;
    assert_eq!(names.len(), files);
    names.sort_by_key(|line| line["name"].as_str().unwrap().to_owned());
    assert_eq!((&names[42]["name"], &names[42]["size"]), (&json!("00042"), &json!(2)));
    let file = node.ask_operator(request(Method::GET, &format!("/ipfs/{cid}/files/00042"))).await;
    assert_eq!(file.body, "42");
    let stat = node.ask_operator(request(Method::GET, &format!("/stat/{cid}/files"))).await.json();
    assert_eq!(stat["kind"], "directory");

    let missing = node.ask_operator(request(Method::GET, &format!("/stat/{cid}/none"))).await;
    assert_refused(&missing, 404, "no link named", "a name that is not there");
    let file = node.ask_operator(request(Method::GET, &format!("/ls/{cid}/files/00042"))).await;
    assert_refused(&file, 400, "not a directory", "a file");
    let gone = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    let gone = node.ask_operator(request(Method::GET, &format!("/stat/{gone}"))).await;
    assert_refused(&gone, 404, "no source", "content that is not here");
}

#[tokio::test]
async fn a_body_cut_short_or_malformed_leaves_nothing() {
    let node = Estuary::start().await;
    let before = held(&node).await;
    let whole = folder(3);
    for length in (0..whole.len()).step_by(5) {
        let answer = add(&node, "", whole[..length].to_vec()).await;
        assert_refused(&answer, 400, "broke off", &format!("{length} bytes"));
    }
    assert_refused(&add(&node, "", vec![b'?']).await, 400, "no known kind", "another kind");
    let end = framing::end().to_vec();
    assert_refused(&add(&node, "", end).await, 400, "no file", "nothing");
    for query in ["profile=x", "chunker=size-0", "chunker=rabin"] {
        assert_refused(&add(&node, query, folder(1)).await, 400, "", query);
    }
    assert_eq!(held(&node).await, before);
}

#[tokio::test]
async fn pins_are_listed_in_pages_made_and_removed() {
    let node = Estuary::start().await;
    let mut cids = Vec::new();
    for number in 0..5_u8 {
        cids.push(node.add_block(vec![number]).await.to_string());
    }
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/pins?limit=2&after={after}");
        let page = node.ask_operator(request(Method::GET, &path)).await.json();
        let page: Vec<_> = page.as_array().unwrap().clone();
        found.extend(page.iter().map(|pin| pin["cid"].as_str().unwrap().to_owned()));
        if page.len() < 2 {
            break;
        }
        after = found.last().unwrap().clone();
    }
    found.sort();
    cids.sort();
    assert_eq!(found, cids);

    let pin = format!("/pins/{}", cids[0]);
    assert_eq!(node.ask_operator(request(Method::DELETE, &pin)).await.status, 200);
    let again = node.ask_operator(request(Method::DELETE, &pin)).await;
    assert_refused(&again, 404, "not pinned", "a pin that is gone");
    assert_eq!(node.ask_operator(request(Method::PUT, &pin)).await.json()["blocks"], 1);
    let gone = "/pins/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    let gone = node.ask_operator(request(Method::PUT, gone)).await;
    assert_refused(&gone, 409, "missing", "content that is not here");
    let wrong = node.ask_operator(request(Method::PUT, "/pins/abc")).await;
    assert_refused(&wrong, 400, "CID", "no CID");
}

#[tokio::test]
async fn status_says_where_everything_is() {
    let node = Estuary::start().await;
    let cid = node.add_file(&bytes(3000), 1000).await;
    let status = node.ask_operator(request(Method::GET, "/status")).await.json();
    let info = node.info();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["ready"], true);
    assert_eq!(status["pid"], std::process::id());
    assert_eq!(status["data_dir"], json!(info.data_dir));
    assert_eq!(status["gateway"]["url"], info.gateway_url);
    assert_eq!(status["api"]["url"], info.api_url);
    assert_eq!(status["admin"]["url"], info.admin_url);
    assert_eq!((&status["store"]["blocks"], &status["store"]["pins"]), (&json!(4), &json!(1)));
    assert!(!cid.to_string().is_empty());
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_by_id_or_text() {
    let node = Estuary::start().await;
    let make = |asked: Value| with(Method::POST, "/keys", &[], asked.to_string());
    let asked = json!({ "scope": "upload", "label": "ci", "days": 7 });
    let made = node.ask_operator(make(asked)).await.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!((id.len(), made["scope"].as_str()), (16, Some("upload")));
    let listed = node.ask_operator(request(Method::GET, "/keys")).await;
    assert!(!listed.text().contains(key));
    assert_eq!((&listed.json()[0]["id"], &listed.json()[0]["label"]), (&json!(id), &json!("ci")));
    for name in [id, "0000000000000000", "abc", "EST", ""] {
        let gone = node.ask_operator(request(Method::DELETE, &format!("/keys/{name}"))).await;
        let expected = if name == id { 200 } else { 404 };
        assert_eq!(gone.status.as_u16(), expected, "{name}: {}", gone.text());
    }
    for wrong in
        [json!({ "scope": "root" }), json!({ "scope": "user", "x": 1 }), json!({}), json!(7)]
    {
        let answer = node.ask_operator(make(wrong.clone())).await;
        assert_refused(&answer, 400, "", &wrong.to_string());
    }
}

#[tokio::test]
async fn traffic_is_counted_by_root_and_survives_a_restart() {
    let mut node = Estuary::start().await;
    let added = add(&node, "name=site", folder(20)).await.json();
    let cid = added["cid"].as_str().unwrap().to_owned();
    let file = |number: usize| format!("/ipfs/{cid}/files/{number:05}");
    for turn in 1..=2 {
        for number in 0..20 {
            assert_eq!(node.get(&file(number)).await.status, StatusCode::OK);
        }
        let car = node.get(&format!("/ipfs/{cid}?format=car")).await;
        assert_eq!(car.status, StatusCode::OK);
        // Neither heads nor what the client has already are content that leaves.
        super::harness::send(node.gateway(), request(Method::HEAD, &file(0))).await;
        let bytes = turn * (10 + 20 + car.body.len());
        let report = node.ask_operator(request(Method::GET, "/traffic")).await.json();
        assert_eq!(report["bytes"]["http_out"], bytes, "{report}");
        assert_eq!(report["roots"][0]["cid"], cid.as_str(), "{report}");
        assert_eq!(report["roots"][0]["bytes"]["http_out"], bytes, "{report}");
        let status = node.ask_operator(request(Method::GET, "/status")).await.json();
        assert_eq!(status["traffic"]["http_out"], bytes, "{status}");
        let shown = node.metric(r#"estuary_traffic_bytes_total{way="http_out"}"#).await;
        assert_eq!(shown as usize, 10 + 20 + car.body.len());
        node = node.restart().await;
    }
}
