//! Why a gateway request failed, and the response that says so.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::block::{Cid, FetchError, StoreError};
use crate::ipld::Error as IpldError;
use crate::routing;

use super::body::Body;
use super::headers;

/// Why a request was not answered with content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A method that would change something, or one we do not know.
    #[error("method not allowed: read only access")]
    Method,
    /// A path that is none of ours.
    #[error("no such path here: content is at /ipfs/{{cid}}")]
    NoSuchRoute,
    /// The path is too long.
    #[error("the path is longer than 8192 bytes")]
    PathTooLong,
    /// The path cannot be read; the text names it.
    #[error("{0}")]
    BadPath(IpldError),
    /// A parameter cannot be read.
    #[error("invalid parameter {name}: {reason}")]
    BadParameter {
        /// The parameter's name.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Only vendor types that we do not know are accepted.
    #[error("invalid Accept header: it names no media type that is known here")]
    UnknownMediaType,
    /// A service worker for a whole namespace would rule over everybody's content.
    #[error("navigator.serviceWorker: registration is not allowed for this scope")]
    ServiceWorker,
    /// The content is of another kind than the format asked for; bytes are never converted.
    #[error(
        "{cid} cannot be represented as {format}: codecs are not converted here; use ?format=raw for the block as it is"
    )]
    NotAcceptable {
        /// The content.
        cid: Box<Cid>,
        /// The format that was asked for.
        format: &'static str,
    },
    /// A format that is understood but not served.
    #[error("format={0} is not served here")]
    NotServed(&'static str),
    /// A record was asked for where there is content.
    #[error("ipns-record is for /ipns/{{name}}, not for content under /ipfs/")]
    RecordOfContent,
    /// The range has no byte of the content.
    #[error("the range is not satisfiable: the content has {0} bytes")]
    Range(u64),
    /// An `index.html` that is not a file.
    #[error("the directory's index.html is not a file")]
    Index,
    /// The content is not what its CID or its parent says it is.
    #[error("the content cannot be read: {0}")]
    Content(IpldError),
    /// A path leads nowhere, or into a value.
    #[error("failed to resolve {path}: {error}")]
    Path {
        /// The path that was asked for.
        path: Box<str>,
        /// Where it ends.
        error: IpldError,
    },
    /// A name is none, or leads nowhere.
    #[error(transparent)]
    Name(#[from] routing::Error),
    /// A block could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An encoder failed: a bug, or no memory.
    #[error("the content could not be encoded: {0}")]
    Encoding(std::io::Error),
    /// Only what is here was asked for, and it is not here.
    #[error("not here, and only-if-cached asks for what is here: {0}")]
    NotCached(Box<Cid>),
}

impl From<IpldError> for Error {
    fn from(error: IpldError) -> Self {
        Self::Content(error)
    }
}

impl Error {
    /// The status that tells a client what it may do next.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::PathTooLong => StatusCode::URI_TOO_LONG,
            Self::BadPath(_)
            | Self::BadParameter { .. }
            | Self::UnknownMediaType
            | Self::ServiceWorker
            | Self::RecordOfContent => StatusCode::BAD_REQUEST,
            Self::NotAcceptable { .. } => StatusCode::NOT_ACCEPTABLE,
            Self::NotServed(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Index | Self::Content(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Path { error: IpldError::NoLink { .. }, .. } => StatusCode::NOT_FOUND,
            Self::Path { error: IpldError::NotALink(_), .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Path { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Encoding(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotCached(_) => StatusCode::PRECONDITION_FAILED,
            Self::Name(error) => name_status(error),
            Self::Fetch(error) => fetch_status(error),
        }
    }

    /// The whole response: one plain line that names the problem, never to be cached.
    pub(super) fn response(&self, head: bool) -> Response<Body> {
        let status = self.status();
        let mut headers = HeaderMap::with_capacity(16);
        headers::put_cors(&mut headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static(headers::METHODS));
            }
            Self::Range(size) => {
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                    headers.insert(header::CONTENT_RANGE, value);
                }
            }
            _ => {}
        }
        if matches!(status.as_u16(), 429 | 502..=504) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        let text = match self {
            // What failed on our disk is for the log, not for the public.
            Self::Fetch(FetchError::Store(error)) => {
                tracing::error!(%error, "the store failed a gateway request");
                "the gateway's own store failed\n".to_owned()
            }
            other => format!("{other}\n"),
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        let body = if head { Body::empty() } else { Body::full(text) };
        headers::response(status, headers, body)
    }
}

fn name_status(error: &routing::Error) -> StatusCode {
    match error {
        routing::Error::Malformed { .. } => StatusCode::BAD_REQUEST,
        routing::Error::NotFound(_) => StatusCode::NOT_FOUND,
    }
}

fn fetch_status(error: &FetchError) -> StatusCode {
    match error {
        FetchError::NotFound(_) => StatusCode::NOT_FOUND,
        FetchError::Timeout(..) => StatusCode::GATEWAY_TIMEOUT,
        FetchError::Unavailable(_) | FetchError::Corrupt(_) => StatusCode::BAD_GATEWAY,
        FetchError::Store(StoreError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
        FetchError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
