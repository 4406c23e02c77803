//! Walking a path, from name to name.

use crate::block::{Block, Cid, codec};
use crate::ipld::codec::{Resolved, resolve};
use crate::ipld::dag_pb::PbView;
use crate::ipld::unixfs::Node;
use crate::ipld::unixfs::directory::{Lookup, LookupStep};
use crate::ipld::{Error, unixfs};

use super::Step;

/// Follows names from a root: through directories (of a sharded one only the shards on the name's
/// hash path), and through maps, arrays and links of DAG-CBOR and DAG-JSON. Visits each block on
/// the way but not the one at the end.
#[derive(Debug)]
pub struct PathWalk {
    names: Vec<String>,
    /// How many names were followed.
    followed: usize,
    at: At,
    roots: Vec<Cid>,
    /// How many names led to each of the roots.
    depths: Vec<usize>,
    ready: Option<Block>,
}

#[derive(Debug)]
enum At {
    Node(Cid),
    /// Between the shards of a directory.
    Shards(Cid, Box<Lookup>),
}

impl PathWalk {
    /// A walk from `root` along `names`.
    #[must_use]
    pub fn new(root: Cid, names: Vec<String>) -> Self {
        let (roots, depths) = (vec![root], vec![0]);
        Self { names, followed: 0, at: At::Node(root), roots, depths, ready: None }
    }

    /// What comes next. From here or from [`PathWalk::supply`], [`Error::NoLink`] says that the path
    /// leads nowhere, [`Error::NotALink`] that it ends inside a value.
    pub fn step(&mut self) -> Result<Step, Error> {
        loop {
            if let Some(block) = self.ready.take() {
                return Ok(Step::Visit(block));
            }
            let needed = match &self.at {
                At::Node(_) if self.followed == self.names.len() => return Ok(Step::Done),
                At::Node(cid) => *cid,
                At::Shards(parent, lookup) => match lookup.step() {
                    LookupStep::Need(cid) => cid,
                    LookupStep::Found(entry) => {
                        self.arrive(entry.cid, 1);
                        continue;
                    }
                    LookupStep::NotFound => return Err(self.no_link(*parent, 0)),
                },
            };
            match Block::from_identity(&needed) {
                Some(block) => self.enter(&block)?,
                None => return Ok(Step::Need(needed)),
            }
        }
    }

    /// Hands in the block that was needed.
    pub fn supply(&mut self, block: Block) -> Result<(), Error> {
        let needed = match &self.at {
            At::Node(cid) if self.followed < self.names.len() => Some(*cid),
            At::Shards(_, lookup) => match lookup.step() {
                LookupStep::Need(cid) => Some(cid),
                _ => None,
            },
            At::Node(_) => None,
        };
        let supplied = *block.cid();
        let block = needed
            .and_then(|cid| block.with_cid(cid))
            .ok_or_else(|| Error::NotAskedFor(Box::new(supplied)))?;
        self.enter(&block)?;
        self.ready = Some(block);
        Ok(())
    }

    /// Where the path leads, once it was walked.
    #[must_use]
    pub fn terminus(&self) -> Option<Cid> {
        match self.at {
            At::Node(cid) if self.followed == self.names.len() => Some(cid),
            _ => None,
        }
    }

    /// The root and what the names led to so far, without the shards between.
    #[must_use]
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// The same, each with the names that lead on from there.
    pub fn ways(&self) -> impl Iterator<Item = (&Cid, &[String])> {
        let rest = |depth: &usize| self.names.get(*depth..).unwrap_or_default();
        self.roots.iter().zip(self.depths.iter().map(rest))
    }

    fn enter(&mut self, block: &Block) -> Result<(), Error> {
        if let At::Shards(_, lookup) = &mut self.at {
            return lookup.supply(block);
        }
        let names = self.names.get(self.followed..).unwrap_or_default();
        match block.cid().codec() {
            codec::DAG_PB => self.enter_dag_pb(block),
            codec::DAG_CBOR | codec::DAG_JSON => match resolve(block, names)? {
                Resolved::Link { cid, consumed } => {
                    self.arrive(cid, consumed);
                    Ok(())
                }
                Resolved::Value => Err(Error::NotALink(Box::new(*block.cid()))),
                Resolved::Missing(index) => Err(self.no_link(*block.cid(), index)),
            },
            _ => Err(self.no_link(*block.cid(), 0)),
        }
    }

    fn enter_dag_pb(&mut self, block: &Block) -> Result<(), Error> {
        let Some(name) = self.names.get(self.followed) else { return Ok(()) };
        let view = PbView::decode(block.data())?;
        if view.data.is_some() {
            let lookup = unixfs::directory::Lookup::of(&Node::decode(block)?, name)?;
            self.at = At::Shards(*block.cid(), Box::new(lookup));
            return Ok(());
        }
        // No file system node, but its links have names all the same.
        match view.links.find(name.as_bytes()) {
            Some(link) => {
                self.arrive(link.cid, 1);
                Ok(())
            }
            None => Err(self.no_link(*block.cid(), 0)),
        }
    }

    fn arrive(&mut self, cid: Cid, names: usize) {
        self.followed += names;
        self.at = At::Node(cid);
        self.roots.push(cid);
        self.depths.push(self.followed);
    }

    fn no_link(&self, parent: Cid, offset: usize) -> Error {
        let name = self.names.get(self.followed + offset).map_or("", String::as_str);
        Error::NoLink { parent: Box::new(parent), name: name.into() }
    }
}
