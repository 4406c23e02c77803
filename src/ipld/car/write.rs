//! Writing CAR v1: the header, then before each block its length and CID.

use bytes::{Bytes, BytesMut};

use crate::block::{Block, Cid};

/// The header of a CAR v1 with these roots.
#[must_use]
pub fn header_v1(_roots: &[Cid]) -> Bytes {
    Bytes::new()
}

/// What stands before a block: write it, then [`Block::data`], which is not copied.
#[must_use]
pub fn section_prefix(_block: &Block) -> Bytes {
    BytesMut::new().freeze()
}
