//! `format=ipns-record`: the record of a name, signed, for whoever checks it (trustless gateway
//! specification).

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::gateway::body::Body;
use crate::gateway::error::Error;
use crate::gateway::headers;
use crate::gateway::request::{Asked, Root, SaidBy};
use crate::routing::{Name, Names};

const IPNS_RECORD: HeaderValue = HeaderValue::from_static("application/vnd.ipfs.ipns-record");
/// For a record that has ended, or does not say for how long it may be kept.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The record of the name that was asked for. One that has ended is given too: whoever checks it
/// sees that.
pub(in crate::gateway) fn ipns_record(
    names: &Names,
    asked: &Asked,
) -> Result<Response<Body>, Error> {
    let Root::Name(Name::Key(key)) = &asked.root else { return Err(Error::RecordOfContent) };
    if !asked.segments.is_empty() {
        return Err(Error::RecordOfContent);
    }
    let record = names.record(key)?;
    let etag = blake3::hash(record.bytes()).to_hex();
    let etag = headers::quoted(&[etag.as_bytes()]);
    let mut headers = HeaderMap::with_capacity(16);
    headers::put_cors(&mut headers);
    let cache_control =
        names.max_age(&record).map(|age| format!("public, max-age={}", age.as_secs()));
    let cache_control = cache_control.and_then(|value| HeaderValue::try_from(value).ok());
    headers.insert(header::CACHE_CONTROL, cache_control.unwrap_or(NO_STORE));
    if let Ok(path) = HeaderValue::try_from(asked.original.as_str()) {
        headers.insert(headers::X_IPFS_PATH, path);
    }
    if asked.wants.said_by != SaidBy::Query {
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    }
    headers::put_content_location(&mut headers, asked.site.url_path(&asked.original), &asked.wants);
    headers.insert(header::ETAG, etag.clone());
    if asked.wants.if_none_match.as_ref().is_some_and(|held| headers::matches(held, &etag)) {
        headers::trim_for_not_modified(&mut headers);
        return Ok(headers::response(StatusCode::NOT_MODIFIED, headers, Body::empty()));
    }
    headers.insert(header::CONTENT_TYPE, IPNS_RECORD);
    headers::put_nosniff(&mut headers);
    let name = asked.wants.filename.clone().unwrap_or_else(|| format!("{key}.ipns-record"));
    if let Some(value) = headers::disposition(true, &name) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(record.bytes().len()));
    let body = if asked.wants.head { Body::empty() } else { Body::full(record.bytes().clone()) };
    Ok(headers::response(StatusCode::OK, headers, body))
}
