//! What the front door answers itself, and the responses that say so.

use std::fmt;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use super::server::Refusal;
use crate::gateway::error_page::{self, Advice};

/// Why a request did not reach its service, or why that gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The request could be read in two ways.
    #[error("bad request: {0}")]
    Framing(Framing),
    /// One address has too much under way.
    #[error("too many requests at once from your address; try again in a moment")]
    TooMany,
    /// One address asks too often; it may ask again after so many seconds.
    #[error("too many requests from your address; try again in {0} s")]
    TooOften(u64),
    /// All clients together have.
    #[error("the node has as much to do as it can; try again in a moment")]
    Busy,
    /// No answer came in time.
    #[error("the answer took too long")]
    Deadline,
    /// A bug.
    #[error("an error of the node's own; its log has more")]
    Panicked,
    /// Nothing of that name.
    #[error("no such path here")]
    NoSuchRoute,
    /// A method that makes no sense there.
    #[error("method not allowed")]
    Method,
    /// The listener has another name.
    #[error("this listener has another name")]
    Host,
}

/// What is ambiguous in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// HTTP/1.1 without `Host`, or with several.
    Host,
    /// `Host` is not what the request line names.
    Authority,
    /// A host with a user's name before it.
    Userinfo,
    /// An encoding that is not exactly `chunked`.
    TransferEncoding,
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "exactly one Host header is wanted",
            Self::Authority => "the request line names another host than the Host header",
            Self::Userinfo => "a host has no user's name before it",
            Self::TransferEncoding => "of transfer encodings only chunked is taken",
        })
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Address => Self::TooMany,
            Refusal::Rate(wait) => Self::TooOften(wait.as_secs() + 1),
            Refusal::Busy => Self::Busy,
        }
    }
}

impl Error {
    /// The status that tells a client what it may do next.
    #[must_use]
    fn status(self) -> StatusCode {
        match self {
            Self::Framing(_) => StatusCode::BAD_REQUEST,
            Self::TooMany | Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    /// The whole response to whoever accepts this: a page where that names HTML, for a person may
    /// see it.
    pub(super) fn response_to<B>(self, accept: Option<HeaderValue>) -> Response<Body<B>> {
        let accept: HeaderMap = accept.map(|value| (header::ACCEPT, value)).into_iter().collect();
        let mut response = self.response();
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        if error_page::is_wanted(&accept) {
            let retry = Advice::Go(String::new(), "Try again".into());
            let may_retry = response.headers().contains_key(header::RETRY_AFTER);
            let advice = if may_retry { &[retry][..] } else { &[] };
            let page = error_page::render(self.status(), &self.to_string(), advice);
            error_page::put_headers(response.headers_mut());
            *response.body_mut() = Body::line(page);
        }
        response
    }

    /// The whole response: one plain line, never to be cached.
    pub(super) fn response<B>(self) -> Response<Body<B>> {
        let mut response = Response::new(Body::line(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::TooMany | Self::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::TooOften(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Deadline => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            }
            Self::Framing(_) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::Panicked | Self::NoSuchRoute | Self::Host => {}
        }
        response
    }
}
