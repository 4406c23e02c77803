//! The names of an upload: a tree that is filled in any order and becomes directories at the end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::block::{Block, Cid};
use crate::ipld;
use crate::ipld::unixfs::import::{Built, DirectoryBuilder, Profile};

/// Most files, folders and links of one upload.
pub const ENTRIES_MAX: usize = 100_000;
/// Most bytes of all names of one upload: with the entries, what bounds its memory.
pub const NAMES_BYTES_MAX: usize = 16 << 20;
/// Deepest folder.
pub const DEPTH_MAX: usize = 64;
/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// How much of a faulty name an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// Why a name cannot be in an upload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, `.` or `..`, or a path that begins or ends with a slash.
    #[error("{0:?} is not a relative path of plain names")]
    NotPlain(Box<str>),
    /// A NUL byte.
    #[error("{0:?} holds a NUL byte")]
    Nul(Box<str>),
    /// A name over [`NAME_BYTES_MAX`].
    #[error("a name is longer than 255 bytes: {0:?}")]
    TooLong(Box<str>),
    /// A path over [`DEPTH_MAX`].
    #[error("folders are more than 64 deep: {0:?}")]
    TooDeep(Box<str>),
    /// The name is there already.
    #[error("{0:?} is there twice")]
    Twice(Box<str>),
    /// More than [`ENTRIES_MAX`] entries.
    #[error("an upload is of at most 100000 files, folders and links")]
    TooMany,
    /// More than [`NAMES_BYTES_MAX`] bytes of names.
    #[error("the names of an upload are at most 16777216 bytes long together")]
    TooLongTogether,
}

/// Shortened, for errors.
fn shown(path: &str) -> Box<str> {
    path.chars().take(SHOWN_CHARS_MAX).collect::<String>().into()
}

/// What was made of a file, a link or a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) cid: Cid,
    pub(super) tsize: u64,
    /// Bytes of the files.
    pub(super) size: u64,
}

impl From<&Built> for Made {
    fn from(built: &Built) -> Self {
        Self { cid: built.root, tsize: built.tsize, size: built.size }
    }
}

/// What an upload is as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Leaf,
    Folder,
}

/// Names, and which of the things made so far each stands for.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Option<Node>,
    entries: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Node {
    /// A file or link: its number, in the order they came.
    Leaf(usize),
    Folder(Folder),
}

type Folder = BTreeMap<Box<str>, Node>;

impl Tree {
    /// Adds the file or link of number `leaf`; the empty path is the upload itself.
    pub(super) fn leaf(&mut self, path: &str, leaf: usize) -> Result<(), NameError> {
        self.insert(path, Node::Leaf(leaf))
    }

    /// Adds a folder; one that is there already stays as it is.
    pub(super) fn folder(&mut self, path: &str) -> Result<(), NameError> {
        self.insert(path, Node::Folder(Folder::new()))
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<(), NameError> {
        let names = names(path)?;
        let twice = || NameError::Twice(shown(path));
        let Some((last, folders)) = names.split_last() else {
            return match (&self.root, &node) {
                (None, _) => {
                    self.root = Some(node);
                    Ok(())
                }
                (Some(Node::Folder(_)), Node::Folder(_)) => Ok(()),
                _ => Err(twice()),
            };
        };
        let mut here = self.root.get_or_insert_with(|| Node::Folder(Folder::new()));
        for name in folders {
            let Node::Folder(folder) = here else { return Err(twice()) };
            here = match folder.entry((*name).into()) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(free) => {
                    count(&mut self.entries, &mut self.bytes, name)?;
                    free.insert(Node::Folder(Folder::new()))
                }
            };
        }
        let Node::Folder(folder) = here else { return Err(twice()) };
        match folder.entry((*last).into()) {
            Entry::Vacant(free) => {
                count(&mut self.entries, &mut self.bytes, last)?;
                free.insert(node);
                Ok(())
            }
            Entry::Occupied(there) => match (there.get(), node) {
                (Node::Folder(_), Node::Folder(_)) => Ok(()),
                _ => Err(twice()),
            },
        }
    }

    /// Takes away a folder around everything: what remains is the one entry in it, and its name.
    pub(super) fn unwrap_only_entry(&mut self) -> Option<Box<str>> {
        let Some(Node::Folder(folder)) = &mut self.root else { return None };
        if folder.len() != 1 {
            return None;
        }
        let (name, only) = folder.pop_first()?;
        self.root = Some(only);
        Some(name)
    }

    /// What the whole is; `None` while there is nothing.
    pub(super) fn shape(&self) -> Option<Shape> {
        self.root.as_ref().map(|root| match root {
            Node::Leaf(_) => Shape::Leaf,
            Node::Folder(_) => Shape::Folder,
        })
    }

    /// Makes the folders, children before parents, from what was made of the leaves. Slow: for
    /// worker threads. Gives the whole and the blocks, which take about as much as the names.
    pub(super) fn build(
        self,
        profile: Profile,
        made: &[Made],
    ) -> Result<Option<(Made, Vec<Block>)>, ipld::Error> {
        let mut blocks = Vec::new();
        let whole = self.root.map(|root| root.build(profile, made, &mut blocks)).transpose()?;
        Ok(whole.flatten().map(|whole| (whole, blocks)))
    }
}

