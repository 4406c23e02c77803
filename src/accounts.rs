//! API keys: who may ask for what.
//!
//! **Invariant:** a key's text is shown once, when it is made; what is kept is its BLAKE3 hash.

mod attempts;
mod key;

use std::ops::Bound;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::block::StoreError;
use crate::db::{self, Db, Table, Transaction};
use crate::task;

pub use attempts::Attempts;
pub use key::Secret;

/// Longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 255;
/// Most keys.
pub const KEYS_MAX: usize = 10_000;
/// Digits of a key's id.
pub const ID_CHARS: usize = 16;
/// The account of the operator and of the console page, which need no key.
pub const OPERATOR: u64 = 0;

/// How exact the time of the last use is, in seconds.
const USED_GRAIN_S: u64 = 60;

/// By hash: what is kept of a key.
const KEYS: Table = Table::new("keys");
/// By hash: when it was used last.
const USED: Table = Table::new("keys_used");
/// The account last given, under the empty key.
const LAST: Table = Table::new("accounts_last");

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

impl Scope {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::User => "user",
            Self::Admin => "admin",
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
    /// Whose it is. A key that the operator makes begins an account; one that is made by a key
    /// belongs to the same.
    pub account: u64,
    /// What a person calls it.
    pub label: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, in seconds since 1970; never when absent.
    pub expires: Option<u64>,
}

impl KeyRow {
    /// A short name of the key that is no secret: the first [`ID_CHARS`] digits of its hash.
    #[must_use]
    pub fn id(&self) -> &str {
        self.hash.get(..ID_CHARS).unwrap_or(&self.hash)
    }
}

/// What a new key is to be.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// What it may do.
    pub scope: Scope,
    /// Whose it is; absent, it begins an account.
    pub account: Option<u64>,
    /// What a person calls it, at most [`LABEL_BYTES_MAX`].
    pub label: String,
    /// How long it lasts, in seconds; for ever when absent.
    pub lasts_s: Option<u64>,
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

    /// Makes a key. Its text is given this once.
    pub async fn create(&self, new: NewKey) -> Result<(Secret, KeyRow), Error> {
        if new.label.len() > LABEL_BYTES_MAX {
            return Err(Error::Label);
        }
        let secret = Secret::random().map_err(|error| Error::Random(error.to_string()))?;
        let hash = secret.hash();
        let created = task::now_unix();
        let row = self
            .db
            .write(move |tx| {
                if tx.rows(KEYS, Bound::Unbounded, KEYS_MAX)?.len() >= KEYS_MAX {
                    return Err(Error::TooMany);
                }
                let account = match new.account {
                    Some(account) => account,
                    None => next_account(tx)?,
                };
                let row = KeyRow {
                    hash: HEXLOWER.encode(&hash),
                    scope: new.scope,
                    account,
                    label: new.label,
                    created,
                    expires: new.lasts_s.map(|lasts| created.saturating_add(lasts)),
                };
                let text = serde_json::to_vec(&row).map_err(unreadable)?;
                tx.put(KEYS, &hash, &text)?;
                Ok(row)
            })
            .await?;
        Ok((secret, row))
    }

    /// The key of this text, if it is one of ours and still holds. Nothing is remembered between
    /// calls, so a key that was revoked fails at once.
    pub fn check(&self, secret: &Secret) -> Result<KeyRow, Error> {
        let hash = secret.hash();
        let snapshot = self.db.read()?;
        let row = read(&snapshot.get(KEYS, &hash)?.ok_or(Error::Unknown)?)?;
        // Found by its hash already; compared once more without telling by time how much is alike.
        if !bool::from(row.hash.as_bytes().ct_eq(HEXLOWER.encode(&hash).as_bytes())) {
            return Err(Error::Unknown);
        }
        let now = task::now_unix();
        if row.expires.is_some_and(|expires| expires <= now) {
            return Err(Error::Expired);
        }
        let used = snapshot.get(USED, &hash)?.and_then(|used| number(&used)).unwrap_or(0);
        if now.saturating_sub(used) >= USED_GRAIN_S {
            // When it was used last may be lost.
            self.db.write_later(move |tx| match tx.get(KEYS, &hash)? {
                Some(_) => tx.put(USED, &hash, &now.to_be_bytes()),
                None => Ok(()),
            });
        }
        Ok(row)
    }

    /// All keys, or those of one account, in the order of their ids; when each was used last, in
    /// seconds since 1970, about.
    pub fn list(&self, account: Option<u64>) -> Result<Vec<(KeyRow, Option<u64>)>, Error> {
        let snapshot = self.db.read()?;
        let mut found = Vec::new();
        for row in snapshot.range(KEYS, Bound::Unbounded, Bound::Unbounded)? {
            let (hash, row) = row?;
            let row = read(&row)?;
            if account.is_none_or(|account| account == row.account) {
                let used = snapshot.get(USED, &hash)?.and_then(|used| number(&used));
                found.push((row, used));
            }
        }
        Ok(found)
    }

    /// Ends a key at once: named by its text, its hash or its id; any key, or one of an account
    /// and of at most a scope.
    pub async fn revoke(&self, name: &str, of: Option<(u64, Scope)>) -> Result<KeyRow, Error> {
        let hash = match Secret::parse(name) {
            Some(secret) => secret.hash().to_vec(),
            None => HEXLOWER_PERMISSIVE.decode(name.as_bytes()).map_err(|_| Error::Unknown)?,
        };
        if hash.len() != 32 && hash.len() * 2 != ID_CHARS {
            return Err(Error::Unknown);
        }
        self.db
            .write(move |tx| {
                let rows = tx.rows(KEYS, Bound::Included(&hash), 1)?;
                let found = rows.into_iter().find(|(key, _)| key.starts_with(&hash));
                let (key, row) = found.ok_or(Error::Unknown)?;
                let row = read(&row)?;
                if let Some((account, scope)) = of {
                    if account != row.account {
                        return Err(Error::Unknown);
                    }
                    if row.scope > scope {
                        return Err(Error::Above);
                    }
                }
                tx.remove(KEYS, &key)?;
                tx.remove(USED, &key)?;
                Ok(row)
            })
            .await
    }
}

fn next_account(tx: &mut Transaction<'_>) -> Result<u64, Error> {
    let last = tx.get(LAST, &[])?.and_then(|last| number(&last)).unwrap_or(OPERATOR);
    tx.put(LAST, &[], &(last + 1).to_be_bytes())?;
    Ok(last + 1)
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn read(row: &[u8]) -> Result<KeyRow, Error> {
    serde_json::from_slice(row).map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unreadable(error: serde_json::Error) -> Error {
    db::Error::Store(StoreError::Io(format!("a record of keys: {error}").into())).into()
}

/// Why a key was not made, found or accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No scope of that name.
    #[error("a scope is upload, user or admin")]
    Scope,
    /// The label is over [`LABEL_BYTES_MAX`].
    #[error("a label is at most 255 bytes long")]
    Label,
    /// There are [`KEYS_MAX`] keys.
    #[error("there are 10000 keys; revoke some first")]
    TooMany,
    /// No such key, or one that was revoked.
    #[error("no such key")]
    Unknown,
    /// A key of more scope than whoever would end it has.
    #[error("a key of a higher scope is not ended by this one")]
    Above,
    /// The key's time is over.
    #[error("the key has expired")]
    Expired,
    /// No random bits were to be had.
    #[error("no key could be made: {0}")]
    Random(String),
    /// The records failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}
