use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;
use proptest::prelude::*;

use super::*;
use crate::ipld::protobuf::{put_bytes_field, put_varint_field};
use crate::testing::ipns::{Draft, keypairs, name_of};

const VALUE: &str = "/ipfs/bafkqaddwgevxmmraojswg33smq";

fn keypair() -> Keypair {
    keypairs().unwrap().remove(0)
}

fn check(keypair: &Keypair, bytes: Vec<u8>) -> Result<Record, RecordError> {
    Record::verify(&name_of(keypair).unwrap(), bytes.into())
}

fn refused(draft: &Draft) -> RecordError {
    let keypair = keypair();
    check(&keypair, draft.sign(&keypair).unwrap()).unwrap_err()
}

fn taken(draft: &Draft) -> Record {
    let keypair = keypair();
    check(&keypair, draft.sign(&keypair).unwrap()).unwrap()
}

#[test]
fn records_of_every_type_of_key_are_verified() {
    for keypair in keypairs().unwrap() {
        for draft in [Draft::new(VALUE), Draft::version_2(VALUE)] {
            let record = check(&keypair, draft.sign(&keypair).unwrap()).unwrap();
            assert_eq!(record.value().to_string(), VALUE);
            assert_eq!((record.sequence(), record.ttl()), (3, Some(Duration::from_secs(1800))));
            assert_eq!(record.eol().year(), 2099);
            let again = Record::from_checked_row(record.bytes().clone()).unwrap();
            assert_eq!(again, record);
        }
    }
}

#[test]
fn a_record_of_version_1_alone_is_refused() {
    let mut record = Vec::new();
    put_bytes_field(&mut record, 1, VALUE.as_bytes());
    put_bytes_field(&mut record, 2, &[1; 64]);
    assert_eq!(check(&keypair(), record.clone()), Err(RecordError::Version1));
    put_bytes_field(&mut record, 8, &[1; 64]);
    assert_eq!(check(&keypair(), record.clone()), Err(RecordError::Version1), "it has no data");
    put_bytes_field(&mut record, 9, &[]);
    assert_eq!(check(&keypair(), record), Err(RecordError::Version1), "its data is empty");
    assert_eq!(check(&keypair(), Vec::new()), Err(RecordError::Version1));
}

#[test]
fn fields_of_version_1_that_differ_are_refused() {
    let other = Draft { value_v1: Some(b"/ipfs/bafkqaaa".to_vec()), ..Draft::new(VALUE) };
    assert_eq!(refused(&other), RecordError::Differs("value"));
    // They are refused one by one as well, and where they are missing beside a value.
    let keypair = keypair();
    let signed = Draft::version_2(VALUE).sign(&keypair).unwrap();
    let with = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut record = signed.clone();
        write(&mut record);
        check(&keypair, record)
    };
    let differs = |name| Err(RecordError::Differs(name));
    assert_eq!(with(&|r| put_varint_field(r, 3, 1)), differs("validity type"));
    assert_eq!(with(&|r| put_bytes_field(r, 4, b"2100")), differs("validity"));
    assert_eq!(with(&|r| put_varint_field(r, 5, 4)), differs("sequence"));
    assert_eq!(with(&|r| put_varint_field(r, 6, 1)), differs("TTL"));
    assert_eq!(with(&|r| put_bytes_field(r, 1, VALUE.as_bytes())), differs("validity"));
    assert_eq!(with(&|r| put_bytes_field(r, 2, &[0; 64])), differs("value"));
    assert!(with(&|r| put_varint_field(r, 5, 3)).is_ok());
}

#[test]
fn a_wrong_signature_of_version_1_does_not_matter() {
    let keypair = keypair();
    let mut bytes = Draft::new(VALUE).sign(&keypair).unwrap();
    let signature = Message::read(&bytes).unwrap().signature_v1.unwrap();
    bytes[signature.start + 5] ^= 1;
    assert_eq!(check(&keypair, bytes).unwrap().value().to_string(), VALUE);
}

