//! MerkleDAG protobuf nodes (dag-pb specification): links with names and sizes, and data.
//!
//! [`PbView`] is a block that was checked whole and whose links are read on demand, so it takes
//! next to no memory however many links a block holds. [`PbNode`] is the same with the links
//! in a vector, for building and for those who want them all.

use std::ops::Range;

use bytes::Bytes;

use super::Error;
use super::protobuf::{
    Fields, Value, bytes_len, put_bytes_field, put_bytes_head, put_varint_field, varint_len,
};
use crate::block::Cid;

/// Field numbers of the two messages.
mod number {
    pub(super) const NODE_DATA: u8 = 1;
    pub(super) const NODE_LINK: u8 = 2;
    pub(super) const LINK_HASH: u8 = 1;
    pub(super) const LINK_NAME: u8 = 2;
    pub(super) const LINK_TSIZE: u8 = 3;
}

const fn malformed(reason: &'static str) -> Error {
    Error::Malformed { format: "dag-pb", reason }
}

/// A link to another block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PbLink {
    /// The block linked to.
    pub cid: Cid,
    /// Its name. The format says UTF-8; nobody enforces it, so these are bytes.
    pub name: Option<Bytes>,
    /// The bytes of all blocks below, as whoever made the link claims; never to be relied on.
    pub tsize: Option<u64>,
}

impl PbLink {
    /// The name as text for a person, with what is not UTF-8 replaced.
    #[must_use]
    pub fn name_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.name.as_deref().unwrap_or_default())
    }
}

/// A dag-pb node, its links in a vector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PbNode {
    /// The links, in the order of the block.
    pub links: Vec<PbLink>,
    /// The data, if any.
    pub data: Option<Bytes>,
}

impl PbNode {
    /// Reads a block, as strictly as [`PbView::decode`]. Names and data share the block's memory.
    pub fn decode(block: &Bytes) -> Result<Self, Error> {
        let view = PbView::decode(block)?;
        Ok(Self { links: view.links.iter().collect(), data: view.data })
    }

    /// The canonical bytes: links in the order given, then the data.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        for link in &self.links {
            put_link(&mut out, link);
        }
        if let Some(data) = &self.data {
            put_bytes_field(&mut out, number::NODE_DATA, data);
        }
        out.into()
    }

    fn encoded_len(&self) -> usize {
        let links = self.links.iter().map(|link| bytes_len(link_len(link)));
        links.sum::<usize>() + self.data.as_ref().map_or(0, |data| bytes_len(data.len()))
    }
}

/// Bytes of a link's message. Those of its whole field are `bytes_len` of that.
pub(super) fn link_len(link: &PbLink) -> usize {
    bytes_len(link.cid.encoded_len())
        + link.name.as_ref().map_or(0, |name| bytes_len(name.len()))
        + link.tsize.map_or(0, |tsize| 1 + varint_len(tsize))
}

fn put_link(out: &mut Vec<u8>, link: &PbLink) {
    put_bytes_head(out, number::NODE_LINK, link_len(link));
    put_bytes_field(out, number::LINK_HASH, &link.cid.to_bytes());
    if let Some(name) = &link.name {
        put_bytes_field(out, number::LINK_NAME, name);
    }
    if let Some(tsize) = link.tsize {
        put_varint_field(out, number::LINK_TSIZE, tsize);
    }
}

/// A dag-pb block that was checked whole; its links are read on demand. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PbView {
    /// The links, in the order of the block.
    pub links: Links,
    /// The data, if any: a slice of the block.
    pub data: Option<Bytes>,
}

impl PbView {
    /// Checks a block. Links may stand before or after the data, not on both sides; a link has
    /// its hash, name and size in this order, each at most once; other fields are errors.
    pub fn decode(block: &Bytes) -> Result<Self, Error> {
        let mut data = None;
        let mut count = 0;
        let mut section = 0..0;
        for field in Fields::new(block) {
            let field = field.map_err(|_| malformed("a field ends beyond the node"))?;
            let Value::Bytes(range) = field.value else {
                return Err(malformed("a field of the node has the wrong type"));
            };
            match field.number {
                1 if data.is_some() => return Err(malformed("data stands twice")),
                1 => data = Some(block.slice(range)),
                2 => {
                    if count == 0 {
                        section = field.span;
                    } else if field.span.start == section.end {
                        section.end = field.span.end;
                    } else {
                        return Err(malformed("links stand on both sides of the data"));
                    }
                    let link = RawLink::parse(block, range)?;
                    link.cid(block).ok_or(malformed("the hash of a link is not a CID"))?;
                    count += 1;
                }
                _ => return Err(malformed("the node has an unknown field")),
            }
        }
        Ok(Self { links: Links { section: block.slice(section), count }, data })
    }
}

