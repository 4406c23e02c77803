use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;
use crate::block::{Mh, codec};
use crate::ipld::unixfs::FileReader;
use crate::ipld::unixfs::import::{Built, DirectoryBuilder, FileBuilder, Profile};
use crate::ipld::unixfs::read;

#[derive(Default)]
struct Store(HashMap<Cid, Block>);

impl Store {
    fn keep(&mut self, built: Built) -> (Cid, u64) {
        self.0.extend(built.blocks.into_iter().map(|block| (*block.cid(), block)));
        (built.root, built.tsize)
    }

    fn block(&mut self, codec: u64, data: Vec<u8>) -> Cid {
        let block = Block::sha2_256(codec, data.into()).unwrap();
        self.0.insert(*block.cid(), block.clone());
        *block.cid()
    }

    /// A file with leaves of `leaf` bytes and 3 links a node.
    fn file(&mut self, data: &[u8], leaf: usize) -> (Cid, u64) {
        let profile = Profile::default();
        let mut builder = FileBuilder::new(profile, 3);
        for chunk in data.chunks(leaf) {
            let leaf = profile.leaf(Bytes::copy_from_slice(chunk)).unwrap();
            let nodes = builder.push(&leaf).unwrap();
            self.0.extend(nodes.into_iter().map(|block| (*block.cid(), block)));
            self.0.insert(*leaf.block.cid(), leaf.block);
        }
        let built = builder.finish().unwrap();
        self.keep(built)
    }

    fn directory(&mut self, entries: &[(&str, (Cid, u64))]) -> (Cid, u64) {
        let mut builder = DirectoryBuilder::new(Profile::default());
        for (name, (cid, tsize)) in entries {
            builder.insert(name, cid, *tsize);
        }
        let built = builder.finish().unwrap();
        self.keep(built)
    }

    fn walk(&self, root: Cid, request: CarRequest) -> Result<Vec<Cid>, Error> {
        let mut walk = CarWalk::new(root, request, Limits::default());
        let mut visited = Vec::new();
        loop {
            match walk.step()? {
                Step::Need(cid) => {
                    let block = self.0.get(&cid).cloned();
                    walk.supply(block.ok_or(Error::Truncated("store"))?)?;
                }
                Step::Visit(block) => visited.push(*block.cid()),
                Step::Done => return Ok(visited),
            }
        }
    }
}

fn request(path: &str, scope: CarScope) -> CarRequest {
    let segments = path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    CarRequest { segments, scope, ..CarRequest::default() }
}

#[test]
fn scopes_of_a_tree() {
    let mut store = Store::default();
    let small = store.file(b"small", 10);
    let data: Vec<u8> = (0..100).collect();
    let big = store.file(&data, 10);
    let sub = store.directory(&[("big", big), ("small", small)]);
    let root = store.directory(&[("copy", small), ("sub", sub)]);
    let walk = |path, scope| store.walk(root.0, request(path, scope)).unwrap();

    let entity = walk("sub/big", CarScope::Entity);
    assert_eq!(entity[..3], [root.0, sub.0, big.0]);
    assert_eq!(entity.len(), 2 + 10 + 4 + 2 + 1, "leaves and three levels of nodes");
    assert_eq!(walk("sub/big", CarScope::All), entity);
    assert_eq!(walk("sub/big", CarScope::Block), [root.0, sub.0, big.0]);
    assert_eq!(walk("sub", CarScope::Entity), [root.0, sub.0]);
    assert_eq!(walk("", CarScope::Block), [root.0]);
    let all = walk("", CarScope::All);
    assert_eq!(all[..3], [root.0, small.0, sub.0], "depth first, in the order of the links");
    assert_eq!(all.len(), 3 + 17, "the second meeting with the small file adds nothing");
    let twice = CarRequest { duplicates: true, ..request("", CarScope::All) };
    assert_eq!(store.walk(root.0, twice).unwrap().len(), 3 + 17 + 1);
}

#[test]
fn paths_that_lead_nowhere_say_so() {
    let mut store = Store::default();
    let file = store.file(b"small", 10);
    let root = store.directory(&[("file", file)]).0;
    for (path, parent, name) in [("none", root, "none"), ("file/x", file.0, "x")] {
        let refused = store.walk(root, request(path, CarScope::All));
        let expected = Error::NoLink { parent: Box::new(parent), name: name.into() };
        assert_eq!(refused, Err(expected), "{path}");
    }
}

