//! Directories: finding one name, and listing all.

mod list;
mod lookup;

use bytes::Bytes;

use crate::block::Cid;
use crate::ipld::dag_pb::PbLink;

pub use list::{ListStep, Lister};
pub use lookup::{Lookup, LookupStep, lookup};

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name: nearly always UTF-8, never checked to be.
    pub name: Bytes,
    /// What it names.
    pub cid: Cid,
    /// The bytes of all blocks below, as whoever made the directory claims.
    pub tsize: Option<u64>,
}

impl Entry {
    /// The name as text for a person, with what is not UTF-8 replaced.
    #[must_use]
    pub fn name_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The entry of a link whose name begins with `prefix` bytes that are not its own.
    fn of(link: PbLink, prefix: usize) -> Self {
        let name = link.name.unwrap_or_default();
        let name = name.slice(prefix.min(name.len())..);
        Self { name, cid: link.cid, tsize: link.tsize }
    }
}

#[cfg(test)]
mod tests;
