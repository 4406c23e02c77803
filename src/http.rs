//! The front door: sockets and bytes in, calls to rooms out.

mod admin;
pub mod api;
pub mod auth;
mod body;
mod console;
mod error;
mod metrics;
mod readiness;
mod router;
mod server;
mod stack;
pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::gateway::Gateway;

pub use admin::Admin;
pub use metrics::Metrics;
pub use readiness::Readiness;
pub use server::{Limits, Listener, Server};
pub use tls::Tls;

use server::Addresses;
use stack::{Manners, stack};

/// The section of all listeners in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long what is under way may take to finish when the node is stopped, in milliseconds.
    pub grace_ms: u64,
    /// Connections that one listener has open at once; further ones wait.
    pub connections_max: usize,
    /// Requests that one listener has under way at once; further ones get 503.
    pub requests_max: usize,
    /// Requests that one address has under way at once; further ones get 429. This machine is
    /// exempt, and behind a trusted proxy its clients are counted.
    pub requests_per_address_max: usize,
    /// Requests that one address may send a second, in the long run; further ones get 429. 0: as
    /// many as it likes.
    pub requests_per_second_per_address: usize,
    /// Requests that it may send at once after a rest.
    pub requests_burst_per_address: usize,
    /// How long the head of a request may take to come, in milliseconds.
    pub head_timeout_ms: u64,
    /// How long an idle connection is kept, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long a client may give or take less than 1 KiB a second, in milliseconds.
    pub stall_timeout_ms: u64,
    /// How long the gateway may take to begin an answer, in milliseconds.
    pub answer_timeout_ms: u64,
    /// For how long browsers that came over TLS are to come over TLS alone, in seconds
    /// (`Strict-Transport-Security`, RFC 6797); 0: nothing is said.
    pub hsts_max_age_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace_ms: 30_000,
            connections_max: 4096,
            requests_max: 4096,
            requests_per_address_max: 64,
            requests_per_second_per_address: 0,
            requests_burst_per_address: 200,
            head_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            stall_timeout_ms: 30_000,
            answer_timeout_ms: 30_000,
            hsts_max_age_s: 0,
        }
    }
}

/// The section of the API and console in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where the API and the console listen. Not set: 127.0.0.1:3004, or a free port where that
    /// one is taken.
    pub listen: Option<SocketAddr>,
    /// Where they listen for those who speak TLS. Not set: nowhere.
    pub tls_listen: Option<SocketAddr>,
    /// Files of certificates, PEM.
    pub tls_cert: Vec<PathBuf>,
    /// Files of their keys, in the same order.
    pub tls_key: Vec<PathBuf>,
    /// Further names under which the console may be asked for, `host` or `host:port`.
    pub hosts: Vec<String>,
}

/// The section of the admin endpoints in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where metrics and health are shown, on loopback only. Not set: 127.0.0.1:3005, or a free
    /// port where that one is taken.
    pub listen: Option<SocketAddr>,
}

/// Connections to the admin listener at once.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Bytes of an upload that are read at once, and that HTTP/2 may have on the way.
const UPLOAD_BUFFER_BYTES: usize = 256 << 10;
/// The same for what processes of this machine send.
const OPERATOR_BUFFER_BYTES: usize = 1 << 20;

impl Config {
    /// What `listener` says of coming back without TLS: only over TLS does that count.
    fn hsts(&self, listener: &Listener) -> Option<HeaderValue> {
        let told = listener.is_secure() && self.hsts_max_age_s > 0;
        let value = told.then(|| format!("max-age={}", self.hsts_max_age_s))?;
        HeaderValue::try_from(value).ok()
    }

    fn limits(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            requests_max: self.requests_max,
            requests_per_address_max: self.requests_per_address_max,
            requests_per_second_max: self.requests_per_second_per_address,
            requests_burst_max: self.requests_burst_per_address,
            head_timeout: Duration::from_millis(self.head_timeout_ms),
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            stall_timeout: Duration::from_millis(self.stall_timeout_ms),
            ..Limits::default()
        }
    }
}

