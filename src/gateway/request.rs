//! A gateway request, understood: method, URI and headers in, [`ContentRequest`] out. Pure; after
//! it there are no strings to parse (path gateway and trustless gateway specifications).

mod accept;
mod query;
mod range;

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::percent_decode_str;

use crate::block::Cid;
use crate::ipld::Error as IpldError;
use crate::ipld::car::walk::{CarScope, EntityBytes};
use crate::ipld::path::{self, ContentPath};
use crate::routing::{Name, Resolved};

use super::Request;
use super::error::Error;
use super::site::{Place, Site};

use accept::Accepted;
pub(super) use range::{Ranges, Satisfied};

/// What a client asks for, by whatever it named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// What the path starts from.
    pub(super) root: Root,
    /// The names below the root, decoded.
    pub(super) segments: Vec<String>,
    /// Whether the path ends in a slash.
    pub(super) trailing_slash: bool,
    /// The content path, percent-encoded as it was given.
    pub(super) original: String,
    /// Where it was asked.
    pub(super) site: Site,
    /// How the answer is to be.
    pub(super) wants: Wants,
}

/// What a content path starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root {
    /// `/ipfs/{cid}`.
    Cid(Cid),
    /// `/ipns/{name}`.
    Name(Name),
}

/// What a client asks for, its root known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentRequest {
    /// The root and all names below it, those that a record gives before those that were asked
    /// for; and the content path as it was asked for.
    pub(super) path: ContentPath,
    /// How many of the names below the root were asked for.
    pub(super) asked_segments: usize,
    /// The names that led to the root, that which was asked for first; each with how many of the
    /// names that records give stand below it.
    pub(super) through: Vec<(Name, usize)>,
    /// How long the answer holds.
    pub(super) validity: Validity,
    /// Where it was asked.
    pub(super) site: Site,
    /// How the answer is to be.
    pub(super) wants: Wants,
}

/// How long an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    /// For ever: its path starts from a CID.
    Immutable,
    /// For so long; none where nobody says. Its path starts from a name.
    For(Option<Duration>),
}

/// How an answer is to be: what the query and the headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wants {
    /// Whether only the head of the response is wanted.
    pub(super) head: bool,
    /// The query, as it was given.
    pub(super) query: Option<String>,
    /// How it is to be represented.
    pub(super) format: Format,
    /// Who said so.
    pub(super) said_by: SaidBy,
    /// Whether a page about content that is data would be welcome: `Accept` names HTML.
    pub(super) html: bool,
    /// Which bytes of it.
    pub(super) range: Option<Ranges>,
    /// The validator the range holds for; for any other the whole is wanted.
    pub(super) if_range: Option<HeaderValue>,
    /// What the client already has.
    pub(super) if_none_match: Option<HeaderValue>,
    /// When the client got what it already has; none where it says `If-None-Match`, which wins.
    pub(super) if_modified_since: Option<HeaderValue>,
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
    Content(Asked),
    /// The methods and headers are asked for (`OPTIONS`).
    Options,
    /// Another path is meant.
    Redirect(String),
    /// The protocols that are spoken here are asked for.
    Protocols,
    /// The same is meant, in another form than it was asked in.
    Found(String),
}

/// Where clients look for the protocols of an HTTP host (libp2p HTTP specification).
const PROTOCOLS_PATH: &str = "/.well-known/libp2p/protocols";

impl Asked {
    /// The request, once its root is known to be this CID.
    pub(super) fn at(self, root: Cid) -> ContentRequest {
        let Self { segments, trailing_slash, original, site, wants, .. } = self;
        let asked_segments = segments.len();
        let path = ContentPath { root, segments, trailing_slash, original };
        let (through, validity) = (Vec::new(), Validity::Immutable);
        ContentRequest { path, asked_segments, through, validity, site, wants }
    }

    /// The request, once its name is known to stand for this.
    pub(super) fn at_name(self, resolved: Resolved) -> ContentRequest {
        let mut request = self.at(resolved.root);
        request.path.segments.splice(0..0, resolved.segments);
        request.through = resolved.through;
        request.validity = Validity::For(resolved.ttl);
        request
    }
}

impl ContentRequest {
    /// The names below the root that were asked for, without those that a record gives.
    pub(super) fn asked(&self) -> &[String] {
        self.path.segments.get(self.given()..).unwrap_or_default()
    }

    /// Each name that led to the root, and all that stands below it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&Name, &[String])> {
        self.through.iter().map(|(name, below)| {
            let from = self.given().saturating_sub(*below);
            (name, self.path.segments.get(from..).unwrap_or_default())
        })
    }

    /// The request for another path below the root of the site, decoded.
    pub(super) fn at_path(&self, segments: Vec<String>) -> Self {
        let mut request = self.clone();
        request.path.segments.truncate(self.given());
        request.asked_segments = segments.len();
        request.path.segments.extend(segments);
        request
    }

    /// How many of the names below the root are given by records.
    fn given(&self) -> usize {
        self.path.segments.len().saturating_sub(self.asked_segments)
    }
}

