//! The keys that sign URLs.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::{BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use ring::hmac;
use serde::{Deserialize, Serialize, Serializer};

/// Shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 32;
/// Longest name of a key, in bytes.
const ID_BYTES_MAX: usize = 64;

/// Keys by their names; several, so that one can take over from another. Their secrets are shown by
/// nothing.
#[derive(Clone, Default, Deserialize)]
#[serde(try_from = "Written")]
pub struct SigningKeys(BTreeMap<String, Key>);

#[derive(Clone)]
struct Key {
    hmac: hmac::Key,
    secret: Vec<u8>,
}

/// A key that is of no use. It does not say the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Its name.
    #[error("a key's name is of 1 to 64 letters, digits, `-` and `_`")]
    Id,
    /// Its secret.
    #[error(
        "the secret of the key {0:?} is not 32 bytes or more in hex or base64url; make one with \
         `openssl rand -hex 32`"
    )]
    Secret(String),
    /// There is no secret.
    #[error("a key is written as name:secret")]
    Form,
}

/// How keys are written: a table, or for an environment variable `name:secret,name:secret`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Table(BTreeMap<String, String>),
    Text(String),
}

impl TryFrom<Written> for SigningKeys {
    type Error = BadKey;

    fn try_from(written: Written) -> Result<Self, BadKey> {
        match written {
            Written::Table(keys) => Self::new(keys),
            Written::Text(text) => {
                let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
                let pairs = pairs.map(|pair| pair.split_once(':').ok_or(BadKey::Form));
                Self::new(pairs.collect::<Result<Vec<_>, _>>()?)
            }
        }
    }
}

impl SigningKeys {
    /// Reads keys: names, and secrets in hex or base64url.
    pub fn new<I: Into<String>, S: AsRef<str>>(
        keys: impl IntoIterator<Item = (I, S)>,
    ) -> Result<Self, BadKey> {
        let read = |(id, secret): (I, S)| {
            let id = id.into();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if !(1..=ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(plain) {
                return Err(BadKey::Id);
            }
            let secret = decode(secret.as_ref().as_bytes());
            let secret = secret.filter(|secret| secret.len() >= SECRET_BYTES_MIN);
            let secret = secret.ok_or_else(|| BadKey::Secret(id.clone()))?;
            Ok((id, Key { hmac: hmac::Key::new(hmac::HMAC_SHA256, &secret), secret }))
        };
        Ok(Self(keys.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    /// The names.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn get(&self, id: &str) -> Option<&hmac::Key> {
        self.0.get(id).map(|key| &key.hmac)
    }
}

fn decode(secret: &[u8]) -> Option<Vec<u8>> {
    let hex = HEXLOWER_PERMISSIVE.decode(secret);
    let decoded = hex.or_else(|_| BASE64URL_NOPAD.decode(secret));
    decoded.or_else(|_| BASE64URL.decode(secret)).ok()
}

impl PartialEq for SigningKeys {
    fn eq(&self, other: &Self) -> bool {
        let pairs = |keys: &Self| -> Vec<_> {
            keys.0.iter().map(|(id, key)| (id.clone(), key.secret.clone())).collect()
        };
        pairs(self) == pairs(other)
    }
}

impl Eq for SigningKeys {}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|id| (id, "…"))).finish()
    }
}

impl Serialize for SigningKeys {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.keys().map(|id| (id, "…")))
    }
}
