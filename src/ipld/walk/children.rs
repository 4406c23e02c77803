//! Which links of a block a walk follows, and how they are kept until then.

use std::ops::Range;

use crate::block::{Block, Cid, codec};
use crate::ipld::Error;
use crate::ipld::car::walk::EntityBytes;
use crate::ipld::codec::{for_each_link, read_cid};
use crate::ipld::unixfs::{File, Kind, Node, Shard};

/// What a walk does at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ipld) enum Job {
    /// Visits it, and nothing below.
    Alone,
    /// Visits everything below.
    Whole,
    /// Visits what makes up the file or directory that begins here, or these bytes of the file.
    Entity(Option<EntityBytes>),
    /// Visits all of this part of a file.
    File,
    /// Visits what holds the bytes `from..to` of this part of a file, which has `size` bytes.
    Part { from: u64, to: u64, size: u64 },
    /// Visits all shards of this part of a directory.
    Shards,
}

impl Job {
    /// A mark for jobs that are done alike wherever the block is met again.
    pub(super) fn mark(self) -> Option<u8> {
        match self {
            Self::Alone => Some(0),
            Self::Whole => Some(1),
            Self::Entity(None) => Some(2),
            Self::File => Some(3),
            Self::Shards => Some(4),
            Self::Entity(Some(_)) | Self::Part { .. } => None,
        }
    }
}

/// Links still to follow, each with its job. CIDs are kept in their binary form, a fifth of their
/// size as values, so that they never take more memory than the block they came from.
#[derive(Debug)]
pub(super) struct Children {
    cids: Vec<u8>,
    at: usize,
    job: Job,
    /// What is done at the first and the last link instead: the edges of a range of bytes.
    first: Option<Job>,
    last: Option<Job>,
}

impl Children {
    pub(super) fn new(job: Job) -> Self {
        Self { cids: Vec::new(), at: 0, job, first: None, last: None }
    }

    /// One link alone.
    pub(super) fn one(cid: &Cid, job: Job) -> Self {
        let mut children = Self::new(job);
        children.push(cid);
        children
    }

    /// The links of a block that a job follows; `None` where there are none.
    pub(super) fn of(block: &Block, job: Job) -> Result<Option<Self>, Error> {
        let mut children = match job {
            Job::Alone => return Ok(None),
            Job::Whole => {
                let mut children = Self::new(Job::Whole);
                for_each_link(block, &mut |cid| children.push(&cid))?;
                children
            }
            Job::Entity(bytes) => match Self::of_entity(block, bytes) {
                Some(children) => children,
                None => return Ok(None),
            },
            Job::File => Self::of_file(&part_of_file(block)?),
            Job::Part { from, to, size } => {
                let file = part_of_file(block)?;
                if file.size != size {
                    return Err(malformed(
                        "a part of a file has another size than its parent says",
                    ));
                }
                Self::of_range(&file, from..to)
            }
            Job::Shards => match Node::decode(block)?.kind {
                Kind::HamtShard(shard) => Self::of_shard(&shard),
                _ => return Err(malformed("a part of a sharded directory is not a shard")),
            },
        };
        children.cids.shrink_to_fit();
        Ok((!children.cids.is_empty()).then_some(children))
    }

    /// What is not a file system node is an entity of one block, as are plain directories.
    fn of_entity(block: &Block, bytes: Option<EntityBytes>) -> Option<Self> {
        if block.cid().codec() != codec::DAG_PB {
            return None;
        }
        match (Node::decode(block).ok()?.kind, bytes) {
            (Kind::File(file), None) => Some(Self::of_file(&file)),
            (Kind::File(file), Some(bytes)) => Some(Self::of_range(&file, bytes.within(file.size))),
            (Kind::HamtShard(shard), _) => Some(Self::of_shard(&shard)),
            (Kind::Directory(_) | Kind::Symlink { .. }, _) => None,
        }
    }

    fn of_file(file: &File) -> Self {
        let mut children = Self::new(Job::File);
        file.links.iter().for_each(|link| children.push(&link.cid));
        children
    }

    /// The children that hold bytes of a range. Those that it covers in part can only be the
    /// first and the last of them.
    fn of_range(file: &File, range: Range<u64>) -> Self {
        let mut children = Self::new(Job::File);
        let mut start = file.data.len() as u64;
        for (link, size) in file.links.iter().zip(&file.block_sizes) {
            let end = start.saturating_add(*size);
            let held = range.start.max(start)..range.end.min(end);
            if !held.is_empty() {
                let (from, to) = (held.start - start, held.end - start);
                let part = (to - from < *size).then_some(Job::Part { from, to, size: *size });
                if children.cids.is_empty() {
                    children.first = part;
                } else {
                    children.last = part;
                }
                children.push(&link.cid);
            }
            start = end;
        }
        children
    }

    /// Links to shards are named by their slot alone.
    fn of_shard(shard: &Shard) -> Self {
        let mut children = Self::new(Job::Shards);
        for link in shard.links.iter() {
            if link.name.is_some_and(|name| name.len() == shard.prefix_len()) {
                children.push(&link.cid);
            }
        }
        children
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
        let (next, at) = self.read(self.at)?;
        self.at = at;
        Some(next)
    }

    /// The links that were not taken yet.
    pub(super) fn pending(&self) -> impl Iterator<Item = (Cid, Job)> + '_ {
        let mut at = self.at;
        std::iter::from_fn(move || {
            let (next, after) = self.read(at)?;
            at = after;
            Some(next)
        })
    }

    fn read(&self, at: usize) -> Option<((Cid, Job), usize)> {
        let (cid, rest) = read_cid(self.cids.get(at..)?).ok()?;
        let edge = match (at, rest.len()) {
            (0, _) => self.first,
            (_, 0) => self.last,
            _ => None,
        };
        Some(((cid, edge.unwrap_or(self.job)), self.cids.len() - rest.len()))
    }
}

fn part_of_file(block: &Block) -> Result<File, Error> {
    match Node::decode(block)?.kind {
        Kind::File(file) => Ok(file),
        _ => Err(malformed("a part of a file is not a file")),
    }
}

fn malformed(reason: &'static str) -> Error {
    Error::Malformed { format: "UnixFS", reason }
}
