//! `/find/{cid}`: who provides content, a line each, as they are found.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::http::api::Parts;
use crate::http::api::error::ApiError;
use crate::ipld::path::parse_cid;
use crate::provider::{ContentRouter as _, Protocol, Provider, RouterError};

/// How long providers are looked for.
const FIND_TIMEOUT: Duration = Duration::from_secs(25);

/// Looks for providers. Ended by the asker, the search ends.
pub(super) async fn find(
    State(parts): State<Parts>,
    Path(cid): Path<String>,
) -> Result<Response, ApiError> {
    let cid = parse_cid(cid.trim_start_matches("/ipfs/"))?;
    if parts.routing.is_empty() {
        return Err(ApiError::input(
            "this node asks nobody for providers: it is offline, or routing.dht is off and \
             routing.delegated is empty",
        ));
    }
    let asked = Instant::now();
    let found = parts.routing.providers(&cid, asked + FIND_TIMEOUT);
    let lines = found.map(move |found| {
        let mut line = match found {
            Ok(provider) => of_provider(&provider),
            Err(error) => of_error(&error),
        };
        let after_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        line["after_ms"] = after_ms.into();
        Ok::<_, Infallible>(Bytes::from(format!("{line}\n")))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

fn of_provider(provider: &Provider) -> Value {
    let protocols = provider.protocols.iter().map(|protocol| match protocol {
        Protocol::Bitswap => "bitswap",
        Protocol::Http => "http",
        Protocol::Graphsync => "graphsync",
    });
    json!({
        "peer": provider.peer.map(|peer| peer.to_string()),
        "addresses": provider.addresses,
        "protocols": protocols.collect::<Vec<_>>(),
        "found_by": provider.found_by,
    })
}

fn of_error(error: &RouterError) -> Value {
    json!({ "router": &*error.router, "error": &*error.reason })
}