/// Reads a request that was made at `place`.
pub(super) fn parse(request: &Request, place: Place) -> Result<Parsed, Error> {
    let (uri, headers) = (request.uri(), request.headers());
    let head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        Method::OPTIONS => return Ok(Parsed::Options),
        _ => return Err(Error::Method),
    };
    let mut params = query::Params::parse(uri.query().unwrap_or_default())?;
    let Place { site, content_path } = place;
    if let Some(target) = params.uri.take()
        && let Some(gateway) = site.of_protocol_handler()
    {
        return Ok(Parsed::Redirect(gateway + &protocol_redirect(&target)?));
    }
    if let Some(inner) = doubled_namespace(&content_path) {
        return Ok(Parsed::Redirect(with_query(inner, uri.query())));
    }
    let (root, below) = path::split(&content_path).map_err(path_error)?;
    let root = match root {
        path::Root::Cid(cid) => Root::Cid(cid),
        path::Root::Name(text) => {
            let name = Name::parse(&text)?;
            if let Some(path) = canonical_key_path(&site, &name, &text, &content_path) {
                return Ok(Parsed::Found(with_query(&path, uri.query())));
            }
            Root::Name(name)
        }
        path::Root::Other if content_path == PROTOCOLS_PATH => return Ok(Parsed::Protocols),
        path::Root::Other => return Err(Error::NoSuchRoute),
    };
    let has = Has::among(headers);
    if has.service_worker && is_worker_of_all(headers, &below) {
        return Err(Error::ServiceWorker);
    }
    let accepted = if has.accept { accept::parse(headers)? } else { Accepted::default() };
    let (format, said_by) = choose_format(&params, accepted)?;
    if site == Site::Trustless {
        check_trustless(&root, &below, format)?;
    }
    let value = |has: bool, name| if has { headers.get(name) } else { None };
    let if_none_match =
        if has.if_none_match { joined(headers, header::IF_NONE_MATCH) } else { None };
    let if_modified_since = match if_none_match {
        Some(_) => None,
        None => value(has.if_modified_since, header::IF_MODIFIED_SINCE).cloned(),
    };
    // Ranges are defined for GET only (RFC 9110 section 14.2).
    let range = value(has.range && !head, header::RANGE).and_then(Ranges::parse);
    let wants = Wants {
        head,
        query: uri.query().map(str::to_owned),
        format,
        said_by,
        html: accepted.html,
        range,
        if_range: value(has.range, header::IF_RANGE).cloned(),
        if_none_match,
        if_modified_since,
        filename: params.filename,
        download: params.download,
        local_only: has.cache_control && is_local_only(headers),
        page: params.page,
        slash_optional: params.go_get,
    };
    let path::Below { segments, trailing_slash } = below;
    let original = content_path;
    Ok(Parsed::Content(Asked { root, segments, trailing_slash, original, site, wants }))
}

/// Which of the headers that say how an answer is to be a request has. Most have none of them, and
/// one pass costs less than looking up each.
#[derive(Debug, Clone, Copy, Default)]
struct Has {
    accept: bool,
    cache_control: bool,
    if_modified_since: bool,
    if_none_match: bool,
    range: bool,
    service_worker: bool,
}

impl Has {
    fn among(headers: &HeaderMap) -> Self {
        let mut has = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "accept" => has.accept = true,
                "cache-control" => has.cache_control = true,
                "if-modified-since" => has.if_modified_since = true,
                "if-none-match" => has.if_none_match = true,
                "range" => has.range = true,
                "service-worker" => has.service_worker = true,
                _ => {}
            }
        }
        has
    }
}

/// Whether this is the script of a service worker that would rule over all that is below the root:
/// from a path without a directory its scope is everybody's content.
pub(super) fn is_worker_of_all(headers: &HeaderMap, below: &path::Below) -> bool {
    !below.trailing_slash
        && below.segments.is_empty()
        && headers.get("service-worker").is_some_and(|value| value == "script")
}

/// Refuses what a client of a trustless host could not verify (trustless gateway specification).
fn check_trustless(root: &Root, below: &path::Below, format: Format) -> Result<(), Error> {
    match format {
        _ if matches!(root, Root::Name(Name::Domain(_))) => Err(Error::Trustless),
        Format::Raw if below.segments.is_empty() => Ok(()),
        Format::Car(_) | Format::IpnsRecord => Ok(()),
        _ => Err(Error::Trustless),
    }
}

/// Keys are asked by their CID in base36, so that each has one URL, and one that fits into a label
/// of a host. Not on a domain that leads to a key by its DNSLink: its URLs are its own.
fn canonical_key_path(site: &Site, name: &Name, text: &str, path: &str) -> Option<String> {
    let Name::Key(key) = name else { return None };
    let canonical = key.to_string();
    if canonical == text || matches!(site, Site::DnsLink(_)) {
        return None;
    }
    let below = path.strip_prefix("/ipns/")?.split_once('/').map(|(_, below)| below);
    Some(match below {
        Some(below) => format!("/ipns/{canonical}/{below}"),
        None => format!("/ipns/{canonical}"),
    })
}

pub(super) fn path_error(error: IpldError) -> Error {
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

pub(super) fn is_local_only(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case("only-if-cached"))
        })
    })
}

/// The value of a list header that may come in several lines.
pub(super) fn joined(headers: &HeaderMap, name: header::HeaderName) -> Option<HeaderValue> {
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

/// Whether a protocol handler's parameter is there, which decides before the path does.
pub(super) fn has_uri(query: Option<&str>) -> bool {
    let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
    pairs.any(|pair| pair.split('=').next() == Some("uri"))
}

/// `/ipfs/ipfs/{cid}` and `/ipfs/ipns/{name}`: the inner path is meant.
pub(super) fn doubled_namespace(path: &str) -> Option<&str> {
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
    // Schemes come in any case (RFC 3986 section 3.1).
    let namespace = match scheme {
        _ if scheme.eq_ignore_ascii_case("ipfs") => "/ipfs/",
        _ if scheme.eq_ignore_ascii_case("ipns") => "/ipns/",
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
