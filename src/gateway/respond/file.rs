//! Files: whole, in ranges, from one block or from many.

use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::block::Block;
use crate::gateway::body::Body;
use crate::gateway::error::Error;
use crate::gateway::headers;
use crate::gateway::read_ahead::ReadAhead;
use crate::gateway::request::{Codec, ContentRequest, Format, Satisfied};
use crate::gateway::resolve::Named;
use crate::ipld::unixfs::read::Step;
use crate::ipld::unixfs::{self, FileReader, Mtime};
use crate::ipld::{AtHand, Error as IpldError};
use crate::retrieval::{Retriever, Session};

use super::multipart::{MultipartBody, Source};
use super::{Responder, block};

/// A file, and what it is served as.
#[derive(Debug)]
pub(super) struct Served<'a> {
    pub(super) file: unixfs::File,
    /// When it was last modified, where its node says so.
    pub(super) mtime: Option<Mtime>,
    /// The name that tells its type.
    pub(super) name: Option<&'a str>,
    /// What the response is about: the file, or the directory whose index it is.
    pub(super) named: &'a Named,
}

/// A file that is one raw block.
pub(super) fn whole(
    responder: Responder<'_>,
    named: &Named,
    block: &Block,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    let mut headers = content_headers(request, named);
    let name = request.wants.filename.as_deref();
    // A type may be given already, by the format.
    headers
        .entry(header::CONTENT_TYPE)
        .or_insert_with(|| headers::media_type(name, Some(block.data())));
    at_hand(responder, headers, block.data())
}

/// Any file.
pub(super) async fn file(
    responder: Responder<'_>,
    session: &Session,
    served: Served<'_>,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    let mut headers = content_headers(request, served.named);
    if put_modified(request, &mut headers, served.mtime) {
        return Ok(headers::into_not_modified(headers));
    }
    let size = served.file.size;
    if size > responder.range_bytes_max {
        headers.remove(header::ACCEPT_RANGES);
        if request.wants.range.is_some() {
            return Err(Error::RangeOfLarge(responder.range_bytes_max));
        }
    }
    let selected = select(request, &mut headers, size)?;
    let name = request.wants.filename.as_deref().or(served.name);
    // What the name does not tell is told by how the file begins, whichever part is asked for.
    let typed = headers.get(header::CONTENT_TYPE).cloned();
    let typed = typed.unwrap_or_else(|| headers::media_type(name, None));
    let told = typed != "application/octet-stream";
    let retriever = responder.retriever;
    let body = |file, range| FileBody::new(retriever.clone(), session.clone(), file, range);

    let (range, status) = match selected {
        Selected::Whole => (0..size, StatusCode::OK),
        Selected::Part(part) => (part, StatusCode::PARTIAL_CONTENT),
        Selected::Parts(parts) => {
            let typed = if told { typed } else { beginning(body, &served.file, name).await };
            headers.insert(header::CONTENT_TYPE, typed);
            let retriever = retriever.clone();
            let source = Source::File { file: served.file, retriever, session: session.clone() };
            let mut body = MultipartBody::new(&mut headers, source, &parts, size);
            body.begin().await?;
            let body = Body::multipart(body, responder.streams.clone());
            return Ok(headers::response(StatusCode::PARTIAL_CONTENT, headers, body));
        }
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    let partial = status == StatusCode::PARTIAL_CONTENT;
    let typed = match partial && !told {
        true => beginning(body, &served.file, name).await,
        false => typed,
    };
    let mut body = body(served.file, range);
    // A head needs the first bytes only to tell the type.
    if !request.wants.head || (!told && !partial) {
        body.first = poll_fn(|cx| body.poll_next(cx)).await?;
        body.left += body.first.as_ref().map_or(0, |first| first.len() as u64);
    }
    let typed = match partial || told {
        true => typed,
        false => headers::media_type(name, Some(body.first.as_deref().unwrap_or_default())),
    };
    headers.insert(header::CONTENT_TYPE, typed);
    let body = match body.first.take() {
        _ if request.wants.head => Body::empty(),
        Some(only) if only.len() as u64 == body.left => Body::full(only),
        None => Body::empty(),
        first => Body::file(FileBody { first, ..body }, responder.streams.clone()),
    };
    Ok(headers::response(status, headers, body))
}

/// The media type that the first bytes of a file tell. These may not be there, while the part that
/// is asked for is.
async fn beginning(
    body: impl Fn(unixfs::File, Range<u64>) -> FileBody,
    file: &unixfs::File,
    name: Option<&str>,
) -> HeaderValue {
    let range = 0..file.size.min(headers::SNIFFED_BYTES as u64);
    let mut body = body(file.clone(), range);
    let start = poll_fn(|cx| body.poll_next(cx)).await.ok().flatten();
    headers::media_type(name, start.as_deref())
}

/// Says when content was last modified, where it keeps that. Whether the client has it from then.
fn put_modified(request: &ContentRequest, headers: &mut HeaderMap, mtime: Option<Mtime>) -> bool {
    let Some(modified) = mtime.and_then(headers::last_modified) else { return false };
    let held = headers::is_since(request, &modified);
    headers.insert(header::LAST_MODIFIED, modified);
    held
}

/// A symbolic link is its target, as text; ranges do not apply.
pub(super) fn symlink(
    request: &ContentRequest,
    named: &Named,
    target: Bytes,
    mtime: Option<Mtime>,
) -> Response<Body> {
    let mut headers = content_headers(request, named);
    if put_modified(request, &mut headers, mtime) {
        return headers::into_not_modified(headers);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("inode/symlink"));
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(target.len()));
    let body = if request.wants.head { Body::empty() } else { Body::full(target) };
    headers::response(StatusCode::OK, headers, body)
}

