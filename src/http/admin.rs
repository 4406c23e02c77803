//! The admin listener: metrics, and whether the node lives and is ready. No keys, so loopback only.

mod process;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use prometheus::TextEncoder;
use serde::Serialize;

use super::error::Error;
use super::readiness::Readiness;
use crate::metrics::Registry;

/// Answers on the admin listener.
pub struct Admin {
    registry: Registry,
    readiness: Arc<Readiness>,
    started: u64,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("started", &self.started).finish_non_exhaustive()
    }
}

/// What `/readyz` says.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// Why not, a sentence each.
    reasons: Vec<String>,
}

impl Admin {
    /// Shows `registry`, and whether the node is ready.
    #[must_use]
    pub fn new(registry: Registry, readiness: Arc<Readiness>) -> Self {
        Self { registry, readiness, started: crate::task::now_unix() }
    }

    /// Answers a request.
    pub(super) async fn respond(&self, request: &Request<()>) -> Result<Response<Body>, Error> {
        own_host(request)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Error::Method);
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => Ok(answer(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".into())),
            "/readyz" => Ok(self.readiness().await),
            _ => Err(Error::NoSuchRoute),
        }
    }

    fn metrics(&self) -> Result<Response<Body>, Error> {
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text).map_err(|error| {
            tracing::error!(%error, "the metrics cannot be written");
            Error::Panicked
        })?;
        process::write(&mut text, self.started);
        Ok(answer(StatusCode::OK, prometheus::TEXT_FORMAT, text))
    }

    async fn readiness(&self) -> Response<Body> {
        let reasons = self.readiness.reasons().await;
        let ready = reasons.is_empty();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let text = serde_json::to_string(&Ready { ready, reasons }).unwrap_or_default();
        answer(status, "application/json", text + "\n")
    }
}

/// A page elsewhere may have had its name point here, to read what only this machine should.
fn own_host(request: &Request<()>) -> Result<(), Error> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.or(request.uri().authority().map(http::uri::Authority::as_str));
    // HTTP/1.0 has none, and browsers do not speak it.
    let Some(authority) = authority else { return Ok(()) };
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let address = name.parse::<std::net::IpAddr>();
    if name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback()) {
        Ok(())
    } else {
        Err(Error::Host)
    }
}

fn answer(status: StatusCode, media_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let check = |host: &str, expected: bool| {
            let request = Request::builder().uri("/metrics").header(header::HOST, host).body(());
            assert_eq!(own_host(&request.unwrap()).is_ok(), expected, "{host}");
        };
        for host in ["127.0.0.1:3005", "127.0.0.1", "localhost:1", "LocalHost", "[::1]:3005"] {
            check(host, true);
        }
        for host in ["evil.example:3005", "localhost.evil.example", "192.0.2.7:3005", "", "[::2]"] {
            check(host, false);
        }
    }
}
