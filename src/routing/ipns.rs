//! IPNS records: what a key signed about what its name stands for (IPNS record and protocol
//! specification; the rules for versions 1 and 2 are those of IPIP-428). Pure.
//!
//! A record is a protobuf message. What counts stands in its `data`, in DAG-CBOR, and is covered by
//! the signature of version 2. Older fields beside it, which no signature covers together, must say
//! the same wherever they say something.

mod sign;

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use libp2p_identity::PublicKey;
use multihash_codetable::{Code, MultihashDigest};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::block::IDENTITY;
use crate::ipld::dag_cbor;
use crate::ipld::protobuf::{Fields, Value as Wire};

use super::name::{Key, Value};

pub use sign::Statement;

/// Longest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 10 << 10;
/// What is signed is this, and then the record's data.
const SIGNED_PREFIX: &[u8] = b"ipns-signature:";
/// The one kind of validity there is: it ends at a time.
const VALIDITY_EOL: u64 = 0;

/// A record that its name's key signed. Whether its time is over is for whoever reads it to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Bytes,
    data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Data {
    value: Value,
    sequence: u64,
    ttl: Option<Duration>,
    eol: OffsetDateTime,
}

/// Why bytes are not a record of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is longer than [`RECORD_BYTES_MAX`].
    #[error("it is longer than 10 KiB")]
    TooLong,
    /// It is not made as records are.
    #[error("{0}")]
    Malformed(&'static str),
    /// What it says its name stands for is nothing that can be.
    #[error("its value is wrong: {0}")]
    Value(&'static str),
    /// It is signed by version 1 alone, which does not cover all it says.
    #[error("it has no signature of version 2 (IPIP-428)")]
    Version1,
    /// It is another key's, or its key does not come with it.
    #[error("its key is not the one of the name")]
    Key,
    /// It was not signed by its key.
    #[error("its signature is wrong")]
    Signature,
    /// A field of version 1 says something else than what is signed.
    #[error("its {0} differs between versions 1 and 2 (IPIP-428)")]
    Differs(&'static str),
}

impl Record {
    /// Checks that `bytes` are a record that `key` signed.
    pub fn verify(key: &Key, bytes: Bytes) -> Result<Self, RecordError> {
        let message = Message::read(&bytes)?;
        let data = message.data.clone().unwrap_or_default();
        let signature = message.signature_v2.clone().unwrap_or_default();
        if data.is_empty() || signature.is_empty() {
            return Err(RecordError::Version1);
        }
        let (data, signature) = (slice(&bytes, &data), slice(&bytes, &signature));
        let public_key = message.public_key.as_ref().map(|range| slice(&bytes, range));
        let public_key = signer(key, public_key)?;
        if !public_key.verify(&[SIGNED_PREFIX, data].concat(), signature) {
            return Err(RecordError::Signature);
        }
        let cbor = Cbor::read(data)?;
        message.agrees_with(&bytes, &cbor)?;
        Ok(Self { data: cbor.meaning()?, bytes })
    }

    /// A record that was verified before it was written, and whose bytes have just been found to be
    /// the same.
    pub(super) fn from_checked_row(bytes: Bytes) -> Result<Self, RecordError> {
        let data = Message::read(&bytes)?.data.ok_or(RecordError::Version1)?;
        Ok(Self { data: Cbor::read(slice(&bytes, &data))?.meaning()?, bytes })
    }

    /// The record as it was given.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What the name stands for.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.data.value
    }

    /// How many records of the name came before it, as its key counts.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.data.sequence
    }

    /// How long it may be kept before somebody is asked for a newer one, where it says so.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.data.ttl
    }

    /// When it ends.
    #[must_use]
    pub fn eol(&self) -> OffsetDateTime {
        self.data.eol
    }

    /// How long it holds from `now`, in seconds since 1970; none where it has ended.
    #[must_use]
    pub fn remaining(&self, now: u64) -> Option<Duration> {
        let left = i128::from(self.data.eol.unix_timestamp()) - i128::from(now);
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)
    }

    /// For how long an answer that it gives may be kept: its TTL, or less where it ends before.
    /// None where it has ended or does not say.
    #[must_use]
    pub fn max_age(&self, now: u64) -> Option<Duration> {
        Some(self.data.ttl?.min(self.remaining(now)?))
    }

    /// Whether it is to be taken in place of `other`, a record of the same name: it has a higher
    /// sequence, or the same and ends later.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        let rank = |record: &Self| (record.data.sequence, record.data.eol);
        rank(self) > rank(other)
    }
}

/// The public key that must have signed: the one in the name, or the one that comes with the record
/// and hashes to the name.
fn signer(name: &Key, given: Option<&[u8]>) -> Result<PublicKey, RecordError> {
    let hash = name.hash();
    let inline = (hash.code() == IDENTITY).then(|| hash.digest());
    let bytes = match (inline, given) {
        (Some(inline), None) => inline,
        (Some(inline), Some(given)) if inline == given => inline,
        (None, Some(given)) if Code::Sha2_256.digest(given).digest() == hash.digest() => given,
        _ => return Err(RecordError::Key),
    };
    PublicKey::try_decode_protobuf(bytes).map_err(|_| RecordError::Key)
}

fn slice<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    bytes.get(range.clone()).unwrap_or_default()
}

