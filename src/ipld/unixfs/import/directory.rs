use bytes::Bytes;

use super::{Built, Profile};
use crate::block::{Block, Cid};
use crate::ipld::Error;
use crate::ipld::protobuf::{
    bytes_len, put_bytes_field, put_bytes_head, put_varint_field, varint_len,
};
use crate::ipld::unixfs::format::{Data, DataType, Metadata};
use crate::ipld::unixfs::hamt::{HASH_TYPE, murmur3_x64_64, prefix, slot_of};
use crate::ipld::unixfs::malformed;

/// A directory whose estimated size is above this, in bytes, is sharded.
const SHARDING_BYTES: usize = 256 << 10;
/// Slots of the shards we make.
const FANOUT: u32 = 256;
/// Bits of a hash that choose one of them.
const FANOUT_BITS: u32 = FANOUT.trailing_zeros();

/// Makes a directory of names. Keeps what a name takes, about a hundred bytes, and no blocks.
#[derive(Debug, Clone)]
pub struct DirectoryBuilder {
    profile: Profile,
    metadata: Metadata,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Box<[u8]>,
    /// The CID's bytes, a quarter of what the CID takes.
    cid: Box<[u8]>,
    tsize: u64,
}

impl Entry {
    /// Appends the link, with `prefix` before the name.
    fn put_link(&self, out: &mut Vec<u8>, prefix: &str) {
        let name_len = prefix.len() + self.name.len();
        put_bytes_head(out, 2, self.message_len(name_len));
        put_bytes_field(out, 1, &self.cid);
        put_bytes_head(out, 2, name_len);
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(&self.name);
        put_varint_field(out, 3, self.tsize);
    }

    fn message_len(&self, name_len: usize) -> usize {
        bytes_len(self.cid.len()) + bytes_len(name_len) + 1 + varint_len(self.tsize)
    }
}

impl DirectoryBuilder {
    /// An empty directory.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self { profile, metadata: Metadata::default(), entries: Vec::new() }
    }

    /// Keeps permissions and time with the directory.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Adds a name; a name that is there already gets the new content.
    pub fn insert(&mut self, name: impl AsRef<[u8]>, cid: &Cid, tsize: u64) {
        let (name, cid) = (name.as_ref().into(), cid.to_bytes().into());
        self.entries.push(Entry { name, cid, tsize });
    }

    /// Sorts the names and makes the blocks: one, or a trie of shards where the one would be
    /// larger than the profile allows. Errors: an empty name, a block over the limit, hashes of
    /// names that collide whole.
    pub fn finish(mut self) -> Result<Built, Error> {
        if self.entries.iter().any(|entry| entry.name.is_empty()) {
            return Err(malformed("a directory cannot hold an empty name"));
        }
        self.entries.reverse(); // so that the last of equal names comes first, and is kept
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.entries.dedup_by(|a, b| a.name == b.name);

        let mut blocks = Vec::new();
        let data = Data { metadata: self.metadata, ..Data::new(DataType::Directory) }.encode();
        let root = if self.estimated_bytes(data.len()) > SHARDING_BYTES {
            let mut entries: Vec<_> =
                self.entries.iter().map(|entry| (murmur3_x64_64(&entry.name), entry)).collect();
            entries.sort_by_key(|(hash, _)| *hash);
            self.shard(&entries, 0, &mut blocks)?
        } else {
            let mut node = Vec::new();
            for entry in &self.entries {
                entry.put_link(&mut node, "");
            }
            let tsize =
                self.entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.tsize));
            self.node(node, &data, tsize, &mut blocks)?
        };
        Ok(Built { root: root.cid, blocks, size: 0, tsize: root.tsize })
    }

    /// How large the directory counts: its block's bytes in the newer profile, names and CIDs
    /// alone in the older one.
    fn estimated_bytes(&self, data_len: usize) -> usize {
        match self.profile {
            Profile::V1_2025 => {
                let link = |entry: &Entry| bytes_len(entry.message_len(entry.name.len()));
                bytes_len(data_len) + self.entries.iter().map(link).sum::<usize>()
            }
            Profile::V0_2015 => {
                self.entries.iter().map(|entry| entry.name.len() + entry.cid.len()).sum()
            }
        }
    }

    /// Makes the shard of these entries, whose hashes ascend and agree in the bits `consumed`, and
    /// the shards below it. Recursive, at most 8 levels: then the bits are used up.
    fn shard(
        &self,
        entries: &[(u64, &Entry)],
        consumed: u32,
        blocks: &mut Vec<Block>,
    ) -> Result<Made, Error> {
        let slot = |hash| slot_of(hash, consumed, FANOUT_BITS);
        let mut node = Vec::new();
        let mut bitfield = [0u8; FANOUT as usize / 8];
        let mut tsize = 0;
        for group in entries.chunk_by(|(a, _), (b, _)| slot(*a) == slot(*b)) {
            let number = group.first().and_then(|(hash, _)| slot(*hash));
            let number = number.ok_or(malformed("two names have the same hash"))?;
            let prefix = prefix(number, FANOUT);
            let from_end = bitfield.len() - 1 - number as usize / 8;
            bitfield[from_end] |= 1 << (number % 8);
            if let [(_, entry)] = group {
                entry.put_link(&mut node, &prefix);
                tsize = u64::saturating_add(tsize, entry.tsize);
            } else {
                let below = self.shard(group, consumed + FANOUT_BITS, blocks)?;
                tsize = u64::saturating_add(tsize, below.tsize);
                let cid = below.cid.to_bytes().into();
                Entry { name: Box::default(), cid, tsize: below.tsize }
                    .put_link(&mut node, &prefix);
            }
        }
        let zeros = bitfield.iter().take_while(|byte| **byte == 0).count();
        let data = Data {
            data: Some(Bytes::copy_from_slice(&bitfield[zeros..])),
            hash_type: Some(HASH_TYPE),
            fanout: Some(FANOUT.into()),
            metadata: if consumed == 0 { self.metadata } else { Metadata::default() },
            ..Data::new(DataType::HamtShard)
        };
        self.node(node, &data.encode(), tsize, blocks)
    }

    fn node(
        &self,
        mut links: Vec<u8>,
        data: &[u8],
        tsize: u64,
        blocks: &mut Vec<Block>,
    ) -> Result<Made, Error> {
        put_bytes_field(&mut links, 1, data);
        let block = self.profile.dag_pb(links.into())?;
        let tsize = tsize.saturating_add(block.data().len() as u64);
        let made = Made { cid: *block.cid(), tsize };
        blocks.push(block);
        Ok(made)
    }
}

/// A finished block and all below it.
struct Made {
    cid: Cid,
    tsize: u64,
}

/// Makes a symbolic link.
pub fn symlink(
    profile: Profile,
    target: impl AsRef<[u8]>,
    metadata: Metadata,
) -> Result<Built, Error> {
    let target = Bytes::copy_from_slice(target.as_ref());
    let data = Data { data: Some(target), metadata, ..Data::new(DataType::Symlink) };
    let mut node = Vec::new();
    put_bytes_field(&mut node, 1, &data.encode());
    let block = profile.dag_pb(node.into())?;
    let (root, tsize) = (*block.cid(), block.data().len() as u64);
    Ok(Built { root, blocks: vec![block], size: 0, tsize })
}
