//! Request bodies: as streams, in JSON, and refused while they still come.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::request::Parts as Head;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Longest body in JSON, in bytes.
const JSON_BYTES_MAX: usize = 64 << 10;
/// Pieces still read of a body that was refused, so that its sender sees the answer; none is over
/// what the listener reads at once.
const REFUSED_PIECES_MAX: usize = 1024;
/// How long it is still read.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// The pieces of a body.
pub(super) fn pieces(body: Body) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
    body.into_data_stream().map(|piece| piece.map_err(io::Error::other))
}

/// That bytes come as they are, and not more of them than may be.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings.iter().all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let details = "content is taken as it is: send it without Content-Encoding";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "ERR_UNSUPPORTED_CONTENT_TYPE", details))
}

/// How many bytes a body says it has, if it says so.
pub(super) fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a short body in JSON.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let body = Limited::new(body, JSON_BYTES_MAX).collect().await;
    let body = body.map_err(|_| ApiError::input("the body broke off or is too long"))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| ApiError::input(format!("the body: {error}")))
}

/// Answers a request whose body still comes, and reads on for a while: a sender that finds the
/// connection reset would not see the answer. Then the connection is closed.
pub(super) fn refuse(error: ApiError, rest: impl Stream + Send + Unpin + 'static) -> Response {
    let (mut head, body) = error.into_response().into_parts();
    let drained = async move {
        let reading = async { rest.take(REFUSED_PIECES_MAX).for_each(|_| async {}).await };
        let _ = tokio::time::timeout(REFUSED_FOR, reading).await;
    };
    let answer = body.into_data_stream();
    let end = futures_util::stream::once(drained).filter_map(|()| std::future::ready(None));
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Response::from_parts(head, Body::from_stream(answer.chain(end)))
}

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Head, _: &S) -> Result<Self, ApiError> {
        axum::extract::Query::try_from_uri(&head.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error| ApiError::input(format!("a parameter: {}", error.body_text())))
    }
}
