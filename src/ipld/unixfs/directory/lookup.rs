use bytes::Bytes;

use super::Entry;
use crate::block::{Block, Cid};
use crate::ipld::Error;
use crate::ipld::unixfs::hamt::{Shard, murmur3_x64_64, slot_of};
use crate::ipld::unixfs::{Kind, Node, malformed};

/// What a [`Lookup`] does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupStep {
    /// It waits for this shard: hand it over with [`Lookup::supply`].
    Need(Cid),
    /// The name is there.
    Found(Entry),
    /// The name is not there.
    NotFound,
}

/// Looks a name up: at once in a plain directory, through the shards on the path of the name's
/// hash, and no others, in a sharded one. Of several entries of one name the first counts.
#[derive(Debug, Clone)]
pub struct Lookup {
    name: Bytes,
    hash: u64,
    /// Bits of the hash that the shards so far have used.
    consumed: u32,
    next: LookupStep,
}

/// Looks `name` up in a directory. In what is not a directory no name is found.
pub fn lookup(root: &Block, name: impl AsRef<[u8]>) -> Result<Lookup, Error> {
    Lookup::of(&Node::decode(root)?, name)
}

impl Lookup {
    /// Starts in a node that was decoded already.
    pub fn of(root: &Node, name: impl AsRef<[u8]>) -> Result<Self, Error> {
        let name = Bytes::copy_from_slice(name.as_ref());
        let hash = murmur3_x64_64(&name);
        let mut lookup = Self { name, hash, consumed: 0, next: LookupStep::NotFound };
        match &root.kind {
            Kind::Directory(links) => {
                if let Some(link) = links.find(&lookup.name) {
                    lookup.next = LookupStep::Found(Entry::of(link, 0));
                }
            }
            Kind::HamtShard(shard) => lookup.enter(shard)?,
            Kind::File(_) | Kind::Symlink { .. } => {}
        }
        Ok(lookup)
    }

    /// What comes next. Asks for the same shard until it is supplied.
    #[must_use]
    pub fn step(&self) -> LookupStep {
        self.next.clone()
    }

    /// Hands over the shard that was asked for.
    pub fn supply(&mut self, block: &Block) -> Result<(), Error> {
        if self.next != LookupStep::Need(*block.cid()) {
            return Err(Error::NotAskedFor(Box::new(*block.cid())));
        }
        match Node::decode(block)?.kind {
            Kind::HamtShard(shard) => self.enter(&shard),
            _ => Err(malformed("a part of a sharded directory is not a shard")),
        }
    }

    fn enter(&mut self, shard: &Shard) -> Result<(), Error> {
        self.next = LookupStep::NotFound;
        let number = slot_of(self.hash, self.consumed, shard.bits())
            .ok_or(malformed("the directory has more levels of shards than hashes have bits"))?;
        self.consumed += shard.bits();
        let Some(link) = shard.slot(number).and_then(|slot| shard.links.get(slot.position)) else {
            return Ok(());
        };
        let entry = Entry::of(link, shard.prefix_len());
        if entry.name.is_empty() {
            self.next = LookupStep::Need(entry.cid);
        } else if entry.name == self.name {
            self.next = LookupStep::Found(entry);
        }
        Ok(())
    }
}
