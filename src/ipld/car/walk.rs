//! Which blocks a CAR response holds, in order (trustless gateway specification, `dag-scope` and
//! `entity-bytes`).

use crate::block::{Block, Cid};
use crate::ipld::Error;
use crate::ipld::walk::{DagWalk, Limits, Step};

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
#[derive(Debug)]
pub struct CarWalk {
    walk: DagWalk,
}

impl CarWalk {
    /// A walk from `root`.
    #[must_use]
    pub fn new(root: Cid, _request: CarRequest, limits: Limits) -> Self {
        Self { walk: DagWalk::new(root, limits) }
    }

    /// What comes next. While the path is walked, [`Error::NoLink`] says that it leads nowhere and
    /// [`Error::NotALink`] that it ends inside a value; nothing need have been sent by then: hold
    /// the visited blocks back until [`CarWalk::terminus`] is known.
    pub fn step(&mut self) -> Result<Step, Error> {
        self.walk.step()
    }

    /// Where the path leads, once it has been walked.
    #[must_use]
    pub fn terminus(&self) -> Option<Cid> {
        None
    }

    /// Hands in the block that was needed.
    pub fn supply(&mut self, block: Block) -> Result<(), Error> {
        self.walk.supply(block)
    }

    /// Up to `n` blocks that will be needed, the first one next: what to fetch ahead.
    pub fn upcoming(&self, n: usize) -> impl Iterator<Item = Cid> + '_ {
        self.walk.upcoming(n)
    }
}
