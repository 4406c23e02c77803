use proptest::prelude::{Strategy, any, proptest};

use super::*;
use crate::block::{Block, codec};

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.replace(' ', "").as_bytes()).unwrap()
}

const CID: &str = "d82a 49 00 01550004 01020304";

#[test]
fn what_is_canonical_is_accepted() {
    for good in ["00", "1818", "f6", "80", "a0", "8301f5f4", "a26161 01 6162 02", CID] {
        assert_eq!(validate(&hex(good)), Ok(()), "{good}");
    }
    assert_eq!(validate(&hex("a2 6162 01 626161 02")), Ok(()), "shorter keys come first");
    assert_eq!(validate(&hex("fb3ff8000000000000")), Ok(()));
}

#[test]
fn what_is_not_canonical_is_refused() {
    for bad in [
        "",
        "00 00",
        "1817",
        "190018",
        "1a0000ffff",
        "9fff",
        "bfff",
        "5f41 00ff",
        "61ff",
        "a2 6161 01 6161 02",
        "a2 626161 01 6162 02",
        "a1 01 02",
        "f90000",
        "fa00000000",
        "fb7ff0000000000000",
        "fb7ff8000000000000",
        "f7",
        "e0",
        "c1 00",
        "d82a 00",
        "d82a 40",
        "d82a 48 01550004 01020304",
        "d82a 4a 00 01550004 0102030405",
        "1c",
        "82 01",
        "61",
        "9b7fffffffffffffff",
        "bb7fffffffffffffff",
        "5b7fffffffffffffff",
        "9a80000000",
    ] {
        assert!(validate(&hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn nesting_is_bounded_without_recursion() {
    let nest = |n: usize| [vec![0x81; n - 1], vec![0x80]].concat();
    assert_eq!(validate(&nest(128)), Ok(()));
    assert!(matches!(validate(&nest(130)), Err(Error::Limit { .. })));
    assert!(matches!(validate(&vec![0x81; 2 << 20]), Err(Error::Limit { .. })));
    assert!(matches!(validate_plain(&vec![0x81; 2 << 20]), Err(Error::Limit { .. })));
    assert!(matches!(validate_plain(&vec![0xc1; 2 << 20]), Err(Error::Limit { .. })));
}

#[test]
fn plain_cbor_is_wider() {
    for good in ["9fff", "bf 01 02 ff", "5f 41 00 40 ff", "f90000", "c1 00", "1817", "f7", "f8ff"] {
        assert_eq!(validate_plain(&hex(good)), Ok(()), "{good}");
    }
    for bad in [
        "",
        "ff",
        "9f",
        "bf 01 ff",
        "5f 61 61 ff",
        "5f 5f ff ff",
        "c1",
        "81 ff",
        "00 00",
        "f800",
        "1f",
    ] {
        assert!(validate_plain(&hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn links_and_paths_are_found() {
    // {"a": [1, link], "bc": {"d": link}}
    let data = hex(&format!("a2 6161 82 01 {CID} 626263 a1 6164 {CID}"));
    let block = Block::sha2_256(codec::DAG_CBOR, data.clone().into()).unwrap();
    let links = crate::ipld::links(&block).unwrap();
    assert_eq!(links.len(), 2);
    let link = |consumed| Resolved::Link { cid: links[0], consumed };
    let check =
        |path: &[&str], expected| assert_eq!(resolve(&data, path), Ok(expected), "{path:?}");
    check(&[], Resolved::Value);
    check(&["a"], Resolved::Value);
    check(&["a", "0"], Resolved::Value);
    check(&["a", "1"], link(2));
    check(&["a", "1", "more"], link(2));
    check(&["a", "2"], Resolved::Missing(1));
    check(&["a", "01"], Resolved::Missing(1));
    check(&["a", "0", "x"], Resolved::Missing(2));
    check(&["bc", "d"], link(2));
    check(&["c"], Resolved::Missing(0));
}

fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = proptest::prop_oneof![
        any::<i64>().prop_map(Into::into),
        any::<bool>().prop_map(Into::into),
        "[a-z]{0,30}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 50, 6, |inner| {
        proptest::prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map("[a-z]{0,5}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn another_encoder_is_understood(value in tree()) {
        let data = serde_ipld_dagcbor::to_vec(&value).unwrap();
        assert_eq!(validate(&data), Ok(()));
        assert_eq!(validate_plain(&data), Ok(()));
        assert!((0..data.len()).all(|end| validate(&data[..end]).is_err()));
    }

    #[test]
    fn anything_is_answered_without_a_panic(data: Vec<u8>, path: Vec<String>) {
        let _ = (validate(&data), validate_plain(&data), resolve(&data, &path));
    }
}