/// Serves content at these listeners. They are one to a client: what it may take, it may take of
/// all together.
#[must_use]
pub fn serve_gateway(
    listeners: Vec<Listener>,
    gateway: Gateway,
    config: &Config,
    metrics: &Metrics,
) -> Vec<Server> {
    let gateway = Arc::new(gateway);
    let trusted_proxies = gateway.trusted_proxies().to_vec();
    let limits = Limits { strict_lines: true, trusted_proxies, ..config.limits() };
    let addresses = Arc::new(Addresses::new(&limits));
    let serve = |listener: Listener| {
        let manners = Manners {
            patience: Some(Duration::from_millis(config.answer_timeout_ms)),
            bodies: false,
            public: true,
            hsts: config.hsts(&listener),
        };
        let metrics = metrics.of(if listener.is_secure() { "gateway_tls" } else { "gateway" });
        let (gateway, addresses) = (Arc::clone(&gateway), Arc::clone(&addresses));
        server::serve(listener, limits.clone(), addresses, metrics.clone(), move |client| {
            stack(router::gateway(Arc::clone(&gateway), &client), &client, &metrics, &manners)
        })
    };
    listeners.into_iter().map(serve).collect()
}

/// Serves the API and the console at these listeners, which are one to a client.
#[must_use]
pub fn serve_api(
    listeners: Vec<Listener>,
    router: &axum::Router,
    config: &Config,
    metrics: &Metrics,
) -> Vec<Server> {
    let limits = Limits {
        buffer_bytes: UPLOAD_BUFFER_BYTES,
        window_bytes: UPLOAD_BUFFER_BYTES as u32,
        ..config.limits()
    };
    let addresses = Arc::new(Addresses::new(&limits));
    let serve = |listener: Listener| {
        let name = if listener.is_secure() { "api_tls" } else { "api" };
        let hsts = config.hsts(&listener);
        let (limits, addresses) = (limits.clone(), Arc::clone(&addresses));
        serve_routes(listener, router.clone(), limits, addresses, hsts, metrics.of(name))
    };
    listeners.into_iter().map(serve).collect()
}

/// Serves the operator, whose requests may take as long as they like.
#[must_use]
pub fn serve_operator(
    listener: Listener,
    router: axum::Router,
    config: &Config,
    metrics: &Metrics,
) -> Server {
    let limits = Limits { buffer_bytes: OPERATOR_BUFFER_BYTES, ..config.limits() };
    let addresses = Arc::new(Addresses::new(&limits));
    serve_routes(listener, router, limits, addresses, None, metrics.of("operator"))
}

fn serve_routes(
    listener: Listener,
    router: axum::Router,
    limits: Limits,
    addresses: Arc<Addresses>,
    hsts: Option<HeaderValue>,
    metrics: metrics::ListenerMetrics,
) -> Server {
    let manners = Manners { patience: None, bodies: true, public: false, hsts };
    server::serve(listener, limits, addresses, metrics.clone(), move |client| {
        stack(router::routes(router.clone(), Arc::clone(&client)), &client, &metrics, &manners)
    })
}

/// Serves metrics and health.
#[must_use]
pub fn serve_admin(listener: Listener, admin: Admin, config: &Config, metrics: &Metrics) -> Server {
    let admin = Arc::new(admin);
    let manners = Manners { patience: None, bodies: false, public: false, hsts: None };
    let limits =
        Limits { connections_max: ADMIN_CONNECTIONS_MAX, strict_lines: true, ..config.limits() };
    let addresses = Arc::new(Addresses::new(&limits));
    let metrics = metrics.of("admin");
    server::serve(listener, limits, addresses, metrics.clone(), move |client| {
        stack(router::admin(Arc::clone(&admin)), &client, &metrics, &manners)
    })
}
