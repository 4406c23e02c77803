//! Forms with files (`multipart/form-data`, RFC 7578), read as they arrive.
//!
//! What a part holds is not copied: it is slices of what the socket gave. Memory is bounded by one
//! such slice and the head of a part, whatever the body.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};
use memchr::memmem::{self, Finder};

/// Longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// Longest head of a part, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Longest text before the first part and behind the last one, in bytes.
const AROUND_BYTES_MAX: usize = 64 << 10;

/// The boundary that a request's `Content-Type` names; an error names what is wrong with it.
pub(super) fn boundary(headers: &HeaderMap) -> Result<String, &'static str> {
    let value = headers.get(header::CONTENT_TYPE).ok_or("it has no Content-Type")?;
    let value = value.to_str().map_err(|_| "its Content-Type is not ASCII")?;
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err("its Content-Type is not multipart/form-data");
    }
    let boundary = parameter(parameters, "boundary").ok_or("its Content-Type has no boundary")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX || !boundary.bytes().all(plain) {
        return Err("its boundary is not of 1 to 70 plain characters");
    }
    Ok(boundary)
}

/// What stands before a part's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The field's name.
    pub(super) name: String,
    /// The name of the file, if it is one.
    pub(super) filename: Option<String>,
}

/// Reads the parts of a body.
#[derive(Debug)]
pub(super) struct Multipart<S> {
    body: S,
    held: Bytes,
    /// What stands before a boundary, and the boundary.
    delimiter: Finder<'static>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Before,
    /// Within a part.
    Part,
    /// Right behind a boundary.
    Between,
    /// Behind the last one.
    End,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Multipart<S> {
    /// Reads from `body`.
    pub(super) fn new(body: S, boundary: &str) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first boundary may stand at the very start, without an end of line before it.
        let held = Bytes::from_static(b"\r\n");
        Self { body, held, delimiter, state: State::Before }
    }

    /// The next part; `None` at the end of the body. What is unread of a part is passed over.
    pub(super) async fn next(&mut self) -> io::Result<Option<Part>> {
        if self.state == State::Before {
            self.pass(AROUND_BYTES_MAX, "text before the first part is too long").await?;
        }
        if self.state == State::Part {
            self.pass(usize::MAX, "").await?;
        }
        if self.state == State::End {
            return Ok(None);
        }
        let head = self.head().await?;
        if head.starts_with(b"--") {
            self.state = State::End;
            self.read_out().await?;
            return Ok(None);
        }
        self.state = State::Part;
        read_head(&head).map(Some)
    }

    /// More of the part that began last; `None` at its end.
    pub(super) async fn data(&mut self) -> io::Result<Option<Bytes>> {
        if !matches!(self.state, State::Part | State::Before) {
            return Ok(None);
        }
        let length = self.delimiter.needle().len();
        loop {
            if self.held.is_empty() {
                self.held = self.pull().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                continue;
            }
            match self.delimiter.find(&self.held) {
                Some(0) => {
                    let _ = self.held.split_to(length);
                    self.state = State::Between;
                    return Ok(None);
                }
                Some(at) => return Ok(Some(self.held.split_to(at))),
                None => {}
            }
            match self.begun() {
                0 => {}
                at => return Ok(Some(self.held.split_to(at))),
            }
            // All that is held may be the begin of a delimiter: what follows tells.
            let more = self.pull().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let rest = self.delimiter.needle().get(self.held.len()..).unwrap_or_default();
            let known = rest.len().min(more.len());
            if rest.get(..known) == more.get(..known) {
                let mut joined = BytesMut::with_capacity(self.held.len() + more.len());
                joined.extend_from_slice(&self.held);
                joined.extend_from_slice(&more);
                self.held = joined.freeze();
            } else {
                return Ok(Some(std::mem::replace(&mut self.held, more)));
            }
        }
    }

