//! `/names/{name}`: records of names, put by whoever has a key. A record proves by itself that it is
//! its name's, so it matters little who brings it.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State as From};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::State;
use super::error::ApiError;
use super::who::User;
use crate::routing::{Error, Key, Name, Names, Put, RECORD_BYTES_MAX, Record, RecordError};

/// `GET /names/{name}`: what the record that is held says.
pub(super) async fn get(
    User(_): User,
    From(state): From<State>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let key = key(&name)?;
    Ok(Json(model(&key, &state.parts.names.record(&key)?)))
}

/// `PUT /names/{name}`: a record, as its bytes.
pub(super) async fn put(
    User(_): User,
    From(state): From<State>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    keep(&state.parts.names, &name, body).await.map(Json)
}

/// Keeps the record that a body holds and gives it to the routers; says what it is, and how many took
/// it.
pub(super) async fn keep(names: &Names, name: &str, body: Body) -> Result<Value, ApiError> {
    let key = key(name)?;
    let (given, put) = names.put_and_give(&key, read(&key, body).await?).await?;
    let mut kept = model(&key, &given.record);
    if let Value::Object(fields) = &mut kept {
        fields.insert("new".into(), (put == Put::Kept).into());
        fields.insert("taken".into(), given.taken.into());
    }
    Ok(kept)
}

/// The record of a key that a body holds, unverified; one that is too long is not read whole.
pub(super) async fn read(key: &Key, body: Body) -> Result<Bytes, ApiError> {
    let body = Limited::new(body, RECORD_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            let (name, error) = (key.to_string().into(), RecordError::TooLong);
            return Error::Invalid { name, error }.into();
        }
        ApiError::input("the body broke off")
    })?;
    Ok(body.to_bytes())
}

/// The key that a name is; `/ipns/` may stand before it.
pub(super) fn key(name: &str) -> Result<Key, ApiError> {
    match parse(name)? {
        Name::Key(key) => Ok(key),
        Name::Domain(domain) => Err(Error::NotAKey(domain.to_string().into()).into()),
    }
}

/// A name; `/ipns/` may stand before it.
pub(super) fn parse(name: &str) -> Result<Name, Error> {
    Name::parse(name.strip_prefix("/ipns/").unwrap_or(name).trim_end_matches('/'))
}

/// A record for people and programs.
pub(super) fn model(key: &Key, record: &Record) -> Value {
    json!({
        "name": key.to_string(),
        "value": record.value().to_string(),
        "sequence": record.sequence(),
        "ttl_s": record.ttl().map(|ttl| ttl.as_secs()),
        "expires": record.eol().format(&Rfc3339).ok(),
    })
}
