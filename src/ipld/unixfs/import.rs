//! Making UnixFS: bytes become leaves and a balanced tree above them, names become directories.
//!
//! The blocks, and so the CIDs, are those of every importer that follows the same [`Profile`].
//! Nothing here keeps blocks: finished ones are handed out as they are made.

mod directory;
mod file;
mod profile;

use crate::block::{Block, Cid};

pub use directory::{DirectoryBuilder, symlink};
pub use file::{FileBuilder, Leaf};
pub use profile::{CHUNK_BYTES_MAX, Chunker, Profile};

/// A finished file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The CID of the whole.
    pub root: Cid,
    /// The blocks not handed out before, children before parents; the root, if it is among them,
    /// last.
    pub blocks: Vec<Block>,
    /// Bytes of the file; 0 for what is not a file.
    pub size: u64,
    /// Bytes of all its blocks, counted as often as they are linked to: what a directory's link
    /// to it states.
    pub tsize: u64,
}

#[cfg(test)]
mod tests;