    /// Where, in what is held, a delimiter may have begun; the end where none has.
    fn begun(&self) -> usize {
        let length = self.held.len();
        let from = length.saturating_sub(self.delimiter.needle().len() - 1);
        let tail = self.held.get(from..).unwrap_or_default();
        // A delimiter holds one CR, at its start.
        match memchr::memrchr(b'\r', tail) {
            Some(at) if self.delimiter.needle().starts_with(&tail[at..]) => from + at,
            _ => length,
        }
    }

    async fn pass(&mut self, limit: usize, what: &'static str) -> io::Result<()> {
        let mut passed = 0;
        while let Some(bytes) = self.data().await? {
            passed += bytes.len();
            if passed > limit {
                return Err(malformed(what));
            }
        }
        Ok(())
    }

    /// The rest of the body must come to its end, too: else it was cut.
    async fn read_out(&mut self) -> io::Result<()> {
        let mut passed = self.held.len();
        while let Some(bytes) = self.pull().await? {
            passed += bytes.len();
            if passed > AROUND_BYTES_MAX {
                return Err(malformed("text behind the last part is too long"));
            }
        }
        self.held = Bytes::new();
        Ok(())
    }

    /// What stands behind a boundary: `--` for the last one; else the rest of its line, then the
    /// lines of the head and the empty line that ends it.
    async fn head(&mut self) -> io::Result<Bytes> {
        loop {
            if self.held.starts_with(b"--") {
                return Ok(self.held.split_to(2));
            }
            if let Some(at) = memmem::find(&self.held, b"\r\n\r\n") {
                if at > HEAD_BYTES_MAX {
                    return Err(malformed("the head of a part is too long"));
                }
                return Ok(self.held.split_to(at + 4));
            }
            if self.held.len() > HEAD_BYTES_MAX {
                return Err(malformed("the head of a part is too long"));
            }
            let more = self.pull().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.held = [self.held.as_ref(), more.as_ref()].concat().into();
        }
    }

    /// The next bytes of the body that are not none.
    async fn pull(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.body.next().await.transpose()? {
                Some(bytes) if bytes.is_empty() => {}
                next => return Ok(next),
            }
        }
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read_head(head: &[u8]) -> io::Result<Part> {
    let head =
        std::str::from_utf8(head).map_err(|_| malformed("the head of a part is not UTF-8"))?;
    let mut lines = head.split("\r\n");
    if !lines.next().is_some_and(|rest| rest.trim_matches([' ', '\t']).is_empty()) {
        return Err(malformed("a boundary is followed by other text"));
    }
    let mut disposition = None;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) =
            line.split_once(':').ok_or(malformed("a line in the head of a part has no colon"))?;
        if name.eq_ignore_ascii_case("content-disposition") {
            if disposition.replace(value.trim()).is_some() {
                return Err(malformed("a part has two Content-Dispositions"));
            }
        } else if name.eq_ignore_ascii_case("content-type")
            && value.trim_start().to_ascii_lowercase().starts_with("multipart/")
        {
            return Err(malformed("a part holds parts itself"));
        }
    }
    let disposition = disposition.ok_or(malformed("a part has no Content-Disposition"))?;
    let (kind, parameters) = disposition.split_once(';').unwrap_or((disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(malformed("a part is not form-data"));
    }
    let name = parameter(parameters, "name").ok_or(malformed("a part has no name"))?;
    let filename = parameter(parameters, "filename").map(|name| unescaped(&name));
    Ok(Part { name, filename })
}

/// The value of a parameter, `a=b` or `a="b"`; within quotes a backslash stands before a quote or a
/// backslash that is meant.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, behind) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let (value, behind) = after.split_once(';').unwrap_or((after, ""));
                (value.trim_end().to_owned(), behind)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = behind;
    }
}

/// The text up to the closing quote, and what is behind it.
fn quoted_value(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' if matches!(chars.peek(), Some((_, '"' | '\\'))) => {
                value.push(chars.next()?.1);
            }
            other => value.push(other),
        }
    }
    None
}

/// Browsers write these three characters in file names as below, and `%` as it is (HTML standard,
/// multipart/form-data encoding).
fn unescaped(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

#[cfg(test)]
mod tests;
