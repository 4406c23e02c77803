//! Several ranges in one response: `multipart/byteranges` (RFC 9110 section 14.6).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use xxhash_rust::xxh3::Xxh3Default;

use crate::gateway::error::Error;
use crate::ipld::unixfs;
use crate::retrieval::{Retriever, Session};

use super::file::FileBody;

/// Where the bytes of the parts come from.
pub(super) enum Source {
    /// All of the representation is at hand.
    Bytes(Bytes),
    /// A file, whose blocks are got as they are needed.
    File { file: unixfs::File, retriever: Retriever, session: Session },
}

/// The bytes of the parts, with what stands between them.
pub(in crate::gateway) struct MultipartBody {
    pieces: VecDeque<Piece>,
    source: Source,
    /// The part that is being sent.
    part: Option<FileBody>,
    /// What was read before the head was sent.
    ready: VecDeque<Bytes>,
    left: u64,
}

enum Piece {
    Text(Bytes),
    Part(Range<u64>),
}

impl MultipartBody {
    /// The body for `ranges` of a representation of so many bytes, whose entity tag and media type
    /// stand in the headers: the media type moves into each part.
    pub(super) fn new(
        headers: &mut HeaderMap,
        source: Source,
        ranges: &[Range<u64>],
        size: u64,
    ) -> Self {
        let boundary = boundary(headers, ranges);
        let media_type =
            HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"));
        let media_type = media_type.ok().and_then(|own| headers.insert(header::CONTENT_TYPE, own));
        let media_type = media_type.as_ref().and_then(|media_type| media_type.to_str().ok());
        let media_type = media_type.unwrap_or("application/octet-stream");
        let (mut pieces, mut left) = (VecDeque::with_capacity(2 * ranges.len() + 1), 0);
        let mut text = |pieces: &mut VecDeque<Piece>, text: String| {
            left += text.len() as u64;
            pieces.push_back(Piece::Text(text.into()));
        };
        for (index, Range { start, end }) in ranges.iter().enumerate() {
            let before = if index == 0 { "" } else { "\r\n" };
            let last = end - 1;
            text(
                &mut pieces,
                format!(
                    "{before}--{boundary}\r\nContent-Type: {media_type}\r\n\
                     Content-Range: bytes {start}-{last}/{size}\r\n\r\n"
                ),
            );
            pieces.push_back(Piece::Part(*start..*end));
        }
        text(&mut pieces, format!("\r\n--{boundary}--\r\n"));
        left += ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(left));
        Self { pieces, source, part: None, ready: VecDeque::new(), left }
    }

    /// Reads up to the first bytes of the first part, so that what is not there is told by the
    /// status.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        let mut ready = VecDeque::with_capacity(2);
        for _ in 0..2 {
            ready.extend(poll_fn(|cx| self.poll_piece(cx)).await?);
        }
        self.ready = ready;
        Ok(())
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
        let next = match self.ready.pop_front() {
            Some(bytes) => Some(bytes),
            None => ready!(self.poll_piece(cx))?,
        };
        self.left = self.left.saturating_sub(next.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Poll::Ready(Ok(next))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(part) = &mut self.part {
                if let Some(bytes) = ready!(part.poll_next(cx))? {
                    return Poll::Ready(Ok(Some(bytes)));
                }
                self.part = None;
            }
            match (self.pieces.pop_front(), &self.source) {
                (None, _) => return Poll::Ready(Ok(None)),
                (Some(Piece::Text(text)), _) => return Poll::Ready(Ok(Some(text))),
                (Some(Piece::Part(range)), Source::Bytes(bytes)) => {
                    let range = range.start as usize..range.end as usize;
                    return Poll::Ready(Ok(Some(bytes.slice(range))));
                }
                (Some(Piece::Part(range)), Source::File { file, retriever, session }) => {
                    let body = FileBody::new(retriever.clone(), *session, file.clone(), range);
                    self.part = Some(body);
                }
            }
        }
    }
}

/// What stands between parts: it follows from the content and the ranges, so that the bytes of one
/// response are those of every other to the same request. No content can hold its own.
fn boundary(headers: &HeaderMap, ranges: &[Range<u64>]) -> String {
    let mut hash = Xxh3Default::new();
    hash.update(headers.get(header::ETAG).map_or(b"", HeaderValue::as_bytes));
    hash.update(format!("{ranges:?}").as_bytes());
    format!("part-{:032x}", hash.digest128())
}

impl std::fmt::Debug for MultipartBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MultipartBody").field("left", &self.left).finish_non_exhaustive()
    }
}
