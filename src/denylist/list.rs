//! A list, read from the bytes of its file.

use std::io::{self, BufRead, Cursor, Read};

use super::header::{self, HEADER_BYTES_MAX, Header};
use super::index::{Builder, Index, LINES_MAX};
use super::line;

/// Longest line, in bytes, its end included.
const LINE_BYTES_MAX: usize = 2 << 20;
/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a list cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what it should be.
    #[error("{0}")]
    Malformed(&'static str),
}

/// A list's rules.
#[derive(Debug)]
pub struct List {
    pub(super) index: Index,
    bad_lines: u64,
}

impl List {
    /// Lines that make no sense and were passed over.
    #[must_use]
    pub fn bad_lines(&self) -> u64 {
        self.bad_lines
    }

    /// Reads a list. A line that makes no sense is told, with its number and what is wrong with it,
    /// and passed over.
    pub fn read(
        mut from: impl BufRead,
        mut tell: impl FnMut(u32, &'static str),
    ) -> Result<Self, Unusable> {
        let mut start = Vec::new();
        from.by_ref().take(HEADER_BYTES_MAX as u64).read_to_end(&mut start)?;
        let marked = start.starts_with(BYTE_ORDER_MARK);
        let text = start.get(if marked { BYTE_ORDER_MARK.len() } else { 0 }..).unwrap_or_default();
        let (mut number, mut header, mut lines) = (0, Header::default(), text);
        if let Some((end, next)) = header::end(text) {
            let (head, rest) = text.split_at(next);
            let head_lines = memchr::memchr_iter(b'\n', head).count();
            number = u32::try_from(head_lines).unwrap_or(u32::MAX);
            header =
                header::parse(head.get(..end).unwrap_or_default()).map_err(Unusable::Malformed)?;
            lines = rest;
        }
        let mut from = Cursor::new(lines).chain(from);
        let (mut rules, mut bad_lines, mut line) = (Builder::default(), 0, Vec::new());
        while next_line(&mut from, &mut line)? {
            number += 1;
            if number > LINES_MAX {
                return Err(Unusable::Malformed("it has more than 2^30 lines"));
            }
            let rule = if line.len() > LINE_BYTES_MAX {
                Err("it is longer than 2 MiB")
            } else {
                let text = std::str::from_utf8(&line).map_err(|_| "it is not UTF-8");
                text.and_then(|text| line::parse(text, header.status))
            };
            let added = rule.and_then(|rule| rule.map_or(Ok(()), |rule| rules.add(number, &rule)));
            if let Err(reason) = added {
                bad_lines += 1;
                tell(number, reason);
            }
        }
        Ok(Self { index: rules.finish(), bad_lines })
    }
}

/// Reads the next line, without the rest of one that is too long. False at the end.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut read = false;
    loop {
        let held = from.fill_buf()?;
        if held.is_empty() {
            return Ok(read);
        }
        read = true;
        let end = memchr::memchr(b'\n', held);
        let part = held.get(..end.unwrap_or(held.len())).unwrap_or_default();
        let room = (LINE_BYTES_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = end.map_or(part.len(), |end| end + 1);
        from.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}
