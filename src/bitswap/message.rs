//! Messages of Bitswap and their bytes (Bitswap specification). Pure.

mod decode;
mod encode;

use bytes::Bytes;
use libp2p::swarm::StreamProtocol;

use crate::block::{Cid, codec};

pub use decode::Malformed;
pub use encode::Frame;

/// Longest message, in bytes, without the varint that says how long it is.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Longest CID that may be asked for or told of, in bytes.
pub const CID_BYTES_MAX: usize = 168;
/// Most wants, most blocks and most presences of one message that are taken; further ones are left
/// alone.
pub const LINES_MAX: usize = 16_384;
/// A block keeps the memory of its whole message. One that is less than this part of it, one in
/// so many, is copied out instead.
const MESSAGE_SHARE_MIN: usize = 2;

/// What is spoken on a stream, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// 1.0.0: wants of blocks, and blocks with CIDv0 alone.
    V1_0,
    /// 1.1.0: blocks of any CID.
    V1_1,
    /// 1.2.0: HAVE and DONT_HAVE.
    V1_2,
}

impl Dialect {
    /// The dialect of one of [`PROTOCOLS`](super::PROTOCOLS).
    #[must_use]
    pub fn of(protocol: &StreamProtocol) -> Self {
        match protocol.as_ref() {
            "/ipfs/bitswap/1.2.0" => Self::V1_2,
            "/ipfs/bitswap/1.1.0" => Self::V1_1,
            _ => Self::V1_0,
        }
    }

    /// Whether it knows HAVE and DONT_HAVE.
    #[must_use]
    pub fn has_presences(self) -> bool {
        self >= Self::V1_2
    }
}

/// One message, in either direction. What a peer does not understand it leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Whether the wants are all that the sender wants, in place of what it wanted before.
    pub full: bool,
    /// What is wanted, or no longer wanted.
    pub wants: Vec<Entry>,
    /// Blocks, not yet checked.
    pub blocks: Vec<RawBlock>,
    /// Who has what.
    pub presences: Vec<(Cid, Presence)>,
    /// Bytes the sender still has for the receiver.
    pub pending_bytes: u32,
}

impl Message {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { full, wants, blocks, presences, pending_bytes: _ } = self;
        !full && wants.is_empty() && blocks.is_empty() && presences.is_empty()
    }
}

/// A line of a wantlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The block.
    pub cid: Cid,
    /// Higher comes first.
    pub priority: i32,
    /// What is wanted of it.
    pub kind: WantKind,
    /// Whether the want is withdrawn.
    pub cancel: bool,
    /// Whether the receiver is to say that it lacks the block.
    pub send_dont_have: bool,
}

/// What is wanted of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WantKind {
    /// The block itself.
    Block,
    /// To hear whether it is there.
    Have,
}

/// Whether the sender has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// It has it.
    Have,
    /// It lacks it.
    DontHave,
}

/// A block as it comes: bytes, and how a CID is made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// The version of its CID.
    pub version: cid::Version,
    /// Its codec.
    pub codec: u64,
    /// Its hash function.
    pub hash: u64,
    /// Bytes of its digest.
    pub digest_bytes: u8,
    /// Its bytes; a slice of the message, or a copy where that would keep much else in memory.
    pub data: Bytes,
}

impl RawBlock {
    /// A block of this CID, to be sent.
    #[must_use]
    pub fn of(cid: &Cid, data: Bytes) -> Self {
        let mh = cid.hash();
        let (version, codec) = (cid.version(), cid.codec());
        Self { version, codec, hash: mh.code(), digest_bytes: mh.size(), data }
    }

    /// As blocks come in 1.0.0, where only one kind of CID is known.
    fn of_v0(data: Bytes) -> Self {
        let (version, codec) = (cid::Version::V0, codec::DAG_PB);
        Self { version, codec, hash: crate::block::SHA2_256, digest_bytes: 32, data }
    }
}

/// Numbers of fields.
mod number {
    pub(super) const WANTLIST: u8 = 1;
    pub(super) const RAW_BLOCK: u8 = 2;
    pub(super) const BLOCK: u8 = 3;
    pub(super) const PRESENCE: u8 = 4;
    pub(super) const PENDING_BYTES: u8 = 5;
    pub(super) const WANTLIST_ENTRY: u8 = 1;
    pub(super) const WANTLIST_FULL: u8 = 2;
    pub(super) const ENTRY_CID: u8 = 1;
    pub(super) const ENTRY_PRIORITY: u8 = 2;
    pub(super) const ENTRY_CANCEL: u8 = 3;
    pub(super) const ENTRY_KIND: u8 = 4;
    pub(super) const ENTRY_SEND_DONT_HAVE: u8 = 5;
    pub(super) const BLOCK_PREFIX: u8 = 1;
    pub(super) const BLOCK_DATA: u8 = 2;
    pub(super) const PRESENCE_CID: u8 = 1;
    pub(super) const PRESENCE_KIND: u8 = 2;
}

#[cfg(test)]
mod tests;
