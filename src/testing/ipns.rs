//! IPNS records of any make, signed by keys of every type.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use ipld_core::ipld::Ipld;
use libp2p_identity::{Keypair, ecdsa, secp256k1};
use multihash_codetable::{Code, MultihashDigest};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::block::{Cid, IDENTITY, Mh, SHA2_256, codec};
use crate::ipld::protobuf::{put_bytes_field, put_varint_field};
use crate::routing::{Key, Name};

type Failure = Box<dyn std::error::Error>;

/// A key of each type, always the same ones.
pub fn keypairs() -> Result<Vec<Keypair>, Failure> {
    let secp256k1 = secp256k1::Keypair::from(secp256k1::SecretKey::try_from_bytes([7; 32])?);
    let ecdsa = ecdsa::Keypair::from(ecdsa::SecretKey::try_from_bytes([7; 32])?);
    let mut rsa = BASE64.decode(include_str!("rsa.b64").replace('\n', "").as_bytes())?;
    Ok(vec![
        Keypair::ed25519_from_bytes([7; 32])?,
        secp256k1.into(),
        ecdsa.into(),
        Keypair::rsa_from_pkcs8(&mut rsa)?,
    ])
}

/// The name of a key.
pub fn name_of(keypair: &Keypair) -> Result<Key, Failure> {
    let key = keypair.public().encode_protobuf();
    let hash = match key.len() {
        0..=42 => Mh::wrap(IDENTITY, &key)?,
        _ => Mh::wrap(SHA2_256, Code::Sha2_256.digest(&key).digest())?,
    };
    match Name::parse(&Cid::new_v1(codec::LIBP2P_KEY, hash).to_string())? {
        Name::Key(key) => Ok(key),
        Name::Domain(_) => Err("it is a domain".into()),
    }
}

/// A record to be: set what is to be otherwise, and sign.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The map that is signed.
    pub data: BTreeMap<String, Ipld>,
    /// Whether the fields of version 1 are written as well.
    pub hybrid: bool,
    /// What the value of version 1 is, where it is another.
    pub value_v1: Option<Vec<u8>>,
}

impl Draft {
    /// A record of both versions that says this, with a sequence of 3 and a TTL of half an hour,
    /// until the end of the year 2099.
    #[must_use]
    pub fn new(value: &str) -> Self {
        let data = [
            ("Value", Ipld::Bytes(value.into())),
            ("Validity", Ipld::Bytes("2099-12-31T23:59:59.5Z".into())),
            ("ValidityType", Ipld::Integer(0)),
            ("Sequence", Ipld::Integer(3)),
            ("TTL", Ipld::Integer(1_800_000_000_000)),
        ];
        let data = data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { data, hybrid: true, value_v1: None }
    }

    /// The same, without the fields of version 1.
    #[must_use]
    pub fn version_2(value: &str) -> Self {
        Self { hybrid: false, ..Self::new(value) }
    }

    /// The same, with another value in the data, or without one.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<Ipld>) -> Self {
        match value {
            Some(value) => self.data.insert(name.to_owned(), value),
            None => self.data.remove(name),
        };
        self
    }

    /// The same, with this sequence.
    #[must_use]
    pub fn sequence(self, sequence: u64) -> Self {
        self.with("Sequence", Some(Ipld::Integer(sequence.into())))
    }

    /// The same, which ends then.
    #[must_use]
    pub fn ends(self, eol: OffsetDateTime) -> Self {
        let text = eol.format(&Rfc3339).unwrap_or_default();
        self.with("Validity", Some(Ipld::Bytes(text.into())))
    }

    /// Signs it with its own key.
    pub fn sign(&self, keypair: &Keypair) -> Result<Vec<u8>, Failure> {
        let data = serde_ipld_dagcbor::to_vec(&Ipld::Map(self.data.clone()))?;
        self.sign_data(keypair, &data)
    }

    /// Signs these bytes in place of the data.
    pub fn sign_data(&self, keypair: &Keypair, data: &[u8]) -> Result<Vec<u8>, Failure> {
        let bytes = |name| match self.data.get(name) {
            Some(Ipld::Bytes(bytes)) => bytes.clone(),
            _ => Vec::new(),
        };
        let number = |name| match self.data.get(name) {
            Some(Ipld::Integer(number)) => *number as u64,
            _ => 0,
        };
        let mut record = Vec::new();
        if self.hybrid {
            let value = self.value_v1.clone().unwrap_or_else(|| bytes("Value"));
            let signed = [value.as_slice(), &bytes("Validity"), b"0"].concat();
            put_bytes_field(&mut record, 1, &value);
            put_bytes_field(&mut record, 2, &keypair.sign(&signed)?);
            put_varint_field(&mut record, 3, number("ValidityType"));
            put_bytes_field(&mut record, 4, &bytes("Validity"));
            put_varint_field(&mut record, 5, number("Sequence"));
            put_varint_field(&mut record, 6, number("TTL"));
        }
        if name_of(keypair)?.hash().code() != IDENTITY {
            put_bytes_field(&mut record, 7, &keypair.public().encode_protobuf());
        }
        let signed = [b"ipns-signature:", data].concat();
        put_bytes_field(&mut record, 8, &keypair.sign(&signed)?);
        put_bytes_field(&mut record, 9, data);
        Ok(record)
    }
}
