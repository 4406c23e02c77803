//! Messages to bytes.

use bytes::Bytes;

use crate::block::Cid;
use crate::ipld::protobuf::{
    bytes_len, put_bytes_field, put_bytes_head, put_varint, put_varint_field, varint_len,
};

use super::{Dialect, Entry, Message, Presence, RawBlock, WantKind, number};

/// Blocks below so many bytes are copied beside what stands around them, for one write is cheaper
/// than two.
const COPIED_BYTES_MAX: usize = 8 << 10;
/// Longest prefix of a block: four varints.
const PREFIX_BYTES_MAX: usize = 40;

/// The bytes of a message as they are written, with their length before them: in pieces, so that
/// large blocks are not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The pieces, one after the other.
    pub pieces: Vec<Bytes>,
    /// Bytes of all of them.
    pub bytes: usize,
}

impl Frame {
    /// Whether the message says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes <= 1
    }
}

impl Message {
    /// Its bytes in a dialect; what that does not know is left out.
    #[must_use]
    pub fn encode(&self, dialect: Dialect) -> Frame {
        let wants = || self.wants.iter().filter(|want| is_known(want, dialect));
        let wantlist = wants().map(|want| bytes_len(entry_len(want, dialect))).sum::<usize>()
            + 2 * usize::from(self.full);
        let presences = if dialect.has_presences() { &*self.presences } else { &[] };

        let length = self.len(wantlist, presences, dialect);
        let small = |block: &RawBlock| block.data.len() < COPIED_BYTES_MAX;
        let copied = self.blocks.iter().filter(|block| small(block));
        let copied = copied.map(|block| block.data.len()).sum::<usize>();
        let heads = self.blocks.len() * (PREFIX_BYTES_MAX + 16);
        let mut out = Vec::with_capacity(copied + heads.min(length) + 64 + wantlist);
        let mut pieces = Vec::new();

        put_varint(&mut out, length as u64);
        if wantlist > 0 {
            put_bytes_head(&mut out, number::WANTLIST, wantlist);
            wants().for_each(|want| put_entry(&mut out, want, dialect));
            if self.full {
                put_varint_field(&mut out, number::WANTLIST_FULL, 1);
            }
        }
        for block in &self.blocks {
            put_block_head(&mut out, block, dialect);
            if small(block) {
                out.extend_from_slice(&block.data);
            } else {
                pieces.push(std::mem::take(&mut out).into());
                pieces.push(block.data.clone());
            }
        }
        for (cid, presence) in presences {
            put_bytes_head(&mut out, number::PRESENCE, presence_len(cid, *presence));
            put_bytes_field(&mut out, number::PRESENCE_CID, &cid.to_bytes());
            if *presence == Presence::DontHave {
                put_varint_field(&mut out, number::PRESENCE_KIND, 1);
            }
        }
        if self.pending_bytes > 0 {
            put_varint_field(&mut out, number::PENDING_BYTES, pending(self.pending_bytes));
        }
        if !out.is_empty() {
            pieces.push(out.into());
        }
        Frame { pieces, bytes: varint_len(length as u64) + length }
    }

    /// Bytes of the message without its length before it.
    fn len(&self, wantlist: usize, presences: &[(Cid, Presence)], dialect: Dialect) -> usize {
        let wantlist = if wantlist > 0 { bytes_len(wantlist) } else { 0 };
        let block = |block: &RawBlock| match dialect {
            Dialect::V1_0 => bytes_len(block.data.len()),
            _ => bytes_len(block_len(block)),
        };
        let blocks = self.blocks.iter().map(block).sum::<usize>();
        let presence = |(cid, presence): &(Cid, Presence)| bytes_len(presence_len(cid, *presence));
        let presences = presences.iter().map(presence).sum::<usize>();
        let pending = match self.pending_bytes {
            0 => 0,
            bytes => 1 + varint_len(pending(bytes)),
        };
        wantlist + blocks + presences + pending
    }
}

/// An int32 on the wire.
fn pending(bytes: u32) -> u64 {
    u64::from(bytes.min(i32::MAX as u32))
}

/// Whether a dialect can say it. One that knows no HAVE would take the question for a want.
fn is_known(want: &Entry, dialect: Dialect) -> bool {
    dialect.has_presences() || want.cancel || want.kind == WantKind::Block
}

/// As protobuf writes an int32: negative ones in 64 bits.
fn priority(want: &Entry) -> u64 {
    i64::from(want.priority) as u64
}

fn entry_len(want: &Entry, dialect: Dialect) -> usize {
    let flags = if dialect.has_presences() {
        usize::from(want.kind == WantKind::Have) + usize::from(want.send_dont_have)
    } else {
        0
    };
    bytes_len(want.cid.encoded_len())
        + if want.priority == 0 { 0 } else { 1 + varint_len(priority(want)) }
        + 2 * (flags + usize::from(want.cancel))
}

fn put_entry(out: &mut Vec<u8>, want: &Entry, dialect: Dialect) {
    put_bytes_head(out, number::WANTLIST_ENTRY, entry_len(want, dialect));
    put_bytes_field(out, number::ENTRY_CID, &want.cid.to_bytes());
    if want.priority != 0 {
        put_varint_field(out, number::ENTRY_PRIORITY, priority(want));
    }
    if want.cancel {
        put_varint_field(out, number::ENTRY_CANCEL, 1);
    }
    if dialect.has_presences() {
        if want.kind == WantKind::Have {
            put_varint_field(out, number::ENTRY_KIND, 1);
        }
        if want.send_dont_have {
            put_varint_field(out, number::ENTRY_SEND_DONT_HAVE, 1);
        }
    }
}

fn presence_len(cid: &Cid, presence: Presence) -> usize {
    bytes_len(cid.encoded_len()) + 2 * usize::from(presence == Presence::DontHave)
}

fn prefix(block: &RawBlock) -> [u64; 4] {
    [block.version.into(), block.codec, block.hash, block.digest_bytes.into()]
}

fn prefix_len(block: &RawBlock) -> usize {
    prefix(block).into_iter().map(varint_len).sum()
}

fn block_len(block: &RawBlock) -> usize {
    bytes_len(prefix_len(block)) + bytes_len(block.data.len())
}

fn put_block_head(out: &mut Vec<u8>, block: &RawBlock, dialect: Dialect) {
    if dialect == Dialect::V1_0 {
        put_bytes_head(out, number::RAW_BLOCK, block.data.len());
        return;
    }
    put_bytes_head(out, number::BLOCK, block_len(block));
    put_bytes_head(out, number::BLOCK_PREFIX, prefix_len(block));
    prefix(block).into_iter().for_each(|value| put_varint(out, value));
    put_bytes_head(out, number::BLOCK_DATA, block.data.len());
}