/// The links of a checked block.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// The run of link fields.
    section: Bytes,
    count: usize,
}

impl Links {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them in order. The iterator owns a share of the block and is cheap to clone.
    #[must_use]
    pub fn iter(&self) -> LinkIter {
        LinkIter { section: self.section.clone(), at: 0, left: self.count }
    }

    /// The first link of this name; names are compared in place.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<PbLink> {
        let mut iter = self.iter();
        loop {
            let raw = iter.raw()?;
            if self.section.get(raw.name.clone().unwrap_or_default())? == name {
                return raw.link(&self.section);
            }
        }
    }

    /// The link at an index; the ones before it are skipped without being read.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<PbLink> {
        self.iter().nth(index)
    }
}

/// Reads links one by one. Owns a share of the block; cheap to clone.
#[derive(Debug, Clone)]
pub struct LinkIter {
    section: Bytes,
    at: usize,
    left: usize,
}

impl LinkIter {
    /// Where the next link's message stands.
    fn message(&mut self) -> Option<Range<usize>> {
        let field = Fields::starting_at(&self.section, self.at).next()?.ok()?;
        let Value::Bytes(range) = field.value else { return None };
        self.at = field.span.end;
        self.left = self.left.saturating_sub(1);
        Some(range)
    }

    /// Passes over a link without reading it.
    pub fn skip_one(&mut self) {
        self.message();
    }

    /// Bytes of the links' messages, which are held until the last link is read.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.section.len()
    }

    /// The next link's name alone; empty where it has none.
    pub fn next_name(&mut self) -> Option<Bytes> {
        let raw = self.raw()?;
        Some(raw.name.map_or_else(Bytes::new, |range| self.section.slice(range)))
    }

    fn raw(&mut self) -> Option<RawLink> {
        let message = self.message()?;
        RawLink::parse(&self.section, message).ok()
    }
}

impl Iterator for LinkIter {
    type Item = PbLink;

    fn next(&mut self) -> Option<PbLink> {
        self.raw()?.link(&self.section)
    }

    fn nth(&mut self, n: usize) -> Option<PbLink> {
        for _ in 0..n {
            self.message()?;
        }
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for LinkIter {}

/// Where the parts of a link stand in the bytes it was read from.
struct RawLink {
    hash: Range<usize>,
    name: Option<Range<usize>>,
    tsize: Option<u64>,
}

impl RawLink {
    fn parse(bytes: &[u8], message: Range<usize>) -> Result<Self, Error> {
        let base = message.start;
        let shift = |range: Range<usize>| range.start + base..range.end + base;
        let (mut hash, mut name, mut tsize) = (None, None, None);
        for field in Fields::new(bytes.get(message).unwrap_or_default()) {
            let field = field.map_err(|_| malformed("a field ends beyond its link"))?;
            match (field.number, field.value) {
                (1, Value::Bytes(range)) if hash.is_none() && name.is_none() && tsize.is_none() => {
                    hash = Some(shift(range));
                }
                (2, Value::Bytes(range)) if name.is_none() && tsize.is_none() => {
                    name = Some(shift(range));
                }
                (3, Value::Varint(value)) if tsize.is_none() => tsize = Some(value),
                (1..=3, _) => {
                    return Err(malformed("a field of a link is repeated, misplaced or mistyped"));
                }
                _ => return Err(malformed("a link has an unknown field")),
            }
        }
        let hash = hash.ok_or(malformed("a link has no hash"))?;
        Ok(Self { hash, name, tsize })
    }

    fn cid(&self, bytes: &[u8]) -> Option<Cid> {
        let mut hash = bytes.get(self.hash.clone())?;
        let cid = Cid::read_bytes(&mut hash).ok()?;
        hash.is_empty().then_some(cid)
    }

    fn link(self, bytes: &Bytes) -> Option<PbLink> {
        let cid = self.cid(bytes)?;
        Some(PbLink { cid, name: self.name.map(|range| bytes.slice(range)), tsize: self.tsize })
    }
}

#[cfg(test)]
mod tests;
