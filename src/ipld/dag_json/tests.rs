use proptest::prelude::proptest;

use super::*;

const CID: &str = r#"{"/":"bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"}"#;

#[test]
fn what_is_well_formed_is_accepted() {
    for good in [
        "0",
        "-0",
        "1.5e-7",
        "12E+3",
        "\"\"",
        r#""\u00e9\n""#,
        "[]",
        "{}",
        " [ 1 , {\"b\":2, \"a\":[]} ] ",
        "true",
        "null",
        CID,
        r#"{"/":{"bytes":"AQI"}}"#,
        r#"{"a":{"/":{"bytes":""}}}"#,
    ] {
        assert_eq!(validate(good.as_bytes()), Ok(()), "{good}");
        assert_eq!(validate_plain(good.as_bytes()), Ok(()), "{good}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    for bad in [
        "",
        " ",
        "01",
        "1.",
        ".5",
        "-",
        "1e",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\n\"",
        "[",
        "[1,]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":1,}",
        "{a:1}",
        "tru",
        "nulll",
        "1 1",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[}",
        "{]",
        "{\"a\":1]",
        "\u{1}",
        "{,}",
        "[,]",
        "\"\\",
    ] {
        assert!(validate(bad.as_bytes()).is_err(), "{bad}");
        assert!(validate_plain(bad.as_bytes()).is_err(), "{bad}");
    }
    for reserved in [
        r#"{"/":1}"#,
        r#"{"/":"nonsense"}"#,
        r#"{"/":{"bytes":"A"}}"#,
        r#"{"/":{"bytes":"AQ=="}}"#,
        r#"{"/":{"byte":"AQI"}}"#,
        r#"{"/":{"bytes":"AQI","x":1}}"#,
        r#"{"a":1,"/":2}"#,
        r#"{"/":{"bytes":"AQI"},"a":1}"#,
    ] {
        assert!(validate(reserved.as_bytes()).is_err(), "{reserved}");
        assert_eq!(validate_plain(reserved.as_bytes()), Ok(()), "{reserved}");
    }
    let endless = format!("{{\"/\":\"z{}\"}}", "2".repeat(2 << 20));
    assert!(validate(endless.as_bytes()).is_err(), "base58 takes quadratic time");
    assert!(validate(b"\"\xff\"").is_err());
    assert!(matches!(validate(&vec![b'['; 2 << 20]), Err(Error::Limit { .. })));
    assert!(matches!(validate(&b"{\"a\":".repeat(1000)), Err(Error::Limit { .. })));
}

#[test]
fn links_and_paths_are_found() {
    let text = format!(r#"{{"b":[1,{CID}],"a":{{"d\u0065":{CID}}}}}"#);
    let mut links = Vec::new();
    for_each_link(text.as_bytes(), &mut |cid| links.push(cid)).unwrap();
    assert_eq!(links.len(), 2);
    let link = |consumed| Resolved::Link { cid: links[0], consumed };
    let check = |path: &[&str], expected| {
        assert_eq!(resolve(text.as_bytes(), path), Ok(expected), "{path:?}")
    };
    check(&[], Resolved::Value);
    check(&["b", "0"], Resolved::Value);
    check(&["b", "1"], link(2));
    check(&["b", "2"], Resolved::Missing(1));
    check(&["a", "de", "more"], link(2));
    check(&["b", "0", "x"], Resolved::Missing(2));
    check(&["c"], Resolved::Missing(0));
}

proptest! {
    #[test]
    fn plain_json_is_read_as_another_parser_reads_it(text in r#"[\[\]{}",:0-9a\\eE+. -]{0,24}"#) {
        // The other parser lets the last of two equal keys win; we refuse both.
        if validate_plain(text.as_bytes()).is_ok() {
            // A number beyond its range is well-formed all the same.
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn anything_is_answered_without_a_panic(text: String, path: Vec<String>) {
        let _ = (validate(text.as_bytes()), validate_plain(text.as_bytes()));
        let _ = resolve(text.as_bytes(), &path);
    }
}
