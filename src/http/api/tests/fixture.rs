//! A node's rooms in a directory that goes away.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::accounts::{Accounts, NewKey, Scope};
use crate::blockstore::{self, Store};
use crate::cache::{self, BlockCache};
use crate::db::{self, Db};
use crate::gateway::{self, Gateway};
use crate::http::api::{NodeInfo, Parts};
use crate::http::auth::Peer;
use crate::metrics::Registry;
use crate::retrieval::{self, Retriever};
use crate::upload::{self, Upload};

pub(super) struct Fixture {
    api: Router,
    operator: Router,
    pub(super) parts: Parts,
    _dir: tempfile::TempDir,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }

    pub(super) fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap().to_owned()
    }
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let metrics = db::Metrics::register(&registry).unwrap();
        let db = Db::open(&dir.path().join("db"), &db::Config::default(), metrics).unwrap();
        let metrics = blockstore::Metrics::register(&registry).unwrap();
        let config = blockstore::Config::default();
        let store =
            Store::open(&dir.path().join("segments"), db.clone(), &config, metrics).unwrap();
        let metrics = cache::Metrics::register(&registry).unwrap();
        let cache = BlockCache::new(&cache::Config::default(), metrics);
        let metrics = retrieval::Metrics::register(&registry).unwrap();
        let config = retrieval::Config::default();
        let blocks = Arc::new(store.clone());
        let retriever = Retriever::new(cache, blocks, Vec::new(), config, &metrics);
        let metrics = gateway::Metrics::register(&registry).unwrap();
        let gateway = Gateway::new(retriever.clone(), &gateway::Config::default(), &metrics);
        let metrics = upload::Metrics::register(&registry).unwrap();
        let config = upload::Config { bytes_max: 8 << 20, concurrent_max: 2 };
        let node = NodeInfo {
            data_dir: dir.path().to_owned(),
            gateway_url: "http://127.0.0.1:8080".into(),
            api_url: "http://127.0.0.1:3004".into(),
            admin_url: "http://127.0.0.1:3005".into(),
            api_address: "127.0.0.1:3004".parse().unwrap(),
            api_hosts: Vec::new(),
            started: 0,
        };
        let parts = Parts {
            upload: Upload::new(store.clone(), db.clone(), &config, metrics),
            store,
            retriever,
            gateway,
            accounts: Accounts::new(db),
            node: Arc::new(node),
        };
        let api = parts.clone().router().unwrap();
        let operator = parts.clone().operator();
        Self { api, operator, parts, _dir: dir }
    }

    pub(super) async fn key(&self, scope: Scope) -> String {
        let new = NewKey { scope, ..NewKey::default() };
        self.parts.accounts.create(new).await.unwrap().0.reveal().to_owned()
    }

    pub(super) async fn get(&self, uri: &str, key: &str) -> Answer {
        self.send(Request::get(uri).header("authorization", format!("Bearer {key}")), "").await
    }

    pub(super) async fn post_form(
        &self,
        uri: &str,
        key: &str,
        boundary: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let kind = format!("multipart/form-data; boundary={boundary}");
        let request = Request::post(uri)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", kind);
        self.send(request, body).await
    }

    /// Sends a request as from this machine.
    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = request.body(body.into()).unwrap();
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", "127.0.0.1:3004".parse().unwrap());
        }
        request.extensions_mut().insert(Peer("127.0.0.1:50000".parse().unwrap()));
        answer(self.api.clone(), request).await
    }

    pub(super) async fn operator(&self, method: Method, uri: &str, body: Body) -> Answer {
        let request = Request::builder().method(method).uri(uri).body(body).unwrap();
        answer(self.operator.clone(), request).await
    }
}

async fn answer(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, body }
}

/// A form of these parts, and its boundary.
pub(super) fn form(parts: &[(&str, Option<&str>, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "----estuary";
    let mut body = Vec::new();
    for (name, filename, data) in parts {
        let filename = filename.map_or_else(String::new, |name| format!("; filename=\"{name}\""));
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (boundary.into(), body)
}