#[test]
fn another_keys_record_and_one_without_its_key_are_refused() {
    let keys = keypairs().unwrap();
    for signer in &keys {
        let bytes = Draft::new(VALUE).sign(signer).unwrap();
        for name in &keys {
            let outcome = check(name, bytes.clone());
            let own = name_of(name).unwrap() == name_of(signer).unwrap();
            assert_eq!(outcome.is_ok(), own, "{outcome:?}");
        }
    }
    // An RSA key does not fit into the name, so it must come along.
    let rsa = keys.last().unwrap();
    let bytes = Draft::version_2(VALUE).sign(rsa).unwrap();
    let key = Message::read(&bytes).unwrap().public_key.unwrap();
    let bytes = bytes[key.end..].to_vec();
    assert_eq!(check(rsa, bytes), Err(RecordError::Key));
}

#[test]
fn a_record_over_10_kib_is_refused_before_it_is_read() {
    let keypair = keypair();
    let name = "a".repeat(RECORD_BYTES_MAX);
    let long = Draft::version_2(&format!("{VALUE}/{name}")).sign(&keypair).unwrap();
    assert_eq!(check(&keypair, long), Err(RecordError::TooLong));
    let most = Draft::version_2(VALUE).with("x", Some(Ipld::Bytes(vec![0; 9900])));
    assert!(taken(&most).bytes().len() > 10_000);
}

#[test]
fn data_that_is_not_strict_dag_cbor_is_refused() {
    let keypair = keypair();
    let draft = Draft::version_2(VALUE);
    let good = serde_ipld_dagcbor::to_vec(&Ipld::Map(draft.data.clone())).unwrap();
    let check = |data: &[u8]| {
        let bytes = draft.sign_data(&keypair, data).unwrap();
        Record::verify(&name_of(&keypair).unwrap(), bytes.into())
    };
    assert!(check(&good).is_ok());
    let mut trailing = good.clone();
    trailing.push(0);
    // The map's head of one byte, then `TTL` first: its value stands behind 4 bytes of key.
    let mut long_head = vec![0xb8, 5];
    long_head.extend(&good[1..]);
    let mut twice = vec![0xa6];
    twice.extend(&good[1..]);
    twice.extend(&good[1..1 + 4 + 9]);
    let deep = [vec![0x81; 5000], vec![0]].concat();
    let indefinite = [&[0xbf], &good[1..], &[0xff]].concat();
    for data in [trailing, long_head, twice, deep, indefinite, vec![0xa0], vec![0x80], vec![0xff]] {
        assert!(matches!(check(&data), Err(RecordError::Malformed(_))), "{data:?}");
    }
}

#[test]
fn data_that_lacks_something_or_makes_no_sense_is_refused() {
    let draft = || Draft::version_2(VALUE);
    for name in ["Value", "Validity", "ValidityType", "Sequence"] {
        let error = refused(&draft().with(name, None));
        assert!(error.to_string().contains(name), "{error}");
        refused(&draft().with(name, Some(Ipld::Null)));
    }
    refused(&draft().with("TTL", Some(Ipld::Null)));
    refused(&draft().with("Sequence", Some(Ipld::Integer(-1))));
    refused(&draft().with("ValidityType", Some(Ipld::Integer(1))));
    for validity in ["", "tomorrow", "2099-12-31", "2099-13-01T00:00:00Z"] {
        refused(&draft().with("Validity", Some(Ipld::Bytes(validity.into()))));
    }
    for value in ["", "bafkqaaa", "/ipfs/", "/ipld/bafkqaaa", "/ipns/nothing"] {
        refused(&Draft::version_2(value));
    }
    refused(&draft().with("Value", Some(Ipld::Bytes(b"/ipfs/bafkqaaa/\xff".to_vec()))));
    // What is signed may say more than we know of.
    assert_eq!(taken(&draft().with("Later", Some(Ipld::Null))).value().to_string(), VALUE);
}

#[test]
fn fields_that_no_signature_covers_are_refused() {
    let keypair = keypair();
    let signed = Draft::new(VALUE).sign(&keypair).unwrap();
    for number in [5, 10, 15] {
        let mut bytes = signed.clone();
        put_varint_field(&mut bytes, number, 3);
        assert!(matches!(check(&keypair, bytes), Err(RecordError::Malformed(_))), "{number}");
    }
}

