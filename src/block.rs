//! The words of content: CIDs, verified blocks, and the seam to where they rest.
//!
//! **Invariant:** a [`Block`] exists only when its bytes were checked against its multihash.

mod missing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use multihash_codetable::{Code, MultihashDigest};

pub use missing::{Missing, Phase};

/// Room for the longest digest we accept, an identity digest of 128 bytes (IPIP-512).
pub const DIGEST_BYTES_MAX: usize = 128;
/// Shortest cryptographic digest we accept (as boxo's `verifcid`).
pub const DIGEST_BYTES_MIN: usize = 20;
/// Largest block we accept from anyone (trustless gateway and Bitswap specifications).
pub const BLOCK_BYTES_MAX: usize = 2 << 20;

/// A content identifier, wide enough for identity digests.
pub type Cid = cid::CidGeneric<DIGEST_BYTES_MAX>;
/// A multihash, wide enough for identity digests.
pub type Mh = multihash::Multihash<DIGEST_BYTES_MAX>;

/// Multicodec codes of the block formats we know.
pub mod codec {
    /// Bytes without structure.
    pub const RAW: u64 = 0x55;
    /// MerkleDAG protobuf: UnixFS lives in it.
    pub const DAG_PB: u64 = 0x70;
    /// DAG-CBOR.
    pub const DAG_CBOR: u64 = 0x71;
    /// A libp2p public key, as in IPNS names.
    pub const LIBP2P_KEY: u64 = 0x72;
    /// DAG-JSON.
    pub const DAG_JSON: u64 = 0x0129;
    /// Plain CBOR, without links.
    pub const CBOR: u64 = 0x51;
    /// Plain JSON, without links.
    pub const JSON: u64 = 0x0200;
}

/// The identity "hash": the digest is the data.
pub const IDENTITY: u64 = 0x00;
/// SHA2-256.
pub const SHA2_256: u64 = 0x12;

/// Why bytes did not become a [`Block`], or why a CID is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The bytes hash to something else.
    #[error("the bytes do not hash to {0}")]
    Mismatch(Box<Cid>),
    /// The multihash function is unknown or not accepted for content.
    #[error("hash function 0x{0:x} is not accepted; use sha2-256 or another of 20 bytes and more")]
    HashFunction(u64),
    /// The digest is too short or too long for its function.
    #[error("a digest of {0} bytes is not accepted")]
    DigestLength(usize),
    /// The block is larger than [`BLOCK_BYTES_MAX`].
    #[error("a block of {0} bytes is over the limit of {BLOCK_BYTES_MAX} bytes")]
    TooLarge(usize),
}

/// Checks that a CID names content we may hold: a known cryptographic hash with its digest whole,
/// or an identity digest of at most 128 bytes.
pub fn check_cid(cid: &Cid) -> Result<(), VerifyError> {
    let mh = cid.hash();
    let length = mh.digest().len();
    match mh.code() {
        IDENTITY => Ok(()), // its length is bounded by the type
        code => {
            let full = digest_length(code).ok_or(VerifyError::HashFunction(code))?;
            if length == full && length >= DIGEST_BYTES_MIN {
                Ok(())
            } else {
                Err(VerifyError::DigestLength(length))
            }
        }
    }
}

fn digest_length(code: u64) -> Option<usize> {
    match Code::try_from(code).ok()? {
        Code::Sha2_256 | Code::Sha3_256 | Code::Keccak256 | Code::Blake2b256 | Code::Blake3_256 => {
            Some(32)
        }
        Code::Sha2_512 | Code::Sha3_512 | Code::Keccak512 | Code::Blake2b512 => Some(64),
        Code::Sha3_224 | Code::Keccak224 => Some(28),
        Code::Sha3_384 | Code::Keccak384 => Some(48),
    }
}

fn digest(code: u64, data: &[u8]) -> Result<Mh, VerifyError> {
    if code == IDENTITY {
        return Mh::wrap(IDENTITY, data).map_err(|_| VerifyError::DigestLength(data.len()));
    }
    digest_length(code).ok_or(VerifyError::HashFunction(code))?;
    let narrow = Code::try_from(code).map_err(|_| VerifyError::HashFunction(code))?.digest(data);
    Mh::wrap(code, narrow.digest()).map_err(|_| VerifyError::DigestLength(narrow.size().into()))
}

/// Bytes that were checked against their CID. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

impl Block {
    /// Checks `data` against `cid`.
    pub fn verify(cid: Cid, data: Bytes) -> Result<Self, VerifyError> {
        if data.len() > BLOCK_BYTES_MAX {
            return Err(VerifyError::TooLarge(data.len()));
        }
        check_cid(&cid)?;
        if digest(cid.hash().code(), &data)?.digest() == cid.hash().digest() {
            Ok(Self { cid, data })
        } else {
            Err(VerifyError::Mismatch(Box::new(cid)))
        }
    }

    /// Makes a CIDv1 block of our own by hashing `data` with SHA2-256.
    pub fn sha2_256(codec: u64, data: Bytes) -> Result<Self, VerifyError> {
        if data.len() > BLOCK_BYTES_MAX {
            return Err(VerifyError::TooLarge(data.len()));
        }
        Ok(Self { cid: Cid::new_v1(codec, digest(SHA2_256, &data)?), data })
    }

