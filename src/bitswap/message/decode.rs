//! Bytes to messages.

use std::ops::Range;

use bytes::Bytes;

use crate::block::{Cid, IDENTITY};
use crate::ipld::protobuf::{self, Fields, Value, varint};

use super::{
    CID_BYTES_MAX, Entry, LINES_MAX, MESSAGE_BYTES_MAX, MESSAGE_SHARE_MIN, Message, Presence,
    RawBlock, WantKind, number,
};

/// Bytes that are no message. Whoever sent them is not heard further on that stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent what is no Bitswap message: {0}")]
pub struct Malformed(pub(super) &'static str);

impl From<protobuf::Malformed> for Malformed {
    fn from(_: protobuf::Malformed) -> Self {
        Self("a field ends beyond what holds it")
    }
}

impl Message {
    /// Reads a message of any dialect. Unknown fields are passed over, and so are identity CIDs,
    /// which nobody need be asked for, and CIDs we could not hold.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Malformed("it is longer than 4 MiB"));
        }
        let mut message = Self::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match (u8::try_from(field.number).unwrap_or(0), field.value) {
                (number::WANTLIST, Value::Bytes(range)) => message.wantlist(bytes, range)?,
                (number::RAW_BLOCK, Value::Bytes(range)) => {
                    message.push_block(RawBlock::of_v0(cut(bytes, range)));
                }
                (number::BLOCK, Value::Bytes(range)) => {
                    let block = block(bytes, range)?;
                    message.push_block(block);
                }
                (number::PRESENCE, Value::Bytes(range)) => {
                    let presence = presence(part(bytes, range))?;
                    if message.presences.len() < LINES_MAX {
                        message.presences.extend(presence);
                    }
                }
                (number::PENDING_BYTES, Value::Varint(value)) => {
                    // An int32: what is negative says nothing.
                    message.pending_bytes = u32::try_from(int32(value)).unwrap_or(0);
                }
                (number::WANTLIST..=number::PENDING_BYTES, _) => {
                    return Err(Malformed("a field has the wrong type"));
                }
                _ => {}
            }
        }
        Ok(message)
    }

    fn push_block(&mut self, block: RawBlock) {
        if self.blocks.len() < LINES_MAX {
            self.blocks.push(block);
        }
    }

    fn wantlist(&mut self, bytes: &Bytes, range: Range<usize>) -> Result<(), Malformed> {
        let list = part(bytes, range);
        for field in Fields::new(list) {
            let field = field?;
            match (u8::try_from(field.number).unwrap_or(0), field.value) {
                (number::WANTLIST_ENTRY, Value::Bytes(range)) => {
                    let entry = entry(list.get(range).unwrap_or_default())?;
                    if self.wants.len() < LINES_MAX {
                        self.wants.extend(entry);
                    }
                }
                (number::WANTLIST_FULL, Value::Varint(value)) => self.full = value != 0,
                (number::WANTLIST_ENTRY..=number::WANTLIST_FULL, _) => {
                    return Err(Malformed("a field of the wantlist has the wrong type"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn part(bytes: &Bytes, range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// A slice of the message, or a copy where the slice would keep too much of it in memory.
fn cut(bytes: &Bytes, range: Range<usize>) -> Bytes {
    if range.len() < bytes.len() / MESSAGE_SHARE_MIN {
        Bytes::copy_from_slice(part(bytes, range))
    } else {
        bytes.slice(range)
    }
}

/// As protobuf reads an int32: the low half, whatever stands above.
fn int32(value: u64) -> i32 {
    value as u32 as i32
}

fn entry(bytes: &[u8]) -> Result<Option<Entry>, Malformed> {
    let mut cid: &[u8] = &[];
    let (mut priority, mut cancel, mut send_dont_have) = (0, false, false);
    let mut kind = WantKind::Block;
    for field in Fields::new(bytes) {
        let field = field?;
        match (u8::try_from(field.number).unwrap_or(0), field.value) {
            (number::ENTRY_CID, Value::Bytes(range)) => cid = bytes.get(range).unwrap_or_default(),
            (number::ENTRY_PRIORITY, Value::Varint(value)) => priority = int32(value),
            (number::ENTRY_CANCEL, Value::Varint(value)) => cancel = value != 0,
            (number::ENTRY_KIND, Value::Varint(0)) => kind = WantKind::Block,
            (number::ENTRY_KIND, Value::Varint(1)) => kind = WantKind::Have,
            // A kind of a later dialect: its sender wants what we do not know.
            (number::ENTRY_KIND, Value::Varint(_)) => return Ok(None),
            (number::ENTRY_SEND_DONT_HAVE, Value::Varint(value)) => send_dont_have = value != 0,
            (number::ENTRY_CID..=number::ENTRY_SEND_DONT_HAVE, _) => {
                return Err(Malformed("a field of a want has the wrong type"));
            }
            _ => {}
        }
    }
    let cid = read_cid(cid)?;
    Ok(cid.map(|cid| Entry { cid, priority, kind, cancel, send_dont_have }))
}

fn presence(bytes: &[u8]) -> Result<Option<(Cid, Presence)>, Malformed> {
    let mut cid: &[u8] = &[];
    let mut kind = Presence::Have;
    for field in Fields::new(bytes) {
        let field = field?;
        match (u8::try_from(field.number).unwrap_or(0), field.value) {
            (number::PRESENCE_CID, Value::Bytes(range)) => {
                cid = bytes.get(range).unwrap_or_default();
            }
            (number::PRESENCE_KIND, Value::Varint(0)) => kind = Presence::Have,
            (number::PRESENCE_KIND, Value::Varint(1)) => kind = Presence::DontHave,
            (number::PRESENCE_KIND, Value::Varint(_)) => return Ok(None),
            (number::PRESENCE_CID..=number::PRESENCE_KIND, _) => {
                return Err(Malformed("a field of a presence has the wrong type"));
            }
            _ => {}
        }
    }
    Ok(read_cid(cid)?.map(|cid| (cid, kind)))
}

fn block(bytes: &Bytes, range: Range<usize>) -> Result<RawBlock, Malformed> {
    let start = range.start;
    let message = part(bytes, range);
    let (mut prefix, mut data): (&[u8], _) = (&[], start..start);
    for field in Fields::new(message) {
        let field = field?;
        match (u8::try_from(field.number).unwrap_or(0), field.value) {
            (number::BLOCK_PREFIX, Value::Bytes(range)) => {
                prefix = message.get(range).unwrap_or_default();
            }
            (number::BLOCK_DATA, Value::Bytes(range)) => {
                data = start + range.start..start + range.end;
            }
            (number::BLOCK_PREFIX..=number::BLOCK_DATA, _) => {
                return Err(Malformed("a field of a block has the wrong type"));
            }
            _ => {}
        }
    }
    let mut at = 0;
    let mut next = || varint(prefix, &mut at).ok_or(Malformed("the prefix of a block is cut"));
    let (version, codec, hash, length) = (next()?, next()?, next()?, next()?);
    let version = cid::Version::try_from(version)
        .map_err(|_| Malformed("the prefix of a block has an unknown version"))?;
    let digest_bytes = u8::try_from(length)
        .map_err(|_| Malformed("the prefix of a block has too long a digest"))?;
    Ok(RawBlock { version, codec, hash, digest_bytes, data: cut(bytes, data) })
}

/// A CID that is all of the bytes. None for one that is of no use.
fn read_cid(bytes: &[u8]) -> Result<Option<Cid>, Malformed> {
    if bytes.is_empty() {
        return Err(Malformed("a CID is missing"));
    }
    if bytes.len() > CID_BYTES_MAX {
        return Ok(None);
    }
    let mut rest = bytes;
    let cid = Cid::read_bytes(&mut rest).map_err(|_| Malformed("a CID is none"))?;
    if !rest.is_empty() {
        return Err(Malformed("a CID has bytes behind it"));
    }
    Ok((cid.hash().code() != IDENTITY).then_some(cid))
}
