//! A dag-pb block: an error, or a node that its own canonical form gives back.
#![no_main]

use bytes::Bytes;
use estuary::ipld::dag_pb::PbNode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(node) = PbNode::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(PbNode::decode(&node.encode()), Ok(node));
    }
});
