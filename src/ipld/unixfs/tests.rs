use proptest::prelude::*;

use super::*;
use crate::block::Cid;
use crate::ipld::dag_pb::{PbLink, PbNode};

fn cid() -> Cid {
    *Block::sha2_256(codec::RAW, Bytes::from_static(b"x")).unwrap().cid()
}

fn block(links: &[&str], data: Option<Bytes>) -> Block {
    let link = |name: &&str| PbLink {
        cid: cid(),
        name: Some(Bytes::from((*name).to_owned())),
        tsize: Some(1),
    };
    let node = PbNode { links: links.iter().map(link).collect(), data };
    Block::sha2_256(codec::DAG_PB, node.encode()).unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "each case is made for one call")]
fn decode(links: &[&str], data: Data) -> Result<Node, Error> {
    Node::decode(&block(links, Some(data.encode())))
}

fn file(data: &'static [u8], sizes: &[u64], size: Option<u64>) -> Data {
    Data {
        data: Some(Bytes::from_static(data)),
        block_sizes: sizes.to_vec(),
        file_size: size,
        ..Data::new(DataType::File)
    }
}

fn shard(fanout: u64, bitfield: &'static [u8]) -> Data {
    Data {
        data: Some(Bytes::from_static(bitfield)),
        fanout: Some(fanout),
        hash_type: Some(hamt::HASH_TYPE),
        ..Data::new(DataType::HamtShard)
    }
}

#[test]
fn sizes_of_files_must_add_up() {
    let size = |data| match decode(&["", ""], data).unwrap().kind {
        Kind::File(file) => file.size,
        other => panic!("{other:?}"),
    };
    assert_eq!(size(file(b"abc", &[4, 5], Some(12))), 12);
    assert_eq!(size(file(b"abc", &[4, 5], None)), 12);
    for (what, data) in [
        ("too few block sizes", file(b"", &[1], None)),
        ("too many", file(b"", &[1, 2, 3], None)),
        ("another sum", file(b"abc", &[4, 5], Some(13))),
        ("overflow", file(b"", &[u64::MAX, 1], None)),
        ("negative", file(b"", &[u64::MAX - 5, 1], None)),
    ] {
        assert!(decode(&["", ""], data).is_err(), "{what}");
    }
}

#[test]
fn shards_must_be_consistent() {
    assert!(decode(&["00", "09x"], shard(16, &[2, 1])).is_err(), "two digits where one is due");
    assert!(decode(&["0", "9x"], shard(16, &[2, 1])).is_ok());
    assert!(decode(&["00", "09x"], shard(256, &[2, 1])).is_ok());
    assert!(decode(&["0FFx"], shard(1024, &[0x80; 1])).is_err(), "another slot");
    assert!(decode(&["007x"], shard(1024, &[0x80; 1])).is_ok());
    for fanout in [0, 3, 4, 7, 24, 2048, 1 << 32, u64::MAX] {
        assert!(decode(&["00"], shard(fanout, &[1])).is_err(), "fanout {fanout}");
    }
    assert!(decode(&["00"], shard(8, &[1, 0])).is_err(), "bitfield wider than fanout");
    assert!(decode(&["00"], shard(256, &[3])).is_err(), "more slots than links");
    assert!(decode(&["00", "01"], shard(256, &[1])).is_err(), "more links than slots");
    assert!(decode(&["0a"], shard(256, &[0, 4, 0])).is_err(), "lower case");
    let other = Data { hash_type: Some(0x12), ..shard(256, &[1]) };
    assert!(decode(&["00"], other).is_err(), "another hash function");
    let none = Data { hash_type: None, fanout: None, ..shard(256, &[1]) };
    assert!(decode(&["00"], none).is_err());
}

#[test]
fn what_is_not_unixfs_is_refused() {
    assert!(Node::decode(&block(&[], None)).is_err(), "no data");
    assert!(Node::decode(&block(&[], Some(Bytes::new()))).is_err(), "no type");
    for kind in [3, 6] {
        assert!(Node::decode(&block(&[], Some(vec![8, kind].into()))).is_err(), "type {kind}");
    }
    assert!(Node::decode(&block(&[], Some(vec![8, 2, 0x18].into()))).is_err(), "cut off");
    let cbor = Block::sha2_256(codec::DAG_CBOR, Bytes::from_static(&[0xa0])).unwrap();
    assert!(Node::decode(&cbor).is_err());
}

#[test]
fn fields_are_read_as_protobuf_says() {
    let packed = vec![8, 2, 0x22, 2, 4, 5, 0x78, 1]; // block sizes in one field, an unknown one
    let node = Node::decode(&block(&["", ""], Some(packed.into()))).unwrap();
    assert!(matches!(node.kind, Kind::File(File { size: 9, .. })));
}

#[test]
fn metadata_is_read_and_an_impossible_time_is_none() {
    let metadata =
        Metadata { mode: Some(0o100_644), mtime: Some(Mtime { seconds: -1, nanos: 999_999_999 }) };
    let data = Data { metadata, ..Data::new(DataType::Directory) };
    assert_eq!(decode(&[], data.clone()).unwrap().metadata, metadata);
    let late = Metadata { mtime: Some(Mtime { seconds: 1, nanos: 1_000_000_000 }), ..metadata };
    let node = decode(&[], Data { metadata: late, ..data }).unwrap();
    assert_eq!(node.metadata, Metadata { mtime: None, ..metadata });
}

proptest! {
    #[test]
    fn mutated_nodes_never_panic(
        index in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0usize..3,
    ) {
        let block = match kind {
            0 => block(&["", ""], Some(file(b"abc", &[4, 5], Some(12)).encode())),
            1 => block(&["00", "09x"], Some(shard(256, &[2, 1]).encode())),
            _ => block(&["a", "b"], Some(Data::new(DataType::Directory).encode())),
        };
        let mut bytes = block.data().to_vec();
        let at = index.index(bytes.len());
        bytes[at] = byte;
        let block = Block::sha2_256(codec::DAG_PB, bytes.into()).unwrap();
        if let Ok(mut lister) = directory::Lister::open(&block) {
            while let Ok(directory::ListStep::Entry(_)) = lister.step() {}
        }
        if let Ok(mut reader) = FileReader::open(&block, Some(1..9)) {
            while let read::Step::Data(_) = reader.step() {}
        }
        let _ = directory::lookup(&block, "x");
    }

    #[test]
    fn random_data_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Data::decode(&bytes.into(), 20);
    }
}
