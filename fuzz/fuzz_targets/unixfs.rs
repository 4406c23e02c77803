//! A UnixFS block: every machine that reads one takes it or refuses it.
#![no_main]

use bytes::Bytes;
use estuary::block::{Block, codec};
use estuary::ipld::car::walk::{CarRequest, CarWalk, EntityBytes};
use estuary::ipld::unixfs::{FileReader, Node, directory};
use estuary::ipld::walk::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i64, Option<i64>, &str, &[u8])| {
    let (from, to, name, data) = input;
    let block = Block::sha2_256(codec::DAG_PB, Bytes::copy_from_slice(data)).expect("it is small");
    let _ = Node::decode(&block);
    if let Ok(lookup) = directory::lookup(&block, name) {
        let _ = lookup.step();
    }
    let range = from.unsigned_abs()..to.unwrap_or(0).unsigned_abs();
    if let Ok(mut reader) = FileReader::open(&block, Some(range)) {
        let _ = (reader.step(), reader.upcoming(8).count());
    }
    let request = CarRequest { bytes: Some(EntityBytes { from, to }), ..CarRequest::default() };
    let mut walk = CarWalk::new(*block.cid(), request, Limits::default());
    let _ = walk.step();
    let _ = (walk.supply(block), walk.step(), walk.upcoming(8).count());
});