impl Node {
    /// Recursive, at most [`DEPTH_MAX`] levels. `None` where a leaf was not made.
    fn build(
        self,
        profile: Profile,
        made: &[Made],
        blocks: &mut Vec<Block>,
    ) -> Result<Option<Made>, ipld::Error> {
        let folder = match self {
            Self::Leaf(number) => return Ok(made.get(number).copied()),
            Self::Folder(folder) => folder,
        };
        let mut builder = DirectoryBuilder::new(profile);
        let mut size: u64 = 0;
        for (name, node) in folder {
            let Some(below) = node.build(profile, made, blocks)? else { return Ok(None) };
            builder.insert(name.as_bytes(), &below.cid, below.tsize);
            size = size.saturating_add(below.size);
        }
        let built = builder.finish()?;
        let whole = Made { size, ..Made::from(&built) };
        blocks.extend(built.blocks);
        Ok(Some(whole))
    }
}

/// The names of a path, checked; none of the empty path.
fn names(path: &str) -> Result<Vec<&str>, NameError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        if matches!(name, "" | "." | "..") {
            return Err(NameError::NotPlain(shown(path)));
        }
        if name.contains('\0') {
            return Err(NameError::Nul(shown(path)));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(shown(path)));
        }
        if names.len() > DEPTH_MAX {
            return Err(NameError::TooDeep(shown(path)));
        }
        names.push(name);
    }
    Ok(names)
}

fn count(entries: &mut usize, bytes: &mut usize, name: &str) -> Result<(), NameError> {
    if *entries >= ENTRIES_MAX {
        return Err(NameError::TooMany);
    }
    if *bytes + name.len() > NAMES_BYTES_MAX {
        return Err(NameError::TooLongTogether);
    }
    *entries += 1;
    *bytes += name.len();
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const V1: Profile = Profile::V1_2025;

    fn file(text: &'static str) -> Made {
        let leaf = V1.leaf(Bytes::from_static(text.as_bytes())).unwrap();
        Made { cid: *leaf.block.cid(), tsize: leaf.bytes, size: leaf.bytes }
    }

    fn tree(paths: &[&str]) -> Result<Tree, NameError> {
        let mut tree = Tree::default();
        for (number, path) in paths.iter().enumerate() {
            tree.leaf(path, number)?;
        }
        Ok(tree)
    }

    #[test]
    fn the_order_of_the_names_does_not_count() {
        let (a, b, c) = (file("a"), file("bb"), file("ccc"));
        let there = tree(&["x/a", "x/y/b", "c"]).unwrap();
        let back = tree(&["c", "x/y/b", "x/a"]).unwrap();
        let (one, blocks) = there.build(V1, &[a, b, c]).unwrap().unwrap();
        let (two, _) = back.build(V1, &[c, b, a]).unwrap().unwrap();
        assert_eq!((one.cid, one.tsize, one.size), (two.cid, two.tsize, 6));
        assert_eq!(blocks.last().unwrap().cid(), &one.cid);
        assert_eq!(blocks.len(), 3);
    }

    #[test]
    fn a_name_that_is_no_plain_name_or_there_twice_is_refused() {
        for path in ["/etc/x", "../x", "a/../x", "a//b", "a/", ".", "a/.", "/"] {
            assert!(matches!(tree(&[path]), Err(NameError::NotPlain(_))), "{path:?}");
        }
        assert!(matches!(tree(&["a\0b"]), Err(NameError::Nul(_))));
        assert!(matches!(tree(&[&"ü".repeat(128)]), Err(NameError::TooLong(_))));
        for twice in [["a", "a"], ["a/b", "a"], ["a", "a/b"], ["", ""], ["", "a"], ["a", ""]] {
            assert!(matches!(tree(&twice), Err(NameError::Twice(_))), "{twice:?}");
        }
        for fine in ["CON", "a\\b", "...", "-rf", "ü", "a b", &"n".repeat(255)] {
            assert!(tree(&[fine]).is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn depth_and_number_of_names_are_bounded() {
        assert!(tree(&[&vec!["d"; DEPTH_MAX + 1].join("/")]).is_ok());
        let deeper = vec!["d"; DEPTH_MAX + 2].join("/");
        assert!(matches!(tree(&[&deeper]), Err(NameError::TooDeep(_))));
        let mut wide = Tree::default();
        for number in 0..ENTRIES_MAX {
            wide.leaf(&number.to_string(), number).unwrap();
        }
        assert_eq!(wide.leaf("one more", 0), Err(NameError::TooMany));
        let mut long = Tree::default();
        let outcome = (0..ENTRIES_MAX).try_for_each(|n| long.leaf(&format!("{n:0255}"), n));
        assert_eq!(outcome, Err(NameError::TooLongTogether));
    }

    #[test]
    fn the_one_entry_of_a_folder_can_stand_for_it() {
        for (paths, name, shape) in [
            (&["site/a", "site/b/c"][..], Some("site"), Some(Shape::Folder)),
            (&["a"], Some("a"), Some(Shape::Leaf)),
            (&["a/b", "c"], None, Some(Shape::Folder)),
            (&[""], None, Some(Shape::Leaf)),
            (&[], None, None),
        ] {
            let mut tree = tree(paths).unwrap();
            assert_eq!(tree.unwrap_only_entry().as_deref(), name);
            assert_eq!(tree.shape(), shape);
        }
    }
}
