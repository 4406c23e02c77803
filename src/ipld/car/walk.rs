//! Which blocks a CAR response holds, in order (trustless gateway specification, `dag-scope` and
//! `entity-bytes`).

use std::ops::Range;

use crate::block::{Block, Cid, codec};
use crate::ipld::walk::{Job, Limits, Machine, PathWalk, Step};
use crate::ipld::{AtHand, Error};

/// How much of the DAG below the path's end is wanted (`dag-scope`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CarScope {
    /// The block at the end of the path alone.
    Block,
    /// What makes up the file or directory there: all blocks of a file, all shards of a directory.
    Entity,
    /// Everything below.
    #[default]
    All,
}

/// A byte range of a file (`entity-bytes`): inclusive, negative counts from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityBytes {
    /// First byte.
    pub from: i64,
    /// Last byte; `None` is the end.
    pub to: Option<i64>,
}

impl EntityBytes {
    /// The bytes of a file of `size` bytes that are meant: those that exist, maybe none.
    #[must_use]
    pub fn within(self, size: u64) -> Range<u64> {
        let at = |offset: i64| match u64::try_from(offset) {
            Ok(offset) => Some(offset),
            Err(_) => size.checked_sub(offset.unsigned_abs()),
        };
        let from = at(self.from).unwrap_or(0);
        let to = match self.to {
            None => size,
            // A last byte before the file's first leaves nothing.
            Some(last) => at(last).map_or(0, |last| last.saturating_add(1).min(size)),
        };
        from..to.max(from)
    }
}

/// What a CAR is to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CarRequest {
    /// Names that lead from the root to what is wanted.
    pub segments: Vec<String>,
    /// How much of it.
    pub scope: CarScope,
    /// Which bytes of it; a range makes the scope [`CarScope::Entity`].
    pub bytes: Option<EntityBytes>,
    /// Whether blocks that are met again are repeated.
    pub duplicates: bool,
}

/// Visits the blocks of a CAR response: those on the path first, then those of the scope.
/// Identity blocks are followed, but neither needed nor visited.
#[derive(Debug)]
pub struct CarWalk {
    path: PathWalk,
    /// What to do where the path ends, until that is known.
    job: Option<Job>,
    /// The block in which the path ends, where it ends at a value inside of one.
    inside: Option<Cid>,
    machine: Machine,
}

impl CarWalk {
    /// A walk from `root`.
    #[must_use]
    pub fn new(root: Cid, request: CarRequest, limits: Limits) -> Self {
        let job = match (request.scope, request.bytes) {
            (_, Some(bytes)) => Job::Entity(Some(bytes)),
            (CarScope::Block, None) => Job::Alone,
            (CarScope::Entity, None) => Job::Entity(None),
            (CarScope::All, None) => Job::Whole,
        };
        let mut machine = Machine::new(limits);
        machine.set_duplicates(request.duplicates);
        let path = PathWalk::new(root, request.segments);
        Self { path, job: Some(job), inside: None, machine }
    }

    /// What comes next. While the path is walked, [`Error::NoLink`] says that it leads nowhere, from
    /// here or from [`CarWalk::supply`]. A path that ends inside a block ends the walk with that
    /// block: with those before it, it shows the value. Nothing need have been sent by then: hold the visited blocks back until
    /// [`CarWalk::terminus`] is known.
    pub fn step(&mut self) -> Result<Step, Error> {
        if let Some(job) = self.job {
            let step = match self.path.step() {
                Err(Error::NotALink(cid)) => {
                    self.end_inside(*cid);
                    return self.machine.step();
                }
                step => step?,
            };
            let (Step::Done, Some(terminus)) = (&step, self.path.terminus()) else {
                return Ok(step);
            };
            self.job = None;
            self.machine.begin(&terminus, job);
        }
        self.machine.step()
    }

    /// Where the path leads, once it has been walked.
    #[must_use]
    pub fn terminus(&self) -> Option<Cid> {
        self.inside.or_else(|| self.path.terminus())
    }

    /// The root and what the path's names led to so far, without shards.
    #[must_use]
    pub fn roots(&self) -> &[Cid] {
        self.path.roots()
    }

    /// The same, each with the names that lead on from there.
    pub fn ways(&self) -> impl Iterator<Item = (&Cid, &[String])> {
        self.path.ways()
    }

    /// Hands in the block that was needed.
    pub fn supply(&mut self, block: Block) -> Result<(), Error> {
        if self.job.is_none() {
            return self.machine.supply(block);
        }
        match self.path.supply(block.clone()) {
            Err(Error::NotALink(cid)) => {
                self.end_inside(*cid);
                block.with_cid(*cid).map_or(Ok(()), |block| self.machine.visit(block))
            }
            supplied => supplied,
        }
    }

    fn end_inside(&mut self, cid: Cid) {
        (self.job, self.inside) = (None, Some(cid));
    }

    /// Goes on past the raw block that is needed below the path, of `bytes`, without it: it has no
    /// links. Says whether it would have been visited.
    pub fn pass(&mut self, cid: &Cid, bytes: u64) -> Result<bool, Error> {
        match self.job {
            None if cid.codec() == codec::RAW => self.machine.pass(cid, bytes),
            _ => Err(Error::NotAskedFor(Box::new(*cid))),
        }
    }

    /// Up to `n` blocks that will be needed after the path was walked, the next one first: what to
    /// fetch ahead. On the path each block is known only when the one before it is there.
    pub fn upcoming(&self, n: usize) -> impl Iterator<Item = Cid> + '_ {
        self.machine.upcoming(n)
    }

    /// The same, with what lies below blocks that are at hand before their turn in their place.
    pub fn ahead(&self, n: usize, at_hand: AtHand<'_>) -> Vec<Cid> {
        self.machine.ahead(n, at_hand)
    }
}

#[cfg(test)]
mod tests;
