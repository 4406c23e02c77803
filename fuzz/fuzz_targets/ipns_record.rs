//! An IPNS record: an error, or one that is read the same again. Bytes as they come, and data that
//! the right key signed, for what lies behind the signature.
#![no_main]

use bytes::Bytes;
use estuary::routing::{Key, Name, Record};
use libfuzzer_sys::fuzz_target;
use libp2p_identity::Keypair;

fn check(key: &Key, bytes: Vec<u8>) {
    if let Ok(record) = Record::verify(key, Bytes::from(bytes)) {
        let again = Record::verify(key, record.bytes().clone());
        assert_eq!(again.as_ref(), Ok(&record));
        assert!(!record.supersedes(&record));
        let (age, left) = (record.max_age(1), record.remaining(1));
        assert!(age.is_none() || age <= left, "it is kept beyond its end");
    }
}

/// A byte field of protobuf.
fn put(record: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    record.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        record.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    record.push(length as u8);
    record.extend_from_slice(bytes);
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (fields, data) = input;
    let pair = Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key");
    let peer_id = pair.public().to_peer_id().to_string();
    let Ok(Name::Key(key)) = Name::parse(&peer_id) else { panic!("{peer_id} is a key") };
    check(&key, fields.to_vec());
    let signed = [b"ipns-signature:", data].concat();
    let signature = pair.sign(&signed).expect("an Ed25519 key signs");
    let mut record = fields.to_vec();
    put(&mut record, 8, &signature);
    put(&mut record, 9, data);
    check(&key, record);
});
