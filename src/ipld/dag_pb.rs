//! MerkleDAG protobuf nodes.
