//! The headers of gateway responses: validators, caching, names and types of content.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::ipld::unixfs::Mtime;
use crate::task;

use super::body::Body;
use super::escape;
use super::request::{ContentRequest, Format, SaidBy, Validity, Wants};
use super::resolve::Named;

/// The methods we answer.
pub(super) const METHODS: &str = "GET, HEAD, OPTIONS";
/// Content under a CID never changes.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=29030400, immutable");
/// A listing's content never changes, but its looks do.
const LISTING: HeaderValue =
    HeaderValue::from_static("public, max-age=604800, stale-while-revalidate=2678400");

/// What a response is made of, and so how long a cache may keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of the content.
    Content,
    /// A page that we made about it.
    Page,
}

/// For how long a cache may keep the answer to `request`; none where nobody says.
pub(super) fn cache_control(request: &ContentRequest, kind: Kind) -> Option<HeaderValue> {
    match (request.validity, kind) {
        (Validity::Immutable, Kind::Content) => Some(IMMUTABLE),
        (Validity::Immutable, Kind::Page) => Some(LISTING),
        (Validity::For(ttl), _) => {
            let value = format!("public, max-age={}", ttl?.as_secs());
            HeaderValue::try_from(value).ok()
        }
    }
}

pub(super) const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
pub(super) const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

const ALLOW_HEADERS: HeaderValue =
    HeaderValue::from_static("Content-Type, Range, User-Agent, X-Requested-With");
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Length, Content-Range, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, X-Stream-Output",
);
const ANY: HeaderValue = HeaderValue::from_static("*");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Room for the headers that a content response usually has.
const USUAL_COUNT: usize = 24;

/// A response of these parts.
pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Lets any web page read what is public anyway.
pub(super) fn put_cors(headers: &mut HeaderMap) {
    put_readable(headers);
    put_preflight(headers);
}

fn put_readable(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
}

fn put_preflight(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
}

/// Takes away what matters in the answer to a preflight only, so that a 304 stays short.
pub(super) fn trim_for_not_modified(headers: &mut HeaderMap) {
    headers.remove(header::ACCESS_CONTROL_ALLOW_METHODS);
    headers.remove(header::ACCESS_CONTROL_ALLOW_HEADERS);
}

/// What every response about content says: what it is, and for how long it holds.
pub(super) fn content(
    request: &ContentRequest,
    named: &Named,
    etag: HeaderValue,
    kind: Kind,
) -> HeaderMap {
    let mut headers = not_modified(request, named, etag, kind);
    put_preflight(&mut headers);
    headers
}

/// The same, for whoever has the content already: what matters in the answer to a preflight only
/// is left out, so that it stays short.
pub(super) fn not_modified(
    request: &ContentRequest,
    named: &Named,
    etag: HeaderValue,
    kind: Kind,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(USUAL_COUNT);
    put_readable(&mut headers);
    headers.insert(header::ETAG, etag);
    if let Some(value) = cache_control(request, kind) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    headers.insert(X_IPFS_PATH, named.path.clone());
    headers.insert(X_IPFS_ROOTS, named.roots.clone());
    if request.wants.said_by != SaidBy::Query {
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    }
    put_content_location(
        &mut headers,
        request.site.url_path(&request.path.original),
        &request.wants,
    );
    headers
}

/// When content was last modified. `None` where HTTP has no such date, or where it is yet to come
/// (RFC 9110 section 8.8.2.1).
pub(super) fn last_modified(mtime: Mtime) -> Option<HeaderValue> {
    /// The end of the year 9999, the last that an HTTP date can be in.
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(mtime.seconds).ok()?;
    let past = seconds <= LAST.min(task::now_unix());
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    past.then(|| HeaderValue::try_from(httpdate::fmt_http_date(time)).ok())?
}

/// Whether the client has what was modified then (`If-Modified-Since`). What a name stands for may
/// become older, so there only the same date counts.
pub(super) fn is_since(request: &ContentRequest, modified: &HeaderValue) -> bool {
    let Some(since) = &request.wants.if_modified_since else { return false };
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    match (date(since), date(modified)) {
        (Some(since), Some(modified)) if request.validity == Validity::Immutable => {
            modified <= since
        }
        (since, modified) => since.is_some() && since == modified,
    }
}

