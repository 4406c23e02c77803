//! What rules hold: the kinds of the specification, with the CIDs of its own fixture.

use bytes::Bytes;
use multibase::Base;
use proptest::prelude::*;

use super::*;
use crate::block::{Block, codec};

const LIST: &str = "\
version: 1
name: rules
---
# a CID, by its multihash
/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq
# all below a CID
/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8/*
# paths by how they begin, in both spellings
/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test*
/ipfs/QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/test/*
# exceptions
/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked*
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blockednot
+/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/not
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/exceptions*
# domains and keys
/ipns/domain.example
/ipns/domain2.example/path
/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf
# hashes: of a CID and of a path in the older form, then in the newer
//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7
//3f8b9febd851873b3774b937cce126910699ceac56e72e64b866f8e258d09572
//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM
//QmbK7LDv5NNBvYQzNfm2eED17SNLt1yNMapcUhSuNLgkqz
# of a domain, in the older form, and a path hashed by BLAKE3
//c555c4de78827ba42527dd3dc5398db38d6c0a8c345a88e0158b2d100f317e50
//gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX
";

#[test]
fn each_kind_of_rule_holds_what_the_specification_says() {
    let list = lists(&[LIST]);
    let check = |path: &str, want: u16| assert_eq!(answer(&list, path), want, "{path}");
    for root in [
        "bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
        "bafkreihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
        "QmesfgDQ3q6prBy2Kg2gKbW4MAGuWiRP2DVuGA5MZSERLo",
    ] {
        check(&format!("/ipfs/{root}"), 410);
        // Not by this rule; its root block cannot be had all the same.
        check(&format!("/ipfs/{root}/sub"), 200);
        assert_eq!(status(list.check_block(&cid(root))), 410);
    }
    for path in ["", "/a/b", "/z/", "/z"] {
        check(&format!("/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8{path}"), 410);
    }
    let whole = cid("QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8");
    assert_eq!(status(list.check_block(&whole)), 410);
    for root in [
        "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2",
        "QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC",
    ] {
        for (path, want) in [
            ("test", 410),
            ("test2", 410),
            ("test/one", 410),
            ("tes", 200),
            ("", 200),
            ("one/test", 200),
        ] {
            check(&format!("/ipfs/{root}/{path}"), want);
        }
        assert_eq!(status(list.check_block(&cid(root))), 200);
    }
    for (path, want) in [
        ("blocked", 410),
        ("blocked2", 410),
        ("blocked/other", 410),
        ("blockednot", 200),
        ("blocked/not", 200),
        ("blocked/exceptions", 200),
        ("blocked/exceptions2", 200),
        ("blocked/exceptions/one", 200),
        ("blocked/not/this", 410),
    ] {
        check(&format!("/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/{path}"), want);
    }
    for (path, want) in [
        ("domain.example", 410),
        ("domain-example", 410),
        ("DOMAIN.example.", 410),
        ("domainaefa.example", 200),
        ("domain--example", 200),
        ("domain.example/path", 200),
        ("domain2.example", 200),
        ("domain2.example/path", 410),
        ("domain2.example/path2", 200),
        ("k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf", 410),
        ("bafzaajaiaejcaotjfs57kieazxny5japcmy5p2pgv2cic77tu6ogghttvurnrufx", 410),
        ("12D3KooWDkNqEJNmreF3NYYFK1ws7Ra2fuW6cHBTu567SPV3LdYA", 410),
        ("12D3KooWDkNqEJNmreF3NYYFK1ws7Ra2fuW6cHBTu567SPV3LdYA/path", 200),
        ("bad-domain-name.tld", 410),
        ("bad-domain-name.tld/path", 200),
    ] {
        check(&format!("/ipns/{path}"), want);
    }
}

#[test]
fn hashes_hold_what_they_are_of() {
    let list = lists(&[LIST]);
    let check = |path: &str, want: u16| assert_eq!(answer(&list, path), want, "{path}");
    let legacy = "bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e";
    for (path, want) in [("/", 410), ("", 410), ("/path", 410), ("/path2", 200)] {
        check(&format!("/ipfs/{legacy}{path}"), want);
    }
    // It was hashed as one CID, and its bytes are the same under others.
    let hash = *cid(legacy).hash();
    for other in [Cid::new_v0(hash).unwrap(), Cid::new_v1(codec::RAW, hash)] {
        assert_eq!(status(list.check_block(&other)), 410, "{other}");
    }
    for root in [
        "bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja",
        "QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR",
    ] {
        check(&format!("/ipfs/{root}"), 410);
        check(&format!("/ipfs/{root}/path"), 200);
        assert_eq!(status(list.check_block(&cid(root))), 410);
    }
    for root in [
        "bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a",
        "f01701e20903cf61d46521b05f926ba1634628d0bba8a7ffb5b6d5a3ca310682ca63b5ef0",
    ] {
        for (path, want) in [("/path", 410), ("/", 200), ("/path2", 200)] {
            check(&format!("/ipfs/{root}{path}"), want);
        }
    }
    // With BLAKE3 alone, for the list above holds the same path by SHA2-256 as well.
    let blake3 = lists(&["//gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX\n"]);
    let root = "bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a";
    assert_eq!(answer(&blake3, &format!("/ipfs/{root}/path")), 410);
    assert_eq!(answer(&blake3, &format!("/ipfs/{root}/path2")), 200);
}

#[test]
fn the_last_match_wins_within_a_list_and_the_last_list_over_all() {
    let root = "/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK";
    let check = |texts: &[String], path: &str, want: u16| {
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        assert_eq!(answer(&lists(&texts), &format!("{root}{path}")), want, "{texts:?} {path}");
    };
    check(&[format!("!{root}\n{root}\n")], "", 410);
    check(&[format!("{root}\n!{root}\n")], "", 200);
    check(&[format!("{root}/*\n!{root}/a*\n{root}/a/b\n")], "/a/b", 410);
    check(&[format!("{root}/*\n!{root}/a*\n{root}/a/b\n")], "/a/c", 200);
    check(&[format!("{root}/a/b\n!{root}/*\n")], "/a/b", 200);
    check(&[format!("{root}\n"), format!("!{root}\n")], "", 200);
    check(&[format!("!{root}\n"), format!("{root}\n")], "", 410);
    check(&[format!("{root}\n"), String::new()], "", 410);
    // Escapes stand for what they are.
    check(&[format!("{root}/a%20b\n")], "/a b", 410);
    check(&[format!("{root}/a%2A\n")], "/a*", 410);
    check(&[format!("{root}/a%2A\n")], "/ab", 200);
}

#[test]
fn a_list_or_a_line_says_that_the_reasons_are_legal() {
    let (a, b) = ("/ipns/a.example", "/ipns/b.example");
    let check = |text: &str, path: &str, want: u16| {
        assert_eq!(answer(&lists(&[text]), path), want, "{text:?} {path}");
    };
    check(&format!("{a} gateway_status=451\n{b}\n"), a, 451);
    check(&format!("{a} gateway_status=451\n{b}\n"), b, 410);
    check(&format!("{a} reason:court gateway_status:451\n"), a, 451);
    let legal = "hints:\n  gateway_status: 451\n---\n";
    check(&format!("{legal}{a}\n{b} gateway_status=410\n"), a, 451);
    check(&format!("{legal}{a}\n{b} gateway_status=410\n"), b, 410);
    check(&format!("hints: {{gateway_status: \"451\"}}\n---\n{a}\n"), a, 451);
    // A hint that means nothing here must not unblock anything.
    check(&format!("{a} gateway_status=200\n"), a, 410);
}

#[test]
fn an_allowlist_admits_what_is_listed_and_what_is_below_it() {
    let (a, b) = (
        "QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK",
        "QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8",
    );
    let text = format!("/ipfs/{a}\n!/ipfs/{a}/private*\n/ipfs/{b}/public*\n/ipns/docs.example\n");
    let list = lists(&[&text]).as_allowlist();
    let check = |root: &str, path: &[&str], want: bool| {
        let path: Vec<_> = path.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(list.admits_path(&cid(root), &path), want, "{root} {path:?}");
    };
    check(a, &[], true);
    check(a, &["any", "depth"], true);
    check(a, &["private", "x"], false);
    check(b, &[], false);
    check(b, &["public", "x"], true);
    check(b, &["other"], false);
    check("bafkreihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq", &[], false);
    check("bafkqaaa", &[], true);
    check("bafkqaaik", &[], false);
    assert!(list.admits_name("docs.example", &["a".to_owned()]));
    assert!(list.admits_name("docs-example", &[]));
    assert!(!list.admits_name("other.example", &[]));
    assert!(!list.admits_name("", &[]));
    assert!(Allowlist::default().admits_name("other.example", &[]));
}

/// All the ways in which one multihash can be written as a CID that is asked for.
fn spellings(hash: crate::block::Mh) -> Vec<String> {
    let mut all = Vec::new();
    for codec in [codec::RAW, codec::DAG_PB, codec::DAG_CBOR, codec::DAG_JSON, codec::LIBP2P_KEY] {
        let cid = Cid::new_v1(codec, hash);
        for base in [
            Base::Base32Lower,
            Base::Base32Upper,
            Base::Base36Lower,
            Base::Base58Btc,
            Base::Base16Lower,
            Base::Base16Upper,
            Base::Base64Url,
        ] {
            all.push(cid.to_string_of_base(base).unwrap());
        }
    }
    all.extend(Cid::new_v0(hash).map(|cid| cid.to_string()));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_multihash_is_blocked_however_it_is_written(
        data in proptest::collection::vec(any::<u8>(), 0..100),
        (listed, hashed) in (0_usize..36, 0_u8..3),
    ) {
        let block = Block::sha2_256(codec::RAW, Bytes::from(data)).unwrap();
        let all = spellings(*block.cid().hash());
        prop_assert_eq!(all.len(), 36);
        let bare = Cid::new_v0(*block.cid().hash()).unwrap().to_string();
        let rule = match hashed {
            0 => format!("/ipfs/{}", all[listed]),
            1 => format!("/ipfs/{bare}/*"),
            _ => {
                let again = Block::sha2_256(codec::RAW, Bytes::from(bare)).unwrap();
                format!("//{}", Cid::new_v0(*again.cid().hash()).unwrap())
            }
        };
        let list = lists(&[&rule]);
        for spelling in &all {
            let asked = cid(spelling);
            prop_assert_eq!(list.check_block(&asked), Err(Blocked::Gone), "{} {}", rule, spelling);
            prop_assert_eq!(list.check_path(&asked, &[]), Err(Blocked::Gone));
            prop_assert!(list.would_block(&asked));
        }
        let other = Block::sha2_256(codec::RAW, Bytes::from_static(b"other, longer than any \
            of these, so that it cannot be the same block by chance: and it is not, see here: \
            it goes on")).unwrap();
        prop_assert_eq!(list.check_block(other.cid()), Ok(()));
    }

    #[test]
    fn an_index_says_of_each_key_what_a_plain_search_says(
        rules in proptest::collection::vec((0_u8..40, 0_u8..4, any::<bool>()), 0..200),
    ) {
        let path = |n: u8| ["", "/a", "/a/b", "/ab"][usize::from(n)];
        let domain = |n: u8| format!("/ipns/{n}.example");
        let mut text = String::new();
        for (subject, reach, allowed) in &rules {
            let exception = if *allowed { "!" } else { "" };
            let end = if *reach == 1 { "*" } else { "" };
            text += &format!("{exception}{}{}{end}\n", domain(*subject), path(*reach));
        }
        let list = lists(&[&text]);
        for subject in 0..40 {
            for asked in 0..4 {
                let last = rules.iter().rev().find(|(own, reach, _)| {
                    *own == subject && match reach {
                        1 => path(asked).starts_with("/a"),
                        reach => *reach == asked,
                    }
                });
                let want = if last.is_some_and(|(_, _, allowed)| !allowed) { 410 } else { 200 };
                let path = format!("{}{}", domain(subject), path(asked));
                prop_assert_eq!(answer(&list, &path), want, "{} in\n{}", path, text);
            }
        }
    }
}
