//! The API: the same rooms for programs with a key and for the operator.

pub mod operator;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::blockstore::Store;
use crate::gateway::Gateway;
use crate::retrieval::Retriever;
use crate::upload::Upload;

/// What the API is made of.
#[derive(Clone)]
pub struct Parts {
    /// Takes uploads.
    pub upload: Upload,
    /// Keeps blocks and pins.
    pub store: Store,
    /// Finds blocks.
    pub retriever: Retriever,
    /// Answers `/ipfs/…`.
    pub gateway: Gateway,
    /// Knows keys.
    pub accounts: Accounts,
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
    /// Its API listener.
    pub api_url: String,
    /// Its admin listener.
    pub admin_url: String,
    /// The address the API listener is bound to.
    pub api_address: SocketAddr,
    /// Further names of the API listener (`api.hosts`).
    pub api_hosts: Vec<String>,
    /// When it started, in seconds since 1970.
    pub started: u64,
}

impl Parts {
    /// The routes of the API listener.
    pub fn router(self) -> Result<axum::Router, getrandom::Error> {
        Ok(axum::Router::new())
    }

    /// The routes of the operator's socket.
    pub fn operator(self) -> axum::Router {
        axum::Router::new()
    }
}
