//! Routing: which content a name stands for.
//!
//! **Invariant:** what a name stands for is told by a record that its key signed, or by its
//! domain's own DNS.

mod content;
mod delegated;
mod dht;
mod dns;
mod ipns;
mod lookup;
mod metrics;
mod name;
mod name_map;
mod names;
mod records;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::db;

pub use content::{FindPeer, Routing};
pub use delegated::{Delegated, Metrics as DelegatedMetrics};
pub use dht::{find_peer, join as join_dht};
pub use dns::Dns;
pub use ipns::{RECORD_BYTES_MAX, Record, RecordError, Statement};
pub use lookup::{Lookups, RecordRouter};
pub use metrics::Metrics;
pub use name::{Domain, Key, Name, Root, Value};
pub use name_map::NameMap;
pub use names::{Names, Parts, Resolved};
pub use records::{Put, RECORDS_MAX, Records};

use dns::resolvers::Rule;
use name::SEGMENTS_MAX;

/// Most names from one to the next until content is reached (path gateway specification).
pub const NAMES_MAX: usize = 32;
/// Longest time that one resolution takes, in milliseconds.
pub const RESOLVE_MS_MAX: u64 = 10_000;

/// What the node is in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DhtMode {
    /// It asks.
    #[default]
    Client,
    /// It asks and answers.
    Server,
    /// It has no part in it.
    Off,
}

/// The section of the configuration that is about names, and about who provides what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the node is in the DHT.
    pub dht: DhtMode,
    /// URLs of delegated routers (Routing V1 over HTTP); none where the list is empty.
    pub delegated: Vec<String>,
    /// Names that stand for what is said here, whatever their records and DNS say:
    /// `name:/ipfs/{cid}[/path]` or `name:/ipns/{name}[/path]`. `IPFS_NS_MAP` is the same.
    pub names: Vec<String>,
    /// Resolvers by the end of a domain, the longest that fits: `eth.:https://host/dns-query`, or
    /// `.:192.0.2.1:53` for all; else the system's.
    pub resolvers: Vec<String>,
    /// Longest time that an answer found by a name may be kept, in seconds.
    pub ttl_s_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dht: DhtMode::default(),
            delegated: ["https://delegated-ipfs.dev", "https://cid.contact"].map(Into::into).into(),
            names: Vec::new(),
            resolvers: vec!["eth.:https://dns.eth.limo/dns-query".to_owned()],
            ttl_s_max: 24 * 3600,
        }
    }
}

impl Config {
    /// What is wrong with the resolvers, if something is.
    pub fn check_resolvers(&self) -> Result<(), Error> {
        self.rules().map(drop)
    }

    fn rules(&self) -> Result<Vec<Rule>, Error> {
        let rule = |text: &String| {
            Rule::parse(text).map_err(|reason| Error::Rule { rule: text.as_str().into(), reason })
        };
        self.resolvers.iter().map(rule).collect()
    }
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
    /// Together they lead to a path of too many names.
    #[error("{0} leads to a path of more than 256 segments")]
    TooLong(Box<str>),
    /// It took too long.
    #[error("{0} was not resolved in time")]
    Timeout(Box<str>),
    /// Nobody could be asked, or none answered: a retry may help.
    #[error("{name} cannot be resolved now: {reason}")]
    Unavailable {
        /// The name.
        name: Box<str>,
        /// What is in the way.
        reason: Arc<str>,
    },
    /// Nobody was to be asked, and it is not known here.
    #[error("{0} is not resolved here, and only-if-cached asks for what is here")]
    NotAtHand(Box<str>),
    /// The record that is held has ended.
    #[error("the record of {0} has expired; its owner must publish a new one")]
    Expired(Box<str>),
    /// Bytes that are not a record of the name.
    #[error("this is not a record of {name}: {error}")]
    Invalid {
        /// The name.
        name: Box<str>,
        /// What is wrong with it.
        error: RecordError,
    },
    /// A better record of the name is held.
    #[error(
        "an equal or newer record of {name} is held: its sequence is {held}, the one given has {sequence}"
    )]
    Older {
        /// The name.
        name: Box<str>,
        /// Of the record that was given.
        sequence: u64,
        /// Of the record that is held.
        held: u64,
    },
    /// A record belongs to a key.
    #[error("{0} is a domain, and those have no records: publish a DNSLink in its DNS")]
    NotAKey(Box<str>),
    /// There are [`RECORDS_MAX`] records.
    #[error("there are 10000 records of names; remove some first")]
    TooMany,
    /// Nothing here keeps records.
    #[error("no records are kept here")]
    NoRecords,
    /// A record was not signed.
    #[error("the key cannot sign a record: {0}")]
    Signing(Arc<str>),
    /// A resolver of the configuration is none.
    #[error("{rule:?}: {reason}")]
    Rule {
        /// What is written there.
        rule: Box<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No resolver could be made.
    #[error("no DNS resolver can be made: {0}")]
    Resolver(Arc<str>),
    /// Our own records failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}
