//! The machine behind every walk: a stack of links still to follow.

use crate::block::{Block, Cid, IDENTITY};
use crate::ipld::{AtHand, Error};

use super::children::{Children, Job};
use super::seen::Seen;
use super::{Limits, Step};

/// Most bytes that the links still to follow may take, whatever the shape of the DAG.
const FRONTIER_BYTES_MAX: usize = 64 << 20;

/// Levels of blocks at hand that are looked into ahead of their turn.
pub(super) const AHEAD_DEPTH_MAX: usize = 16;

/// Walks depth first, doing a [`Job`] at each block.
#[derive(Debug)]
pub(in crate::ipld) struct Machine {
    limits: Limits,
    /// Absent where blocks that are met again are visited again.
    seen: Option<Seen>,
    needed: Option<(Cid, Job)>,
    ready: Option<Block>,
    /// The links still to follow, those of the root first and of the deepest block last.
    frames: Vec<Children>,
    frontier_bytes: usize,
    blocks: u64,
    bytes: u64,
}

impl Machine {
    pub(in crate::ipld) fn new(limits: Limits) -> Self {
        Self {
            limits,
            seen: Some(Seen::default()),
            needed: None,
            ready: None,
            frames: Vec::new(),
            frontier_bytes: 0,
            blocks: 0,
            bytes: 0,
        }
    }

    pub(in crate::ipld) fn set_duplicates(&mut self, yes: bool) {
        self.seen = (!yes).then(Seen::default);
    }

    /// Does `job` at `root`, once what was begun before is done.
    pub(in crate::ipld) fn begin(&mut self, root: &Cid, job: Job) {
        let children = Children::one(root, job);
        self.frontier_bytes += children.memory_bytes();
        self.frames.insert(0, children);
    }

    pub(in crate::ipld) fn step(&mut self) -> Result<Step, Error> {
        if let Some(block) = self.ready.take() {
            return Ok(Step::Visit(block));
        }
        while self.needed.is_none() {
            let Some(frame) = self.frames.last_mut() else { return Ok(Step::Done) };
            match frame.next() {
                Some((cid, job)) => self.consider(cid, job)?,
                None => {
                    self.frontier_bytes -= frame.memory_bytes();
                    self.frames.pop();
                }
            }
        }
        Ok(self.needed.map_or(Step::Done, |(cid, _)| Step::Need(cid)))
    }

    fn consider(&mut self, cid: Cid, job: Job) -> Result<(), Error> {
        if let Some(block) = Block::from_identity(&cid) {
            return self.descend(&block, job);
        }
        if !self.is_done(&cid, job) {
            self.needed = Some((cid, job));
        }
        Ok(())
    }

    fn is_done(&self, cid: &Cid, job: Job) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.is_done(cid, job))
    }

    pub(in crate::ipld) fn supply(&mut self, block: Block) -> Result<(), Error> {
        let (cid, job) = self.answered(block.cid())?;
        let block = block.with_cid(cid).ok_or_else(|| Error::NotAskedFor(Box::new(cid)))?;
        self.descend(&block, job)?;
        if self.seen.as_mut().is_none_or(|seen| seen.insert(&cid, job)) {
            self.visit(block)?;
        }
        Ok(())
    }

    pub(in crate::ipld) fn skip(&mut self, cid: &Cid) -> Result<(), Error> {
        let (cid, job) = self.answered(cid)?;
        if let Some(seen) = &mut self.seen {
            seen.insert(&cid, job);
        }
        Ok(())
    }

    /// Visits a block that was not needed here.
    pub(in crate::ipld) fn visit(&mut self, block: Block) -> Result<(), Error> {
        self.count_bytes(block.data().len() as u64)?;
        self.ready = Some(block);
        Ok(())
    }

    /// Goes on as if the block that was needed had been handed in: one of `bytes` without links.
    /// Says whether it would have been visited.
    pub(in crate::ipld) fn pass(&mut self, cid: &Cid, bytes: u64) -> Result<bool, Error> {
        let (cid, job) = self.answered(cid)?;
        self.count_block()?;
        let visited = self.seen.as_mut().is_none_or(|seen| seen.insert(&cid, job));
        if visited {
            self.count_bytes(bytes)?;
        }
        Ok(visited)
    }

    fn count_bytes(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > self.limits.bytes {
            return Err(Error::Limit { what: "the size of the DAG", limit: self.limits.bytes });
        }
        Ok(())
    }

    fn count_block(&mut self) -> Result<(), Error> {
        self.blocks += 1;
        if self.blocks > self.limits.blocks {
            return Err(Error::Limit { what: "the number of blocks", limit: self.limits.blocks });
        }
        Ok(())
    }

    fn answered(&mut self, answer: &Cid) -> Result<(Cid, Job), Error> {
        self.needed
            .take_if(|(cid, _)| cid.hash() == answer.hash())
            .ok_or_else(|| Error::NotAskedFor(Box::new(*answer)))
    }

    /// Puts the children of a block on the stack, as far as the job wants them.
    fn descend(&mut self, block: &Block, job: Job) -> Result<(), Error> {
        self.count_block()?;
        let Some(children) = Children::of(block, job)? else { return Ok(()) };
        if self.frames.len() > self.limits.depth {
            let limit = self.limits.depth as u64;
            return Err(Error::Limit { what: "the depth of the DAG", limit });
        }
        self.frontier_bytes += children.memory_bytes();
        if self.frontier_bytes > FRONTIER_BYTES_MAX {
            let limit = FRONTIER_BYTES_MAX as u64;
            return Err(Error::Limit { what: "the breadth of the DAG in bytes", limit });
        }
        self.frames.push(children);
        Ok(())
    }

    /// As [`Self::upcoming`], with what lies below blocks at hand in their place.
    pub(in crate::ipld) fn ahead(&self, n: usize, at_hand: AtHand<'_>) -> Vec<Cid> {
        let mut found = Vec::new();
        let pending = self.frames.iter().rev().flat_map(Children::pending);
        for (cid, job) in self.needed.into_iter().chain(pending) {
            if found.len() >= n {
                break;
            }
            self.look(cid, job, n, at_hand, &mut found);
        }
        found
    }

    /// Adds a block, or what lies below it where it is at hand.
    fn look(&self, cid: Cid, job: Job, n: usize, at_hand: AtHand<'_>, found: &mut Vec<Cid>) {
        let mut below = vec![Children::one(&cid, job)];
        while let Some(children) = below.last_mut()
            && found.len() < n
        {
            let Some((cid, job)) = children.next() else {
                below.pop();
                continue;
            };
            if cid.hash().code() == IDENTITY || self.is_done(&cid, job) {
                continue;
            }
            match at_hand(&cid) {
                None => found.push(cid),
                Some(block) if below.len() <= AHEAD_DEPTH_MAX => {
                    // What cannot be read is said when its turn comes.
                    below.extend(Children::of(&block, job).ok().flatten());
                }
                Some(_) => {}
            }
        }
    }

    pub(in crate::ipld) fn upcoming(&self, n: usize) -> impl Iterator<Item = Cid> + '_ {
        let pending = self.frames.iter().rev().flat_map(Children::pending);
        let pending =
            pending.filter(|(cid, job)| cid.hash().code() != IDENTITY && !self.is_done(cid, *job));
        self.needed.into_iter().chain(pending).map(|(cid, _)| cid).take(n)
    }
}
