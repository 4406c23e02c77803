//! Conditions on what there is: `If-Match` and `If-Unmodified-Since` (RFC 9110 sections 13.1.1,
//! 13.1.4 and 13.2.2).

use http::{HeaderMap, HeaderName, Method, header};

use super::Request;

/// What must not stand in the request that tells what there is.
const OTHERS: [HeaderName; 2] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

/// Whether a request makes a condition of either kind.
pub(super) fn are_made(request: &Request) -> bool {
    let headers = request.headers();
    (headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_UNMODIFIED_SINCE))
        && matches!(*request.method(), Method::GET | Method::HEAD)
}

/// The request whose answer has the validators that the conditions are about, and no body. A range
/// stays in it: parts are never encoded, and so have another entity tag than what is.
pub(super) fn head_of(request: &Request) -> Request {
    let mut head = request.clone();
    *head.method_mut() = Method::HEAD;
    for name in OTHERS {
        head.headers_mut().remove(name);
    }
    head
}

/// Whether the conditions that a request makes hold for what has these validators. `If-Match` wins;
/// a date that cannot be read, or is asked of what has none, is no condition.
pub(super) fn hold(asked: &HeaderMap, there: &HeaderMap) -> bool {
    if asked.contains_key(header::IF_MATCH) {
        let tag = there.get(header::ETAG).map(|tag| tag.as_bytes());
        let strong = tag.filter(|tag| !tag.starts_with(b"W/"));
        let mut lists = asked.get_all(header::IF_MATCH).iter();
        return lists.any(|list| {
            let mut tags = list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            tags.any(|tag| tag == b"*" || Some(tag) == strong)
        });
    }
    let date = |headers: &HeaderMap, name| {
        let value = headers.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(value).ok()
    };
    let since = date(asked, header::IF_UNMODIFIED_SINCE);
    match (since, date(there, header::LAST_MODIFIED)) {
        (Some(since), Some(modified)) => modified <= since,
        _ => true,
    }
}
