//! The network as this node may use it: which addresses it may speak to, and HTTP to them.
//!
//! **Invariant:** an address that content, a peer or a router named is dialled only where it is
//! public, or where the operator allows private ones; checked at the moment of connecting.

mod guard;

use serde::{Deserialize, Serialize};

pub use guard::{Guard, is_public};

/// The section of the configuration about the network as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether private and loopback addresses that peers, records and routers name may be dialled.
    pub allow_private: bool,
}
