use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::block::{Block, codec};
use crate::ipld::Error;

/// Largest chunk: with what a leaf adds to it, it still fits in the largest block.
pub const CHUNK_BYTES_MAX: usize = (2 << 20) - 256;

/// The choices that decide which CID given bytes and names get (IPIP-499).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    /// CIDv1, raw leaves, chunks of 1 MiB, 1024 links a node.
    #[default]
    #[serde(rename = "unixfs-v1-2025")]
    V1_2025,
    /// CIDv0, leaves in dag-pb, chunks of 256 KiB, 174 links a node.
    #[serde(rename = "unixfs-v0-2015")]
    V0_2015,
}

impl Profile {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::V1_2025, Self::V0_2015];

    /// The name of the profile in its specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1_2025 => "unixfs-v1-2025",
            Self::V0_2015 => "unixfs-v0-2015",
        }
    }

    /// How bytes are cut unless asked otherwise.
    #[must_use]
    pub fn chunker(self) -> Chunker {
        Chunker::Size(match self {
            Self::V1_2025 => 1 << 20,
            Self::V0_2015 => 256 << 10,
        })
    }

    /// Most links of a file's node.
    #[must_use]
    pub fn links_max(self) -> usize {
        match self {
            Self::V1_2025 => 1024,
            Self::V0_2015 => 174,
        }
    }

    /// A dag-pb block, hashed, under a CID of the profile's version.
    pub(super) fn dag_pb(self, data: Bytes) -> Result<Block, Error> {
        Ok(match self {
            Self::V1_2025 => Block::sha2_256(codec::DAG_PB, data)?,
            Self::V0_2015 => Block::sha2_256_v0(data)?,
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or(Error::Malformed {
            format: "profile",
            reason: "it is neither unixfs-v1-2025 nor unixfs-v0-2015",
        })
    }
}

/// How a file's bytes are cut into leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunker {
    /// Every so many bytes: `size-N`.
    Size(usize),
}

impl Chunker {
    /// Most bytes of a chunk.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        let Self::Size(bytes) = self;
        bytes
    }
}

impl fmt::Display for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "size-{}", self.bytes_max())
    }
}

impl FromStr for Chunker {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.strip_prefix("size-")
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|number| number.parse().ok())
            .filter(|bytes| (1..=CHUNK_BYTES_MAX).contains(bytes))
            .map(Self::Size)
            .ok_or(Error::Malformed {
                format: "chunker",
                reason: "it must be size-N with N from 1 to 2096896 bytes",
            })
    }
}
