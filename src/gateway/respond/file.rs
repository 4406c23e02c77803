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
use crate::ipld::Error as IpldError;
use crate::ipld::unixfs::read::Step;
use crate::ipld::unixfs::{self, FileReader};
use crate::retrieval::Session;

use super::{Responder, block};

/// A file, and what it is served as.
#[derive(Debug)]
pub(super) struct Served<'a> {
    pub(super) file: unixfs::File,
    /// The name that tells its type.
    pub(super) name: Option<&'a str>,
    /// What the response is about: the file, or the directory whose index it is.
    pub(super) named: &'a Named,
}

/// A file that is one raw block.
pub(super) fn whole(
    request: &ContentRequest,
    named: &Named,
    block: &Block,
) -> Result<Response<Body>, Error> {
    let mut headers = content_headers(request, named);
    let name = request.wants.filename.as_deref();
    headers.insert(header::CONTENT_TYPE, headers::media_type(name, Some(block.data())));
    at_hand(request, headers, block.data())
}

/// Any file.
pub(super) async fn file(
    responder: Responder<'_>,
    session: &Session,
    served: Served<'_>,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    let mut headers = content_headers(request, served.named);
    let name = request.wants.filename.as_deref().or(served.name);
    let part = part(request, &mut headers, served.file.size)?;
    let range = part.as_ref().map_or(0..served.file.size, Range::clone);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));

    // What the name does not tell is told by how the file begins, whichever part is asked for.
    let typed = headers::media_type(name, None);
    let told = typed != "application/octet-stream";
    let beginning = match &part {
        Some(_) if !told => beginning(responder, session, &served.file).await,
        _ => None,
    };
    let mut body = FileBody::new(responder, session, served.file, range);
    // A head needs the first bytes only to tell the type.
    if !request.wants.head || (!told && part.is_none()) {
        body.first = poll_fn(|cx| body.poll_next(cx)).await?;
        body.left += body.first.as_ref().map_or(0, |first| first.len() as u64);
    }
    let media_type = match &part {
        _ if told => typed,
        Some(_) => headers::media_type(name, beginning.as_deref()),
        None => headers::media_type(name, Some(body.first.as_deref().unwrap_or_default())),
    };
    headers.entry(header::CONTENT_TYPE).or_insert(media_type);

    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let body = match body.first.take() {
        _ if request.wants.head => Body::empty(),
        Some(only) if only.len() as u64 == body.left => Body::full(only),
        None => Body::empty(),
        first => Body::file(FileBody { first, ..body }, responder.streams.clone()),
    };
    Ok(headers::response(status, headers, body))
}

/// The first bytes of a file. None where they cannot be had: the part that is asked for may be.
async fn beginning(
    responder: Responder<'_>,
    session: &Session,
    file: &unixfs::File,
) -> Option<Bytes> {
    let range = 0..file.size.min(headers::SNIFFED_BYTES as u64);
    let mut body = FileBody::new(responder, session, file.clone(), range);
    poll_fn(|cx| body.poll_next(cx)).await.ok().flatten()
}

/// A symbolic link is its target, as text; ranges do not apply.
pub(super) fn symlink(request: &ContentRequest, named: &Named, target: Bytes) -> Response<Body> {
    let mut headers = content_headers(request, named);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("inode/symlink"));
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(target.len()));
    let body = if request.wants.head { Body::empty() } else { Body::full(target) };
    headers::response(StatusCode::OK, headers, body)
}

/// The response whose content is at hand, or the part of it that is asked for.
pub(super) fn at_hand(
    request: &ContentRequest,
    mut headers: HeaderMap,
    data: &Bytes,
) -> Result<Response<Body>, Error> {
    let part = part(request, &mut headers, data.len() as u64)?;
    let (status, data) = match part {
        Some(part) => {
            let part = part.start as usize..part.end as usize;
            (StatusCode::PARTIAL_CONTENT, data.slice(part))
        }
        None => (StatusCode::OK, data.clone()),
    };
    headers::put_ranges(&mut headers);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(data.len()));
    let body = if request.wants.head { Body::empty() } else { Body::full(data) };
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

/// The part that is asked for, if it is one, noted in the headers. A range holds only for the
/// validator it was asked with.
fn part(
    request: &ContentRequest,
    headers: &mut HeaderMap,
    size: u64,
) -> Result<Option<Range<u64>>, Error> {
    let Some(range) = request.wants.range else { return Ok(None) };
    if request.wants.if_range.as_ref().is_some_and(|held| headers.get(header::ETAG) != Some(held)) {
        return Ok(None);
    }
    match range.within(size) {
        Satisfied::Unsatisfiable => Err(Error::Range(size)),
        Satisfied::Part(part) => {
            let value = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header::CONTENT_RANGE, value);
            }
            Ok(Some(part))
        }
    }
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
    fn new(
        responder: Responder<'_>,
        session: &Session,
        file: unixfs::File,
        range: Range<u64>,
    ) -> Self {
        Self {
            left: range.end - range.start,
            reader: FileReader::of(file, Some(range)),
            ahead: ReadAhead::new(responder.retriever.clone(), session.clone()),
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
                    let upcoming = |n| self.reader.upcoming(n);
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
