use std::collections::HashSet;

use bytes::Bytes;

use super::Entry;
use crate::block::{Block, Cid};
use crate::ipld::dag_pb::{LinkIter, Links};
use crate::ipld::unixfs::hamt::{HASH_BITS, Shard, murmur3_x64_64};
use crate::ipld::unixfs::{Kind, Node, malformed};
use crate::ipld::{AtHand, Error};

/// Most levels of shards that the bits of a hash allow, at three each.
const LEVELS_MAX: usize = HASH_BITS as usize / 3;

/// What a [`Lister`] does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListStep {
    /// It waits for this shard: hand it over with [`Lister::supply`].
    Need(Cid),
    /// The next entry.
    Entry(Entry),
    /// There are no more.
    Done,
}

/// Lists a directory: a plain one in the order of its block, a sharded one in the order of the
/// names' hashes, shard by shard. An entry stands where a lookup finds it, and each name comes
/// once: of several of one name the first counts.
#[derive(Debug)]
pub struct Lister {
    /// Entries to pass over yet.
    skip: usize,
    /// Names seen, kept only for a plain directory that is not sorted.
    seen: Option<HashSet<Bytes>>,
    wanted: Option<(Cid, HashPath)>,
    /// Blocks with links still to come, the root first.
    open: Vec<Level>,
}

/// The links of one block from some point on.
#[derive(Debug)]
enum Level {
    Plain(LinkIter),
    Shard(ShardLevel),
}

#[derive(Debug)]
struct ShardLevel {
    links: LinkIter,
    /// The slots of the links.
    slots: std::vec::IntoIter<u32>,
    bits: u32,
    prefix_len: usize,
    path: HashPath,
}

/// The bits that all hashes under a shard begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct HashPath {
    value: u64,
    bits: u32,
}

impl HashPath {
    fn then(self, slot: u32, bits: u32) -> Result<Self, Error> {
        let total = self.bits + bits;
        if total > HASH_BITS {
            return Err(malformed("the directory has more levels of shards than hashes have bits"));
        }
        Ok(Self { value: self.value << bits | u64::from(slot), bits: total })
    }

    fn leads_to(self, name: &[u8]) -> bool {
        murmur3_x64_64(name).checked_shr(HASH_BITS - self.bits).unwrap_or_default() == self.value
    }
}

impl Lister {
    /// Starts at the root of a directory.
    pub fn open(root: &Block) -> Result<Self, Error> {
        Self::of(Node::decode(root)?)
    }

    /// Starts at a root that was decoded already.
    pub fn of(root: Node) -> Result<Self, Error> {
        let mut lister = Self { skip: 0, seen: None, wanted: None, open: Vec::new() };
        match root.kind {
            Kind::Directory(links) => {
                lister.seen = (!is_sorted(&links)).then(HashSet::new);
                lister.open.push(Level::Plain(links.iter()));
            }
            Kind::HamtShard(shard) => lister.enter(&shard, HashPath::default()),
            Kind::File(_) | Kind::Symlink { .. } => {
                return Err(malformed("the node is not a directory"));
            }
        }
        Ok(lister)
    }

    /// Passes over the first `entries`: where a page begins.
    #[must_use]
    pub fn skip(mut self, entries: usize) -> Self {
        self.skip = entries;
        self
    }

    /// What comes next. Asks for the same shard until it is supplied.
    pub fn step(&mut self) -> Result<ListStep, Error> {
        loop {
            if let Some((cid, _)) = &self.wanted {
                return Ok(ListStep::Need(*cid));
            }
            let entry = match self.open.last_mut() {
                None => return Ok(ListStep::Done),
                Some(Level::Plain(links)) => links.next().map(|link| Entry::of(link, 0)),
                Some(Level::Shard(shard)) => match shard.next()? {
                    Some(Item::Shard(cid, path)) => {
                        self.wanted = Some((cid, path));
                        continue;
                    }
                    Some(Item::Entry(entry)) => Some(entry),
                    None => None,
                },
            };
            let Some(entry) = entry else {
                self.open.pop();
                continue;
            };
            if self.seen.as_mut().is_some_and(|seen| !seen.insert(entry.name.clone())) {
                continue;
            }
            if self.skip == 0 {
                return Ok(ListStep::Entry(entry));
            }
            self.skip -= 1;
        }
    }

