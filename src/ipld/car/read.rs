//! Reading CAR v1 and v2 from a stream, as it arrives.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use bytes::{Buf, Bytes, BytesMut};

use crate::block::{BLOCK_BYTES_MAX, Block, Cid, DIGEST_BYTES_MAX};
use crate::ipld::Error;
use crate::ipld::codec::read_cid;
use crate::ipld::dag_cbor::{Reader, Token};

use super::{HEADER_BYTES_MAX, ROOTS_MAX};

/// Longest section: a block and the longest CID (four varints and a digest).
const SECTION_BYTES_MAX: usize = BLOCK_BYTES_MAX + 4 * VARINT_BYTES_MAX + DIGEST_BYTES_MAX;
/// Longest varint of the multiformats specification.
const VARINT_BYTES_MAX: usize = 9;
/// Bytes of a CAR v2 before its own header.
const PRAGMA_BYTES: u64 = 11;
/// Bytes of a CAR v2's own header.
const HEADER_V2_BYTES: usize = 40;

fn malformed(reason: &'static str) -> Error {
    Error::Malformed { format: "CAR", reason }
}

/// What a reader accepts beyond the format itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many roots the header must name.
    pub roots: RangeInclusive<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { roots: 0..=ROOTS_MAX }
    }
}

/// What stands before the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u64,
    /// The roots, in order.
    pub roots: Vec<Cid>,
}

/// A block as it stands in the file: its bytes are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// What the bytes claim to be.
    pub cid: Cid,
    /// The bytes: a slice of what was fed where that is possible, so copy what is kept for long.
    pub data: Bytes,
}

impl Unverified {
    /// Hashes the bytes: the costly part, which may run on any thread.
    pub fn verify(self) -> Result<Block, Error> {
        Ok(Block::verify(self.cid, self.data)?)
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarEvent {
    /// The header, always first.
    Header(Header),
    /// A block, to be verified.
    Block(Unverified),
}

/// Where in the file a reader is. A v1 file: `Start`, `Sections`. A v2 file: `Start`, `HeaderV2`,
/// `Padding`, `Inner`, `Sections`, `Rest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    HeaderV2,
    Padding(u64),
    Inner,
    Sections,
    /// Behind the blocks of a v2 file: its index, which is of no use in a stream.
    Rest,
}

/// Reads a CAR that arrives in pieces: feed, then take events until there are none, and finish.
/// It holds no more than what was fed and not yet taken, so feed again only after `None`.
#[derive(Debug)]
pub struct CarReader {
    limits: Limits,
    state: State,
    pieces: Pieces,
    /// In a v2 file that declares it, how many bytes of the inner v1 file are to come.
    left: Option<u64>,
    failed: Option<Error>,
}

impl CarReader {
    /// A reader at the start of a file.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let pieces = Pieces::default();
        Self { limits, state: State::Start, pieces, left: None, failed: None }
    }

    /// Takes the next piece of the file.
    pub fn feed(&mut self, piece: Bytes) {
        if self.state != State::Rest && self.failed.is_none() {
            self.pieces.push(piece);
        }
    }

