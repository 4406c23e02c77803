//! `/names` and `/resolve`: the records of names that this node holds, and what names stand for.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::api::body::{self, Query};
use crate::http::api::error::ApiError;
use crate::http::api::{Parts, names};
use crate::routing::{self, Publication};

/// Records in one answer.
const RECORDS_MAX: usize = 100;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    limit: Option<usize>,
    #[serde(default)]
    after: String,
}

/// Lists records, those after a name.
pub(super) async fn list(
    State(parts): State<Parts>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let after = (!asked.after.is_empty()).then(|| names::key(&asked.after)).transpose()?;
    let limit = asked.limit.unwrap_or(RECORDS_MAX).min(RECORDS_MAX);
    let records = parts.names.list(after.as_ref(), limit)?;
    Ok(Json(records.iter().map(|(key, record)| names::model(key, record)).collect()))
}

#[derive(Debug, Deserialize)]
pub(super) struct PutAsked {
    #[serde(default)]
    publish: bool,
}

/// Keeps a record and gives it to the routers: once, or as long as it holds where that is asked for.
pub(super) async fn put(
    State(parts): State<Parts>,
    Path(name): Path<String>,
    Query(asked): Query<PutAsked>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    if !asked.publish {
        return names::keep(&parts.names, &name, body).await.map(Json);
    }
    let key = names::key(&name)?;
    let bytes = names::read(&key, body).await?;
    Ok(Json(published(&parts.names.publish_record(&key, bytes).await?)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishAsked {
    path: String,
    lifetime_s: u64,
    ttl_s: u64,
}

/// Signs with the node's identity what its name stands for, and publishes it.
pub(super) async fn publish(
    State(parts): State<Parts>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let asked: PublishAsked = body::json(body).await?;
    let value = routing::Value::parse(&asked.path).map_err(ApiError::input)?;
    let (lifetime, ttl) = (Duration::from_secs(asked.lifetime_s), Duration::from_secs(asked.ttl_s));
    Ok(Json(published(&parts.names.publish(value, lifetime, ttl).await?)))
}

fn published(publication: &Publication) -> Value {
    let mut said = names::model(&publication.key, &publication.record);
    if let Value::Object(fields) = &mut said {
        fields.insert("taken".into(), publication.taken.into());
    }
    said
}

/// Gives a record as it is.
pub(super) async fn get(
    State(parts): State<Parts>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let record = parts.names.record(&names::key(&name)?)?;
    let kind = [(header::CONTENT_TYPE, "application/vnd.ipfs.ipns-record")];
    Ok((kind, record.bytes().clone()).into_response())
}

/// Forgets a record.
pub(super) async fn remove(
    State(parts): State<Parts>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let key = names::key(&name)?;
    if !parts.names.remove(&key).await? {
        return Err(ApiError::not_found(format!("no record of {key} is held")));
    }
    Ok(Json(json!({ "name": key.to_string() })))
}

/// Says what a name stands for.
pub(super) async fn resolve(
    State(parts): State<Parts>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let name = names::parse(&name)?;
    let deadline = parts.retriever.session().deadline();
    let found = parts.names.resolve(&name, deadline).await?;
    let below: String = found.segments.iter().map(|segment| format!("/{segment}")).collect();
    Ok(Json(json!({
        "name": name.to_string(),
        "path": format!("/ipfs/{}{below}", found.root),
        "ttl_s": found.ttl.map(|ttl| ttl.as_secs()),
    })))
}
