//! Messages over streams: what peers send, and what is sent to a peer.
//!
//! A stream goes one way: what answers a message comes on a stream that the other side opens.
//! Nothing here waits in order to gather more: what gathers does so while a write is under way.

mod courier;
mod inbound;
mod reader;

pub use courier::{Courier, SendError};
pub use inbound::listen;
pub use reader::{Budget, ReadError, Reader};
