use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::block::codec;
use crate::ipld::dag_pb::{PbLink, PbNode};
use crate::ipld::unixfs::format::{Data, DataType};

type Blocks = HashMap<Cid, Block>;

/// A file of any shape: data of its own, then children.
#[derive(Debug, Clone)]
enum Shape {
    Raw(Vec<u8>),
    Node(Vec<u8>, Vec<Shape>),
}

fn shape() -> impl Strategy<Value = Shape> {
    let data = || prop::collection::vec(any::<u8>(), 0..6);
    data().prop_map(Shape::Raw).prop_recursive(4, 40, 5, move |inner| {
        (data(), prop::collection::vec(inner, 0..5)).prop_map(|(d, c)| Shape::Node(d, c))
    })
}

/// Stores the blocks of a shape; its CID and its bytes.
fn store(shape: &Shape, blocks: &mut Blocks) -> (Cid, Vec<u8>) {
    let (block, bytes) = match shape {
        Shape::Raw(data) => {
            (Block::sha2_256(codec::RAW, data.clone().into()).unwrap(), data.clone())
        }
        Shape::Node(data, children) => {
            let mut bytes = data.clone();
            let (mut links, mut sizes) = (Vec::new(), Vec::new());
            for child in children {
                let (cid, below) = store(child, blocks);
                links.push(PbLink { cid, name: None, tsize: None });
                sizes.push(below.len() as u64);
                bytes.extend(below);
            }
            (node(data.clone(), links, sizes), bytes)
        }
    };
    let cid = *block.cid();
    blocks.insert(cid, block);
    (cid, bytes)
}

fn node(data: Vec<u8>, links: Vec<PbLink>, block_sizes: Vec<u64>) -> Block {
    let data = Data { data: Some(data.into()), block_sizes, ..Data::new(DataType::File) };
    let node = PbNode { links, data: Some(data.encode()) };
    Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
}

/// What is read, and which blocks were asked for.
fn read(mut reader: FileReader, blocks: &Blocks) -> Result<(Vec<u8>, Vec<Cid>), Error> {
    let (mut out, mut asked) = (Vec::new(), Vec::new());
    loop {
        match reader.step() {
            Step::Need(cid) => {
                assert_eq!(reader.upcoming(4).next(), Some(cid));
                asked.push(cid);
                reader.supply(&blocks[&cid])?;
            }
            Step::Data(data) => out.extend_from_slice(&data),
            Step::Done => return Ok((out, asked)),
        }
    }
}

fn link(block: &Block) -> PbLink {
    PbLink { cid: *block.cid(), name: None, tsize: None }
}

/// Three raw leaves of ten bytes under one root.
fn three() -> (Block, Blocks, Vec<Cid>) {
    let leaves: Vec<_> =
        (0..3).map(|i| Block::sha2_256(codec::RAW, vec![i; 10].into()).unwrap()).collect();
    let root = node(vec![], leaves.iter().map(link).collect(), vec![10; 3]);
    let cids = leaves.iter().map(|leaf| *leaf.cid()).collect();
    (root, leaves.into_iter().map(|leaf| (*leaf.cid(), leaf)).collect(), cids)
}

proptest! {
    #[test]
    fn a_range_is_a_slice_of_the_file(shape in shape(), from in 0u64..60, to in 0u64..60) {
        let mut blocks = Blocks::new();
        let (root, bytes) = store(&shape, &mut blocks);
        let whole = FileReader::open(&blocks[&root], None).unwrap();
        prop_assert_eq!(whole.size(), bytes.len() as u64);
        prop_assert_eq!(&read(whole, &blocks).unwrap().0, &bytes);
        let part = FileReader::open(&blocks[&root], Some(from..to)).unwrap();
        let (from, to) = (bytes.len().min(from as usize), bytes.len().min(to as usize));
        prop_assert_eq!(&read(part, &blocks).unwrap().0[..], &bytes[from..to.max(from)]);
    }
}

#[test]
fn a_range_asks_only_for_the_blocks_that_cover_it() {
    let (root, blocks, leaves) = three();
    for (range, asked) in [
        (0..30, &leaves[..]),
        (0..10, &leaves[..1]),
        (10..20, &leaves[1..2]),
        (19..21, &leaves[1..]),
        (29..99, &leaves[2..]),
        (30..99, &[]),
        (5..5, &[]),
    ] {
        let reader = FileReader::open(&root, Some(range.clone())).unwrap();
        assert_eq!(read(reader, &blocks).unwrap().1, asked, "{range:?}");
    }
}

#[test]
fn blocks_to_come_are_named_in_order_and_within_the_range() {
    let (root, _, leaves) = three();
    let mut reader = FileReader::open(&root, Some(0..15)).unwrap();
    assert_eq!(reader.upcoming(9).collect::<Vec<_>>(), leaves[..2]);
    assert_eq!(reader.step(), Step::Need(leaves[0]));
    assert_eq!(reader.upcoming(9).collect::<Vec<_>>(), leaves[..2]);
    assert_eq!(reader.upcoming(1).collect::<Vec<_>>(), leaves[..1]);
}

#[test]
fn data_is_a_slice_of_the_block() {
    let (root, blocks, leaves) = three();
    let mut reader = FileReader::open(&root, Some(3..30)).unwrap();
    reader.step();
    reader.supply(&blocks[&leaves[0]]).unwrap();
    let Step::Data(data) = reader.step() else { panic!("no data") };
    assert_eq!(data.as_ptr(), blocks[&leaves[0]].data()[3..].as_ptr());
}

#[test]
fn parts_that_are_not_what_their_parent_says_are_errors() {
    let (root, _, leaves) = three();
    let leaf = Block::sha2_256(codec::RAW, vec![1; 10].into()).unwrap();
    let open = |root: &Block| {
        let mut reader = FileReader::open(root, None).unwrap();
        reader.step();
        reader
    };
    assert_eq!(open(&root).supply(&leaf), Err(Error::NotAskedFor(Box::new(leaves[1]))));

    let lying = node(vec![], vec![link(&leaf)], vec![11]);
    assert!(open(&lying).supply(&leaf).is_err(), "another size");

    let directory = PbNode { links: vec![], data: Some(Data::new(DataType::Directory).encode()) };
    let directory = Block::sha2_256(codec::DAG_PB, directory.encode()).unwrap();
    assert!(FileReader::open(&directory, None).is_err());
    let odd = node(vec![], vec![link(&directory)], vec![1]);
    assert!(open(&odd).supply(&directory).is_err(), "a directory as part of a file");
}

#[test]
fn a_chain_of_nodes_ends_at_the_limit() {
    let mut blocks = Blocks::new();
    let mut top = Block::sha2_256(codec::RAW, vec![7].into()).unwrap();
    for _ in 0..1000 {
        blocks.insert(*top.cid(), top.clone());
        top = node(vec![], vec![link(&top)], vec![1]);
    }
    let reader = FileReader::open(&top, None).unwrap();
    assert!(matches!(read(reader, &blocks), Err(Error::Limit { .. })));
}
