//! DAG-JSON and plain JSON: well-formed or an error; links and paths agree with that.
#![no_main]

use bytes::Bytes;
use estuary::block::{Block, codec};
use estuary::ipld::{self, Resolved};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], Vec<&str>)| {
    let (data, path) = input;
    let block = Block::sha2_256(codec::DAG_JSON, Bytes::copy_from_slice(data)).expect("it is small");
    let valid = ipld::codec::validate(codec::DAG_JSON, data).is_ok();
    let links = ipld::links(&block);
    assert_eq!(valid, links.is_ok());
    let resolved = ipld::resolve(&block, &path);
    assert_eq!(valid, resolved.is_ok());
    if let (Ok(links), Ok(Resolved::Link { cid, .. })) = (links, resolved) {
        assert!(links.contains(&cid));
    }
    let plain = ipld::codec::validate(codec::JSON, data).is_ok();
    assert!(plain || !valid, "what is DAG-JSON is JSON");
});