#[test]
fn paths_lead_through_dag_cbor_and_dag_json() {
    let mut store = Store::default();
    let leaf = store.file(b"leaf", 10).0;
    let json = store.block(codec::DAG_JSON, format!(r#"{{"a":[1,{{"/":"{leaf}"}}]}}"#).into());
    let mut cbor = vec![0xa1, 0x61, b'j', 0xd8, 42, 0x58, 38, 0];
    cbor.extend_from_slice(&json.to_bytes());
    let root = store.block(codec::DAG_CBOR, cbor);
    let walk = |path, scope| store.walk(root, request(path, scope));

    assert_eq!(walk("j/a/1", CarScope::All), Ok(vec![root, json, leaf]));
    assert_eq!(walk("", CarScope::All), Ok(vec![root, json, leaf]));
    assert_eq!(walk("", CarScope::Entity), Ok(vec![root]));
    assert_eq!(walk("j", CarScope::Entity), Ok(vec![root, json]));
    assert_eq!(walk("j/a/0", CarScope::All), Ok(vec![root, json]));
    assert!(matches!(walk("j/b", CarScope::All), Err(Error::NoLink { .. })));
    assert!(matches!(walk("j/a/1/x", CarScope::All), Err(Error::NoLink { .. })));
}

#[test]
fn of_a_sharded_directory_only_what_is_asked_for() {
    let mut store = Store::default();
    let file = store.file(b"small", 10);
    let names: Vec<String> = (0..6000).map(|n| format!("a name to fill shards {n:060}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), file)).collect();
    let root = store.directory(&entries).0;
    let shards = store.0.len() - 1;
    assert!(shards > 200, "{shards}");

    let one = store.walk(root, request(&names[77], CarScope::Entity)).unwrap();
    assert!((3..=5).contains(&one.len()), "{}", one.len());
    assert_eq!((one.first(), one.last()), (Some(&root), Some(&file.0)));
    assert_eq!(store.walk(root, request("", CarScope::Entity)).unwrap().len(), shards);
    assert_eq!(store.walk(root, request("", CarScope::All)).unwrap().len(), shards + 1);
    assert!(matches!(
        store.walk(root, request("absent", CarScope::All)),
        Err(Error::NoLink { .. })
    ));
}

#[test]
fn ranges_mean_the_bytes_that_exist() {
    let check = |from, to, size, expected: Range<u64>| {
        let range = EntityBytes { from, to }.within(size);
        assert!(range == expected || (range.is_empty() && expected.is_empty()), "{range:?}");
    };
    check(0, None, 10, 0..10);
    check(0, Some(0), 10, 0..1);
    check(2, Some(4), 10, 2..5);
    check(2, Some(400), 10, 2..10);
    check(-3, None, 10, 7..10);
    check(-9999, None, 1026, 0..1026);
    check(-3, Some(-2), 10, 7..9);
    check(4, Some(-3), 10, 4..8);
    check(499, Some(-1000), 1026, 0..0);
    check(499, Some(-1000), 2000, 499..1001);
    check(10, None, 10, 0..0);
    check(0, Some(-11), 10, 0..0);
    check(i64::MIN, Some(i64::MAX), 10, 0..10);
    check(0, None, 0, 0..0);
}

#[test]
fn a_range_beyond_the_file_leaves_its_first_block() {
    let mut store = Store::default();
    let file = store.file(&[1; 100], 10).0;
    for (from, to) in [(100, None), (50, Some(40)), (0, Some(-101))] {
        let bytes = Some(EntityBytes { from, to });
        let visited = store.walk(file, CarRequest { bytes, ..CarRequest::default() });
        assert_eq!(visited, Ok(vec![file]));
    }
}

#[test]
fn identity_blocks_are_never_in_a_car() {
    let mut store = Store::default();
    let inline = Cid::new_v1(codec::RAW, Mh::wrap(0, b"inline").unwrap());
    let root = store.directory(&[("inline", (inline, 6))]).0;
    for duplicates in [false, true] {
        let request = CarRequest { duplicates, ..CarRequest::default() };
        assert_eq!(store.walk(root, request.clone()), Ok(vec![root]));
        assert_eq!(store.walk(inline, request), Ok(vec![]));
    }
    assert_eq!(store.walk(root, request("inline", CarScope::Entity)), Ok(vec![root]));
}

#[test]
fn a_part_of_another_size_ends_the_walk() {
    let mut store = Store::default();
    let data: Vec<u8> = (0..100).collect();
    let file = store.file(&data, 10).0;
    let other = store.file(&data[..50], 10).0;
    let first = *store.walk(file, CarRequest::default()).unwrap().get(1).unwrap();
    let lie = store.0.get(&other).unwrap().data().clone();
    // The store lies about what is under a CID, as a file would that was made to.
    store.0.insert(first, Block::from_checked_record(first, lie));
    let bytes = Some(EntityBytes { from: 3, to: Some(5) });
    let refused = store.walk(file, CarRequest { bytes, ..CarRequest::default() });
    assert!(matches!(refused, Err(Error::Malformed { .. })), "{refused:?}");
}

/// The blocks that reading a range needs are those a CAR of it holds, and they are enough.
fn read_range(store: &Store, file: Cid, range: Range<u64>) -> Vec<Cid> {
    let root = store.0.get(&file).unwrap().clone();
    let mut reader = FileReader::open(&root, Some(range)).unwrap();
    let mut needed = vec![file];
    loop {
        match reader.step() {
            read::Step::Need(cid) => {
                needed.push(cid);
                reader.supply(store.0.get(&cid).unwrap()).unwrap();
            }
            read::Step::Data(_) => (),
            read::Step::Done => return needed,
        }
    }
}

proptest! {
    #[test]
    fn a_range_holds_what_reading_it_needs(
        data in proptest::collection::vec(any::<u8>(), 1..400),
        leaf in 1_usize..40,
        from in 0_u64..400,
        length in 1_u64..400,
    ) {
        let mut store = Store::default();
        let file = store.file(&data, leaf).0;
        let size = data.len() as u64;
        let range = from.min(size - 1)..(from.min(size - 1) + length).min(size);
        let to = i64::try_from(range.end - 1).unwrap();
        let bytes = Some(EntityBytes { from: i64::try_from(range.start).unwrap(), to: Some(to) });
        let request = CarRequest { bytes, duplicates: true, ..CarRequest::default() };
        prop_assert_eq!(store.walk(file, request).unwrap(), read_range(&store, file, range));
    }
}
