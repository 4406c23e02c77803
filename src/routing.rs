//! Routing: which content a name stands for.
//!
//! **Invariant:** what a name stands for is told by a record that its key signed, or by its
//! domain's own DNS.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::block::Cid;

/// A mutable name: `/ipns/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// Reads a name as it stands in a path, decoded: a key (`k51…`, `bafz…`, `12D3…`, `Qm…`), or a
    /// domain.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Malformed { name: text.into(), reason: "it is empty" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The root of the content.
    pub root: Cid,
    /// Names below it that the record itself gives.
    pub segments: Vec<String>,
    /// For how long this holds from now; none where nobody says.
    pub ttl: Option<Duration>,
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
    /// Nobody who was asked knows it.
    #[error("no record of the name {0} was found")]
    NotFound(Box<str>),
}

/// Resolves names. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Names;

impl Names {
    /// What `name` stands for, through as many other names as it takes.
    pub async fn resolve(&self, name: &Name, _deadline: Instant) -> Result<Resolved, Error> {
        Err(Error::NotFound(name.to_string().into()))
    }
}
