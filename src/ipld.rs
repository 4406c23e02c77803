//! Codecs and traversal: what a block means, which blocks it links to, in which order a DAG is
//! walked, and how blocks travel in CAR files.
//!
//! **Invariant:** pure. No I/O, no clock, no logging; nothing here waits. What needs a block asks
//! for it (`Step::Need`) and is handed it (`supply`), so the caller decides where blocks come from
//! and how many are fetched at once. Nothing recurses, and nothing is allocated because an input
//! declares a length.

pub mod car;
pub mod codec;
pub mod dag_cbor;
pub mod dag_json;
pub mod dag_pb;
pub mod path;
pub(crate) mod protobuf;
pub mod unixfs;
pub mod walk;

use crate::block::{Block, Cid, VerifyError};

pub use codec::{Resolved, resolve};
pub use walk::AtHand;

/// Why an input is not what it claims to be, or asks for more than we give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A codec whose links we cannot see.
    #[error("codec 0x{0:x} is not known here")]
    UnknownCodec(u64),
    /// Bytes that do not follow their format.
    #[error("malformed {format}: {reason}")]
    Malformed {
        /// The format, as a person would name it.
        format: &'static str,
        /// What is wrong, as the end of a sentence.
        reason: &'static str,
    },
    /// The input ends before what it began is complete.
    #[error("truncated {0}")]
    Truncated(&'static str),
    /// More of something than we take.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A content path that cannot be read.
    #[error("invalid path {path:?}: {reason}")]
    Path {
        /// The path as it was asked for, shortened when long.
        path: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// A path names what its parent does not have.
    #[error("no link named {name:?} under {parent}")]
    NoLink {
        /// The node that was searched.
        parent: Box<Cid>,
        /// The name it lacks.
        name: Box<str>,
    },
    /// A path ends inside a node, at a value that is not a link.
    #[error("the path ends inside {0}, at a value that is not a link")]
    NotALink(Box<Cid>),
    /// A block was supplied that was not asked for.
    #[error("{0} was supplied but not asked for")]
    NotAskedFor(Box<Cid>),
    /// The bytes do not match their CID, or the CID is not acceptable.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// All links of a block, in the order they stand in it. Blocks of codecs that cannot link have
/// none; a codec that is not known is an error, since its links cannot be seen.
pub fn links(block: &Block) -> Result<Vec<Cid>, Error> {
    let mut links = Vec::new();
    codec::for_each_link(block, &mut |cid| links.push(cid))?;
    Ok(links)
}
