//! Estuary: a gateway that answers `/ipfs/<cid>` from memory, then from disk.
//!
//! A request enters at [`http`], becomes a `ContentRequest` in [`gateway`], with the help of
//! [`routing`] where it names its content, and every block it needs comes from [`retrieval`], the
//! ladder, which asks [`denylist`] of each. What is uploaded enters at [`upload`], becomes a
//! UnixFS DAG in [`ipld`], and is pinned in [`blockstore`] before it is acknowledged. [`app`]
//! builds every room and gives each its parts. A room may use lower storeys only; the map is
//! ARCHITECTURE.md, and `tests/tidy.rs` holds it.

// Storey 7
pub mod app;
pub mod cli;
pub mod config;
// Storey 6
pub mod http;
// Storey 5
pub mod gateway;
pub mod upload;
// Storey 4
pub mod retrieval;
// Storey 3
pub mod accounts;
pub mod bitswap;
pub mod blockstore;
pub mod cache;
pub mod http_source;
pub mod routing;
// Storey 2
pub mod p2p;
pub mod traffic;
// Storey 1
pub mod db;
pub mod denylist;
pub mod ipld;
pub mod network;
pub mod provider;
// Storey 0
pub mod block;
pub mod metrics;
pub mod task;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
