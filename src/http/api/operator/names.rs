//! `/names` and `/resolve`: the records of names that this node holds, and what names stand for.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::api::body::Query;
use crate::http::api::error::ApiError;
use crate::http::api::{Parts, names};

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

/// Keeps a record.
pub(super) async fn put(
    State(parts): State<Parts>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    names::keep(&parts.names, &name, body).await.map(Json)
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
