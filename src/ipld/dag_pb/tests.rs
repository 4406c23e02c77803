use proptest::prelude::*;

use super::*;
use crate::block::{Block, codec};

fn cid(seed: u8) -> Cid {
    *Block::sha2_256(codec::RAW, Bytes::from(vec![seed])).unwrap().cid()
}

fn link(seed: u8, name: &str, tsize: u64) -> PbLink {
    PbLink { cid: cid(seed), name: Some(Bytes::from(name.to_owned())), tsize: Some(tsize) }
}

fn node() -> PbNode {
    let bare = PbLink { cid: cid(3), name: None, tsize: None };
    PbNode {
        links: vec![link(1, "a", 5), link(2, "", 1 << 40), bare],
        data: Some(Bytes::from_static(b"data")),
    }
}

/// A field of wire type 2.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes_field(&mut out, number, bytes);
    out
}

fn decode(bytes: Vec<u8>) -> Result<PbNode, Error> {
    PbNode::decode(&Bytes::from(bytes))
}

#[test]
fn a_node_goes_there_and_back_without_a_copy() {
    let node = node();
    let block = node.encode();
    let back = PbNode::decode(&block).unwrap();
    assert_eq!(back, node);
    assert!(block.as_ptr_range().contains(&back.data.unwrap().as_ptr()));
    assert!(block.as_ptr_range().contains(&back.links[0].name.as_ref().unwrap().as_ptr()));
}

#[test]
fn an_empty_block_is_an_empty_node() {
    assert_eq!(decode(vec![]).unwrap(), PbNode::default());
    assert!(PbNode::default().encode().is_empty());
}

#[test]
fn links_are_found_by_name_and_by_index() {
    let view = PbView::decode(&node().encode()).unwrap();
    assert_eq!(view.links.len(), 3);
    assert_eq!(view.links.find(b"a").unwrap().cid, cid(1));
    assert_eq!(view.links.find(b"").unwrap().cid, cid(2), "the first of that name");
    assert_eq!(view.links.find(b"b"), None);
    assert_eq!(view.links.get(2).unwrap().cid, cid(3));
    assert_eq!(view.links.get(3), None);
    assert_eq!(view.links.iter().len(), 3);
}

#[test]
fn data_may_stand_before_the_links_but_not_between_them() {
    let one = field(2, &field(1, &cid(1).to_bytes()));
    let data = field(1, b"d");
    assert_eq!(decode([data.clone(), one.clone()].concat()).unwrap().links.len(), 1);
    assert!(decode([one.clone(), data.clone(), one].concat()).is_err());
    assert!(decode([data.clone(), data].concat()).is_err());
}

#[test]
fn names_that_are_not_text_are_kept_as_they_are() {
    let bytes = field(2, &[field(1, &cid(1).to_bytes()), field(2, &[0xff, 0])].concat());
    let node = decode(bytes.clone()).unwrap();
    assert_eq!(node.links[0].name.as_deref(), Some(&[0xff, 0][..]));
    assert_eq!(node.links[0].name_lossy(), "\u{fffd}\0");
    assert_eq!(node.encode(), bytes);
}

#[test]
fn malformed_nodes_are_refused() {
    let hash = field(1, &cid(1).to_bytes());
    let name = field(2, b"n");
    let tsize = vec![0x18, 1];
    let long = [cid(1).to_bytes(), vec![0]].concat();
    for (what, bytes) in [
        ("wrong type", vec![0x08, 1]),
        ("unknown field", field(3, b"")),
        ("field number 0", vec![0x02, 0]),
        ("truncated", vec![0x0a, 9, 1]),
        ("length overflows", [vec![0x0a], vec![0xff; 9], vec![1]].concat()),
        ("no hash", field(2, &name)),
        ("empty hash", field(2, &field(1, b""))),
        ("bytes behind the hash", field(2, &field(1, &long))),
        ("hash cut short", field(2, &field(1, &long[..20]))),
        ("hash twice", field(2, &[hash.clone(), hash.clone()].concat())),
        ("name before hash", field(2, &[name.clone(), hash.clone()].concat())),
        ("size before name", field(2, &[hash.clone(), tsize.clone(), name].concat())),
        ("size twice", field(2, &[hash.clone(), tsize.clone(), tsize].concat())),
        ("size as bytes", field(2, &[hash.clone(), field(3, b"1")].concat())),
        ("link with unknown field", field(2, &[hash, field(4, b"")].concat())),
    ] {
        assert!(decode(bytes).is_err(), "{what}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(bytes);
    }

    #[test]
    fn mutated_nodes_never_panic_and_iterate_as_they_were_checked(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = node().encode().to_vec();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(view) = PbView::decode(&Bytes::from(bytes)) {
            prop_assert_eq!(view.links.iter().count(), view.links.len());
        }
    }
}
