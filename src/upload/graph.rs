//! What a CAR holds, as a graph: whether all of a root's DAG is there, and nothing else.

use std::collections::HashMap;

use crate::block::{Block, Cid};
use crate::ipld;

/// Most blocks of one DAG, those that are linked to but not there included.
const BLOCKS_MAX: usize = 1_000_000;
/// Most links of one DAG.
const LINKS_MAX: usize = 8_000_000;
/// Links between the root and the deepest block: as deep as any walk here goes.
const DEPTH_MAX: usize = 1024;

/// Half of a digest and the codec. Whoever finds two blocks that share it (2^64 hashes) spoils an
/// upload of their own.
type Key = [u8; 16];

fn key(cid: &Cid) -> Key {
    let mut key = [0; 16];
    let digest = cid.hash().digest();
    let length = digest.len().min(key.len());
    if let (Some(to), Some(from)) = (key.get_mut(..length), digest.get(..length)) {
        to.copy_from_slice(from);
    }
    for (to, from) in key.iter_mut().zip(cid.codec().to_le_bytes()) {
        *to ^= from;
    }
    key
}

/// Blocks by number, and which links to which. About 40 bytes a block and 4 a link.
#[derive(Debug, Default)]
pub(super) struct Graph {
    numbers: HashMap<Key, u32>,
    nodes: Vec<Node>,
    links: Vec<u32>,
    here: u64,
}

#[derive(Debug)]
enum Node {
    /// Linked to, not there yet: its CID.
    Wanted(Box<[u8]>),
    /// There: where its links begin, and how many there are.
    Here { from: u32, count: u32 },
}

/// What a look at the DAG of a root found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it is there.
    Whole,
    /// This block is not.
    Missing(Cid),
}

/// The links of a block, those behind identity CIDs included. Slow: for worker threads.
pub(super) fn links(block: &Block) -> Result<Vec<Cid>, ipld::Error> {
    let mut links = ipld::links(block)?;
    let mut at = 0;
    while let Some(cid) = links.get(at) {
        match Block::from_identity(cid) {
            // What an identity CID holds is shorter than itself, so this ends.
            Some(inner) => {
                links.extend(ipld::links(&inner)?);
                links.swap_remove(at);
            }
            None => at += 1,
        }
    }
    Ok(links)
}

impl Graph {
    /// Notes a block that is there. False when it was known to be.
    pub(super) fn insert(&mut self, cid: &Cid, links: &[Cid]) -> Result<bool, ipld::Error> {
        let number = self.number(cid)?;
        if matches!(self.nodes.get(number as usize), Some(Node::Here { .. })) {
            return Ok(false);
        }
        if self.links.len() + links.len() > LINKS_MAX {
            return Err(limit("the number of links of the CAR", LINKS_MAX));
        }
        let from = self.links.len() as u32;
        for link in links {
            let number = self.number(link)?;
            self.links.push(number);
        }
        if let Some(node) = self.nodes.get_mut(number as usize) {
            *node = Node::Here { from, count: links.len() as u32 };
            self.here += 1;
        }
        Ok(true)
    }

    /// How many blocks are there.
    pub(super) fn here(&self) -> u64 {
        self.here
    }

    fn number(&mut self, cid: &Cid) -> Result<u32, ipld::Error> {
        let next = self.nodes.len();
        if let Some(number) = self.numbers.get(&key(cid)) {
            return Ok(*number);
        }
        if next >= BLOCKS_MAX {
            return Err(limit("the number of blocks of the CAR", BLOCKS_MAX));
        }
        self.numbers.insert(key(cid), next as u32);
        self.nodes.push(Node::Wanted(cid.to_bytes().into()));
        Ok(next as u32)
    }
}

fn limit(what: &'static str, limit: usize) -> ipld::Error {
    ipld::Error::Limit { what, limit: limit as u64 }
}

/// A walk over a graph that can grow meanwhile: depth first, as the walks of [`ipld`].
#[derive(Debug)]
pub(super) struct Reach {
    /// Which blocks were met, by number.
    met: Vec<bool>,
    count: u64,
    /// Links still to follow: their place among the links, and how many.
    open: Vec<(u32, u32)>,
    wanted: Option<u32>,
}

impl Reach {
    /// A walk from `root`.
    pub(super) fn new(graph: &mut Graph, root: &Cid) -> Result<Self, ipld::Error> {
        let root = graph.number(root)?;
        Ok(Self { met: Vec::new(), count: 0, open: Vec::new(), wanted: Some(root) })
    }

    /// Goes on until all was met, or a block is missing: insert it, and go on.
    pub(super) fn go_on(&mut self, graph: &Graph) -> Result<Found, ipld::Error> {
        loop {
            let number = match self.wanted.take() {
                Some(number) => number,
                None => match self.next(graph) {
                    Some(number) => number,
                    None => return Ok(Found::Whole),
                },
            };
            let at = number as usize;
            if self.met.len() <= at {
                self.met.resize(graph.nodes.len(), false);
            }
            if self.met.get(at).copied().unwrap_or(true) {
                continue;
            }
            match graph.nodes.get(at) {
                Some(Node::Here { from, count }) => {
                    if let Some(met) = self.met.get_mut(at) {
                        *met = true;
                    }
                    self.count += 1;
                    if *count > 0 {
                        if self.open.len() >= DEPTH_MAX {
                            return Err(limit("the depth of the DAG", DEPTH_MAX));
                        }
                        self.open.push((*from, *count));
                    }
                }
                Some(Node::Wanted(cid)) => {
                    self.wanted = Some(number);
                    return Ok(Found::Missing(Cid::try_from(cid.as_ref()).map_err(|_| {
                        ipld::Error::Malformed { format: "CID", reason: "it cannot be read again" }
                    })?));
                }
                None => {}
            }
        }
    }

