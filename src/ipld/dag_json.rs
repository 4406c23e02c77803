//! DAG-JSON: well-formedness, links and paths, read in place.
//!
//! The key `"/"` is reserved: alone in its map it makes a link (`{"/": "cid"}`) or bytes
//! (`{"/": {"bytes": "base64"}}`); anywhere else it is an error. Plain JSON has no such rule.

use std::borrow::Cow;

use crate::block::Cid;

use super::Error;
use super::codec::{DEPTH_MAX, Resolved, array_index, read_cid_text};

fn malformed(reason: &'static str) -> Error {
    Error::Malformed { format: "JSON", reason }
}

/// Checks that `data` is one well-formed DAG-JSON value.
pub fn validate(data: &[u8]) -> Result<(), Error> {
    for_each_link(data, &mut |_| ())
}

/// Checks that `data` is one well-formed plain JSON value.
pub fn validate_plain(data: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(data, false)?;
    reader.value(&mut |_| ())?;
    reader.end()
}

/// Calls `found` with each link, in order.
pub fn for_each_link(data: &[u8], found: &mut dyn FnMut(Cid)) -> Result<(), Error> {
    let mut reader = Reader::new(data, true)?;
    reader.value(found)?;
    reader.end()
}

/// Follows segments through maps (by key) and arrays (by index) up to the first link.
pub fn resolve<S: AsRef<str>>(data: &[u8], segments: &[S]) -> Result<Resolved, Error> {
    validate(data)?;
    let mut reader = Reader::new(data, true)?;
    for (index, segment) in segments.iter().enumerate() {
        let here = match reader.token()? {
            Token::Link(cid) => return Ok(Resolved::Link { cid, consumed: index }),
            Token::Map => reader.enter_key(segment.as_ref())?,
            Token::Array => reader.enter_item(segment.as_ref())?,
            Token::Scalar => false,
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

/// One step of the text: a scalar or link whole, or the opening of an array or map.
enum Token {
    Scalar,
    Link(Cid),
    Array,
    Map,
}

enum Frame<'a> {
    Array,
    /// The keys so far, to find one that is repeated.
    Map(Vec<Cow<'a, str>>),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether the key `"/"` is reserved.
    links: bool,
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8], links: bool) -> Result<Self, Error> {
        let text = std::str::from_utf8(data).map_err(|_| malformed("it is not UTF-8"))?;
        Ok(Self { text, at: 0, links })
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space; it stays unread.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.byte()
    }

    /// Reads this byte, if it comes next.
    fn eat(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.peek().is_none() { Ok(()) } else { Err(malformed("text follows the value")) }
    }

    fn token(&mut self) -> Result<Token, Error> {
        match self.peek().ok_or_else(|| malformed("it ends too early"))? {
            b'"' => self.string().map(|_| Token::Scalar),
            b'[' => {
                self.at += 1;
                Ok(Token::Array)
            }
            b'{' => {
                self.at += 1;
                if self.links { self.map() } else { Ok(Token::Map) }
            }
            b'-' | b'0'..=b'9' => self.number().map(|()| Token::Scalar),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let word = ["true", "false", "null"].into_iter().find(|w| rest.starts_with(w));
                let word = word.ok_or_else(|| malformed("a value is not recognised"))?;
                self.at += word.len();
                Ok(Token::Scalar)
            }
        }
    }

    /// Behind `{`: a link, bytes, or the opening of an ordinary map.
    fn map(&mut self) -> Result<Token, Error> {
        let start = self.at;
        if self.peek() != Some(b'"') || self.string()? != "/" {
            self.at = start;
            return Ok(Token::Map);
        }
        self.colon()?;
        let token = if self.eat(b'{') {
            let bytes = self.string()? == "bytes";
            self.colon()?;
            let value = self.string()?;
            let base64 = data_encoding::BASE64_NOPAD.decode_len(value.len()).is_ok()
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
            if !bytes || !base64 || !self.eat(b'}') {
                return Err(malformed("the key \"/\" is reserved"));
            }
            Token::Scalar
        } else if self.peek() == Some(b'"') {
            let text = self.string()?;
            let cid = read_cid_text(&text);
            Token::Link(cid.map_err(|_| malformed("a link does not hold a CID"))?)
        } else {
            return Err(malformed("the key \"/\" is reserved"));
        };
        if self.eat(b'}') { Ok(token) } else { Err(malformed("the key \"/\" is not alone")) }
    }

    fn colon(&mut self) -> Result<(), Error> {
        if self.eat(b':') { Ok(()) } else { Err(malformed("a colon is missing")) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        if !self.eat(b'"') {
            return Err(malformed("a string is missing"));
        }
        let start = self.at;
        let mut escapes = false;
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes = true;
                    self.at += 2;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(malformed("a string is not closed, or holds control characters")),
            }
        }
        self.at += 1;
        let unescaped = self.text.get(start..self.at - 1).unwrap_or_default();
        if !escapes {
            return Ok(Cow::Borrowed(unescaped));
        }
        let quoted = self.text.get(start - 1..self.at).unwrap_or_default();
        let string = serde_json::from_str(quoted);
        string.map(Cow::Owned).map_err(|_| malformed("a string has a bad escape"))
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(malformed("a number lacks digits")) }
    }

    fn number(&mut self) -> Result<(), Error> {
        self.eat(b'-');
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Reads one whole value, and calls `found` with the links in it.
    fn value(&mut self, found: &mut dyn FnMut(Cid)) -> Result<(), Error> {
        let mut open: Vec<Frame<'a>> = Vec::new();
        loop {
            let mut complete = true;
            match self.token()? {
                Token::Scalar => (),
                Token::Link(cid) => found(cid),
                Token::Array if self.eat(b']') => (),
                Token::Map if self.eat(b'}') => (),
                Token::Array => {
                    open.push(Frame::Array);
                    complete = false;
                }
                Token::Map => {
                    open.push(Frame::Map(vec![self.key()?]));
                    complete = false;
                }
            }
            if open.len() > DEPTH_MAX {
                return Err(Error::Limit { what: "nesting in a block", limit: DEPTH_MAX as u64 });
            }
            while complete {
                match open.last_mut() {
                    None => return Ok(()),
                    Some(Frame::Array) if self.eat(b',') => complete = false,
                    Some(Frame::Array) if self.eat(b']') => drop(open.pop()),
                    Some(Frame::Map(keys)) if self.eat(b',') => {
                        keys.push(self.key()?);
                        complete = false;
                    }
                    Some(Frame::Map(keys)) if self.eat(b'}') => {
                        keys.sort_unstable();
                        if keys.windows(2).any(|pair| pair.first() == pair.last()) {
                            return Err(malformed("a key is repeated"));
                        }
                        open.pop();
                    }
                    _ => return Err(malformed("a comma or closing bracket is missing")),
                }
            }
        }
    }

    /// Reads a map's key and the colon behind it.
    fn key(&mut self) -> Result<Cow<'a, str>, Error> {
        let key = self.string()?;
        self.colon()?;
        if self.links && key == "/" {
            return Err(malformed("the key \"/\" is not alone"));
        }
        Ok(key)
    }

    /// Behind `{`: moves to the value under `name`.
    fn enter_key(&mut self, name: &str) -> Result<bool, Error> {
        if self.peek() == Some(b'}') {
            return Ok(false);
        }
        loop {
            if self.key()? == name {
                return Ok(true);
            }
            self.value(&mut |_| ())?;
            if !self.eat(b',') {
                return Ok(false);
            }
        }
    }

    /// Behind `[`: moves to the item with this index.
    fn enter_item(&mut self, name: &str) -> Result<bool, Error> {
        let Some(index) = array_index(name) else { return Ok(false) };
        if self.peek() == Some(b']') {
            return Ok(false);
        }
        for _ in 0..index {
            self.value(&mut |_| ())?;
            if !self.eat(b',') {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
