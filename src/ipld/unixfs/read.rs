//! Reading a file, or a range of one, block by block.

use std::ops::Range;

use bytes::Bytes;

use super::{File, Kind, Node, malformed};
use crate::block::{Block, Cid, codec};
use crate::ipld::dag_pb::LinkIter;
use crate::ipld::{AtHand, Error};

/// Levels of blocks a file may have. Ten levels of 174 links hold 10^22 blocks.
pub const DEPTH_MAX: usize = 64;

/// What a [`FileReader`] does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It waits for this block: hand it over with [`FileReader::supply`].
    Need(Cid),
    /// The next bytes of the range: a slice of a block.
    Data(Bytes),
    /// All bytes were given.
    Done,
}

/// Reads a file in order, asking for each block as it comes, and only for blocks that hold bytes
/// of the range. Works for any shape of DAG, with data on any node.
///
/// The bytes it gives are exactly as many as the root says, or it fails: each child must be as
/// large as its parent claims.
#[derive(Debug, Clone)]
pub struct FileReader {
    size: u64,
    range: Range<u64>,
    /// Bytes that can be given now.
    ready: Option<Bytes>,
    /// The block waited for.
    wanted: Option<Child>,
    /// Nodes with children still to come, the root first.
    open: Vec<Children>,
}

/// A child and where its bytes stand in the file.
#[derive(Debug, Clone)]
struct Child {
    cid: Cid,
    bytes: Range<u64>,
    depth: usize,
}

/// The children of one node from some point on.
#[derive(Debug, Clone)]
struct Children {
    sizes: Vec<u64>,
    depth: usize,
    cursor: Cursor,
}

/// A place among the children of a node.
#[derive(Debug, Clone)]
struct Cursor {
    links: LinkIter,
    index: usize,
    /// Where the next child's bytes stand in the file.
    offset: u64,
}

impl Cursor {
    /// The next child that holds bytes of the range, and where they stand.
    fn next_in(&mut self, range: &Range<u64>, sizes: &[u64]) -> Option<(Cid, Range<u64>)> {
        while self.offset < range.end {
            let start = self.offset;
            let size = *sizes.get(self.index)?;
            self.index += 1;
            self.offset = start.checked_add(size)?;
            if size > 0 && self.offset > range.start {
                return Some((self.links.next()?.cid, start..self.offset));
            }
            self.links.skip_one();
        }
        None
    }
}

impl Children {
    fn next_in(&mut self, range: &Range<u64>) -> Option<Child> {
        let (cid, bytes) = self.cursor.next_in(range, &self.sizes)?;
        Some(Child { cid, bytes, depth: self.depth })
    }

    /// Whether no child is left that could hold bytes of the range.
    fn is_spent(&self, range: &Range<u64>) -> bool {
        self.cursor.offset >= range.end || self.cursor.index >= self.sizes.len()
    }

    fn ahead<'a>(&'a self, range: &'a Range<u64>) -> impl Iterator<Item = Cid> + 'a {
        let mut cursor = self.cursor.clone();
        std::iter::from_fn(move || cursor.next_in(range, &self.sizes).map(|(cid, _)| cid))
    }
}

impl FileReader {
    /// Starts at the root. Of a range, what lies beyond the end of the file is left out.
    pub fn open(root: &Block, range: Option<Range<u64>>) -> Result<Self, Error> {
        let Kind::File(file) = Node::decode(root)?.kind else {
            return Err(malformed("the node is not a file"));
        };
        Ok(Self::of(file, range))
    }

    /// The same for a root that was decoded already.
    #[must_use]
    pub fn of(file: File, range: Option<Range<u64>>) -> Self {
        let size = file.size;
        let range = range.unwrap_or(0..size);
        let range = range.start..range.end.min(size);
        let range = if range.is_empty() { 0..0 } else { range };
        let mut reader = Self { size, range, ready: None, wanted: None, open: Vec::new() };
        reader.enter(file, 0, 1);
        reader
    }

    /// Bytes of the whole file, whatever the range.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What comes next. Asks for the same block until it is supplied.
    pub fn step(&mut self) -> Step {
        if let Some(data) = self.ready.take() {
            return Step::Data(data);
        }
        if self.wanted.is_none() {
            self.wanted = self.next_child();
        }
        self.wanted.as_ref().map_or(Step::Done, |child| Step::Need(child.cid))
    }

