//! Routing: which content a name stands for.
//!
//! **Invariant:** what a name stands for is told by a record that its key signed, or by its
//! domain's own DNS.

mod metrics;
mod name;
mod name_map;
mod names;

use serde::{Deserialize, Serialize};

pub use metrics::Metrics;
pub use name::{Domain, Key, Name, Root, Value};
pub use name_map::NameMap;
pub use names::{Names, Parts, Resolved};

/// Most names from one to the next until content is reached (path gateway specification).
pub const NAMES_MAX: usize = 32;
/// Longest time that one resolution takes, in milliseconds.
pub const RESOLVE_MS_MAX: u64 = 10_000;

/// The section of the configuration that is about names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names that stand for what is said here, whatever their records and DNS say:
    /// `name:/ipfs/{cid}[/path]` or `name:/ipns/{name}[/path]`. `IPFS_NS_MAP` is the same.
    pub names: Vec<String>,
}

/// Why a name was not resolved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It is not a name.
    #[error("invalid name {name:?}: {reason}")]
    Malformed {
        /// What was given.
        name: Box<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The domain has no DNSLink, says its DNS.
    #[error(
        "{0} has no DNSLink: a TXT record of _dnslink.{0} with dnslink=/ipfs/… or dnslink=/ipns/…"
    )]
    NotFound(Box<str>),
    /// Nobody who was asked has a record of the key.
    #[error("no record of the name {0} was found here")]
    NoRecord(Box<str>),
    /// Names lead to names to names.
    #[error("{0} leads through more than 32 names, and to no content")]
    Recursion(Box<str>),
    /// It took too long.
    #[error("{0} was not resolved in time")]
    Timeout(Box<str>),
}