    fn next(&mut self, graph: &Graph) -> Option<u32> {
        while let Some((at, left)) = self.open.last_mut() {
            if *left == 0 {
                self.open.pop();
                continue;
            }
            let number = graph.links.get(*at as usize).copied();
            *at += 1;
            *left -= 1;
            return number;
        }
        None
    }

    /// How many blocks were met.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::codec;
    use crate::block::{IDENTITY, Mh};
    use crate::ipld::dag_pb::{PbLink, PbNode};

    fn raw(n: usize) -> Block {
        Block::sha2_256(codec::RAW, Bytes::from(n.to_string())).unwrap()
    }

    fn node(children: &[Cid]) -> Block {
        let link = |cid: &Cid| PbLink { cid: *cid, name: None, tsize: None };
        let node = PbNode { links: children.iter().map(link).collect(), data: None };
        Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
    }

    fn graph(blocks: &[Block]) -> Graph {
        let mut graph = Graph::default();
        for block in blocks {
            graph.insert(block.cid(), &links(block).unwrap()).unwrap();
        }
        graph
    }

    #[test]
    fn a_dag_is_whole_whatever_the_order_of_its_blocks() {
        let (a, b) = (raw(1), raw(2));
        let inner = node(&[*a.cid(), *b.cid()]);
        let root = node(&[*inner.cid(), *b.cid(), *b.cid()]);
        let blocks = [root.clone(), inner, a, b];
        for start in 0..4 {
            let order: Vec<_> = blocks.iter().cycle().skip(start).take(4).cloned().collect();
            let mut graph = graph(&order);
            let mut reach = Reach::new(&mut graph, root.cid()).unwrap();
            assert_eq!(reach.go_on(&graph), Ok(Found::Whole));
            assert_eq!(reach.count(), 4);
        }
    }

    #[test]
    fn a_missing_block_is_named_and_can_be_handed_in() {
        let (a, b) = (raw(1), raw(2));
        let inner = node(&[*b.cid()]);
        let root = node(&[*a.cid(), *inner.cid()]);
        let mut graph = graph(&[root.clone(), a]);
        let mut reach = Reach::new(&mut graph, root.cid()).unwrap();
        assert_eq!(reach.go_on(&graph), Ok(Found::Missing(*inner.cid())));
        assert_eq!(reach.go_on(&graph), Ok(Found::Missing(*inner.cid())));
        graph.insert(inner.cid(), &links(&inner).unwrap()).unwrap();
        assert_eq!(reach.go_on(&graph), Ok(Found::Missing(*b.cid())));
        graph.insert(b.cid(), &[]).unwrap();
        assert_eq!(reach.go_on(&graph), Ok(Found::Whole));
        assert_eq!(reach.count(), 4);
    }

    #[test]
    fn blocks_beside_the_dag_are_told_from_it() {
        let (root, stray) = (raw(1), raw(2));
        let mut graph = graph(&[root.clone(), stray]);
        let mut reach = Reach::new(&mut graph, root.cid()).unwrap();
        assert_eq!(reach.go_on(&graph), Ok(Found::Whole));
        assert_eq!((reach.count(), graph.here()), (1, 2));
    }

    #[test]
    fn links_behind_identity_cids_count_and_the_same_bytes_in_another_codec_do_not() {
        let leaf = raw(1);
        let inner = node(&[*leaf.cid()]);
        let identity = Cid::new_v1(codec::DAG_PB, Mh::wrap(IDENTITY, inner.data()).unwrap());
        let root = node(&[identity]);
        assert_eq!(links(&root).unwrap(), [*leaf.cid()]);

        let as_raw = Cid::new_v1(codec::RAW, *inner.cid().hash());
        let outer = node(&[*inner.cid()]);
        let mut graph = Graph::default();
        graph.insert(outer.cid(), &links(&outer).unwrap()).unwrap();
        graph.insert(&as_raw, &[]).unwrap();
        let mut reach = Reach::new(&mut graph, outer.cid()).unwrap();
        assert_eq!(reach.go_on(&graph), Ok(Found::Missing(*inner.cid())));
    }

    #[test]
    fn depth_is_bounded_as_in_walks() {
        let mut blocks = vec![raw(0)];
        for _ in 0..DEPTH_MAX {
            let below = *blocks.last().unwrap().cid();
            blocks.push(node(&[below]));
        }
        let mut graph = graph(&blocks);
        let root = *blocks.last().unwrap().cid();
        let mut reach = Reach::new(&mut graph, &root).unwrap();
        assert_eq!(reach.go_on(&graph), Ok(Found::Whole));
        let above = node(&[root, *raw(0).cid()]);
        graph.insert(above.cid(), &links(&above).unwrap()).unwrap();
        let mut reach = Reach::new(&mut graph, above.cid()).unwrap();
        assert!(reach.go_on(&graph).is_err());
    }
}
