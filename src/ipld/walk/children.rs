//! Which links of a block a walk follows, and how they are kept until then.

use crate::block::{Block, Cid};
use crate::ipld::Error;
use crate::ipld::codec::{for_each_link, read_cid};

/// What a walk does at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::ipld) enum Job {
    /// Visits it, and nothing below.
    Alone,
    /// Visits everything below.
    Whole,
}

/// Links still to follow, each with its job. CIDs are kept in their binary form, a fifth of their
/// size as values, so that they never take more memory than the block they came from.
#[derive(Debug)]
pub(super) struct Children {
    cids: Vec<u8>,
    at: usize,
    job: Job,
}

impl Children {
    pub(super) fn new(job: Job) -> Self {
        Self { cids: Vec::new(), at: 0, job }
    }

    /// The links of a block that a job follows; `None` where there are none.
    pub(super) fn of(block: &Block, job: Job) -> Result<Option<Self>, Error> {
        let mut children = Self::new(job);
        match job {
            Job::Alone => (),
            Job::Whole => for_each_link(block, &mut |cid| children.push(&cid))?,
        }
        children.cids.shrink_to_fit();
        Ok((!children.cids.is_empty()).then_some(children))
    }

    pub(super) fn push(&mut self, cid: &Cid) {
        // Writing to a vector does not fail.
        let _ = cid.write_bytes(&mut self.cids);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.cids.len() + size_of::<Self>()
    }

    /// Takes the next link.
    pub(super) fn next(&mut self) -> Option<(Cid, Job)> {
        let (cid, rest) = read_cid(self.cids.get(self.at..)?).ok()?;
        self.at = self.cids.len() - rest.len();
        Some((cid, self.job))
    }

    /// The links that were not taken yet.
    pub(super) fn pending(&self) -> impl Iterator<Item = (Cid, Job)> + '_ {
        let mut rest = self.cids.get(self.at..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (cid, after) = read_cid(rest).ok()?;
            rest = after;
            Some((cid, self.job))
        })
    }
}
