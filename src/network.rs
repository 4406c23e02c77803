//! The network as this node may use it: which addresses it may speak to, and HTTP to them.
//!
//! **Invariant:** an address that content, a peer or a router named is dialled only where it is
//! public, or where the operator allows private ones; checked at the moment of connecting.

mod client;
mod connector;
mod dial;
mod dial_limits;
mod guard;
mod http_url;
mod metrics;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use client::{Answer, Client, Pace, Question};
pub use guard::{Guard, is_public};
pub use http_url::{Host, HttpUrl, UrlError};
pub use metrics::Metrics;

/// The section of the configuration about the network as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether private and loopback addresses that peers, records and routers name may be dialled.
    pub allow_private: bool,
}

/// Why an HTTP server gave no answer, or not all of one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It has no address that may be dialled.
    #[error("{0} has no address that may be dialled; network.allow_private allows private ones")]
    Forbidden(Arc<str>),
    /// Its name does not resolve.
    #[error("{0} does not resolve: {1}")]
    Unresolved(Arc<str>, Arc<str>),
    /// It was dialled a moment ago, or too often in vain: it is left alone for a while.
    #[error("{0} is left alone for a while")]
    Resting(Arc<str>),
    /// It cannot be connected with.
    #[error("it cannot be connected with: {0}")]
    Unreachable(Arc<str>),
    /// It was too slow.
    #[error("it was too slow: {0}")]
    Timeout(&'static str),
    /// It gave more than was to be had.
    #[error("its answer is over {0} bytes")]
    TooLarge(usize),
    /// It broke off, or speaks no HTTP.
    #[error("its answer is broken: {0}")]
    Broken(Arc<str>),
}
