//! What a block looks like in a segment file: a header, the multihash, the bytes.
//!
//! ```text
//! magic 4 | bytes of the data u32 | bytes of the multihash u8 | checksum u64 | multihash | data
//! ```
//!
//! Numbers are little-endian. The checksum is XXH3 (64 bits) of the data, seeded with that of the
//! multihash, which is seeded with both lengths: no byte of a record goes unchecked.

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::block::{BLOCK_BYTES_MAX, IDENTITY, Mh};

/// Bytes of a record before the multihash.
pub(super) const HEADER_BYTES: usize = 17;
/// The longest multihash we keep: a code of 3 bytes, a length, and 64 bytes of digest.
pub(super) const KEY_BYTES_MAX: usize = 68;
/// Bytes of the largest record.
pub(super) const RECORD_BYTES_MAX: usize = HEADER_BYTES + KEY_BYTES_MAX + BLOCK_BYTES_MAX;
/// The first bytes of every record. None of them is ASCII, so text is never taken for records.
pub(super) const MAGIC: [u8; 4] = [0xe5, 0x8e, 0xb1, 0xc7];

/// A multihash as bytes: the name of a block at rest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: u8,
}

impl Key {
    /// The key of a block. None for identity multihashes, whose blocks are never kept: they carry
    /// themselves.
    pub(super) fn of(hash: &Mh) -> Option<Self> {
        if hash.code() == IDENTITY {
            return None;
        }
        let mut bytes = [0; KEY_BYTES_MAX];
        let length = hash.write(&mut bytes[..]).ok()?;
        Some(Self { bytes, length: u8::try_from(length).ok()? })
    }

    /// The key that these bytes are, if they can be one.
    pub(super) fn from_bytes(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES_MAX];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self { bytes, length: u8::try_from(from.len()).ok()? })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The multihash, to hash the block again.
    pub(super) fn multihash(&self) -> Option<Mh> {
        Mh::from_bytes(self.as_bytes()).ok()
    }

    pub(super) fn length(&self) -> u8 {
        self.length
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// As the CID of raw bytes, which anyone can look up.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.multihash() {
            Some(hash) => {
                write!(f, "{}", crate::block::Cid::new_v1(crate::block::codec::RAW, hash))
            }
            None => write!(f, "{:02x?}", self.as_bytes()),
        }
    }
}

/// Bytes of the record of a block with so many bytes.
pub(super) fn size(key_length: u8, data_length: u32) -> u32 {
    (HEADER_BYTES as u32) + u32::from(key_length) + data_length
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) data_length: u32,
    pub(super) key_length: u8,
    checksum: u64,
}

impl Header {
    /// The header of a block's record.
    pub(super) fn new(key: &Key, data: &[u8]) -> Self {
        let data_length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Self { data_length, key_length: key.length, checksum: checksum(key.as_bytes(), data) }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.data_length.to_le_bytes());
        bytes[8] = self.key_length;
        bytes[9..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, if one can be there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (data_length, rest) = rest.split_first_chunk::<4>()?;
        let (&[key_length], rest) = rest.split_first_chunk::<1>()?;
        let checksum = u64::from_le_bytes(*rest.first_chunk()?);
        let data_length = u32::from_le_bytes(*data_length);
        let fits = usize::from(key_length) <= KEY_BYTES_MAX
            && usize::try_from(data_length).is_ok_and(|length| length <= BLOCK_BYTES_MAX);
        (*magic == MAGIC && fits).then_some(Self { data_length, key_length, checksum })
    }

    /// Bytes of the whole record.
    pub(super) fn record_bytes(self) -> u32 {
        size(self.key_length, self.data_length)
    }
}

/// The key and the data of the record that `bytes` are, if it is whole and intact.
pub(super) fn open(bytes: &Bytes) -> Option<(Key, Bytes)> {
    let header = Header::parse(bytes)?;
    let data_at = HEADER_BYTES + usize::from(header.key_length);
    let (head, data) = bytes.split_at_checked(data_at)?;
    Some((intact(head, data)?, bytes.slice(data_at..)))
}

/// The key of the record of which these are the head (header and multihash) and the data, if it is
/// whole and intact.
pub(super) fn intact(head: &[u8], data: &[u8]) -> Option<Key> {
    let header = Header::parse(head)?;
    let key = head.get(HEADER_BYTES..)?;
    let whole = key.len() == usize::from(header.key_length)
        && u32::try_from(data.len()) == Ok(header.data_length);
    (whole && checksum(key, data) == header.checksum).then(|| Key::from_bytes(key))?
}

fn checksum(key: &[u8], data: &[u8]) -> u64 {
    let lengths = (key.len() as u64) << 32 | data.len() as u64;
    xxh3_64_with_seed(data, xxh3_64_with_seed(key, lengths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, codec};

    #[test]
    fn a_flip_of_any_bit_of_a_record_is_found() {
        let data = Bytes::from_static(b"estuary");
        let block = Block::sha2_256(codec::RAW, data.clone()).unwrap();
        let key = Key::of(block.cid().hash()).unwrap();
        let mut bytes = Header::new(&key, &data).to_bytes().to_vec();
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(&data);
        assert_eq!(bytes.len() as u32, size(key.length(), 7));
        assert_eq!(open(&bytes.clone().into()), Some((key, data)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&flipped.into()), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(open(&bytes[..cut].to_vec().into()), None, "cut at {cut}");
        }
    }

    #[test]
    fn every_multihash_that_we_accept_has_a_key() {
        let longest = Mh::wrap(0xb240, &[7; 64]).unwrap();
        let key = Key::of(&longest).unwrap();
        assert_eq!(key.as_bytes().len(), KEY_BYTES_MAX);
        assert_eq!(key.multihash(), Some(longest));
        assert_eq!(Key::of(&Mh::wrap(IDENTITY, b"x").unwrap()), None);
    }
}
