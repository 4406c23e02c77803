//! Why a gateway request failed, and the response that says so.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use percent_encoding::percent_decode_str;

use crate::block::{Blocked, Cid, FetchError, StoreError};
use crate::db;
use crate::ipld::Error as IpldError;
use crate::routing;

use super::body::Body;
use super::error_page::{self, Advice};
use super::redirects::Fault;
use super::request::{Format, is_local_only};
use super::signed::Refused;
use super::{Request, headers};

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
    /// A trusted proxy names several hosts.
    #[error(
        "the proxy's X-Forwarded-Host names several hosts: have it set the one that it was asked for"
    )]
    ForwardedHosts,
    /// The root does not fit into a host.
    #[error("CID incompatible with DNS label length limit of 63: {0}")]
    LabelTooLong(Box<str>),
    /// A domain does not fit into a label.
    #[error("DNSLink name incompatible with DNS label length limit of 63: {0}")]
    DomainTooLong(Box<str>),
    /// The host serves only what a client can verify.
    #[error(
        "this host serves what can be verified: ?format=raw for a block, ?format=car, or ?format=ipns-record for the record of a key"
    )]
    Trustless,
    /// The site's rules for paths that do not exist cannot be read.
    #[error("could not parse _redirects: {0}")]
    Redirects(Fault),
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
    /// A part of a file that is too large for parts of it to be served.
    #[error("ranges are served of files up to {0} bytes; use ?format=raw for its blocks")]
    RangeOfLarge(u64),
    /// A name that would lead whoever unpacks a TAR out of it.
    #[error("the name {0:?} leads out of the archive, or to what is in it already")]
    OutsideArchive(Box<str>),
    /// A record was asked for where there is content.
    #[error(
        "ipns-record is for /ipns/{{key}} alone: not for a path below it, nor for a domain, nor for content under /ipfs/"
    )]
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
    /// Not everything is answered here, and this is not listed.
    #[error("this gateway answers what its operator lists, and this is not listed")]
    NotListed,
    /// Only signed URLs are answered, and this is none that holds.
    #[error(transparent)]
    Signed(#[from] Refused),
    /// The page that a site has for paths that do not exist does not exist.
    #[error("failed to resolve {path}: {error}")]
    NoPage {
        /// The status that the site gives them.
        status: StatusCode,
        /// The path that was asked for.
        path: Box<str>,
        /// Where the way to the page ends.
        error: IpldError,
    },
    /// A block could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An encoder failed: a bug, or no memory.
    #[error("the content could not be encoded: {0}")]
    Encoding(std::io::Error),
    /// `If-Match` or `If-Unmodified-Since` do not hold.
    #[error("the content is not as If-Match or If-Unmodified-Since have it")]
    Condition,
    /// Only what is here was asked for, and it is not here.
    #[error("not here, and only-if-cached asks for what is here: {0}")]
    NotCached(Box<Cid>),
    /// Only what is here was asked for, and the name cannot be resolved with that.
    #[error("only-if-cached asks for what is here: {0}")]
    NameNotCached(routing::Error),
}

