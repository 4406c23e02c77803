//! API keys: who may ask for what.
//!
//! **Invariant:** a key's text is shown once, when it is made; what is kept is its BLAKE3 hash.

mod attempts;
mod key;

use serde::{Deserialize, Serialize};

use crate::db::Db;

pub use attempts::Attempts;
pub use key::Secret;

/// Longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 255;

/// What a key may do. Each scope holds the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Upload, and nothing else.
    Upload,
    /// Upload, read what was uploaded, manage keys of this scope and below.
    #[default]
    User,
    /// Everything.
    Admin,
}

impl std::str::FromStr for Scope {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "upload" => Ok(Self::Upload),
            "user" => Ok(Self::User),
            "admin" => Ok(Self::Admin),
            _ => Err(Error::Scope),
        }
    }
}

/// What is kept of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// Hash of the key's text, in hexadecimal.
    pub hash: String,
    /// What it may do.
    pub scope: Scope,
    /// What a person calls it.
    pub label: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, in seconds since 1970; never when absent.
    pub expires: Option<u64>,
}

impl KeyRow {
    /// A short name of the key that is no secret: the first half of its hash's 32 digits.
    #[must_use]
    pub fn id(&self) -> &str {
        self.hash.get(..16).unwrap_or(&self.hash)
    }
}

/// Knows who calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Accounts {
    db: Db,
}

impl Accounts {
    /// Keys are kept in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }
}

/// Why a key was not made, found or accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No scope of that name.
    #[error("a scope is upload, user or admin")]
    Scope,
}
