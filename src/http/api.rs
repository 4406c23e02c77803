//! The API: the same rooms for programs with a key and for the operator.

mod body;
mod content;
mod cors;
mod error;
mod keys;
mod multipart;
mod names;
pub mod operator;
mod who;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use http::StatusCode;
use serde_json::{Value, json};

use crate::accounts::{Accounts, Attempts};
use crate::blockstore::Store;
use crate::gateway::Gateway;
use crate::http::auth::Page;
use crate::http::{Readiness, console};
use crate::p2p::P2p;
use crate::retrieval::Retriever;
use crate::routing::{Names, Routing};
use crate::upload::Upload;

use error::ApiError;

/// What the API is made of.
#[derive(Clone)]
pub struct Parts {
    /// Takes uploads.
    pub upload: Upload,
    /// Keeps blocks and pins.
    pub store: Store,
    /// Finds blocks.
    pub retriever: Retriever,
    /// Finds providers.
    pub routing: Routing,
    /// Resolves names.
    pub names: Names,
    /// Answers `/ipfs/…`.
    pub gateway: Gateway,
    /// Knows keys.
    pub accounts: Accounts,
    /// Knows whether the node is ready.
    pub readiness: Arc<Readiness>,
    /// The network of peers; none where it is not touched.
    pub p2p: Option<P2p>,
    /// The node, for links and `status`.
    pub node: Arc<NodeInfo>,
}

/// What a node says of itself.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Where its data is.
    pub data_dir: std::path::PathBuf,
    /// Its public gateway, `http://host:port` without a slash at the end; where `retrieval_url`
    /// points.
    pub gateway_url: String,
    /// The same over TLS, where that is spoken.
    pub gateway_tls_url: Option<String>,
    /// Its API listener.
    pub api_url: String,
    /// The same over TLS, where that is spoken.
    pub api_tls_url: Option<String>,
    /// Its admin listener.
    pub admin_url: String,
    /// The address the API listener is bound to.
    pub api_address: SocketAddr,
    /// Further names of the API listener (`api.hosts`).
    pub api_hosts: Vec<String>,
    /// When it started, in seconds since 1970.
    pub started: u64,
}

/// What handlers of the API listener have at hand.
#[derive(Clone)]
struct State {
    parts: Parts,
    page: Arc<Page>,
    attempts: Arc<Attempts>,
}

impl Parts {
    /// The routes of the API listener, for programs with a key and for the console page. What is
    /// answered needs a key unless its handler takes nobody.
    pub fn router(self) -> Result<Router, getrandom::Error> {
        let page = Arc::new(Page::new(self.node.api_address, &self.node.api_hosts)?);
        let state = State { parts: self, page: Arc::clone(&page), attempts: Arc::default() };
        // Longer paths than these two are not here, so what follows `/content/` is theirs.
        let routes = Router::new()
            .route("/health", get(health))
            .route("/viewer", get(keys::viewer))
            .route("/put", post(content::add))
            .route("/content/add", post(content::add))
            .route("/content/add-car", post(content::add_car))
            .route("/content/list", get(content::list))
            .route("/content/contents", get(content::contents))
            .route("/content/stats", get(content::stats))
            .route("/content/by-cid/{cid}", get(content::by_cid))
            .route("/content/{id}", get(content::one))
            .route("/names/{name}", get(names::get).put(names::put))
            .route("/user/api-keys", get(keys::list).post(keys::create))
            .route("/user/api-keys/{key}", delete(keys::revoke))
            .with_state(state)
            .merge(console::routes(page));
        Ok(routes
            .method_not_allowed_fallback(wrong_method)
            .fallback(no_such_route)
            .layer(axum::middleware::from_fn(cors::cors))
            .layer(DefaultBodyLimit::disable()))
    }

    /// The routes of the operator's socket: whoever can open it may do everything.
    pub fn operator(self) -> Router {
        operator::routes(self)
            .method_not_allowed_fallback(wrong_method)
            .fallback(no_such_route)
            .layer(DefaultBodyLimit::disable())
    }
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn no_such_route() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "ERR_NO_SUCH_ROUTE", "no such path here")
}

async fn wrong_method() -> ApiError {
    let details = "this path has no such method; the Allow header names those it has";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "ERR_METHOD_NOT_ALLOWED", details)
}
