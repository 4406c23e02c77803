//! What the operator asks of a node over its unix socket; whoever may open that is the operator.

mod add;
mod find;
pub mod framing;
mod names;
mod read;
mod swarm;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Parts;
use super::body::{self, Query};
use super::error::ApiError;
use crate::accounts::{KeyRow, NewKey};
use crate::block::Cid;
use crate::blockstore::{CheckReport, GcReport, Pin};
use crate::ipld::path::parse_cid;
use crate::task;

/// Pins in one answer.
const PINS_MAX: usize = 1000;

pub(super) fn routes(parts: Parts) -> Router {
    Router::new()
        .route("/add", post(add::add))
        .route("/import", post(add::import))
        .route("/ipfs/{*path}", get(read::content))
        .route("/stat/{*path}", get(read::stat))
        .route("/ls/{*path}", get(read::ls))
        .route("/find/{cid}", get(find::find))
        .route("/pins", get(pins))
        .route("/pins/{cid}", put(pin).delete(unpin))
        .route("/gc", post(gc))
        .route("/fsck", post(fsck))
        .route("/scrub", post(scrub))
        .route("/backup", post(backup))
        .route("/keys", get(keys).post(create_key))
        .route("/keys/{key}", delete(revoke_key))
        .route("/names", get(names::list))
        .route("/names/{name}", get(names::get).put(names::put).delete(names::remove))
        .route("/resolve/{name}", get(names::resolve))
        .route("/swarm/peers", get(swarm::peers))
        .route("/swarm/connect", post(swarm::connect))
        .route("/swarm/disconnect", post(swarm::disconnect))
        .route("/ping", post(swarm::ping))
        .route("/status", get(status))
        .with_state(parts)
}

async fn status(State(parts): State<Parts>) -> Result<Json<Value>, ApiError> {
    let node = &parts.node;
    let addresses = match &parts.p2p {
        Some(p2p) => p2p.addresses().await,
        None => Vec::new(),
    };
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": parts.readiness.reasons().await.is_empty(),
        "pid": std::process::id(),
        "data_dir": node.data_dir,
        "uptime_s": task::now_unix().saturating_sub(node.started),
        "gateway": { "url": node.gateway_url, "tls_url": node.gateway_tls_url },
        "api": { "url": node.api_url, "tls_url": node.api_tls_url },
        "admin": { "url": node.admin_url },
        "store": parts.store.stats()?,
        "peer_id": parts.p2p.as_ref().map(|p2p| p2p.peer_id().to_string()),
        "addresses": addresses,
    })))
}

#[derive(Debug, Deserialize)]
struct PinsAsked {
    limit: Option<usize>,
    #[serde(default)]
    after: String,
}

async fn pins(
    State(parts): State<Parts>,
    Query(asked): Query<PinsAsked>,
) -> Result<Json<Value>, ApiError> {
    let after = (!asked.after.is_empty()).then(|| parse_cid(&asked.after)).transpose()?;
    let limit = asked.limit.unwrap_or(PINS_MAX).min(PINS_MAX);
    let pins = parts.store.pins(after.as_ref(), limit)?;
    Ok(Json(pins.iter().map(pin_model).collect()))
}

fn pin_model(pin: &Pin) -> Value {
    json!({
        "cid": pin.cid.to_string(),
        "blocks": pin.blocks,
        "bytes": pin.bytes,
        "created": pin.created,
    })
}

async fn pin(State(parts): State<Parts>, Path(cid): Path<String>) -> Result<Json<Value>, ApiError> {
    let pin = parts.upload.pin_here(parse_cid(&cid)?).await?;
    Ok(Json(pin_model(&pin)))
}

async fn unpin(
    State(parts): State<Parts>,
    Path(cid): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let cid: Cid = parse_cid(&cid)?;
    if !parts.upload.unpin(&cid).await? {
        return Err(ApiError::not_found(format!("{cid} is not pinned")));
    }
    Ok(Json(json!({ "cid": cid.to_string() })))
}

#[derive(Debug, Deserialize)]
struct GcAsked {
    #[serde(default)]
    all: bool,
}

async fn gc(
    State(parts): State<Parts>,
    Query(asked): Query<GcAsked>,
) -> Result<Json<GcReport>, ApiError> {
    Ok(Json(parts.store.gc(asked.all).await?))
}

#[derive(Debug, Deserialize)]
struct FsckAsked {
    #[serde(default)]
    repair: bool,
}

async fn fsck(
    State(parts): State<Parts>,
    Query(asked): Query<FsckAsked>,
) -> Result<Json<CheckReport>, ApiError> {
    Ok(Json(parts.store.fsck(asked.repair).await?))
}

async fn scrub(State(parts): State<Parts>) -> Result<Json<CheckReport>, ApiError> {
    Ok(Json(parts.store.scrub().await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupAsked {
    dir: std::path::PathBuf,
}

async fn backup(State(parts): State<Parts>, body: Body) -> Result<Json<Value>, ApiError> {
    let BackupAsked { dir } = body::json(body).await?;
    if !dir.is_absolute() {
        return Err(ApiError::input("the directory of a backup is named by an absolute path"));
    }
    parts.store.backup(dir.clone()).await?;
    Ok(Json(json!({ "dir": dir })))
}

async fn keys(State(parts): State<Parts>) -> Result<Json<Value>, ApiError> {
    let keys = parts.accounts.list(None)?;
    Ok(Json(keys.iter().map(|(key, used)| key_model(key, *used)).collect()))
}

fn key_model(key: &KeyRow, used: Option<u64>) -> Value {
    json!({
        "id": key.id(),
        "scope": key.scope,
        "label": key.label,
        "account": key.account,
        "created": key.created,
        "expires": key.expires,
        "used": used,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyAsked {
    scope: String,
    #[serde(default)]
    label: String,
    days: Option<u32>,
}

async fn create_key(State(parts): State<Parts>, body: Body) -> Result<Json<Value>, ApiError> {
    let asked: KeyAsked = body::json(body).await?;
    let new = NewKey {
        scope: asked.scope.parse()?,
        account: None,
        label: asked.label,
        lasts_s: asked.days.map(|days| u64::from(days) * 24 * 3600),
    };
    let (secret, key) = parts.accounts.create(new).await?;
    let mut made = key_model(&key, None);
    if let Value::Object(fields) = &mut made {
        fields.insert("key".into(), secret.reveal().into());
    }
    Ok(Json(made))
}

async fn revoke_key(
    State(parts): State<Parts>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let key = parts.accounts.revoke(&name, None).await?;
    Ok(Json(key_model(&key, None)))
}
