//! The walk over a tree of files that becomes a TAR: a pull machine, as those of `ipld`. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::block::{Block, Cid};
use crate::ipld::unixfs::directory::{self, ListStep, Lister};
use crate::ipld::unixfs::{FileReader, Kind, Metadata, Node, read};
use crate::ipld::walk::ahead_of_all;
use crate::ipld::{AtHand, Error as IpldError};

use super::header;

/// Folders within folders.
const DEPTH_MAX: usize = 256;
/// Bytes of the folders' blocks that are held at once.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Bytes of one path.
const PATH_BYTES_MAX: usize = 64 << 10;
/// Entries of a folder that are looked at ahead of their turn, so that they can be fetched.
const AHEAD_ENTRIES: usize = 256;

/// How much there may be in a TAR, what is met again counted again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Files, folders and links.
    pub(super) entries: u64,
    /// Blocks asked for.
    pub(super) blocks: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 1_000_000, blocks: 1_000_000 }
    }
}

/// Why a tree does not become a TAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A name leads out of the archive, or to what is in it already.
    Name(Box<str>),
    /// The content is not what it should be.
    Content(IpldError),
}

impl From<IpldError> for Fault {
    fn from(error: IpldError) -> Self {
        Self::Content(error)
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Hand this block in.
    Need(Cid),
    /// The next bytes, to be sent without being copied.
    Data(Bytes),
    /// There are no more.
    Done,
}

/// Writes the entries of a tree in the order of their folders, each with its path from the top.
#[derive(Debug)]
pub(super) struct TarWalk {
    /// Headers and padding that come next.
    out: Vec<u8>,
    /// The file whose bytes come next, and how many it has.
    file: Option<(FileReader, u64)>,
    /// Entries still to come, those of the top first.
    open: Vec<Folder>,
    /// The entry whose first block is waited for.
    wanted: Option<(Cid, Vec<u8>)>,
    limits: Limits,
    entries: u64,
    blocks: u64,
    /// Whether there is a link, and whether there is a name of several steps. With both, whoever
    /// unpacks could be led through the link, so there is only one of them in a TAR.
    links: bool,
    steps: bool,
    ended: bool,
}

/// A folder, from some entry on.
#[derive(Debug)]
struct Folder {
    path: Vec<u8>,
    lister: Lister,
    ahead: VecDeque<directory::Entry>,
}

impl TarWalk {
    /// Starts at a node that is called `name`. A name that leads out is told at once where it
    /// stands in the top folder's own block.
    pub(super) fn new(root: Node, name: &str, limits: Limits) -> Result<Self, Fault> {
        let mut walk = Self {
            out: Vec::new(),
            file: None,
            open: Vec::new(),
            wanted: None,
            limits,
            entries: 0,
            blocks: 1,
            links: false,
            steps: false,
            ended: false,
        };
        if let Kind::Directory(links) = &root.kind {
            let mut links = links.iter();
            while let Some(entry) = links.next_name() {
                within(name.as_bytes(), &entry)?;
            }
        }
        walk.enter(root, name.as_bytes().to_vec())?;
        Ok(walk)
    }

    /// What comes next. Asks for the same block until it is supplied.
    pub(super) fn step(&mut self) -> Result<Step, Fault> {
        loop {
            if !self.out.is_empty() {
                return Ok(Step::Data(std::mem::take(&mut self.out).into()));
            }
            if let Some((file, size)) = &mut self.file {
                match file.step() {
                    read::Step::Data(data) => return Ok(Step::Data(data)),
                    read::Step::Need(cid) => return Ok(Step::Need(cid)),
                    read::Step::Done => {
                        header::pad(&mut self.out, *size);
                        self.file = None;
                        continue;
                    }
                }
            }
            if let Some((cid, _)) = &self.wanted {
                return Ok(Step::Need(*cid));
            }
            let Some(folder) = self.open.last_mut() else {
                if self.ended {
                    return Ok(Step::Done);
                }
                self.ended = true;
                header::end(&mut self.out);
                continue;
            };
            match folder.next()? {
                ListStep::Need(cid) => return Ok(Step::Need(cid)),
                ListStep::Entry(entry) => {
                    let path = within(&folder.path, &entry.name)?;
                    self.steps |= entry.name.contains(&b'/');
                    self.entries += 1;
                    limit("the number of files", self.entries, self.limits.entries)?;
                    self.wanted = Some((entry.cid, path));
                }
                ListStep::Done => drop(self.open.pop()),
            }
        }
    }

    /// Hands in the block that was asked for.
    pub(super) fn supply(&mut self, block: &Block) -> Result<(), Fault> {
        self.blocks += 1;
        limit("the number of blocks", self.blocks, self.limits.blocks)?;
        if let Some((file, _)) = &mut self.file {
            return Ok(file.supply(block)?);
        }
        if let Some((_, path)) = self.wanted.take_if(|(cid, _)| cid == block.cid()) {
            return self.enter(Node::decode(block)?, path);
        }
        match self.open.last_mut() {
            Some(folder) => folder.lister.supply(block)?,
            None => return Err(IpldError::NotAskedFor(Box::new(*block.cid())).into()),
        }
        self.check_held()
    }

