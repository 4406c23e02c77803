//! DAG-CBOR: well-formedness, links and paths, read in place.
//!
//! The rules are the strict ones of the DAG-CBOR specification: definite lengths, shortest heads,
//! text keys in canonical order and each once, no tag but 42, finite 64-bit floats. Plain CBOR
//! (RFC 8949) is only checked for well-formedness.

use crate::block::Cid;

use super::Error;
use super::codec::{DEPTH_MAX, Resolved, array_index, read_cid_whole};

const LINK_TAG: u64 = 42;

fn malformed(reason: &'static str) -> Error {
    Error::Malformed { format: "DAG-CBOR", reason }
}

/// Checks that `data` is one well-formed DAG-CBOR value.
pub fn validate(data: &[u8]) -> Result<(), Error> {
    for_each_link(data, &mut |_| ())
}

/// Calls `found` with each link, in order.
pub fn for_each_link(data: &[u8], found: &mut dyn FnMut(Cid)) -> Result<(), Error> {
    let mut reader = Reader::new(data);
    reader.value(found)?;
    reader.end()
}

/// Follows segments through maps (by key) and arrays (by index) up to the first link.
pub fn resolve<S: AsRef<str>>(data: &[u8], segments: &[S]) -> Result<Resolved, Error> {
    validate(data)?;
    let mut reader = Reader::new(data);
    for (index, segment) in segments.iter().enumerate() {
        let here = match reader.token()? {
            Token::Link(cid) => return Ok(Resolved::Link { cid, consumed: index }),
            Token::Map(entries) => reader.enter_key(entries, segment.as_ref())?,
            Token::Array(items) => reader.enter_item(items, segment.as_ref())?,
            _ => false,
        };
        if !here {
            return Ok(Resolved::Missing(index));
        }
    }
    match reader.token()? {
        Token::Link(cid) if !segments.is_empty() => {
            Ok(Resolved::Link { cid, consumed: segments.len() })
        }
        _ => Ok(Resolved::Value),
    }
}

/// One step of the encoding: a scalar whole, or the head of an array or map.
#[derive(Debug, PartialEq)]
pub(super) enum Token<'a> {
    Unsigned(u64),
    Text(&'a str),
    Link(Cid),
    Array(u64),
    Map(u64),
    Other,
}

struct Frame<'a> {
    left: u64,
    /// In a map, the key read last.
    key: Option<Option<&'a str>>,
}

/// Reads DAG-CBOR tokens from a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub(super) fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(malformed("bytes follow the value")) }
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], Error> {
        let split = usize::try_from(n).ok().and_then(|n| self.rest.split_at_checked(n));
        let (taken, rest) = split.ok_or_else(|| malformed("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Major type, additional information, argument.
    fn head(&mut self) -> Result<(u8, u8, u64), Error> {
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => return Ok((major, info, info.into())),
            24..=27 => 1 << (info - 24),
            _ => return Err(malformed("it has an indefinite length or a reserved head")),
        };
        let argument = self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let shortest = match info {
            24 => argument >= 24,
            25 => argument > u8::MAX.into(),
            26 => argument > u16::MAX.into(),
            _ => argument > u32::MAX.into(),
        };
        if major != 7 && !shortest {
            return Err(malformed("a number is not in its shortest form"));
        }
        Ok((major, info, argument))
    }

    pub(super) fn token(&mut self) -> Result<Token<'a>, Error> {
        let (major, info, argument) = self.head()?;
        Ok(match major {
            0 => Token::Unsigned(argument),
            1 => Token::Other,
            2 => {
                self.take(argument)?;
                Token::Other
            }
            3 => Token::Text(
                std::str::from_utf8(self.take(argument)?)
                    .map_err(|_| malformed("a text is not UTF-8"))?,
            ),
            4 => Token::Array(self.plausible(argument, 1)?),
            5 => Token::Map(self.plausible(argument, 2)?),
            6 => Token::Link(self.link(argument)?),
            _ => match info {
                20..=22 => Token::Other,
                27 if f64::from_bits(argument).is_finite() => Token::Other,
                27 => return Err(malformed("a float is not finite")),
                _ => return Err(malformed("a simple value or short float is not allowed")),
            },
        })
    }

    /// A count of items is believed only where the bytes for them can be there.
    fn plausible(&self, count: u64, bytes_each: u64) -> Result<u64, Error> {
        if count.saturating_mul(bytes_each) <= self.rest.len() as u64 {
            Ok(count)
        } else {
            Err(malformed("it ends too early"))
        }
    }

    fn link(&mut self, tag: u64) -> Result<Cid, Error> {
        if tag != LINK_TAG {
            return Err(malformed("a tag other than 42 is not allowed"));
        }
        match self.head()? {
            (2, _, length) => match self.take(length)?.split_first() {
                Some((0, cid)) => read_cid_whole(cid),
                _ => Err(malformed("a link lacks its leading zero")),
            },
            _ => Err(malformed("tag 42 does not hold bytes")),
        }
    }

    /// Reads one whole value, and calls `found` with the links in it.
    pub(super) fn value(&mut self, found: &mut dyn FnMut(Cid)) -> Result<(), Error> {
        let mut open: Vec<Frame<'a>> = Vec::new();
        loop {
            match self.token()? {
                Token::Link(cid) => found(cid),
                Token::Array(left) => open.push(Frame { left, key: None }),
                Token::Map(left) => open.push(Frame { left, key: Some(None) }),
                _ => (),
            }
            if open.len() > DEPTH_MAX {
                return Err(Error::Limit { what: "nesting in a block", limit: DEPTH_MAX as u64 });
            }
            while open.last().is_some_and(|frame| frame.left == 0) {
                open.pop();
            }
            let Some(frame) = open.last_mut() else { return Ok(()) };
            frame.left -= 1;
            if let Some(last) = &mut frame.key {
                let key = self.key()?;
                if last.is_some_and(|last| (last.len(), last) >= (key.len(), key)) {
                    return Err(malformed("the keys of a map are repeated or out of order"));
                }
                *last = Some(key);
            }
        }
    }

    /// Reads a map's key.
    pub(super) fn key(&mut self) -> Result<&'a str, Error> {
        match self.token()? {
            Token::Text(key) => Ok(key),
            _ => Err(malformed("the key of a map is not a text")),
        }
    }

    /// In a map of so many entries, moves to the value under `name`.
    fn enter_key(&mut self, entries: u64, name: &str) -> Result<bool, Error> {
        for _ in 0..entries {
            if self.key()? == name {
                return Ok(true);
            }
            self.value(&mut |_| ())?;
        }
        Ok(false)
    }

    /// In an array of so many items, moves to the one with this index.
    fn enter_item(&mut self, items: u64, name: &str) -> Result<bool, Error> {
        let Some(index) = array_index(name).filter(|index| *index < items) else {
            return Ok(false);
        };
        for _ in 0..index {
            self.value(&mut |_| ())?;
        }
        Ok(true)
    }
}

