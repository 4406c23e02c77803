use multibase::Base;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;
use crate::block::{Mh, SHA2_256, VerifyError, codec};

const V0: &str = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG";
const V1: &str = "bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34";

fn check(path: &str, segments: &[&str], trailing_slash: bool) {
    let parsed = ContentPath::parse(path).unwrap();
    assert_eq!(parsed.segments, segments, "{path}");
    assert_eq!(parsed.trailing_slash, trailing_slash, "{path}");
    assert_eq!(parsed.original, path);
}

#[test]
fn paths_are_split_then_decoded_once() {
    check(&format!("/ipfs/{V0}"), &[], false);
    check(&format!("/ipfs/{V1}/"), &[], true);
    check(&format!("/ipfs/{V1}/a//b"), &["a", "b"], false);
    check(&format!("/ipfs/{V1}/a/b/"), &["a", "b"], true);
    check(&format!("/ipfs/{V1}/a+b=c%20d"), &["a+b=c d"], false);
    check(
        &format!("/ipfs/{V1}/Portugal%252C+España=Peninsula%20Ibérica.txt"),
        &["Portugal%2C+España=Peninsula Ibérica.txt"],
        false,
    );
    check(&format!("/ipfs/{V1}/../%2e%2e%2f/%00;\\"), &["..", "../", "\0;\\"], false);
}

#[test]
fn faulty_paths_name_what_is_wrong() {
    let text = |path: &str| ContentPath::parse(path).unwrap_err().to_string();
    assert!(text("/ipfs/QmInvalidCID").starts_with("invalid path \"/ipfs/QmInvalidCID\": "));
    assert!(text("/ipfs/").starts_with("invalid path \"/ipfs/\": "));
    for bad in ["", "/", "ipfs", "/ipns/x", "/ipfs//", "/IPFS/x"] {
        assert!(ContentPath::parse(bad).is_err(), "{bad}");
    }
    for tail in ["%", "%4", "%zz", "a%", "%ff", "%c0%ae", "%%41"] {
        assert!(ContentPath::parse(&format!("/ipfs/{V1}/{tail}")).is_err(), "{tail}");
    }
    let deep = |n: usize| ContentPath::parse(&format!("/ipfs/{V1}{}", "/a".repeat(n)));
    assert_eq!(deep(256).unwrap().segments.len(), 256);
    assert!(matches!(deep(257), Err(Error::Path { .. })));
    assert!(matches!(deep(5000), Err(Error::Limit { .. })));
    assert!(text(&format!("/ipfs/{}", "z".repeat(8000))).len() < 1500);
}

#[test]
fn cids_are_read_in_every_base() {
    let v1 = parse_cid(V1).unwrap();
    assert_eq!(parse_cid(V0).unwrap().to_string(), V0);
    for base in [
        Base::Base2,
        Base::Base16Lower,
        Base::Base16Upper,
        Base::Base32Lower,
        Base::Base32Upper,
        Base::Base36Lower,
        Base::Base36Upper,
        Base::Base58Btc,
        Base::Base64Url,
    ] {
        let text = v1.to_string_of_base(base).unwrap();
        assert_eq!(parse_cid(&text), Ok(v1), "{text}");
    }
}

#[test]
fn cids_that_are_none_are_refused() {
    let wrap = |code, digest: &[u8]| Cid::new_v1(codec::RAW, Mh::wrap(code, digest).unwrap());
    for cid in
        [wrap(SHA2_256, &[0; 20]), wrap(SHA2_256, &[]), wrap(0x11, &[0; 20]), wrap(0xd5, &[0; 16])]
    {
        let refused = parse_cid(&cid.to_string());
        assert!(matches!(refused, Err(Error::Verify(_))), "{refused:?}");
    }
    let unknown = parse_cid(&wrap(0x22, &[0; 32]).to_string());
    assert_eq!(unknown, Err(VerifyError::HashFunction(0x22).into()));
    assert!(parse_cid(&wrap(0, &[7; 128]).to_string()).is_ok());
    let mut long = vec![1, 0x55, 0, 0x81, 1];
    long.extend_from_slice(&[7; 129]);
    let v0 = parse_cid(V0).unwrap().to_bytes();
    for bad in [
        "b",
        "bafy",
        "Qm",
        &V0[..45],
        &V0.to_lowercase(),
        "bafkq1",
        "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf",
        &"b".repeat(10_000),
        "zz",
        "🚀",
        &multibase::encode(Base::Base32Lower, &long),
        &multibase::encode(Base::Base32Lower, &v0),
        &format!("/ipfs/{V1}"),
        &format!("{V1}a"),
        &format!("{}b", &V1[..V1.len() - 1]),
    ] {
        assert!(parse_cid(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn base32_is_read_as_another_decoder_reads_it(digest: [u8; 32], codec in 0_u64..1000) {
        let cid = Cid::new_v1(codec, Mh::wrap(SHA2_256, &digest).unwrap());
        prop_assert_eq!(parse_cid(&cid.to_string()), Ok(cid));
    }

    #[test]
    fn anything_is_answered_without_a_panic(tail: String, junk in "b[a-z2-7]{0,120}", any in any::<String>()) {
        let _ = (ContentPath::parse(&any), parse_cid(&junk), parse_cid(&any));
        let _ = ContentPath::parse(&format!("/ipfs/{V1}/{tail}"));
    }
}
