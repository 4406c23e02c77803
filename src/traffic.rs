//! Traffic: bytes in and out, by root and by the way they took.

/// The way bytes took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Out to clients of the gateway and the API.
    HttpOut,
    /// Out to peers.
    BitswapOut,
    /// In from peers.
    BitswapIn,
    /// In from HTTP providers.
    HttpIn,
}
