//! Messages of Bitswap and their bytes (Bitswap specification). Pure.

use bytes::Bytes;

use crate::block::Cid;

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
    /// Its bytes; a slice of the message.
    pub data: Bytes,
}
