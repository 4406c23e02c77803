//! A gateway request, understood: method, URI and headers in, [`ContentRequest`] out. Pure; after
//! it there are no strings to parse (path gateway and trustless gateway specifications).

mod accept;
mod query;
mod range;

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use percent_encoding::percent_decode_str;

use crate::ipld::Error as IpldError;
use crate::ipld::car::walk::{CarScope, EntityBytes};
use crate::ipld::path::ContentPath;

use super::error::Error;

use accept::Accepted;
pub(super) use range::{ByteRange, Satisfied};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentRequest {
    /// Whether only the head of the response is wanted.
    pub(super) head: bool,
    /// What is asked for.
    pub(super) path: ContentPath,
    /// The query, as it was given.
    pub(super) query: Option<String>,
    /// How it is to be represented.
    pub(super) format: Format,
    /// Who said so.
    pub(super) said_by: SaidBy,
    /// Which bytes of it.
    pub(super) range: Option<ByteRange>,
    /// The validator the range holds for; for any other the whole is wanted.
    pub(super) if_range: Option<HeaderValue>,
    /// What the client already has.
    pub(super) if_none_match: Option<HeaderValue>,
    /// What the client would call it (`filename`).
    pub(super) filename: Option<String>,
    /// Whether it is to be saved rather than shown (`download`).
    pub(super) download: bool,
    /// Whether only what is here already is wanted (`only-if-cached`).
    pub(super) local_only: bool,
    /// Page of a listing, from 0.
    pub(super) page: usize,
    /// Whether a directory may be served without its trailing slash (`go-get`).
    pub(super) slash_optional: bool,
}

/// Representations of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// What suits the content: files and listings, or the block as it is.
    Default,
    /// The block.
    Raw,
    /// Blocks in a CAR.
    Car(CarParams),
    /// The block, which must be of this codec or of one whose bytes are the same.
    Codec(Codec),
    /// A TAR of files.
    Tar,
    /// A signed record of a name.
    IpnsRecord,
}

impl Format {
    /// The name that `format` has for it; none for the default.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Raw => "raw",
            Self::Car(_) => "car",
            Self::Codec(Codec::DagJson) => "dag-json",
            Self::Codec(Codec::DagCbor) => "dag-cbor",
            Self::Codec(Codec::Json) => "json",
            Self::Codec(Codec::Cbor) => "cbor",
            Self::Tar => "tar",
            Self::IpnsRecord => "ipns-record",
        }
    }
}

/// The codecs that can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    DagJson,
    DagCbor,
    Json,
    Cbor,
}

/// What a CAR is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CarParams {
    pub(super) scope: CarScope,
    pub(super) bytes: Option<EntityBytes>,
    pub(super) duplicates: bool,
    /// Whether the client takes the blocks in any order; ours is depth first all the same.
    pub(super) any_order: bool,
}

/// What decided on the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SaidBy {
    /// The `format` parameter.
    Query,
    /// The `Accept` header.
    Accept,
    /// Nobody.
    Nobody,
}

/// What a request comes down to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the large one is the usual one, and lives briefly")]
pub(super) enum Parsed {
    /// Content is asked for.
    Content(ContentRequest),
    /// The methods and headers are asked for (`OPTIONS`).
    Options,
    /// Another path is meant.
    Redirect(String),
}

/// Reads a request.
pub(super) fn parse(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Parsed, Error> {
    let head = match *method {
        Method::GET => false,
        Method::HEAD => true,
        Method::OPTIONS => return Ok(Parsed::Options),
        _ => return Err(Error::Method),
    };
    let mut params = query::Params::parse(uri.query().unwrap_or_default())?;
    if let Some(target) = params.uri.take() {
        return protocol_redirect(&target).map(Parsed::Redirect);
    }
    if let Some(inner) = doubled_namespace(uri.path()) {
        return Ok(Parsed::Redirect(with_query(inner, uri.query())));
    }
    if !uri.path().starts_with("/ipfs/") {
        return Err(Error::NoSuchRoute);
    }
    let path = ContentPath::parse(uri.path()).map_err(path_error)?;
    let below_root = path.trailing_slash || !path.segments.is_empty();
    if !below_root && headers.get("service-worker").is_some_and(|value| value == "script") {
        return Err(Error::ServiceWorker);
    }
    let accepted = accept::parse(headers)?;
    let (format, said_by) = choose_format(&params, accepted)?;
    Ok(Parsed::Content(ContentRequest {
        head,
        path,
        query: uri.query().map(str::to_owned),
        format,
        said_by,
        range: headers.get(header::RANGE).and_then(ByteRange::parse),
        if_range: headers.get(header::IF_RANGE).cloned(),
        if_none_match: joined(headers, header::IF_NONE_MATCH),
        filename: params.filename,
        download: params.download,
        local_only: is_local_only(headers),
        page: params.page,
        slash_optional: params.go_get,
    }))
}

fn path_error(error: IpldError) -> Error {
    match error {
        IpldError::Limit { .. } => Error::PathTooLong,
        other => Error::BadPath(other),
    }
}

/// `format` wins over `Accept` (IPIP-523); where both name the same, the parameters of `Accept`
/// still apply, below those of the query.
fn choose_format(params: &query::Params, accepted: Accepted) -> Result<(Format, SaidBy), Error> {
    let (format, said_by) = match (&params.format, accepted.format) {
        (Some(name), _) => (query::format(name)?, SaidBy::Query),
        (None, Some(format)) => (format, SaidBy::Accept),
        (None, None) => (Format::Default, SaidBy::Nobody),
    };
    let Format::Car(_) = format else { return Ok((format, said_by)) };
    let car = if matches!(accepted.format, Some(Format::Car(_))) { accepted.car } else { None };
    Ok((Format::Car(params.car(car.unwrap_or_default())?), said_by))
}

fn is_local_only(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case("only-if-cached"))
        })
    })
}

/// The value of a list header that may come in several lines.
fn joined(headers: &HeaderMap, name: header::HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let mut rest = values.peekable();
    if rest.peek().is_none() {
        return Some(first.clone());
    }
    let mut all = first.as_bytes().to_vec();
    for value in rest {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

/// `/ipfs/ipfs/{cid}` and `/ipfs/ipns/{name}`: the inner path is meant.
fn doubled_namespace(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("/ipfs")?;
    (inner.starts_with("/ipfs/") || inner.starts_with("/ipns/")).then_some(inner)
}

pub(super) fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}

/// `?uri=ipfs://…`: what a browser's protocol handler sends.
fn protocol_redirect(target: &str) -> Result<String, Error> {
    let bad = || Error::BadParameter { name: "uri", reason: "it is not an ipfs:// or ipns:// URI" };
    let (scheme, rest) = target.split_once("://").ok_or_else(bad)?;
    let namespace = match scheme {
        "ipfs" => "/ipfs/",
        "ipns" => "/ipns/",
        _ => return Err(bad()),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    if path.is_empty() || path.starts_with('/') {
        return Err(bad());
    }
    let mut location = namespace.to_owned();
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            location.push('/');
        }
        // It is part of a URI, so it has escapes of its own. Dots would be steps to a browser.
        let name: Cow<'_, [u8]> = percent_decode_str(segment).into();
        if matches!(&*name, b"." | b"..") {
            return Err(bad());
        }
        super::escape::segment(&mut location, &name);
    }
    if let Some(query) = query {
        location.push('?');
        super::escape::query(&mut location, query.as_bytes());
    }
    Ok(location)
}