/// The protobuf message: each field at most once, and none that has no meaning, for it would not
/// be signed.
#[derive(Debug, Default)]
struct Message {
    value: Option<Range<usize>>,
    signature_v1: Option<Range<usize>>,
    validity_type: Option<u64>,
    validity: Option<Range<usize>>,
    sequence: Option<u64>,
    ttl: Option<u64>,
    public_key: Option<Range<usize>>,
    signature_v2: Option<Range<usize>>,
    data: Option<Range<usize>>,
}

impl Message {
    fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong);
        }
        let mut message = Self::default();
        for field in Fields::new(bytes) {
            let field = field.map_err(|_| RecordError::Malformed("it is not protobuf"))?;
            message.take(field.number, field.value)?;
        }
        Ok(message)
    }

    fn take(&mut self, number: u64, value: Wire) -> Result<(), RecordError> {
        let twice = match (number, value) {
            (1, Wire::Bytes(range)) => self.value.replace(range).is_some(),
            (2, Wire::Bytes(range)) => self.signature_v1.replace(range).is_some(),
            (3, Wire::Varint(number)) => self.validity_type.replace(number).is_some(),
            (4, Wire::Bytes(range)) => self.validity.replace(range).is_some(),
            (5, Wire::Varint(number)) => self.sequence.replace(number).is_some(),
            (6, Wire::Varint(number)) => self.ttl.replace(number).is_some(),
            (7, Wire::Bytes(range)) => self.public_key.replace(range).is_some(),
            (8, Wire::Bytes(range)) => self.signature_v2.replace(range).is_some(),
            (9, Wire::Bytes(range)) => self.data.replace(range).is_some(),
            _ => return Err(RecordError::Malformed("it has a field that records do not have")),
        };
        if twice { Err(RecordError::Malformed("it has a field twice")) } else { Ok(()) }
    }

    /// Whether the fields of version 1 say what the data says. All must where one that belongs to
    /// version 1 alone is there; else those that are there.
    fn agrees_with(&self, bytes: &[u8], cbor: &Cbor) -> Result<(), RecordError> {
        let whole = self.value.is_some() || self.signature_v1.is_some();
        let text = |name, field: &Option<Range<usize>>, signed: &[u8]| match field {
            Some(range) if slice(bytes, range) == signed => Ok(()),
            None if !whole || signed.is_empty() => Ok(()),
            _ => Err(RecordError::Differs(name)),
        };
        let number = |name, field: Option<u64>, signed: u64| match field {
            Some(number) if number == signed => Ok(()),
            None if !whole || signed == 0 => Ok(()),
            _ => Err(RecordError::Differs(name)),
        };
        text("value", &self.value, &cbor.value)?;
        text("validity", &self.validity, &cbor.validity)?;
        number("validity type", self.validity_type, cbor.validity_type)?;
        number("sequence", self.sequence, cbor.sequence)?;
        // A negative one was written as its two's complement.
        number("TTL", self.ttl, cbor.ttl.unwrap_or_default() as u64)
    }
}

/// What is signed, as it is written.
#[derive(Debug)]
struct Cbor {
    value: Vec<u8>,
    validity: Vec<u8>,
    validity_type: u64,
    sequence: u64,
    /// In nanoseconds.
    ttl: Option<i128>,
}

impl Cbor {
    fn read(data: &[u8]) -> Result<Self, RecordError> {
        let malformed = RecordError::Malformed;
        dag_cbor::validate(data).map_err(|_| malformed("its data is not strict DAG-CBOR"))?;
        let Ok(Ipld::Map(mut map)) = serde_ipld_dagcbor::from_slice(data) else {
            return Err(malformed("its data is not a map"));
        };
        let mut bytes = |name, reason| match map.remove(name) {
            Some(Ipld::Bytes(bytes)) => Ok(bytes),
            _ => Err(malformed(reason)),
        };
        let value = bytes("Value", "its data has no Value")?;
        let validity = bytes("Validity", "its data has no Validity")?;
        let mut number = |name, reason| match map.remove(name) {
            Some(Ipld::Integer(number)) => Ok(Some(number)),
            None => Ok(None),
            _ => Err(malformed(reason)),
        };
        let unsigned = |number: Option<i128>, reason| {
            number.and_then(|number| u64::try_from(number).ok()).ok_or(malformed(reason))
        };
        let reason = "its data has no ValidityType";
        let validity_type = unsigned(number("ValidityType", reason)?, reason)?;
        let reason = "its data has no Sequence";
        let sequence = unsigned(number("Sequence", reason)?, reason)?;
        let ttl = number("TTL", "its TTL is not a number")?;
        Ok(Self { value, validity, validity_type, sequence, ttl })
    }

    fn meaning(&self) -> Result<Data, RecordError> {
        let malformed = RecordError::Malformed;
        if self.validity_type != VALIDITY_EOL {
            return Err(malformed("its kind of validity is not known"));
        }
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let eol = text(&self.validity)
            .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
            .ok_or(malformed("its validity is not a time as in RFC 3339"))?;
        let value = text(&self.value).ok_or(malformed("its value is not text"))?;
        let value = Value::parse(value).map_err(RecordError::Value)?;
        // A negative one is none; one that is too large is the largest there is.
        let nanos = |ttl: i128| u64::try_from(ttl.max(0)).unwrap_or(u64::MAX);
        let ttl = self.ttl.map(|ttl| Duration::from_nanos(nanos(ttl)));
        Ok(Data { value, sequence: self.sequence, ttl, eol })
    }
}

#[cfg(test)]
pub(super) mod tests;