    fn next_child(&mut self) -> Option<Child> {
        while let Some(children) = self.open.last_mut() {
            let child = children.next_in(&self.range);
            if child.is_none() || children.is_spent(&self.range) {
                self.open.pop(); // its block need not be kept while its last child is read
            }
            if child.is_some() {
                return child;
            }
        }
        None
    }

    /// Hands over the block that was asked for.
    pub fn supply(&mut self, block: &Block) -> Result<(), Error> {
        let Some(child) = self.wanted.take_if(|child| child.cid == *block.cid()) else {
            return Err(Error::NotAskedFor(Box::new(*block.cid())));
        };
        let Kind::File(file) = Node::decode(block)?.kind else {
            return Err(malformed("a part of a file is not a file"));
        };
        if file.size != child.bytes.end - child.bytes.start {
            return Err(malformed("a part of a file is not as large as its parent says"));
        }
        if child.depth >= DEPTH_MAX {
            return Err(Error::Limit { what: "the depth of a file", limit: DEPTH_MAX as u64 });
        }
        self.enter(file, child.bytes.start, child.depth + 1);
        Ok(())
    }

    /// Takes the data and the children of a node whose bytes stand at `offset`.
    fn enter(&mut self, file: File, offset: u64, depth: usize) {
        let end = offset + file.data.len() as u64;
        let from = self.range.start.clamp(offset, end) - offset;
        let to = self.range.end.clamp(offset, end) - offset;
        if from < to {
            self.ready = Some(file.data.slice(from as usize..to as usize));
        }
        let cursor = Cursor { links: file.links.iter(), index: 0, offset: end };
        let children = Children { sizes: file.block_sizes, depth, cursor };
        if !children.is_spent(&self.range) {
            self.open.push(children);
        }
    }

    /// As [`Self::upcoming`], with what lies below nodes at hand in their place.
    pub fn ahead(&self, n: usize, at_hand: AtHand<'_>) -> Vec<Cid> {
        let mut found = Vec::new();
        let own = self.wanted.iter().cloned().chain(self.open.iter().rev().flat_map(|children| {
            let mut cursor = children.cursor.clone();
            std::iter::from_fn(move || {
                let (cid, bytes) = cursor.next_in(&self.range, &children.sizes)?;
                Some(Child { cid, bytes, depth: children.depth })
            })
        }));
        for child in own {
            if found.len() >= n {
                break;
            }
            self.look(&child, n, at_hand, &mut found);
        }
        found
    }

    /// Adds a child, or those below it where it is at hand.
    fn look(&self, child: &Child, n: usize, at_hand: AtHand<'_>, found: &mut Vec<Cid>) {
        let Some(block) = at_hand(&child.cid) else { return found.push(child.cid) };
        let mut below: Vec<Children> = self.children(child, &block).into_iter().collect();
        while let Some(children) = below.last_mut()
            && found.len() < n
        {
            let Some(child) = children.next_in(&self.range) else {
                below.pop();
                continue;
            };
            match at_hand(&child.cid) {
                None => found.push(child.cid),
                Some(block) => below.extend(self.children(&child, &block)),
            }
        }
    }

    /// The children of a node at hand. What cannot be read is said when its turn comes.
    fn children(&self, child: &Child, block: &Block) -> Option<Children> {
        if block.cid().codec() == codec::RAW || child.depth >= DEPTH_MAX {
            return None;
        }
        let Kind::File(file) = Node::decode(block).ok()?.kind else { return None };
        let offset = child.bytes.start + file.data.len() as u64;
        let cursor = Cursor { links: file.links.iter(), index: 0, offset };
        Some(Children { sizes: file.block_sizes, depth: child.depth + 1, cursor })
    }

    /// The blocks it will ask for, as far as the nodes read so far tell: the one waited for, then
    /// the next ones in order, at most `n`. For reading ahead.
    pub fn upcoming(&self, n: usize) -> impl Iterator<Item = Cid> + '_ {
        let waited = self.wanted.iter().map(|child| child.cid);
        let later = self.open.iter().rev().flat_map(|children| children.ahead(&self.range));
        waited.chain(later).take(n)
    }
}

#[cfg(test)]
mod tests;