    /// The next event that what was fed holds whole; `None` asks for more. An error is final:
    /// asking again gives it again.
    #[allow(clippy::should_implement_trait)] // it is fallible, and `None` is not the end
    pub fn next(&mut self) -> Result<Option<CarEvent>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let event = self.advance();
        if let Err(error) = &event {
            self.failed = Some(error.clone());
            self.pieces = Pieces::default();
        }
        event
    }

    /// Says that the file ends here: an error where it ends in the middle of something. Take all
    /// events first.
    pub fn finish(self) -> Result<(), Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.state {
            State::Rest => Ok(()),
            State::Sections if self.pieces.len == 0 && self.left.is_none() => Ok(()),
            _ => Err(Error::Truncated("CAR")),
        }
    }

    fn advance(&mut self) -> Result<Option<CarEvent>, Error> {
        loop {
            match self.state {
                State::Start => {
                    let Some(bytes) = self.prefixed(HEADER_BYTES_MAX, "a CAR header")? else {
                        return Ok(None);
                    };
                    let (version, roots) = read_header(&bytes)?;
                    if version == 1 {
                        return self.begin(1, roots).map(Some);
                    }
                    self.state = State::HeaderV2;
                }
                State::HeaderV2 => {
                    let Some(header) = self.pieces.take(HEADER_V2_BYTES) else { return Ok(None) };
                    self.read_header_v2(header)?;
                }
                State::Padding(0) => self.state = State::Inner,
                State::Padding(left) => match self.pieces.skip(left) {
                    0 => return Ok(None),
                    skipped => self.state = State::Padding(left - skipped),
                },
                State::Inner => {
                    let Some(bytes) = self.prefixed(HEADER_BYTES_MAX, "a CAR header")? else {
                        return Ok(None);
                    };
                    let (version, roots) = read_header(&bytes)?;
                    if version != 1 {
                        return Err(malformed("a CAR v2 does not hold a CAR v1"));
                    }
                    return self.begin(2, roots).map(Some);
                }
                State::Sections if self.left == Some(0) => {
                    self.state = State::Rest;
                    self.pieces = Pieces::default();
                }
                State::Sections => {
                    let section = self.prefixed(SECTION_BYTES_MAX, "a CAR section")?;
                    return section.as_ref().map(read_section).transpose();
                }
                State::Rest => return Ok(None),
            }
        }
    }

    fn begin(&mut self, version: u64, roots: Option<Vec<Cid>>) -> Result<CarEvent, Error> {
        let roots = roots.ok_or_else(|| malformed("its header names no roots"))?;
        let (min, max) = (*self.limits.roots.start(), *self.limits.roots.end());
        if roots.len() > max {
            return Err(Error::Limit { what: "the number of roots of a CAR", limit: max as u64 });
        }
        if roots.len() < min {
            return Err(malformed("it has too few roots"));
        }
        self.state = State::Sections;
        Ok(CarEvent::Header(Header { version, roots }))
    }

    /// Characteristics (16 bytes), then offset and size of the inner file and offset of the index.
    fn read_header_v2(&mut self, mut header: Bytes) -> Result<(), Error> {
        header.advance(16);
        let (offset, size) = (header.get_u64_le(), header.get_u64_le());
        let padding = offset
            .checked_sub(PRAGMA_BYTES + HEADER_V2_BYTES as u64)
            .ok_or_else(|| malformed("its blocks begin inside its header"))?;
        if offset.checked_add(size).is_none() {
            return Err(malformed("its blocks end beyond any file"));
        }
        self.left = (size > 0).then_some(size);
        self.state = State::Padding(padding);
        Ok(())
    }

    /// Takes a run of bytes with its length before it, once it is there whole.
    fn prefixed(&mut self, max: usize, what: &'static str) -> Result<Option<Bytes>, Error> {
        let Some((length, prefix)) = self.pieces.varint()? else {
            return match self.left {
                Some(left) if self.pieces.len as u64 >= left => {
                    Err(malformed("a section ends beyond its blocks"))
                }
                _ => Ok(None),
            };
        };
        if length == 0 {
            return Err(malformed("a section is empty"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > max {
            return Err(Error::Limit { what, limit: max as u64 });
        }
        let whole = prefix + length;
        if self.left.is_some_and(|left| left < whole as u64) {
            return Err(malformed("a section ends beyond its blocks"));
        }
        if self.pieces.len < whole {
            return Ok(None);
        }
        self.pieces.skip(prefix as u64);
        self.left = self.left.map(|left| left - whole as u64);
        Ok(self.pieces.take(length))
    }
}

/// Version, and roots where there are any.
fn read_header(bytes: &[u8]) -> Result<(u64, Option<Vec<Cid>>), Error> {
    let mut reader = Reader::new(bytes);
    let Token::Map(entries) = reader.token()? else {
        return Err(malformed("its header is not a map"));
    };
    let (mut version, mut roots) = (None, None);
    for _ in 0..entries {
        match (reader.key()?, reader.token()?) {
            ("version", Token::Unsigned(number @ 1..=2)) if version.is_none() => {
                version = Some(number);
            }
            ("version", _) => return Err(malformed("its version is neither 1 nor 2")),
            ("roots", Token::Array(count)) if roots.is_none() => {
                roots = Some(read_roots(&mut reader, count)?);
            }
            _ => return Err(malformed("its header has an unknown entry")),
        }
    }
    reader.end()?;
    let version = version.ok_or_else(|| malformed("its header lacks a version"))?;
    Ok((version, roots))
}

fn read_roots(reader: &mut Reader<'_>, count: u64) -> Result<Vec<Cid>, Error> {
    // The header's own limit bounds the count.
    (0..count)
        .map(|_| match reader.token()? {
            Token::Link(cid) => Ok(cid),
            _ => Err(malformed("a root is not a link")),
        })
        .collect()
}

fn read_section(section: &Bytes) -> Result<CarEvent, Error> {
    let (cid, rest) = read_cid(section)?;
    if rest.len() > BLOCK_BYTES_MAX {
        return Err(Error::Limit { what: "a block", limit: BLOCK_BYTES_MAX as u64 });
    }
    let data = section.slice(section.len() - rest.len()..);
    Ok(CarEvent::Block(Unverified { cid, data }))
}

/// What was fed and not yet taken.
#[derive(Debug, Default)]
struct Pieces {
    queue: VecDeque<Bytes>,
    len: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.queue.push_back(piece);
        }
    }

    /// The varint that comes next and its length; it stays unread. `None` where it is not whole.
    fn varint(&self) -> Result<Option<(u64, usize)>, Error> {
        let mut value = 0;
        for (index, byte) in self.queue.iter().flatten().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return if *byte == 0 && index > 0 {
                    Err(malformed("a length is not in its shortest form"))
                } else {
                    Ok(Some((value, index + 1)))
                };
            }
        }
        if self.len >= VARINT_BYTES_MAX {
            return Err(malformed("a length is not a varint of at most 9 bytes"));
        }
        Ok(None)
    }

    /// Takes `n` bytes, without copying them where they stand in one piece.
    fn take(&mut self, n: usize) -> Option<Bytes> {
        if self.len < n {
            return None;
        }
        if let Some(first) = self.queue.front_mut()
            && first.len() >= n
        {
            let taken = first.split_to(n);
            self.len -= n;
            if first.is_empty() {
                self.queue.pop_front();
            }
            return Some(taken);
        }
        let mut taken = BytesMut::with_capacity(n);
        while taken.len() < n {
            let mut piece = self.queue.pop_front()?;
            let part = piece.split_to(piece.len().min(n - taken.len()));
            taken.extend_from_slice(&part);
            if !piece.is_empty() {
                self.queue.push_front(piece);
            }
        }
        self.len -= n;
        Some(taken.freeze())
    }

    /// Leaves out up to `n` bytes; says how many there were.
    fn skip(&mut self, n: u64) -> u64 {
        let mut skipped = 0;
        while skipped < n
            && let Some(first) = self.queue.front_mut()
        {
            let part = usize::try_from(n - skipped).unwrap_or(usize::MAX).min(first.len());
            first.advance(part);
            skipped += part as u64;
            self.len -= part;
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
        skipped
    }
}

#[cfg(test)]
mod tests;
