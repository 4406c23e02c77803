//! HTTP providers: trustless gateways, and storage providers that serve HTTP, as a source of blocks
//! (trustless gateway specification).
//!
//! Blocks are asked for one by one, `?format=raw`, and many at once: over HTTP/2 they share one
//! connection. Nothing an endpoint says is believed but bytes that hash to what was asked for, so
//! plain HTTP is as good as TLS.

mod endpoint;
mod fetch;
mod health;
mod metrics;
mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::network::{Client, HttpUrl};
use crate::provider::{BlockSource, SourceSession};

pub use metrics::Metrics;

use endpoint::Endpoint;
use session::HttpSession;

/// Requests that are under way at once, to all endpoints; further ones wait. Each takes a block's
/// memory at most.
const REQUESTS_MAX: usize = 256;
/// Endpoints that are remembered.
const ENDPOINTS_MAX: u64 = 1_024;
/// For how long after they were met last.
const ENDPOINT_IDLE: Duration = Duration::from_secs(3_600);

/// The section of the configuration about HTTP providers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether content is fetched from HTTP providers.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Fetches blocks from HTTP providers. Cheap to clone.
#[derive(Clone)]
pub struct HttpSource {
    shared: Arc<Shared>,
}

/// What all sessions have in common.
struct Shared {
    client: Client,
    endpoints: moka::sync::Cache<HttpUrl, Arc<Endpoint>>,
    requests: Semaphore,
    metrics: Metrics,
}

impl std::fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSource").field("client", &self.shared.client).finish_non_exhaustive()
    }
}

impl HttpSource {
    /// Fetches through this client, which goes where its guard lets it.
    #[must_use]
    pub fn new(client: Client, metrics: Metrics) -> Self {
        let endpoints = moka::sync::Cache::builder()
            .max_capacity(ENDPOINTS_MAX)
            .time_to_idle(ENDPOINT_IDLE)
            .build();
        let requests = Semaphore::new(REQUESTS_MAX);
        Self { shared: Arc::new(Shared { client, endpoints, requests, metrics }) }
    }
}

impl BlockSource for HttpSource {
    fn name(&self) -> &'static str {
        "http"
    }

    fn open(&self) -> Arc<dyn SourceSession> {
        Arc::new(HttpSession::new(Arc::clone(&self.shared)))
    }
}

#[cfg(test)]
mod tests;
