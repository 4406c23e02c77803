//! Walks over DAGs as pull machines: they name the blocks they need and are handed them.
//!
//! Whoever drives a walk may fetch [`DagWalk::upcoming`] blocks before they are needed, as many at
//! once as it likes; the order of the visits stays the same.

mod children;
mod machine;
mod names;
mod seen;

use crate::block::{Block, Cid, IDENTITY};

use super::Error;

pub(super) use children::Job;
pub(super) use machine::Machine;
pub use names::PathWalk;

/// How far a walk goes before it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Links between the root and the deepest block.
    pub depth: usize,
    /// Blocks asked for.
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

/// Visits every block of a DAG, depth first, parents before children. Identity CIDs carry their
/// block in themselves: they are followed, but neither needed nor visited.
#[derive(Debug)]
pub struct DagWalk {
    machine: Machine,
}

impl DagWalk {
    /// A walk that visits each block once. Blocks are the same when their multihash is.
    #[must_use]
    pub fn new(root: Cid, limits: Limits) -> Self {
        let mut machine = Machine::new(limits);
        machine.begin(&root, Job::Whole);
        Self { machine }
    }

    /// Whether blocks that are met again are visited again. Needs no memory of what was visited,
    /// and may take very long: `limits` are all that bounds it.
    #[must_use]
    pub fn duplicates(mut self, yes: bool) -> Self {
        self.machine.set_duplicates(yes);
        self
    }

    /// What comes next. Asking again without answering a `Need` gives the same `Need`.
    pub fn step(&mut self) -> Result<Step, Error> {
        self.machine.step()
    }

    /// Hands in the block that was needed.
    pub fn supply(&mut self, block: Block) -> Result<(), Error> {
        self.machine.supply(block)
    }

    /// Goes on without the block that was needed, and so without what is below it.
    pub fn skip(&mut self, cid: &Cid) -> Result<(), Error> {
        self.machine.skip(cid)
    }

    /// Up to `n` blocks that will be needed, the next one first: what to fetch ahead. One may be
    /// named twice, and what lies below those named comes in between. Each one named costs a little:
    /// ask when what was fetched ahead runs low rather than at every step.
    pub fn upcoming(&self, n: usize) -> impl Iterator<Item = Cid> + '_ {
        self.machine.upcoming(n)
    }
}

/// Gives a block that is at hand before its turn, so that what lies below it can be fetched ahead.
pub type AtHand<'a> = &'a dyn Fn(&Cid) -> Option<Block>;

/// Adds blocks to `found`, of those at hand what lies below them, until there are `n`.
pub fn ahead_of_all(
    pending: impl IntoIterator<Item = Cid>,
    n: usize,
    at_hand: AtHand<'_>,
    found: &mut Vec<Cid>,
) {
    for cid in pending {
        let mut below = vec![vec![cid].into_iter()];
        while let Some(cids) = below.last_mut() {
            if found.len() >= n {
                return;
            }
            let Some(cid) = cids.next() else {
                below.pop();
                continue;
            };
            match at_hand(&cid) {
                None if cid.hash().code() == IDENTITY => {}
                None => found.push(cid),
                Some(block) if below.len() <= machine::AHEAD_DEPTH_MAX => {
                    below.extend(super::links(&block).ok().map(Vec::into_iter));
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
