//! What pages of other sites may do: what their own API key lets them, and no more.
//!
//! The browser adds nothing of its own to a request here (there are no cookies), so a page that
//! knows a key may use it. Whatever would rest on the console page's token stays closed: neither a
//! preflight nor an answer without a key carries a word for another site.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

const ANY: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");
/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// Answers preflights for requests with a key, and lets such requests' answers be read.
pub(super) async fn cors(request: Request, next: Next) -> Response {
    let foreign = request.headers().contains_key(header::ORIGIN);
    if foreign && request.method() == Method::OPTIONS {
        return preflight(request.headers());
    }
    let with_key = request.headers().contains_key(header::AUTHORIZATION);
    let mut response = next.run(request).await;
    if foreign && with_key {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    }
    response
}

fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if brings_key(headers) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE_S);
    }
    response
}

/// Whether the request that a preflight asks for will carry a key.
fn brings_key(headers: &HeaderMap) -> bool {
    let names = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let mut names =
        names.filter_map(|names| names.to_str().ok()).flat_map(|names| names.split(','));
    let is = |name: &str, wanted: &HeaderName| name.trim().eq_ignore_ascii_case(wanted.as_str());
    names.any(|name| is(name, &header::AUTHORIZATION))
}
