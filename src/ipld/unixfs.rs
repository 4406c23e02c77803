//! UnixFS: files, directories and symbolic links in dag-pb blocks (UnixFS specification).
//!
//! [`Node::decode`] says what one block is. The machines read over many: [`FileReader`] the bytes
//! of a file, [`directory::Lookup`] one name, [`directory::Lister`] all names. [`import`] goes the
//! other way, from bytes and names to blocks.

pub mod directory;
mod format;
pub mod hamt;
pub mod import;
pub mod read;

use bytes::Bytes;

use super::Error;
use super::dag_pb::{Links, PbView};
use crate::block::{Block, codec};

pub use format::{Metadata, Mtime};
pub use hamt::Shard;
pub use read::FileReader;

use format::{Data, DataType};

const fn malformed(reason: &'static str) -> Error {
    Error::Malformed { format: "UnixFS", reason }
}

/// What one block is, in the file system.
#[derive(Debug, Clone)]
pub struct Node {
    /// File, directory or link.
    pub kind: Kind,
    /// Permissions and time of modification, where kept.
    pub metadata: Metadata,
}

/// The kinds of nodes.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A file or a part of one.
    File(File),
    /// A directory whose entries all stand in this block.
    Directory(Links),
    /// A piece of a directory that is spread over many blocks.
    HamtShard(Shard),
    /// A symbolic link; its target is not checked in any way, nor need it be text.
    Symlink {
        /// Where it points.
        target: Bytes,
    },
}

/// A file or a part of one: its inline data, then its children.
#[derive(Debug, Clone)]
pub struct File {
    /// Bytes of the file from here down; always inline data plus `block_sizes`.
    pub size: u64,
    /// Data in this block, which stands before that of the children.
    pub data: Bytes,
    /// The children.
    pub links: Links,
    /// File bytes under each child, as many as there are links.
    pub block_sizes: Vec<u64>,
}

impl Node {
    /// Reads a dag-pb block, or a raw block as the file it is. Whatever contradicts itself is an
    /// error: sizes that do not match the links or do not add up, shards whose bitfield and links
    /// differ.
    pub fn decode(block: &Block) -> Result<Self, Error> {
        match block.cid().codec() {
            codec::RAW => Ok(Self {
                kind: Kind::File(File::leaf(block.data().clone())),
                metadata: Metadata::default(),
            }),
            codec::DAG_PB => Self::decode_dag_pb(block.data()),
            _ => Err(malformed("the block is neither dag-pb nor raw")),
        }
    }

    fn decode_dag_pb(block: &Bytes) -> Result<Self, Error> {
        let PbView { links, data } = PbView::decode(block)?;
        let data = data.ok_or(malformed("the node has no data"))?;
        let data = Data::decode(&data, links.len())?;
        let metadata = data.metadata;
        let kind = match data.kind {
            DataType::Raw | DataType::File => Kind::File(File::new(data, links)?),
            DataType::Directory => Kind::Directory(links),
            DataType::HamtShard => Kind::HamtShard(Shard::new(&data, links)?),
            DataType::Symlink => Kind::Symlink { target: data.data.unwrap_or_default() },
        };
        Ok(Self { kind, metadata })
    }

    /// Whether names can be looked up in it.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_) | Kind::HamtShard(_))
    }
}

impl File {
    fn leaf(data: Bytes) -> Self {
        let links = Links::default();
        Self { size: data.len() as u64, data, links, block_sizes: Vec::new() }
    }

    fn new(data: Data, links: Links) -> Result<Self, Error> {
        if data.block_sizes.len() != links.len() {
            return Err(malformed("a file has not as many block sizes as links"));
        }
        let inline = data.data.unwrap_or_default();
        let size = data
            .block_sizes
            .iter()
            .try_fold(inline.len() as u64, |sum, size| sum.checked_add(*size))
            .filter(|size| i64::try_from(*size).is_ok())
            .ok_or(malformed("the sizes of a file overflow"))?;
        if data.file_size.is_some_and(|claimed| claimed != size) {
            return Err(malformed("the size of a file is not the sum of its parts"));
        }
        Ok(Self { size, data: inline, links, block_sizes: data.block_sizes })
    }
}

#[cfg(test)]
mod tests;
