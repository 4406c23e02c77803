//! Content codings: what a client takes, what is worth it, and the headers that keep caches right
//! (RFC 9110 sections 8.4 and 12.5.3).
//!
//! **Invariant:** bytes that someone will check against a CID, and parts of files, are never
//! encoded; each coding of one content has an entity tag of its own.

mod accepted;
mod body;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use tokio::sync::Semaphore;

use super::Request;
use super::body::Body;
use super::request::{Format, joined};

use accepted::Accepted;
pub(super) use body::EncodedBody;

/// Below this size, in bytes, a coding saves less than its headers and its work cost.
const CONTENT_BYTES_MIN: u64 = 1 << 10;
/// Content up to this size, in bytes, is encoded on the spot, with next to no memory.
const SMALL_BYTES_MAX: u64 = 32 << 10;
/// Larger content that is encoded at once; further requests get it as it is. Each has an encoder
/// of about 2 MiB and at times a thread.
const LARGE_AT_ONCE_MAX: usize = 32;

const ACCEPT: &[u8] = b"Accept";
const BY_ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");
const BY_BOTH: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");

/// Content codings, those preferred first: zstd costs least, gzip saves least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in `Content-Encoding`, and what its entity tags end in.
    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Encodes responses. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Encoders {
    enabled: bool,
    large: Arc<Semaphore>,
}

/// What a request says of codings.
#[derive(Debug)]
pub(super) struct Encoding {
    accepted: Accepted,
    /// A range was asked for, in a coding: its bytes are counted in the content as it is.
    ranged: bool,
    /// The entity tags that the client gave, where some of them are of encoded content.
    held: Option<HeaderValue>,
}

impl Encoders {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, large: Arc::new(Semaphore::new(LARGE_AT_ONCE_MAX)) }
    }

    /// Takes all places of large content.
    #[cfg(test)]
    pub(super) fn hold_all(&self) -> tokio::sync::OwnedSemaphorePermit {
        let places = LARGE_AT_ONCE_MAX.try_into().unwrap();
        Arc::clone(&self.large).try_acquire_many_owned(places).unwrap()
    }

    /// Reads what a request says of codings. The entity tags that it gives are left as those of
    /// the content as it is, for what follows knows of no others.
    pub(super) fn read(&self, request: &mut Request) -> Option<Encoding> {
        if !self.enabled {
            return None;
        }
        let headers = request.headers_mut();
        let accepted = Accepted::read(headers);
        let encodes = accepted.coding.is_some();
        let held = if encodes { take_encoded_tags(headers) } else { None };
        let ranged = encodes && headers.contains_key(header::RANGE);
        Some(Encoding { accepted, ranged, held })
    }

    /// Encodes a response where that is asked for and worth it, and says what it depends on.
    pub(super) fn apply(
        &self,
        encoding: &Encoding,
        response: Response<Body>,
        format: Option<Format>,
    ) -> Response<Body> {
        match response.status() {
            StatusCode::OK => self.whole(encoding, response),
            StatusCode::PARTIAL_CONTENT if is_partly_compressible(response.headers()) => {
                vary(response)
            }
            StatusCode::NOT_MODIFIED if is_maybe_compressible(format) => {
                vary(with_held_tag(encoding, response))
            }
            _ => response,
        }
    }

    fn whole(&self, encoding: &Encoding, response: Response<Body>) -> Response<Body> {
        let Encoding { accepted, ranged, .. } = encoding;
        let headers = response.headers();
        let insisted = || !accepted.identity && !is_verified(headers);
        if !is_compressible(headers) && !insisted() {
            return response;
        }
        let mut response = vary(response);
        let Some(coding) = accepted.coding.filter(|_| !ranged) else { return response };
        let size = content_length(&response);
        // Nothing is the same in every coding, and none of them has an end to be found in it.
        if size == Some(0) || accepted.identity && size.is_some_and(|size| size < CONTENT_BYTES_MIN)
        {
            return response;
        }
        let small = size.is_some_and(|size| size <= SMALL_BYTES_MAX);
        let place = if small { None } else { Arc::clone(&self.large).try_acquire_owned().ok() };
        if !small && place.is_none() {
            return response;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        // Its length is known when it is encoded, and ranges are had of what it is before.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::ACCEPT_RANGES);
        if let Some(tag) = headers.get(header::ETAG).and_then(|tag| encoded_tag(tag, coding)) {
            headers.insert(header::ETAG, tag);
        }
        // The answer to HEAD has no body, and hyper must not be told of another length.
        response.map(|body| match body.is_end_stream() {
            true => body,
            false => body.encoded(coding, size, place),
        })
    }
}

/// The length that the response says, for the answer to HEAD has no other.
fn content_length(response: &Response<Body>) -> Option<u64> {
    let said = response.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse().ok());
    said.or_else(|| response.body().size_hint().exact())
}

