use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::block::{Mh, codec};
use crate::ipld::dag_pb::{PbLink, PbNode};
use crate::ipld::links;

type Store = HashMap<Cid, Block>;

fn raw(data: &[u8]) -> Block {
    Block::sha2_256(codec::RAW, Bytes::copy_from_slice(data)).unwrap()
}

fn node(children: &[Cid]) -> Block {
    let link = |cid: &Cid| PbLink { cid: *cid, name: None, tsize: None };
    let node = PbNode { links: children.iter().map(link).collect(), data: None };
    Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
}

fn put(store: &mut Store, block: Block) -> Cid {
    let cid = *block.cid();
    store.insert(cid, block);
    cid
}

/// Drives a walk; checks on the way that what is needed was named by `upcoming` first.
fn drive(walk: &mut DagWalk, store: &Store) -> Result<Vec<Cid>, Error> {
    let mut visited = Vec::new();
    loop {
        match walk.step()? {
            Step::Need(cid) => {
                assert_eq!(walk.upcoming(3).next(), Some(cid));
                match store.get(&cid) {
                    Some(block) => walk.supply(block.clone())?,
                    None => walk.skip(&cid)?,
                }
            }
            Step::Visit(block) => visited.push(*block.cid()),
            Step::Done => return Ok(visited),
        }
    }
}

fn naive(cid: &Cid, store: &Store, seen: &mut Option<HashSet<Cid>>, out: &mut Vec<Cid>) {
    let Some(block) = store.get(cid) else { return };
    if seen.as_mut().is_none_or(|seen| seen.insert(*cid)) {
        out.push(*cid);
        links(block).unwrap().iter().for_each(|link| naive(link, store, seen, out));
    }
}

/// Layers of nodes: each links to nodes of the layers before it.
fn layers() -> impl Strategy<Value = (Store, Cid)> {
    let picks = proptest::collection::vec(any::<proptest::sample::Index>(), 0..5);
    let missing = proptest::collection::vec(any::<proptest::sample::Index>(), 0..3);
    (proptest::collection::vec(picks, 1..12), missing).prop_map(|(nodes, missing)| {
        let mut store = Store::new();
        let mut cids = vec![put(&mut store, raw(b"leaf")), put(&mut store, raw(b"other"))];
        for picks in nodes {
            let children: Vec<_> = picks.iter().map(|pick| *pick.get(&cids)).collect();
            cids.push(put(&mut store, node(&children)));
        }
        let root = cids[cids.len() - 1];
        for index in missing {
            store.remove(index.get(&cids));
        }
        (store, root)
    })
}

proptest! {
    #[test]
    fn a_walk_goes_where_recursion_goes((store, root) in layers(), duplicates: bool) {
        let mut expected = Vec::new();
        naive(&root, &store, &mut (!duplicates).then(HashSet::new), &mut expected);
        let mut walk = DagWalk::new(root, Limits::default()).duplicates(duplicates);
        prop_assert_eq!(drive(&mut walk, &store).unwrap(), expected);
        prop_assert!(walk.upcoming(9).next().is_none());
    }
}

/// A diamond on a diamond: 2^40 paths over 41 blocks.
fn diamonds() -> (Store, Cid) {
    let mut store = Store::new();
    let mut root = put(&mut store, raw(b"bottom"));
    for _ in 0..40 {
        root = put(&mut store, node(&[root, root]));
    }
    (store, root)
}

#[test]
fn repeated_blocks_cost_once_or_meet_a_limit() {
    let (store, root) = diamonds();
    let mut walk = DagWalk::new(root, Limits::default());
    assert_eq!(drive(&mut walk, &store).unwrap().len(), 41);
    for limits in
        [Limits { blocks: 1000, ..Limits::default() }, Limits { bytes: 5000, ..Limits::default() }]
    {
        let mut walk = DagWalk::new(root, limits).duplicates(true);
        assert!(matches!(drive(&mut walk, &store), Err(Error::Limit { .. })));
    }
}

#[test]
fn depth_is_bounded_and_takes_no_stack() {
    let mut store = Store::new();
    let mut root = put(&mut store, raw(b"bottom"));
    for _ in 0..100_000 {
        root = put(&mut store, node(&[root]));
    }
    let walk =
        move |depth| drive(&mut DagWalk::new(root, Limits { depth, ..Limits::default() }), &store);
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let run = move || {
        assert!(matches!(walk(1024), Err(Error::Limit { .. })));
        assert!(matches!(walk(99_999), Err(Error::Limit { .. })));
        assert_eq!(walk(100_000).unwrap().len(), 100_001);
    };
    small.spawn(run).unwrap().join().unwrap();
}

#[test]
fn the_same_bytes_under_another_codec_are_followed_but_not_visited_again() {
    let mut store = Store::new();
    let leaf = put(&mut store, raw(b"leaf"));
    let inner = node(&[leaf]);
    let as_raw = Cid::new_v1(codec::RAW, *inner.cid().hash());
    let as_pb = put(&mut store, inner.clone());
    store.insert(as_raw, inner);
    let root = put(&mut store, node(&[as_raw, as_pb, as_pb, as_raw]));
    let visited = drive(&mut DagWalk::new(root, Limits::default()), &store).unwrap();
    assert_eq!(visited, [root, as_raw, leaf]);
}

#[test]
fn identity_blocks_are_followed_only() {
    let mut store = Store::new();
    let leaf = put(&mut store, raw(b"leaf"));
    let inline = Cid::new_v1(codec::DAG_PB, Mh::wrap(0, node(&[leaf]).data()).unwrap());
    let root = put(&mut store, node(&[inline, inline]));
    let mut walk = DagWalk::new(root, Limits::default());
    assert_eq!(drive(&mut walk, &store).unwrap(), [root, leaf]);
}

#[test]
fn siblings_are_named_ahead() {
    let leaves: Vec<_> = (0..100_u8).map(|n| raw(&[n])).collect();
    let cids: Vec<_> = leaves.iter().map(|leaf| *leaf.cid()).collect();
    let root = node(&cids);
    let mut walk = DagWalk::new(*root.cid(), Limits::default());
    assert_eq!(walk.step(), Ok(Step::Need(*root.cid())));
    assert!(matches!(walk.supply(leaves[0].clone()), Err(Error::NotAskedFor(_))));
    walk.supply(root.clone()).unwrap();
    assert_eq!(walk.step(), Ok(Step::Visit(root)));
    assert_eq!(walk.step(), Ok(Step::Need(cids[0])));
    assert_eq!(walk.upcoming(32).collect::<Vec<_>>(), cids[..32]);
}

#[test]
fn unknown_codecs_and_malformed_blocks_are_errors() {
    let unknown = Block::sha2_256(0x78, Bytes::from_static(b"git")).unwrap();
    let broken = Block::sha2_256(codec::DAG_PB, Bytes::from_static(b"\xff")).unwrap();
    for block in [unknown, broken] {
        let mut walk = DagWalk::new(*block.cid(), Limits::default());
        walk.step().unwrap();
        assert!(walk.supply(block).is_err());
    }
}
