//! The API's routes over a real store, without sockets.

mod fixture;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::operator::framing::{self, Entry};
use crate::accounts::Scope;
use fixture::{Fixture, form};

#[tokio::test]
async fn a_file_is_added_listed_and_pinned_and_its_answer_is_the_originals() {
    let api = Fixture::new().await;
    let key = api.key(Scope::User).await;
    let (boundary, body) = form(&[("data", Some("hello.txt"), b"hello")]);
    let answer = api.post_form("/content/add", &key, &boundary, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let url = format!("http://127.0.0.1:8080/ipfs/{}", answer.text("cid"));
    assert_eq!(
        answer.json(),
        json!({
            "cid": answer.text("cid"),
            "retrieval_url": url,
            "estuary_retrieval_url": url,
            "estuaryId": 1,
            "providers": [],
        })
    );
    let stats = api.get("/content/stats", &key).await.json();
    assert_eq!(
        (stats[0]["name"].as_str(), stats[0]["size"].as_u64()),
        (Some("hello.txt"), Some(5))
    );
    assert_eq!(api.get("/content/1", &key).await.json()["cid"], answer.json()["cid"]);
    let pins = api.operator(Method::GET, "/pins", Body::empty()).await.json();
    assert_eq!(pins[0]["cid"], answer.json()["cid"]);
}

#[tokio::test]
async fn what_the_operator_adds_can_be_listed_and_read() {
    let api = Fixture::new().await;
    let body = [
        framing::entry(&Entry::Folder("".into())),
        framing::entry(&Entry::File("a/b".into())),
        framing::piece_head(5),
        Bytes::from_static(b"hello"),
        framing::piece_head(0),
        framing::entry(&Entry::Link("l".into(), "a/b".into())),
        framing::end(),
    ]
    .concat();
    let added = api.operator(Method::POST, "/add?name=x", Body::from(body)).await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.body);
    assert_eq!(added.json()["size"], 5);
    let cid = added.text("cid");
    let listed = api.operator(Method::GET, &format!("/ls/{cid}"), Body::empty()).await;
    let lines: Vec<Value> =
        listed.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["kind"], "directory");
    assert_eq!((&lines[1]["kind"], &lines[1]["target"]), (&json!("symlink"), &json!("a/b")));
    let file = api.operator(Method::GET, &format!("/ipfs/{cid}/a/b"), Body::empty()).await;
    assert_eq!(file.body, "hello");
    let stat = api.operator(Method::GET, &format!("/stat/{cid}/a/b"), Body::empty()).await;
    assert_eq!(
        (stat.json()["kind"].as_str(), stat.json()["size"].as_u64()),
        (Some("file"), Some(5))
    );
}
