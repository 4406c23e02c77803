use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::block::{Block, codec};
use crate::ipld::Error;
use crate::ipld::dag_pb::PbNode;
use crate::ipld::unixfs::format::{Data, DataType};
use crate::ipld::unixfs::import::{DirectoryBuilder, Profile};

type Blocks = HashMap<Cid, Block>;

fn cid(seed: usize) -> Cid {
    *Block::sha2_256(codec::RAW, Bytes::from(seed.to_string())).unwrap().cid()
}

/// A sharded directory of this many names: its root and its blocks.
fn wide(count: usize) -> (Block, Blocks) {
    let mut builder = DirectoryBuilder::new(Profile::V1_2025);
    for i in 0..count {
        builder.insert(format!("file number {i}"), &cid(i), 1);
    }
    let built = builder.finish().unwrap();
    let blocks: Blocks = built.blocks.into_iter().map(|block| (*block.cid(), block)).collect();
    (blocks[&built.root].clone(), blocks)
}

fn find(root: &Block, blocks: &Blocks, name: &str) -> (Option<Entry>, usize) {
    let mut lookup = lookup(root, name).unwrap();
    let mut shards = 0;
    loop {
        match lookup.step() {
            LookupStep::Need(cid) => {
                shards += 1;
                lookup.supply(&blocks[&cid]).unwrap();
            }
            LookupStep::Found(entry) => return (Some(entry), shards),
            LookupStep::NotFound => return (None, shards),
        }
    }
}

fn list(mut lister: Lister, blocks: &Blocks) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    loop {
        match lister.step()? {
            ListStep::Need(cid) => {
                assert_eq!(lister.upcoming(8).next(), Some(cid));
                lister.supply(&blocks[&cid])?;
            }
            ListStep::Entry(entry) => entries.push(entry),
            ListStep::Done => return Ok(entries),
        }
    }
}

fn link(name: &str, cid: Cid) -> PbLink {
    PbLink { cid, name: Some(Bytes::from(name.to_owned())), tsize: Some(1) }
}

fn plain(links: Vec<PbLink>) -> Block {
    let node = PbNode { links, data: Some(Data::new(DataType::Directory).encode()) };
    Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
}

fn shard(slot: u32, links: Vec<PbLink>) -> Block {
    let mut bitfield = vec![0; 32];
    bitfield[31 - slot as usize / 8] = 1 << (slot % 8);
    let data = Data {
        data: Some(bitfield.into()),
        hash_type: Some(0x22),
        fanout: Some(256),
        ..Data::new(DataType::HamtShard)
    };
    let node = PbNode { links, data: Some(data.encode()) };
    Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
}

#[test]
fn every_name_of_a_sharded_directory_is_listed_once_and_found() {
    let (root, blocks) = wide(20_000);
    let entries = list(Lister::open(&root).unwrap(), &blocks).unwrap();
    let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!((entries.len(), names.len()), (20_000, 20_000));
    for i in (0..20_000).step_by(97) {
        let (entry, shards) = find(&root, &blocks, &format!("file number {i}"));
        assert_eq!(entry.unwrap().cid, cid(i));
        assert!(shards <= 3, "only the shards on the path of the hash");
    }
    assert_eq!(find(&root, &blocks, "file number 20000").0, None);
    assert_eq!(find(&root, &blocks, "").0, None);
}

#[test]
fn pages_together_are_the_whole_list() {
    let (sharded, blocks) = wide(7_000);
    let flat = plain((0..2_000).map(|i| link(&format!("{i:05}"), cid(i))).collect());
    for root in [sharded, flat] {
        let whole = list(Lister::open(&root).unwrap(), &blocks).unwrap();
        for skip in [0, 1, 1_000, 1_999, 2_000, 9_999] {
            let page = list(Lister::open(&root).unwrap().skip(skip), &blocks).unwrap();
            assert_eq!(page, whole[skip.min(whole.len())..]);
        }
    }
}

#[test]
fn shards_to_come_are_those_that_will_be_asked_for() {
    let (root, blocks) = wide(20_000);
    let mut lister = Lister::open(&root).unwrap();
    let ahead: Vec<_> = lister.upcoming(300).collect();
    assert_eq!(ahead.len(), 256);
    let mut asked = Vec::new();
    while let step @ (ListStep::Need(_) | ListStep::Entry(_)) = lister.step().unwrap() {
        if let ListStep::Need(cid) = step {
            asked.push(cid);
            lister.supply(&blocks[&cid]).unwrap();
        }
    }
    asked.retain(|cid| ahead.contains(cid));
    assert_eq!(asked, ahead);
}

#[test]
fn of_several_entries_of_one_name_the_first_counts() {
    let links = vec![link("b", cid(1)), link("a", cid(2)), link("b", cid(3)), link("a", cid(4))];
    let root = plain(links);
    let entries = list(Lister::open(&root).unwrap(), &Blocks::new()).unwrap();
    let listed: Vec<_> = entries.iter().map(|e| (e.name_lossy().into_owned(), e.cid)).collect();
    assert_eq!(listed, [("b".to_owned(), cid(1)), ("a".to_owned(), cid(2))]);
    assert_eq!(find(&root, &Blocks::new(), "b").0.unwrap().cid, cid(1));
    assert_eq!(find(&root, &Blocks::new(), "c").0, None);
}

#[test]
fn nothing_is_found_in_a_file() {
    let file = Block::sha2_256(codec::RAW, Bytes::from_static(b"x")).unwrap();
    assert_eq!(find(&file, &Blocks::new(), "x").0, None);
    assert!(Lister::open(&file).is_err());
}

#[test]
fn entries_and_shards_that_stand_where_they_should_not_are_errors() {
    let right = (0..256).find(|slot| {
        let root = shard(*slot, vec![link(&format!("{slot:02X}a"), cid(1))]);
        list(Lister::open(&root).unwrap(), &Blocks::new()).is_ok()
    });
    let wrong = right.unwrap() ^ 1;
    let root = shard(wrong, vec![link(&format!("{wrong:02X}a"), cid(1))]);
    assert!(list(Lister::open(&root).unwrap(), &Blocks::new()).is_err());
    assert_eq!(find(&root, &Blocks::new(), "a").0, None);

    let flat = plain(vec![]);
    let root = shard(0, vec![link("00", *flat.cid())]);
    let mut lister = Lister::open(&root).unwrap();
    assert_eq!(lister.step(), Ok(ListStep::Need(*flat.cid())));
    assert!(lister.supply(&flat).is_err(), "a plain directory as a shard");
}

#[test]
fn shards_end_where_the_hash_ends() {
    let mut blocks = Blocks::new();
    // The slots of the path to "a", whose hash is 0x85555565f6597889.
    let path = 0x8555_5565_f659_7889_u64.to_be_bytes();
    let mut top = shard(0, vec![link("00a", cid(1))]);
    for slot in path.iter().cycle().skip(1).take(1000).collect::<Vec<_>>().into_iter().rev() {
        blocks.insert(*top.cid(), top.clone());
        top = shard((*slot).into(), vec![link(&format!("{slot:02X}"), *top.cid())]);
    }
    assert!(list(Lister::open(&top).unwrap(), &blocks).is_err());
    blocks.insert(*top.cid(), top.clone());
    let top = shard(path[0].into(), vec![link(&format!("{:02X}", path[0]), *top.cid())]);
    let mut lookup = lookup(&top, "a").unwrap();
    let mut result = Ok(());
    while let (LookupStep::Need(cid), Ok(())) = (lookup.step(), &result) {
        result = lookup.supply(&blocks[&cid]);
    }
    assert!(result.is_err());
}