impl From<Blocked> for Error {
    fn from(blocked: Blocked) -> Self {
        Self::Fetch(blocked.into())
    }
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
            | Self::ForwardedHosts
            | Self::LabelTooLong(_)
            | Self::DomainTooLong(_)
            | Self::RecordOfContent => StatusCode::BAD_REQUEST,
            Self::NotListed | Self::Signed(_) => StatusCode::FORBIDDEN,
            Self::Redirects(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotAcceptable { .. } | Self::Trustless => StatusCode::NOT_ACCEPTABLE,
            Self::RangeOfLarge(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Index | Self::Content(_) | Self::OutsideArchive(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::NoPage { status, .. } => *status,
            Self::Path { error: IpldError::NoLink { .. }, .. } => StatusCode::NOT_FOUND,
            Self::Path { error: IpldError::NotALink(_), .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Path { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Encoding(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotCached(_) | Self::NameNotCached(_) | Self::Condition => {
                StatusCode::PRECONDITION_FAILED
            }
            Self::Name(error) => name_status(error),
            Self::Fetch(error) => fetch_status(error),
        }
    }

    /// The same, as it is for whoever asked for what is here only: what others might know was not
    /// asked, so nobody failed.
    pub(super) fn for_asker(self, request: &Request) -> Self {
        match self {
            Self::Name(error)
                if matches!(name_status(&error).as_u16(), 502 | 504)
                    && is_local_only(request.headers()) =>
            {
                Self::NameNotCached(error)
            }
            other => other,
        }
    }

    /// What is said of it in public: one line. What failed on our disk or behind a source is for
    /// the log.
    fn public(&self) -> String {
        match self {
            Self::Fetch(FetchError::Store(error)) => {
                tracing::error!(%error, "the store failed a gateway request");
                "the gateway's own store failed".to_owned()
            }
            Self::Name(routing::Error::Db(error)) => {
                tracing::error!(%error, "the records of names failed a gateway request");
                "the gateway's own store failed".to_owned()
            }
            Self::Fetch(FetchError::Unavailable(reason)) => {
                tracing::debug!(%reason, "a source was unavailable");
                "the source of this content is unavailable".to_owned()
            }
            other => error_page::plain(&other.to_string()),
        }
    }

    /// What may help whoever made `request`.
    fn advice(&self, request: &Request) -> Vec<Advice> {
        let mut advice = Vec::new();
        if matches!(self.status().as_u16(), 429 | 502..=504) {
            advice.push(Advice::Go(String::new(), "Try again".into()));
        }
        match self {
            Self::Path { error: IpldError::NoLink { name, .. }, .. } => {
                advice.extend(nearby(request.uri().path(), name));
            }
            Self::NotAcceptable { .. } | Self::RangeOfLarge(_) | Self::Content(_) => {
                advice.push(Advice::Go("?format=raw".into(), "Its block as it is".into()));
            }
            Self::Fetch(FetchError::NotFound(cid) | FetchError::Timeout(cid, _))
            | Self::NotCached(cid) => {
                advice.extend(who_provides(cid));
            }
            Self::Fetch(FetchError::Missing(missing)) => {
                advice.extend(missing.steps().into_iter().map(|step| Advice::Say(step.into())));
                advice.extend(who_provides(&missing.cid));
            }
            _ => {}
        }
        advice
    }

    /// The whole response, never to be cached: one plain line that names the problem, or a page
    /// where a browser asks for what it would have shown.
    pub(super) fn response(&self, request: &Request, format: Option<Format>) -> Response<Body> {
        let status = self.status();
        let mut headers = HeaderMap::with_capacity(16);
        headers::put_cors(&mut headers);
        headers::put_nosniff(&mut headers);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
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
        let for_programs =
            matches!(format, Some(Format::Raw | Format::Car(_) | Format::IpnsRecord));
        let text = if !for_programs && error_page::is_wanted(request.headers()) {
            error_page::put_headers(&mut headers);
            error_page::render(status, &self.public(), &self.advice(request))
        } else {
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, plain);
            format!("{}\n", self.public())
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        let head = request.method() == http::Method::HEAD;
        let body = if head { Body::empty() } else { Body::full(text) };
        headers::response(status, headers, body)
    }
}

/// What helps to find a block elsewhere.
fn who_provides(cid: &Cid) -> [Advice; 2] {
    let who = "To see who provides it, ask any IPFS node";
    [
        Advice::Copy("The CID that is missing".into(), cid.to_string()),
        Advice::Copy(who.into(), format!("ipfs routing findprovs {cid}")),
    ]
}

/// Links to what is still there of a URL path in which `missing` is not: the folder that lacks it,
/// and the root.
fn nearby(path: &str, missing: &str) -> Vec<Advice> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let in_namespace = matches!(segments.first(), Some(&("ipfs" | "ipns")));
    let root = if in_namespace { 2.min(segments.len()) } else { 0 };
    let is_it = |segment: &&str| percent_decode_str(segment).decode_utf8_lossy() == missing;
    let below = segments.iter().skip(root).position(is_it).unwrap_or(0);
    let link = |count: usize| {
        let kept: String =
            segments.iter().take(count).map(|segment| format!("/{segment}")).collect();
        format!("{kept}/")
    };
    let mut links = vec![Advice::Go(link(root), "The root of this content".into())];
    if below > 0 {
        let parent = Advice::Go(link(root + below), "The folder that lacks it".into());
        links.insert(0, parent);
    }
    links
}

fn name_status(error: &routing::Error) -> StatusCode {
    use routing::Error as E;

    match error {
        E::Malformed { .. } | E::Recursion(_) | E::TooLong(_) | E::NotAKey(_) => {
            StatusCode::BAD_REQUEST
        }
        E::NotFound(_) => StatusCode::NOT_FOUND,
        E::NotAtHand(_) => StatusCode::PRECONDITION_FAILED,
        // It may well have a good record elsewhere, now or later.
        E::NoRecord(_) | E::NoRecords | E::Expired(_) | E::Invalid { .. } | E::Older { .. } => {
            StatusCode::BAD_GATEWAY
        }
        E::Unavailable { .. } => StatusCode::BAD_GATEWAY,
        E::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        E::Db(db::Error::Store(StoreError::Closed)) => StatusCode::SERVICE_UNAVAILABLE,
        E::Db(_) | E::TooMany | E::Signing(_) | E::Rule { .. } | E::Resolver(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn fetch_status(error: &FetchError) -> StatusCode {
    match error {
        FetchError::NotFound(_) => StatusCode::NOT_FOUND,
        FetchError::Blocked(Blocked::Gone) => StatusCode::GONE,
        FetchError::Blocked(Blocked::Legal) => StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
        FetchError::Timeout(..) => StatusCode::GATEWAY_TIMEOUT,
        FetchError::Missing(missing) if missing.timed_out => StatusCode::GATEWAY_TIMEOUT,
        FetchError::Missing(_) => StatusCode::BAD_GATEWAY,
        FetchError::Unavailable(_) | FetchError::Corrupt(_) => StatusCode::BAD_GATEWAY,
        FetchError::Store(StoreError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
        FetchError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
