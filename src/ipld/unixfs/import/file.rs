use std::mem;

use bytes::Bytes;

use super::{Built, Profile};
use crate::block::{Block, Cid, codec};
use crate::ipld::Error;
use crate::ipld::protobuf::{
    bytes_len, put_bytes_field, put_bytes_head, put_varint_field, varint_len,
};
use crate::ipld::unixfs::format::{Data, DataType, Metadata};

/// A chunk of a file as a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The block.
    pub block: Block,
    /// Bytes of the file in it.
    pub bytes: u64,
}

impl Profile {
    /// Makes and hashes a leaf. Pure and slow: for worker threads. With raw leaves the block
    /// shares the chunk's memory.
    pub fn leaf(self, chunk: Bytes) -> Result<Leaf, Error> {
        let bytes = chunk.len() as u64;
        let block = match self {
            Self::V1_2025 => Block::sha2_256(codec::RAW, chunk)?,
            Self::V0_2015 => self.dag_pb(file_leaf(&chunk))?,
        };
        Ok(Leaf { block, bytes })
    }
}

/// A dag-pb node around a UnixFS file of these bytes, written in one go.
fn file_leaf(chunk: &[u8]) -> Bytes {
    let size = chunk.len() as u64;
    let data = if chunk.is_empty() { 0 } else { bytes_len(chunk.len()) };
    let message = 2 + data + 1 + varint_len(size);
    let mut out = Vec::with_capacity(bytes_len(message));
    put_bytes_head(&mut out, 1, message);
    put_varint_field(&mut out, 1, DataType::File as u64);
    if !chunk.is_empty() {
        put_bytes_field(&mut out, 2, chunk);
    }
    put_varint_field(&mut out, 3, size);
    out.into()
}

/// Builds the balanced tree above the leaves of one file, left to right. Holds one unfinished
/// node a level; a node is finished when the next one on its level begins.
#[derive(Debug, Clone)]
pub struct FileBuilder {
    profile: Profile,
    links_max: usize,
    metadata: Metadata,
    /// From the leaves' parents upwards.
    levels: Vec<Level>,
}

/// A block as its parent sees it.
#[derive(Debug, Clone, Copy)]
struct Child {
    cid: Cid,
    size: u64,
    tsize: u64,
}

/// A node in the making; its links are kept encoded, since a CID in memory is four times as long.
#[derive(Debug, Clone, Default)]
struct Level {
    first: Option<Child>,
    count: usize,
    links: Vec<u8>,
    sizes: Vec<u64>,
    /// Of all children.
    tsize: u64,
}

impl Level {
    fn push(&mut self, child: Child) {
        self.first.get_or_insert(child);
        self.count += 1;
        put_file_link(&mut self.links, &child);
        self.sizes.push(child.size);
        self.tsize += child.tsize;
    }
}

/// A link with an empty name, which is how file nodes link.
fn put_file_link(out: &mut Vec<u8>, child: &Child) {
    let hash = child.cid.to_bytes();
    put_bytes_head(out, 2, bytes_len(hash.len()) + 2 + 1 + varint_len(child.tsize));
    put_bytes_field(out, 1, &hash);
    put_bytes_field(out, 2, &[]);
    put_varint_field(out, 3, child.tsize);
}

impl FileBuilder {
    /// A file without bytes so far, `links_max` links a node (at least 2), commonly
    /// [`Profile::links_max`].
    #[must_use]
    pub fn new(profile: Profile, links_max: usize) -> Self {
        let links_max = links_max.max(2);
        Self { profile, links_max, metadata: Metadata::default(), levels: Vec::new() }
    }

    /// Keeps permissions and time with the file. A file of one leaf gets a node above it for that.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Adds the next leaf. Returns the nodes that are finished by this; the leaf's own block is
    /// the caller's.
    pub fn push(&mut self, leaf: &Leaf) -> Result<Vec<Block>, Error> {
        let tsize = leaf.block.data().len() as u64;
        let mut finished = Vec::new();
        self.add(Child { cid: *leaf.block.cid(), size: leaf.bytes, tsize }, 0, &mut finished)?;
        Ok(finished)
    }

    fn add(&mut self, mut child: Child, from: usize, out: &mut Vec<Block>) -> Result<(), Error> {
        let mut at = from;
        loop {
            if self.levels.len() == at {
                self.levels.push(Level::default());
            }
            let level = &mut self.levels[at];
            if level.count < self.links_max {
                level.push(child);
                return Ok(());
            }
            let full = mem::take(level);
            level.push(child);
            child = self.close(full, Metadata::default(), out)?;
            at += 1;
        }
    }

    fn close(&self, level: Level, meta: Metadata, out: &mut Vec<Block>) -> Result<Child, Error> {
        let size = level.sizes.iter().sum();
        let data = Data {
            file_size: Some(size),
            block_sizes: level.sizes,
            metadata: meta,
            ..Data::new(DataType::File)
        };
        let mut node = level.links;
        put_bytes_field(&mut node, 1, &data.encode());
        let block = self.profile.dag_pb(node.into())?;
        let child =
            Child { cid: *block.cid(), size, tsize: level.tsize + block.data().len() as u64 };
        out.push(block);
        Ok(child)
    }

    /// Finishes the nodes still open. A file of one leaf is that leaf; one of none is an empty
    /// leaf, which is among the blocks.
    pub fn finish(mut self) -> Result<Built, Error> {
        let mut blocks = Vec::new();
        if self.levels.is_empty() {
            let leaf = self.profile.leaf(Bytes::new())?;
            self.push(&leaf)?;
            blocks.push(leaf.block);
        }
        let mut at = 0;
        let root = loop {
            let level = mem::take(&mut self.levels[at]);
            let is_top = at + 1 == self.levels.len();
            match level.first {
                Some(only)
                    if is_top && level.count == 1 && self.metadata == Metadata::default() =>
                {
                    break only;
                }
                _ if is_top => break self.close(level, self.metadata, &mut blocks)?,
                _ => {
                    let child = self.close(level, Metadata::default(), &mut blocks)?;
                    at += 1;
                    self.add(child, at, &mut blocks)?;
                }
            }
        };
        Ok(Built { root: root.cid, blocks, size: root.size, tsize: root.tsize })
    }
}