#[test]
fn no_ttl_is_too_large_or_below_zero() {
    let ttl = |ttl: i128| {
        let draft = Draft::new(VALUE).with("TTL", Some(Ipld::Integer(ttl)));
        taken(&draft).ttl().unwrap()
    };
    assert_eq!(ttl(-1), Duration::ZERO);
    assert_eq!(ttl(i64::MIN.into()), Duration::ZERO);
    assert_eq!(ttl(1 << 63), Duration::from_nanos(1 << 63));
    assert_eq!(ttl(u64::MAX.into()), Duration::from_nanos(u64::MAX));
    assert_eq!(taken(&Draft::new(VALUE).with("TTL", None)).ttl(), None);
}

#[test]
fn a_record_ends_at_its_time_and_its_ttl_ends_with_it() {
    let eol = OffsetDateTime::from_unix_timestamp(2_000_000_000).unwrap();
    let record = taken(&Draft::new(VALUE).ends(eol));
    let seconds = |now| record.max_age(now).map(|age| age.as_secs());
    assert_eq!(seconds(1_999_000_000), Some(1800));
    assert_eq!(seconds(1_999_999_940), Some(60));
    assert_eq!(seconds(2_000_000_000), None);
    assert_eq!(record.remaining(2_000_000_000), None);
    assert_eq!(record.remaining(u64::MAX), None);
    let years = |year| {
        let text = format!("{year}-12-31T23:59:59.999999999Z");
        taken(&Draft::new(VALUE).with("Validity", Some(Ipld::Bytes(text.into()))))
    };
    assert_eq!(years("9999").max_age(0), Some(Duration::from_secs(1800)));
    assert_eq!(years("1960").remaining(0), None);
}

#[test]
fn a_higher_sequence_wins_then_a_later_end() {
    let eol = |s| OffsetDateTime::from_unix_timestamp(s).unwrap();
    let record = |sequence, s| taken(&Draft::new(VALUE).sequence(sequence).ends(eol(s)));
    assert!(record(5, 10).supersedes(&record(4, 20)));
    assert!(record(4, 20).supersedes(&record(4, 10)));
    assert!(!record(4, 10).supersedes(&record(4, 10)));
    assert!(!record(4, 20).supersedes(&record(5, 10)));
}

/// Every byte but those of the signature of version 1, which nobody need heed.
fn mutations(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let unheeded = Message::read(bytes).unwrap().signature_v1.unwrap_or_default();
    (0..bytes.len()).filter(move |at| !unheeded.contains(at))
}

#[test]
fn a_change_of_any_byte_is_refused() {
    for keypair in keypairs().unwrap() {
        let name = name_of(&keypair).unwrap();
        for draft in [Draft::new(VALUE), Draft::version_2(VALUE)] {
            let bytes = draft.sign(&keypair).unwrap();
            for at in mutations(&bytes) {
                for flip in [1, 0x80, 0xff, 0x08] {
                    let mut changed = bytes.clone();
                    changed[at] ^= flip;
                    let outcome = Record::verify(&name, changed.into());
                    assert!(outcome.is_err(), "byte {at} ^ {flip}: {outcome:?}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_record_that_is_changed_anywhere_is_refused_or_says_the_same(
        hybrid in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let keypair = keypair();
        let name = name_of(&keypair).unwrap();
        let bytes = Draft { hybrid, ..Draft::new(VALUE) }.sign(&keypair).unwrap();
        let places: Vec<_> = mutations(&bytes).collect();
        let mut changed = bytes.clone();
        for (at, flip) in &changes {
            changed[*at.get(&places)] ^= flip;
        }
        if changed != bytes {
            prop_assert!(Record::verify(&name, changed.into()).is_err());
        }
        let cut = cut.index(bytes.len());
        prop_assert!(Record::verify(&name, bytes[..cut].to_vec().into()).is_err());
    }

    #[test]
    fn no_bytes_make_it_fail_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let name = name_of(&keypair()).unwrap();
        let _ = Record::verify(&name, bytes.clone().into());
        let _ = Record::from_checked_row(bytes.into());
    }
}