/// The response whose content is at hand, or the parts of it that are asked for.
pub(super) fn at_hand(
    responder: Responder<'_>,
    mut headers: HeaderMap,
    data: &Bytes,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    headers::put_ranges(&mut headers);
    let (status, data) = match select(request, &mut headers, data.len() as u64)? {
        Selected::Whole => (StatusCode::OK, data.clone()),
        Selected::Part(part) => {
            let part = part.start as usize..part.end as usize;
            (StatusCode::PARTIAL_CONTENT, data.slice(part))
        }
        Selected::Parts(parts) => {
            let size = data.len() as u64;
            let body = MultipartBody::new(&mut headers, Source::Bytes(data.clone()), &parts, size);
            let body = Body::multipart(body, responder.streams.clone());
            return Ok(headers::response(StatusCode::PARTIAL_CONTENT, headers, body));
        }
    };
    // The length of a body at hand is said by whoever writes it.
    let body = if request.wants.head {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(data.len()));
        Body::empty()
    } else {
        Body::full(data)
    };
    Ok(headers::response(status, headers, body))
}

fn content_headers(request: &ContentRequest, named: &Named) -> HeaderMap {
    let etag = block::etag(request.wants.format, named);
    let mut headers = headers::content(request, named, etag, headers::Kind::Content);
    headers::put_ranges(&mut headers);
    if let Some((media_type, extension, attachment)) = plain_codec(request.wants.format) {
        let cid = String::from_utf8_lossy(&named.text);
        let own_name = format!("{cid}.{extension}");
        let name = request.wants.filename.as_deref().unwrap_or(&own_name);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers::put_nosniff(&mut headers);
        if let Some(value) = headers::disposition(attachment || request.wants.download, name) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        return headers;
    }
    if (request.wants.filename.is_some() || request.wants.download)
        && let Some(value) = disposition(request, named)
    {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    headers
}

/// A file that is asked for as JSON or CBOR is said to be that, and never taken for a page.
fn plain_codec(format: Format) -> Option<(&'static str, &'static str, bool)> {
    match format {
        Format::Codec(Codec::Json) => Some(("application/json", "json", false)),
        Format::Codec(Codec::Cbor) => Some(("application/cbor", "cbor", true)),
        _ => None,
    }
}

fn disposition(request: &ContentRequest, named: &Named) -> Option<HeaderValue> {
    let cid = String::from_utf8_lossy(&named.text);
    let last = request.path.segments.last().map(String::as_str);
    let name = request.wants.filename.as_deref().or(last).unwrap_or(&cid);
    headers::disposition(request.wants.download, name)
}

/// What of a representation is asked for.
enum Selected {
    Whole,
    Part(Range<u64>),
    Parts(Vec<Range<u64>>),
}

/// Finds what is asked for, and notes it in the headers where it is one part.
fn select(request: &ContentRequest, headers: &mut HeaderMap, size: u64) -> Result<Selected, Error> {
    let Some(ranges) = &request.wants.range else { return Ok(Selected::Whole) };
    if !headers::range_holds(request, headers) {
        return Ok(Selected::Whole);
    }
    Ok(match ranges.within(size) {
        Satisfied::Unsatisfiable => return Err(Error::Range(size)),
        Satisfied::Part(part) => {
            let value = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header::CONTENT_RANGE, value);
            }
            Selected::Part(part)
        }
        Satisfied::Parts(parts) => Selected::Parts(parts),
    })
}

/// The bytes of a file, block by block.
#[derive(Debug)]
pub(in crate::gateway) struct FileBody {
    reader: FileReader,
    ahead: ReadAhead,
    /// What was read before the head was sent.
    first: Option<Bytes>,
    left: u64,
}

impl FileBody {
    pub(super) fn new(
        retriever: Retriever,
        session: Session,
        file: unixfs::File,
        range: Range<u64>,
    ) -> Self {
        Self {
            left: range.end - range.start,
            reader: FileReader::of(file, Some(range)),
            ahead: ReadAhead::new(retriever, session),
            first: None,
        }
    }

    /// Bytes still to come.
    pub(in crate::gateway) fn bytes_left(&self) -> u64 {
        self.left
    }

    /// The next bytes; `None` after the last.
    pub(in crate::gateway) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            let step = self.first.take().map_or_else(|| self.reader.step(), Step::Data);
            match step {
                Step::Data(data) => {
                    self.left = self.left.saturating_sub(data.len() as u64);
                    return Poll::Ready(Ok(Some(data)));
                }
                Step::Need(cid) => {
                    let upcoming = |n, at_hand: AtHand<'_>| self.reader.ahead(n, at_hand);
                    let block = ready!(self.ahead.poll_block(cx, &cid, upcoming))?;
                    self.reader.supply(&block)?;
                }
                Step::Done if self.left > 0 => {
                    return Poll::Ready(Err(IpldError::Truncated("file").into()));
                }
                Step::Done => return Poll::Ready(Ok(None)),
            }
        }
    }
}