/// Whether content of this type is for those who check it, or unpack it, as it is.
fn is_verified(headers: &HeaderMap) -> bool {
    const AS_IT_IS: [&[u8]; 4] = [
        b"application/vnd.ipld.raw",
        b"application/vnd.ipld.car",
        b"application/vnd.ipfs.ipns-record",
        b"application/x-tar",
    ];
    let media_type = headers.get(header::CONTENT_TYPE);
    media_type.is_some_and(|value| AS_IT_IS.iter().any(|known| value.as_bytes().starts_with(known)))
}

/// Whether content of this type gets smaller.
fn is_compressible(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let media_type = media_type.as_bytes();
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    match essence.split_at_checked(5) {
        Some((b"text/", _)) => true,
        Some((b"appli", _)) => matches!(
            essence,
            b"application/json"
                | b"application/javascript"
                | b"application/ld+json"
                | b"application/manifest+json"
                | b"application/vnd.ipld.dag-json"
                | b"application/wasm"
                | b"application/xml"
                | b"application/xhtml+xml"
                | b"application/rss+xml"
                | b"application/atom+xml"
        ),
        Some((b"image", _)) => matches!(essence, b"image/svg+xml" | b"image/bmp" | b"image/x-icon"),
        Some((b"font/", _)) => matches!(essence, b"font/ttf" | b"font/otf"),
        _ => false,
    }
}

/// Whether these parts of content may be of such a type: where they are several, each says its own.
fn is_partly_compressible(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE);
    is_compressible(headers)
        || media_type.is_some_and(|value| value.as_bytes().starts_with(b"multipart/byteranges"))
}

/// Whether content in this format may be of such a type, where nothing was read to tell.
fn is_maybe_compressible(format: Option<Format>) -> bool {
    matches!(format, Some(Format::Default | Format::Codec(_)))
}

/// Says that the answer depends on the codings that were accepted.
fn vary(mut response: Response<Body>) -> Response<Body> {
    let value = response.headers_mut().entry(header::VARY).or_insert(BY_ENCODING);
    if value.as_bytes() == ACCEPT {
        *value = BY_BOTH;
    } else if *value != BY_ENCODING {
        let all = [value.as_bytes(), b", ", BY_ENCODING.as_bytes()].concat();
        *value = HeaderValue::from_bytes(&all).unwrap_or(BY_ENCODING);
    }
    response
}

/// `"tag"` becomes `"tag-br"`.
fn encoded_tag(tag: &HeaderValue, coding: Coding) -> Option<HeaderValue> {
    let inside = tag.as_bytes().strip_suffix(b"\"")?;
    let tag = [inside, b"-", coding.name().as_bytes(), b"\""].concat();
    HeaderValue::from_maybe_shared(bytes::Bytes::from(tag)).ok()
}

/// The tag without the coding that it ends in, if it ends in one.
fn plain_tag(tag: &[u8]) -> Option<&[u8]> {
    let inside = tag.strip_suffix(b"\"")?;
    Coding::ALL
        .iter()
        .find_map(|coding| inside.strip_suffix(coding.name().as_bytes())?.strip_suffix(b"-"))
}

/// Replaces tags of encoded content by those of the content, and gives back what was there. The
/// client has it in that coding, and can read it.
fn take_encoded_tags(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let held = joined(headers, header::IF_NONE_MATCH)?;
    let tags = || held.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    if !tags().any(|tag| plain_tag(tag).is_some()) {
        return None;
    }
    let mut plain = Vec::with_capacity(held.len());
    for tag in tags() {
        if !plain.is_empty() {
            plain.extend_from_slice(b", ");
        }
        match plain_tag(tag) {
            Some(inside) => {
                plain.extend_from_slice(inside);
                plain.push(b'"');
            }
            None => plain.extend_from_slice(tag),
        }
    }
    let plain = HeaderValue::from_bytes(&plain).ok()?;
    headers.insert(header::IF_NONE_MATCH, plain);
    Some(held)
}

/// Names in a 304 the tag that the client gave, so that its cache finds what it means.
fn with_held_tag(encoding: &Encoding, mut response: Response<Body>) -> Response<Body> {
    let Some(held) = &encoding.held else { return response };
    let headers = response.headers_mut();
    let Some(tag) = headers.get(header::ETAG) else { return response };
    let held: Vec<_> =
        held.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect();
    let has = |tag: &HeaderValue| held.iter().any(|held| held.ends_with(tag.as_bytes()));
    if has(tag) {
        return response;
    }
    let tags = Coding::ALL.iter().filter_map(|coding| encoded_tag(tag, *coding));
    if let Some(tag) = tags.into_iter().find(has) {
        headers.insert(header::ETAG, tag);
    }
    response
}