    /// Writes the header of an entry, and goes on with what is in it.
    fn enter(&mut self, node: Node, path: Vec<u8>) -> Result<(), Fault> {
        let write = |out: &mut Vec<u8>, entry, metadata: Metadata| {
            header::write(out, &path, &entry, metadata);
        };
        match node.kind {
            Kind::File(file) => {
                let size = file.size;
                write(&mut self.out, header::Entry::File { size }, node.metadata);
                self.file = Some((FileReader::of(file, None), size));
            }
            Kind::Symlink { target } => {
                self.links = true;
                write(&mut self.out, header::Entry::Link { target: &target }, node.metadata);
            }
            Kind::Directory(_) | Kind::HamtShard(_) => {
                write(&mut self.out, header::Entry::Directory, node.metadata);
                limit("the depth of folders", self.open.len() as u64 + 1, DEPTH_MAX as u64)?;
                let lister = Lister::of(node)?;
                self.open.push(Folder { path, lister, ahead: VecDeque::new() });
                return self.check_held();
            }
        }
        if self.links && self.steps {
            return Err(Fault::Name(String::from_utf8_lossy(&path).into()));
        }
        Ok(())
    }

    fn check_held(&self) -> Result<(), Fault> {
        let held: usize = self.open.iter().map(|folder| folder.lister.held_bytes()).sum();
        limit("the bytes of folders within each other", held as u64, HELD_BYTES_MAX as u64)
    }

    /// Up to `n` blocks that will be needed, the next one first. All that is below a block at hand
    /// will be needed, too.
    pub(super) fn ahead(&self, n: usize, at_hand: AtHand<'_>) -> Vec<Cid> {
        let mut found = match &self.file {
            Some((file, _)) => file.ahead(n, at_hand),
            None => Vec::new(),
        };
        let wanted = self.wanted.iter().map(|(cid, _)| *cid);
        let later = self.open.iter().rev().flat_map(|folder| {
            folder.ahead.iter().map(|entry| entry.cid).chain(folder.lister.upcoming(n))
        });
        ahead_of_all(wanted.chain(later), n, at_hand, &mut found);
        found
    }
}

impl Folder {
    /// The next entry. Those behind it are read from the block at hand, without waiting.
    fn next(&mut self) -> Result<ListStep, IpldError> {
        while self.ahead.len() < AHEAD_ENTRIES {
            match self.lister.step()? {
                ListStep::Entry(entry) => self.ahead.push_back(entry),
                other if self.ahead.is_empty() => return Ok(other),
                _ => break,
            }
        }
        Ok(self.ahead.pop_front().map_or(ListStep::Done, ListStep::Entry))
    }
}

fn limit(what: &'static str, count: u64, limit: u64) -> Result<(), Fault> {
    if count > limit { Err(IpldError::Limit { what, limit }.into()) } else { Ok(()) }
}

/// The path of an entry in a folder. Its name may have steps, as those of some writers do: none may
/// lead to the top or out of it, and the last must be a name.
fn within(folder: &[u8], name: &[u8]) -> Result<Vec<u8>, Fault> {
    let outside = || Fault::Name(String::from_utf8_lossy(name.get(..256).unwrap_or(name)).into());
    if name.contains(&0) {
        return Err(outside());
    }
    let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if matches!(last, b"" | b"." | b"..") {
        return Err(outside());
    }
    let mut path = folder.to_vec();
    for step in name.split(|byte| *byte == b'/') {
        match step {
            b"" | b"." => {}
            b".." => {
                // The top is a CID, so it holds no slash.
                let at = path.iter().rposition(|byte| *byte == b'/').ok_or_else(outside)?;
                path.truncate(at);
            }
            step => {
                path.push(b'/');
                path.extend_from_slice(step);
            }
        }
    }
    limit("the length of a path", path.len() as u64, PATH_BYTES_MAX as u64)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_top() {
        let check = |folder: &str, name: &[u8], want: Option<&str>| {
            let path = within(folder.as_bytes(), name).ok();
            assert_eq!(path.as_deref(), want.map(str::as_bytes), "{folder} {name:?}");
        };
        check("top", b"a", Some("top/a"));
        check("top", b"a/b", Some("top/a/b"));
        check("top", b"/etc/passwd", Some("top/etc/passwd"));
        check("top/a/b", b"../file", Some("top/a/file"));
        check("top/a", b"..b", Some("top/a/..b"));
        check("top/a", b"./../c", Some("top/c"));
        for outside in
            ["../x", "..", ".", "", "a/..", "a/", "a/../../x", "/../x", "x\0y", "../../top/x"]
        {
            check("top", outside.as_bytes(), None);
        }
        check("top", "x".repeat(PATH_BYTES_MAX).as_bytes(), None);
    }
}
