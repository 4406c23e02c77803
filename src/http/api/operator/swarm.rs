//! `/swarm` and `/ping`: the peers that this node is connected with.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::api::Parts;
use crate::http::api::body;
use crate::http::api::error::ApiError;
use crate::p2p::{self, DialError, Multiaddr, OpenError, P2p, PeerId, PeerInfo};

/// What a request is about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// A peer id, or an address that ends with one.
    peer: String,
}

/// Lists the peers, the most valuable first.
pub(super) async fn peers(State(parts): State<Parts>) -> Result<Json<Value>, ApiError> {
    let mut peers = network(&parts)?.peers().await;
    let value = |peer: &PeerInfo| -> i64 { peer.tags.iter().map(|tag| i64::from(tag.1)).sum() };
    peers.sort_by_cached_key(|peer| (std::cmp::Reverse(value(peer)), peer.peer));
    Ok(Json(peers.iter().map(model).collect()))
}

/// Connects with a peer, wherever the operator says that it is.
pub(super) async fn connect(
    State(parts): State<Parts>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (p2p, (peer, addresses)) = (network(&parts)?, target(&parts, body).await?);
    p2p.connect_named(peer, &addresses).await?;
    let connected = p2p.peers().await.into_iter().find(|info| info.peer == peer);
    let gone = || ApiError::from(OpenError::NotConnected(peer));
    Ok(Json(model(&connected.ok_or_else(gone)?)))
}

/// Ends all connections with a peer.
pub(super) async fn disconnect(
    State(parts): State<Parts>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (p2p, (peer, _)) = (network(&parts)?, target(&parts, body).await?);
    if !p2p.disconnect(peer).await {
        return Err(ApiError::not_found(format!("not connected with {peer}")));
    }
    Ok(Json(json!({ "peer": peer.to_string() })))
}

/// Pings a peer once, connecting with it where we are not.
pub(super) async fn ping(State(parts): State<Parts>, body: Body) -> Result<Json<Value>, ApiError> {
    let (p2p, (peer, addresses)) = (network(&parts)?, target(&parts, body).await?);
    p2p.connect_named(peer, &addresses).await?;
    let took = p2p.ping(peer).await?;
    Ok(Json(json!({ "peer": peer.to_string(), "latency_ms": ms(took) })))
}

fn network(parts: &Parts) -> Result<&P2p, ApiError> {
    let details = "this node runs offline, and so has no peers; start it without --offline";
    let offline = || ApiError::new(StatusCode::CONFLICT, "ERR_OFFLINE", details);
    parts.p2p.as_ref().ok_or_else(offline)
}

/// Whom a request is about, and where that is.
async fn target(parts: &Parts, body: Body) -> Result<(PeerId, Vec<Multiaddr>), ApiError> {
    let Asked { peer } = body::json(body).await?;
    let (peer, addresses) = parse(&peer).map_err(ApiError::input)?;
    if parts.p2p.as_ref().is_some_and(|p2p| p2p.peer_id() == peer) {
        return Err(ApiError::input(format!("{peer} is this node itself")));
    }
    Ok((peer, addresses))
}

/// Reads a peer id, or an address with one at its end.
fn parse(text: &str) -> Result<(PeerId, Vec<Multiaddr>), String> {
    if !text.starts_with('/') {
        let peer = text.parse().map_err(|error| {
            format!("{text:?} is neither a peer id nor an address that begins with `/`: {error}")
        })?;
        return Ok((peer, Vec::new()));
    }
    let address: Multiaddr = text.parse().map_err(|error| {
        format!("{text:?} is no address such as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…: {error}")
    })?;
    let unnamed = || format!("{address} does not say who is there: add /p2p/ and its peer id");
    let peer = p2p::peer_of(&address).ok_or_else(unnamed)?;
    let addresses = if address.iter().count() > 1 { vec![address] } else { Vec::new() };
    Ok((peer, addresses))
}

fn model(info: &PeerInfo) -> Value {
    let connection = |each: &p2p::Connection| {
        json!({
            "address": each.address,
            "direction": if each.inbound { "in" } else { "out" },
            "age_s": each.age.as_secs(),
        })
    };
    let tags = info.tags.iter().map(|(tag, weight)| ((*tag).to_owned(), Value::from(*weight)));
    json!({
        "peer": info.peer.to_string(),
        "connections": info.connections.iter().map(connection).collect::<Vec<_>>(),
        "agent": info.agent,
        "protocols": info.protocols.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        "latency_ms": info.latency.map(ms),
        "tags": tags.collect::<serde_json::Map<_, _>>(),
        "protected": info.protected,
        "busy": info.busy,
    })
}

/// Milliseconds, to a thousandth.
fn ms(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl From<DialError> for ApiError {
    fn from(error: DialError) -> Self {
        let status = match error {
            DialError::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            DialError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            DialError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, "ERR_PEER_UNREACHABLE", error.to_string())
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "ERR_PEER_UNREACHABLE", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_id_or_by_an_address_with_it() {
        let id = "12D3KooWCSPUidZSmCbjaRJ5qRLzCid7jpjre3F8diq8RwkJQLhu";
        let check = |text: String| parse(&text).map(|(peer, at)| (peer.to_string(), at.len()));
        assert_eq!(check(id.into()), Ok((id.into(), 0)));
        assert_eq!(check(format!("/p2p/{id}")), Ok((id.into(), 0)));
        assert_eq!(check(format!("/ip4/1.2.3.4/tcp/5/p2p/{id}")), Ok((id.into(), 1)));
        for (text, said) in [
            ("/ip4/1.2.3.4/tcp/5", "does not say who is there"),
            ("/ip4/1.2.3/tcp/5", "is no address such as"),
            ("elsewhere", "neither a peer id nor an address"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