/// Whether the validator that ranges were asked with is that of the content (`If-Range`, RFC 9110
/// section 13.1.5). A date is a strong one only where content never changes.
pub(super) fn range_holds(request: &ContentRequest, headers: &HeaderMap) -> bool {
    let Some(held) = &request.wants.if_range else { return true };
    headers.get(header::ETAG) == Some(held) && !held.as_bytes().starts_with(b"W/")
        || request.validity == Validity::Immutable
            && headers.get(header::LAST_MODIFIED) == Some(held)
}

/// The answer to whoever has this content already.
pub(super) fn into_not_modified(mut headers: HeaderMap) -> Response<Body> {
    trim_for_not_modified(&mut headers);
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::CONTENT_DISPOSITION,
        header::CONTENT_SECURITY_POLICY,
        header::ACCEPT_RANGES,
        header::X_CONTENT_TYPE_OPTIONS,
    ] {
        headers.remove(name);
    }
    response(StatusCode::NOT_MODIFIED, headers, Body::empty())
}

/// Where `Accept` decided, says the URL at which this representation is had by everybody.
pub(super) fn put_content_location(headers: &mut HeaderMap, url_path: &str, wants: &Wants) {
    if wants.said_by == SaidBy::Accept
        && let Some(location) = content_location(url_path, wants)
    {
        headers.insert(header::CONTENT_LOCATION, location);
    }
}

fn content_location(url_path: &str, wants: &Wants) -> Option<HeaderValue> {
    let mut location = format!("{url_path}?");
    let kept = wants.query.iter().flat_map(|query| query.split('&'));
    for pair in kept.filter(|pair| !pair.is_empty()) {
        location.push_str(pair);
        location.push('&');
    }
    location.push_str("format=");
    location.push_str(wants.format.name());
    if let Format::Car(params) = wants.format {
        let given = |name| wants.query.as_deref().is_some_and(|query| query.contains(name));
        if params.duplicates && !given("car-dups=") {
            location.push_str("&car-dups=y");
        }
        if params.any_order && !given("car-order=") {
            location.push_str("&car-order=unk");
        }
    }
    HeaderValue::try_from(location).ok()
}

/// Forbids browsers to take the bytes for something else than they are said to be.
pub(super) fn put_nosniff(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
}

/// Says that ranges of these bytes can be had.
pub(super) fn put_ranges(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_RANGES, BYTES);
}

/// `"{cid}{suffix}"`, in quotes.
pub(super) fn etag(cid: &[u8], suffix: &str) -> HeaderValue {
    quoted(&[cid, suffix.as_bytes()])
}

/// Puts quotes around what these parts make.
pub(super) fn quoted(parts: &[&[u8]]) -> HeaderValue {
    let mut text = Vec::with_capacity(2 + parts.iter().map(|part| part.len()).sum::<usize>());
    text.push(b'"');
    parts.iter().for_each(|part| text.extend_from_slice(part));
    text.push(b'"');
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Whether a list of entity tags has this one, in the weak sense of RFC 9110 section 8.8.3.2. `*`
/// is none of them: what it says is known only when the content is.
pub(super) fn matches(list: &HeaderValue, etag: &HeaderValue) -> bool {
    let (list, etag) = (list.as_bytes(), opaque(etag.as_bytes()));
    list == etag || list.split(|byte| *byte == b',').any(|tag| opaque(tag.trim_ascii()) == etag)
}

/// A tag without the mark of a weak one.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// `Content-Disposition` with a name in both forms of RFC 6266. Both are percent-encoded, so that
/// no name can end the value early.
pub(super) fn disposition(attachment: bool, name: &str) -> Option<HeaderValue> {
    let mut value = String::with_capacity(64 + name.len() * 2);
    value.push_str(if attachment { "attachment" } else { "inline" });
    value.push_str("; filename=\"");
    let ascii: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    escape::segment(&mut value, ascii.as_bytes());
    value.push_str("\"; filename*=UTF-8''");
    escape::attribute(&mut value, name.as_bytes());
    HeaderValue::try_from(value).ok()
}

/// The media type of a file: by its name, else by how its bytes begin.
pub(super) fn media_type(name: Option<&str>, start: Option<&[u8]>) -> HeaderValue {
    let by_name = name
        .and_then(|name| name.rsplit_once('.'))
        .and_then(|(_, extension)| mime_guess::from_ext(extension).first_raw());
    let essence = match (by_name, start) {
        (Some(found), _) => found,
        (None, Some(start)) => sniff(start),
        (None, None) => "application/octet-stream",
    };
    match essence {
        // A page may say its character set itself.
        "text/html" => HeaderValue::from_static("text/html"),
        "text/plain" => HeaderValue::from_static("text/plain; charset=utf-8"),
        // By its registered name (RFC 9239).
        "application/javascript" => HeaderValue::from_static("text/javascript; charset=utf-8"),
        text if text.starts_with("text/") => {
            HeaderValue::try_from(format!("{text}; charset=utf-8"))
                .unwrap_or_else(|_| HeaderValue::from_static("text/plain; charset=utf-8"))
        }
        other => HeaderValue::from_static(other),
    }
}

/// How much of a file decides on its type.
pub(super) const SNIFFED_BYTES: usize = 512;

fn sniff(start: &[u8]) -> &'static str {
    let start = start.get(..SNIFFED_BYTES).unwrap_or(start);
    if let Some(found) = infer::get(start) {
        return match found.mime_type() {
            "text/xml" if contains(start, b"<svg") => "image/svg+xml",
            known => known,
        };
    }
    let trimmed = start.trim_ascii_start();
    if !is_text(start) {
        "application/octet-stream"
    } else if trimmed.starts_with(b"<svg") {
        "image/svg+xml"
    } else if matches!(trimmed.first(), Some(b'{' | b'[')) && is_json_like(trimmed) {
        "application/json"
    } else {
        "text/plain"
    }
}