/// What is open while plain CBOR is read.
enum Open {
    /// An array, map or tag with so many items to come, at least one.
    Items(u64),
    /// An indefinite length of this major type; in a map, whether a key waits for its value.
    Indefinite(u8, bool),
}

/// Checks that `data` is one well-formed value of plain CBOR: any tag, any float, indefinite
/// lengths; nesting is bounded as everywhere.
pub fn validate_plain(data: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(data);
    let mut open = Vec::new();
    loop {
        if reader.plain_item(&mut open)? {
            if open.len() > DEPTH_MAX {
                return Err(Error::Limit { what: "nesting in a block", limit: DEPTH_MAX as u64 });
            }
            continue;
        }
        loop {
            match open.last_mut() {
                None => return reader.end(),
                Some(Open::Items(1)) => drop(open.pop()),
                Some(Open::Items(left)) => break *left -= 1,
                Some(Open::Indefinite(_, odd)) => break *odd = !*odd,
            }
        }
    }
}

impl Reader<'_> {
    /// Reads one item of plain CBOR, or the head of one that holds others: then says true.
    fn plain_item(&mut self, open: &mut Vec<Open>) -> Result<bool, Error> {
        let fault = |reason| Error::Malformed { format: "CBOR", reason };
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => {
                let bytes = self.take(1 << (info - 24))?;
                bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
            31 => 0,
            _ => return Err(fault("a head is reserved")),
        };
        if let Some(Open::Indefinite(kind @ 2..=3, _)) = open.last()
            && first != 0xff
            && (major != *kind || info == 31)
        {
            return Err(fault("a chunk is of another kind than its string"));
        }
        let items = match (major, info) {
            (7, 31) => match open.pop() {
                Some(Open::Indefinite(5, true)) => return Err(fault("a key has no value")),
                Some(Open::Indefinite(..)) => 0,
                _ => return Err(fault("a break stands where nothing is open")),
            },
            (2..=5, 31) => {
                open.push(Open::Indefinite(major, false));
                return Ok(true);
            }
            (_, 31) => return Err(fault("a head is reserved")),
            (2, _) => self.take(argument).map(|_| 0)?,
            (3, _) => std::str::from_utf8(self.take(argument)?)
                .map(|_| 0)
                .map_err(|_| fault("a text is not UTF-8"))?,
            (4, _) => self.plausible(argument, 1)?,
            (5, _) => self.plausible(argument, 2)? * 2,
            (6, _) => 1,
            (7, 24) if argument < 32 => return Err(fault("a simple value is not allowed")),
            _ => 0,
        };
        if items > 0 {
            open.push(Open::Items(items));
        }
        Ok(items > 0)
    }
}

#[cfg(test)]
mod tests;