    /// Hashes bytes into a dag-pb block with a CIDv0.
    pub fn sha2_256_v0(data: Bytes) -> Result<Self, VerifyError> {
        let block = Self::sha2_256(codec::DAG_PB, data)?;
        let cid = Cid::new_v0(*block.cid.hash()).map_err(|_| VerifyError::DigestLength(0))?;
        Ok(Self { cid, data: block.data })
    }

    /// The block that an identity CID carries in itself, if it is one.
    #[must_use]
    pub fn from_identity(cid: &Cid) -> Option<Self> {
        (cid.hash().code() == IDENTITY)
            .then(|| Self { cid: *cid, data: Bytes::copy_from_slice(cid.hash().digest()) })
    }

    /// Makes a block of bytes that came with no CID but with how one is made of them, as in
    /// Bitswap: its version, codec, and the multihash of its bytes, computed here.
    pub fn hashed(
        version: cid::Version,
        codec: u64,
        hash: u64,
        data: Bytes,
    ) -> Result<Self, VerifyError> {
        if data.len() > BLOCK_BYTES_MAX {
            return Err(VerifyError::TooLarge(data.len()));
        }
        let mh = digest(hash, &data)?;
        let cid = Cid::new(version, codec, mh).map_err(|_| VerifyError::HashFunction(hash))?;
        check_cid(&cid)?;
        Ok(Self { cid, data })
    }

    /// A block that the blockstore reads back: it was verified before it was written, and the
    /// record's own checksum, over multihash and bytes, has just been found intact.
    pub(crate) fn from_checked_record(cid: Cid, data: Bytes) -> Self {
        Self { cid, data }
    }

    /// The same bytes under another CID with the same multihash (version or codec differ).
    #[must_use]
    pub fn with_cid(self, cid: Cid) -> Option<Self> {
        (self.cid.hash() == cid.hash()).then_some(Self { cid, data: self.data })
    }

    /// The CID the bytes were checked against.
    #[must_use]
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The bytes.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The bytes, taken out.
    #[must_use]
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.data.len())
    }
}

/// Why a fetch failed, and so what to do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// Nobody we asked has it: try the next rung.
    #[error("no source that was asked has {0}")]
    NotFound(Box<Cid>),
    /// Somebody may have it, but was too slow.
    #[error("no source gave {0} within {1:?}")]
    Timeout(Box<Cid>, Duration),
    /// Whoever could be asked was asked, in vain: a retry may help.
    #[error("{0}")]
    Missing(Arc<Missing>),
    /// Our side or theirs is down: a retry may help.
    #[error("the source is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// It must not be had: a list says so.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// The bytes did not match the CID.
    #[error(transparent)]
    Corrupt(#[from] VerifyError),
    /// Our own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why content neither leaves nor comes in. Which list says so is for the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// It was taken down.
    #[error("this content is blocked here")]
    Gone,
    /// It was taken down, and the list names legal reasons.
    #[error("this content is blocked here for legal reasons")]
    Legal,
}

/// Why the blockstore failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No space: free some, then go on.
    #[error("the disk is full: {available_bytes} bytes are free; free some space and try again")]
    Full {
        /// What the file system has left, in bytes.
        available_bytes: u64,
    },
    /// A sync failed, so the store takes no more writes until it is opened anew.
    #[error(
        "the store is read-only since a write to disk failed: {0}; restart after checking the disk"
    )]
    ReadOnly(Arc<str>),
    /// A read or write failed.
    #[error("the store failed: {0}")]
    Io(Arc<str>),
    /// The store is closing.
    #[error("the store is closing")]
    Closed,
}

/// Blocks at rest, keyed by multihash.
pub trait Blockstore: Send + Sync {
    /// The block, if it is held and intact.
    fn get<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Option<Block>, StoreError>>;
    /// Whether the block is held.
    fn has<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<bool, StoreError>>;
    /// How many bytes the block has, if it is held; it is not read.
    fn size<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Option<u64>, StoreError>>;
    /// Whether a pin keeps the block.
    fn is_pinned<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<bool, StoreError>>;
    /// Keeps blocks as cached ones, not durable at once: what somebody fetched.
    fn put_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Result<(), StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_made_only_from_bytes_that_match() {
        let good = Block::sha2_256(codec::RAW, Bytes::from_static(b"estuary")).unwrap();
        assert!(Block::verify(*good.cid(), Bytes::from_static(b"estuary")).is_ok());
        assert!(matches!(
            Block::verify(*good.cid(), Bytes::from_static(b"Estuary")),
            Err(VerifyError::Mismatch(_))
        ));
    }

    #[test]
    fn weak_short_and_unknown_hashes_are_refused() {
        let sha1 = Cid::new_v1(codec::RAW, Mh::wrap(0x11, &[0; 20]).unwrap());
        assert_eq!(check_cid(&sha1), Err(VerifyError::HashFunction(0x11)));
        let truncated = Cid::new_v1(codec::RAW, Mh::wrap(SHA2_256, &[0; 20]).unwrap());
        assert_eq!(check_cid(&truncated), Err(VerifyError::DigestLength(20)));
        let identity = Cid::new_v1(codec::RAW, Mh::wrap(IDENTITY, &[7; 128]).unwrap());
        assert_eq!(check_cid(&identity), Ok(()));
        assert_eq!(Block::from_identity(&identity).unwrap().data().as_ref(), &[7; 128]);
        assert!(Mh::wrap(IDENTITY, &[7; 129]).is_err());
    }
}
