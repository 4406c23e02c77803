//! Making records: what a key says about its name, signed for versions 1 and 2 (IPNS record and
//! protocol specification, "Record creation").

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::block::IDENTITY;
use crate::ipld::protobuf::{put_bytes_field, put_varint_field};
use crate::routing::{Error, Key, Value};

use super::{Record, SIGNED_PREFIX};

/// What a record is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What the name stands for.
    pub value: Value,
    /// How many records of the name came before.
    pub sequence: u64,
    /// How long it may be kept before somebody is asked for a newer one.
    pub ttl: Duration,
    /// When it ends.
    pub eol: OffsetDateTime,
}

impl Statement {
    /// The record of the key's name that says this.
    pub fn sign(&self, keypair: &Keypair) -> Result<Record, Error> {
        let failed = |reason: String| Error::Signing(reason.into());
        let key = Key::of(&keypair.public()).ok_or_else(|| failed("it has no name".into()))?;
        let value = self.value.to_string().into_bytes();
        let eol =
            self.eol.format(&Rfc3339).map_err(|error| failed(error.to_string()))?.into_bytes();
        let ttl =
            u64::try_from(self.ttl.as_nanos()).unwrap_or(i64::MAX as u64).min(i64::MAX as u64);
        let data = BTreeMap::from([
            ("Value".to_owned(), Ipld::Bytes(value.clone())),
            ("Validity".to_owned(), Ipld::Bytes(eol.clone())),
            ("ValidityType".to_owned(), Ipld::Integer(0)),
            ("Sequence".to_owned(), Ipld::Integer(self.sequence.into())),
            ("TTL".to_owned(), Ipld::Integer(ttl.into())),
        ]);
        let data = serde_ipld_dagcbor::to_vec(&Ipld::Map(data));
        let data = data.map_err(|error| failed(error.to_string()))?;
        let sign = |bytes: &[u8]| keypair.sign(bytes).map_err(|error| failed(error.to_string()));
        let mut record = Vec::new();
        put_bytes_field(&mut record, 1, &value);
        put_bytes_field(&mut record, 2, &sign(&[&value[..], &eol, b"0"].concat())?);
        put_varint_field(&mut record, 3, 0);
        put_bytes_field(&mut record, 4, &eol);
        put_varint_field(&mut record, 5, self.sequence);
        put_varint_field(&mut record, 6, ttl);
        if key.hash().code() != IDENTITY {
            put_bytes_field(&mut record, 7, &keypair.public().encode_protobuf());
        }
        put_bytes_field(&mut record, 8, &sign(&[SIGNED_PREFIX, &data].concat())?);
        put_bytes_field(&mut record, 9, &data);
        // What others would not take is not handed out.
        let invalid = |error| Error::Invalid { name: key.to_string().into(), error };
        Record::verify(&key, Bytes::from(record)).map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ipns::keypairs;

    #[test]
    fn every_type_of_key_signs_records_that_say_what_was_meant() {
        let statement = Statement {
            value: Value::parse("/ipfs/bafkqaaa/a").unwrap(),
            sequence: 7,
            ttl: Duration::from_secs(300),
            eol: OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap(),
        };
        for keypair in keypairs().unwrap() {
            let record = statement.sign(&keypair).unwrap();
            assert_eq!(record.value(), &statement.value);
            assert_eq!(record.sequence(), 7);
            assert_eq!(record.ttl(), Some(statement.ttl));
            assert_eq!(record.eol(), statement.eol);
        }
    }
}
