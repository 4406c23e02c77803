//! Content paths: `/ipfs/{cid}/a/b`, as they arrive in a request.

use std::borrow::Cow;

use crate::block::{Cid, check_cid};

use super::Error;
use super::codec::read_cid_text;

/// Longest path, in bytes, as it stands in the request.
pub const PATH_BYTES_MAX: usize = 8 << 10;
/// Most segments below the root.
pub const SEGMENTS_MAX: usize = 256;
/// How much of a faulty path an error repeats.
const PATH_SHOWN_CHARS_MAX: usize = 256;

/// A parsed content path. Segments are percent-decoded once; `.` and `..` are names like others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPath {
    /// The CID the path starts from.
    pub root: Cid,
    /// The names below the root; empty ones (`//`) are left out.
    pub segments: Vec<String>,
    /// Whether the path ends in a slash.
    pub trailing_slash: bool,
    /// The path as it was given.
    pub original: String,
}

/// What a path starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `/ipfs/{cid}`.
    Cid(Cid),
    /// `/ipns/{name}`, the name decoded and not looked at.
    Name(String),
    /// Something else.
    Other,
}

/// What follows the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// The names, decoded; empty ones (`//`) are left out.
    pub segments: Vec<String>,
    /// Whether the path ends in a slash.
    pub trailing_slash: bool,
}

/// Splits `/ipfs/{cid}[/path]` or `/ipns/{name}[/path]`, percent-encoded, without a query. A path
/// over [`PATH_BYTES_MAX`] is [`Error::Limit`], every other fault [`Error::Path`].
pub fn split(path: &str) -> Result<(Root, Below), Error> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Error::Limit { what: "the path", limit: PATH_BYTES_MAX as u64 });
    }
    let in_cids = path.strip_prefix("/ipfs/");
    let Some(rest) = in_cids.or_else(|| path.strip_prefix("/ipns/")) else {
        return Ok((Root::Other, Below { segments: Vec::new(), trailing_slash: false }));
    };
    let (root, below) = rest.split_once('/').unwrap_or((rest, ""));
    let root = decode(root).ok_or_else(|| fault(path, "its root has a bad percent-escape"))?;
    let root = if in_cids.is_some() {
        Root::Cid(parse_cid(&root).map_err(|error| fault(path, &error.to_string()))?)
    } else {
        Root::Name(root.into_owned())
    };
    let below = Below::parse(below).map_err(|reason| fault(path, reason))?;
    Ok((root, Below { trailing_slash: path.ends_with('/'), ..below }))
}

impl Below {
    /// Reads a path, percent-encoded. What is wrong is told as the end of a sentence.
    pub fn parse(path: &str) -> Result<Self, &'static str> {
        Ok(Self { segments: parse_segments(path)?, trailing_slash: path.ends_with('/') })
    }
}

impl ContentPath {
    /// Parses `/ipfs/{cid}[/path]`, percent-encoded, without a query. A path over
    /// [`PATH_BYTES_MAX`] is [`Error::Limit`], every other fault [`Error::Path`].
    pub fn parse(path: &str) -> Result<Self, Error> {
        match split(path)? {
            (Root::Cid(root), Below { segments, trailing_slash }) => {
                Ok(Self { root, segments, trailing_slash, original: path.to_owned() })
            }
            _ => Err(fault(path, "it does not start with /ipfs/")),
        }
    }
}

fn fault(path: &str, reason: &str) -> Error {
    let shown = match path.char_indices().nth(PATH_SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", path.get(..end).unwrap_or_default()),
        None => path.to_owned(),
    };
    Error::Path { path: shown.into(), reason: reason.into() }
}

fn parse_segments(below: &str) -> Result<Vec<String>, &'static str> {
    let mut segments = Vec::new();
    for segment in below.split('/').filter(|segment| !segment.is_empty()) {
        if segments.len() == SEGMENTS_MAX {
            return Err("it has more than 256 segments");
        }
        let name = decode(segment).ok_or("a percent-escape is not two hex digits, or not UTF-8")?;
        segments.push(name.into_owned());
    }
    Ok(segments)
}

/// Percent-decodes once. `None` for an incomplete escape, and for what is not UTF-8 afterwards.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    // Nearly all have no escapes.
    if !segment.as_bytes().contains(&b'%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut escapes = segment.split('%').skip(1).map(|after| after.as_bytes().get(..2));
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    escapes
        .all(|digits| digits.is_some_and(hex))
        .then(|| percent_encoding::percent_decode_str(segment).decode_utf8().ok())
        .flatten()
}

/// Reads a CID in its text form: version 0, or version 1 in any multibase, and checks that we may
/// hold what it names.
pub fn parse_cid(text: &str) -> Result<Cid, Error> {
    let cid = read_cid_text(text)?;
    check_cid(&cid)?;
    Ok(cid)
}

#[cfg(test)]
mod tests;
