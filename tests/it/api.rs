//! What the chapters on uploads, keys and the console have in common.

use bytes::Bytes;
use estuary::block::{Block, Cid, codec};
use estuary::http::auth::PAGE_TOKEN;
use estuary::ipld::car::{header_v1, section_prefix};
use estuary::ipld::dag_pb::{PbLink, PbNode};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::harness::{Answer, Estuary, request};

pub(crate) const BOUNDARY: &str = "----estuary-story";

/// A request of this kind with a body and headers.
pub(crate) fn with(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into())).unwrap()
}

/// The part of a form.
pub(crate) fn part(name: &str, filename: Option<&str>, data: &[u8]) -> Vec<u8> {
    let filename = filename.map_or_else(String::new, |name| format!("; filename=\"{name}\""));
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n"
    );
    [head.as_bytes(), data, b"\r\n"].concat()
}

/// A form of these files.
pub(crate) fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body: Vec<u8> =
        files.iter().flat_map(|(name, data)| part("data", Some(name), data)).collect();
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// The type of a form.
pub(crate) fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// Posts a form.
pub(crate) async fn post(node: &Estuary, path: &str, key: &str, body: Vec<u8>) -> Answer {
    let (key, kind) = (format!("Bearer {key}"), form_type());
    let headers = [("authorization", key.as_str()), ("content-type", kind.as_str())];
    node.ask_api(with(Method::POST, path, &headers, body)).await
}

/// Posts a CAR.
pub(crate) async fn post_car(node: &Estuary, key: &str, body: impl Into<Bytes>) -> Answer {
    let key = format!("Bearer {key}");
    let headers = [("authorization", key.as_str())];
    node.ask_api(with(Method::POST, "/content/add-car", &headers, body)).await
}

/// Asks with a key.
pub(crate) async fn ask(node: &Estuary, method: Method, path: &str, key: &str) -> Answer {
    let key = format!("Bearer {key}");
    node.ask_api(with(method, path, &[("authorization", &key)], "")).await
}

/// A key that the operator makes.
pub(crate) async fn key(node: &Estuary, scope: &str) -> String {
    made_key(node, json!({ "scope": scope })).await
}

/// A key of this description.
pub(crate) async fn made_key(node: &Estuary, asked: Value) -> String {
    let asked = with(Method::POST, "/keys", &[], asked.to_string());
    let made = node.ask_operator(asked).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()["key"].as_str().unwrap().to_owned()
}

/// The token in the console page.
pub(crate) async fn page_token(node: &Estuary) -> String {
    let page = node.ask_api(request(Method::GET, "/")).await.text();
    let (_, after) = page.split_once("name=\"estuary-page-token\" content=\"").unwrap();
    after.split_once('"').unwrap().0.to_owned()
}

/// Posts a form as the console page does.
pub(crate) async fn post_by_page(node: &Estuary, headers: &[(&str, &str)]) -> Answer {
    let (token, kind) = (page_token(node).await, form_type());
    let mut all = vec![(PAGE_TOKEN, token.as_str()), ("content-type", kind.as_str())];
    all.extend_from_slice(headers);
    node.ask_api(with(Method::POST, "/content/add", &all, form(&[("f", b"x")]))).await
}

/// What the store holds: blocks, their bytes, pins; and how many records of uploads there are.
pub(crate) async fn held(node: &Estuary) -> [u64; 4] {
    let status = node.ask_operator(request(Method::GET, "/status")).await.json();
    let store = |field: &str| status["store"][field].as_u64().unwrap();
    let admin = key(node, "admin").await;
    let records = ask(node, Method::GET, "/content/list", &admin).await.json();
    let records = records.as_array().unwrap().len() as u64;
    [store("blocks"), store("bytes"), store("pins"), records]
}

/// That an answer is a refusal in the API's form, which says why.
pub(crate) fn assert_refused(answer: &Answer, status: u16, why: &str, what: &str) {
    assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], status, "{what}");
    assert!(error["reason"].as_str().unwrap().starts_with("ERR_"), "{what}");
    let details = error["details"].as_str().unwrap();
    assert!(details.contains(why), "{what}: {details:?} does not say {why:?}");
}

/// A CAR of these blocks.
pub(crate) fn car(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut car = header_v1(roots).to_vec();
    for block in blocks {
        car.extend_from_slice(&section_prefix(block));
        car.extend_from_slice(block.data());
    }
    car
}

/// A raw block.
pub(crate) fn raw(text: &str) -> Block {
    Block::sha2_256(codec::RAW, Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// A block that links to others.
pub(crate) fn node_of(children: &[&Block]) -> Block {
    let link = |block: &&Block| PbLink { cid: *block.cid(), name: None, tsize: None };
    let node = PbNode { links: children.iter().map(link).collect(), data: None };
    Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
}