    /// Hands over the shard that was asked for.
    pub fn supply(&mut self, block: &Block) -> Result<(), Error> {
        let Some((_, path)) = self.wanted.take_if(|(cid, _)| cid == block.cid()) else {
            return Err(Error::NotAskedFor(Box::new(*block.cid())));
        };
        let Kind::HamtShard(shard) = Node::decode(block)?.kind else {
            return Err(malformed("a part of a sharded directory is not a shard"));
        };
        self.enter(&shard, path);
        Ok(())
    }

    fn enter(&mut self, shard: &Shard, path: HashPath) {
        self.open.push(Level::Shard(ShardLevel {
            links: shard.links.iter(),
            slots: shard.slots().map(|slot| slot.number).collect::<Vec<_>>().into_iter(),
            bits: shard.bits(),
            prefix_len: shard.prefix_len(),
            path,
        }));
    }

    /// Bytes of the blocks that it holds while there are links to come in them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let held = self.open.iter().map(|level| match level {
            Level::Plain(links) => links.held_bytes(),
            Level::Shard(shard) => shard.links.held_bytes(),
        });
        held.sum()
    }

    /// As [`Self::upcoming`], with the shards below shards at hand in their place.
    pub fn ahead(&self, n: usize, at_hand: AtHand<'_>) -> Vec<Cid> {
        let mut found = Vec::new();
        for cid in self.upcoming(usize::MAX) {
            if found.len() >= n {
                break;
            }
            let mut below = vec![vec![cid].into_iter()];
            while let Some(cids) = below.last_mut()
                && found.len() < n
            {
                let Some(cid) = cids.next() else {
                    below.pop();
                    continue;
                };
                match at_hand(&cid) {
                    None => found.push(cid),
                    Some(block) if below.len() <= LEVELS_MAX => below.extend(shards_in(&block)),
                    Some(_) => {}
                }
            }
        }
        found
    }

    /// The shards it will ask for, as far as the ones read so far tell: the one waited for, then
    /// the next ones in order, at most `n`. For reading ahead.
    pub fn upcoming(&self, n: usize) -> impl Iterator<Item = Cid> + '_ {
        let waited = self.wanted.iter().map(|(cid, _)| *cid);
        let later = self.open.iter().rev().filter_map(|level| match level {
            Level::Shard(shard) => Some(shard.shards_ahead()),
            Level::Plain(_) => None,
        });
        waited.chain(later.flatten()).take(n)
    }
}

/// The shards that one at hand leads to. What cannot be read is said when its turn comes.
fn shards_in(block: &Block) -> Option<std::vec::IntoIter<Cid>> {
    let Kind::HamtShard(shard) = Node::decode(block).ok()?.kind else { return None };
    let of_a_shard =
        |name: Option<&Bytes>| name.is_some_and(|name| name.len() == shard.prefix_len());
    let shards = shard.links.iter().filter(|link| of_a_shard(link.name.as_ref()));
    Some(shards.map(|link| link.cid).collect::<Vec<_>>().into_iter())
}

/// What a slot of a shard leads to.
enum Item {
    Entry(Entry),
    Shard(Cid, HashPath),
}

impl ShardLevel {
    fn next(&mut self) -> Result<Option<Item>, Error> {
        let (Some(link), Some(slot)) = (self.links.next(), self.slots.next()) else {
            return Ok(None);
        };
        let path = self.path.then(slot, self.bits)?;
        let entry = Entry::of(link, self.prefix_len);
        if entry.name.is_empty() {
            return Ok(Some(Item::Shard(entry.cid, path)));
        }
        if !path.leads_to(&entry.name) {
            return Err(malformed("an entry stands in a shard where its name does not lead"));
        }
        Ok(Some(Item::Entry(entry)))
    }

    fn shards_ahead(&self) -> impl Iterator<Item = Cid> + '_ {
        let of_a_shard = |name: Option<&Bytes>| name.is_some_and(|n| n.len() == self.prefix_len);
        self.links.clone().filter(move |link| of_a_shard(link.name.as_ref())).map(|link| link.cid)
    }
}

/// Whether names ascend strictly, as they do in every directory made by the rules; then none
/// comes twice.
fn is_sorted(links: &Links) -> bool {
    let (mut before, mut after) = (links.iter(), links.iter());
    after.skip_one();
    std::iter::from_fn(|| Some((before.next_name()?, after.next_name()?))).all(|(a, b)| a < b)
}
