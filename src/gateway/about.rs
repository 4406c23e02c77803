//! What a gateway says of itself: the methods it takes and the protocols it speaks.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use super::{Request, headers};

/// The answer to `OPTIONS`, wherever it is asked.
pub(super) fn options() -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(8);
    headers::put_cors(&mut headers);
    headers.insert(header::ALLOW, HeaderValue::from_static(headers::METHODS));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers::response(StatusCode::OK, headers, Body::empty())
}

/// The protocols that are spoken here, and where (libp2p HTTP specification).
pub(super) fn protocols(request: &Request) -> Response<Body> {
    const TEXT: &str = "{\"/ipfs/gateway\":{\"path\":\"/\"}}\n";
    let mut headers = HeaderMap::with_capacity(8);
    headers::put_cors(&mut headers);
    headers::put_nosniff(&mut headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(TEXT.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    let head = request.method() == http::Method::HEAD;
    let body = if head { Body::empty() } else { Body::full(TEXT) };
    headers::response(StatusCode::OK, headers, body)
}