/// UTF-8 (cut anywhere) without control characters other than white space.
fn is_text(start: &[u8]) -> bool {
    let valid = match std::str::from_utf8(start) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && start.len() == SNIFFED_BYTES,
    };
    valid
        && !start
            .iter()
            .any(|byte| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
}

fn is_json_like(start: &[u8]) -> bool {
    let second = start.get(1..).unwrap_or_default().trim_ascii_start().first();
    match (start.first(), second) {
        (Some(b'{'), Some(next)) => matches!(next, b'"' | b'}'),
        (Some(b'['), Some(next)) => {
            matches!(next, b'"' | b']' | b'{' | b'[' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n')
        }
        _ => false,
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_from_the_name_then_from_the_bytes() {
        let check = |name, start: &[u8], want: &str| {
            assert_eq!(media_type(name, Some(start)), want, "{name:?}");
        };
        check(Some("a.html"), b"x", "text/html");
        check(Some("a.txt"), b"x", "text/plain; charset=utf-8");
        check(Some("a.css"), b"x", "text/css; charset=utf-8");
        check(Some("a.png"), b"x", "image/png");
        check(Some("a.js"), b"x", "text/javascript; charset=utf-8");
        check(Some("a.MJS"), b"x", "text/javascript; charset=utf-8");
        check(None, b"\x89PNG\r\n\x1a\n", "image/png");
        check(None, b"<!DOCTYPE html><p>", "text/html");
        check(None, b"<svg xmlns='x'/>", "image/svg+xml");
        check(None, b"<?xml version='1.0'?><svg/>", "image/svg+xml");
        check(None, b"{\"a\": 1}", "application/json");
        check(None, b"hello", "text/plain; charset=utf-8");
        check(None, b"\x00\x01\xff", "application/octet-stream");
        check(Some("noext"), "żółw".as_bytes(), "text/plain; charset=utf-8");
        assert_eq!(media_type(None, None), "application/octet-stream");
    }

    #[test]
    fn tags_are_compared_weakly() {
        let tag = HeaderValue::from_static("\"a\"");
        for list in ["\"a\"", "W/\"a\"", "\"b\", \"a\""] {
            assert!(matches(&HeaderValue::from_static(list), &tag), "{list}");
        }
        assert!(!matches(&HeaderValue::from_static("\"ab\""), &tag));
        assert!(!matches(&HeaderValue::from_static("a"), &tag));
        assert!(!matches(&HeaderValue::from_static("*"), &tag));
        let weak = HeaderValue::from_static("W/\"a\"");
        assert!(matches(&tag, &weak) && matches(&weak, &weak));
    }

    #[test]
    fn no_name_breaks_out_of_the_disposition() {
        let value = disposition(false, "a\"\r\nx: y;ź").unwrap();
        assert_eq!(
            value,
            "inline; filename=\"a%22%0D%0Ax:%20y%3B_\"; filename*=UTF-8''a%22%0D%0Ax%3A%20y%3B%C5%BA"
        );
    }
}
