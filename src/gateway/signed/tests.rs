use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;
const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

fn keys() -> SigningKeys {
    SigningKeys::new([("a", "00".repeat(32)), ("b", "0b".repeat(32))]).unwrap()
}

fn terms(key: &str, depth: Option<usize>) -> Terms<'_> {
    Terms { expires: NOW + 60, key, depth }
}

fn check_at(now: u64, path: &str, query: &str, cookie: &str) -> Result<Grant, Refused> {
    let signatures = Signatures::new(Signed::Required, &keys()).unwrap();
    let mut headers = HeaderMap::new();
    if !cookie.is_empty() {
        headers.insert(header::COOKIE, cookie.parse().unwrap());
    }
    signatures.check(path, Some(query), &headers, now)
}

fn check(path: &str, query: &str) -> Result<Grant, Refused> {
    check_at(NOW, path, query, "")
}

#[test]
fn what_is_signed_is_written_in_one_way() {
    let path = format!("/ipfs/{CID}/a%20b");
    let want = format!(
        "estuary signed URL 1\nread\npath\n{path}\ndownload=true&format=raw\n{}\na",
        NOW + 60
    );
    for others in [["format=raw", "download=true"], ["download=true", "format=raw"]] {
        assert_eq!(text(&path, &others, terms("a", None)).as_deref(), Some(&*want));
    }
    let below = |depth| text(&format!("/ipfs/{CID}/a/b/c"), &["x"], terms("b", Some(depth)));
    let want =
        |path: &str| Some(format!("estuary signed URL 1\nread\nbelow\n{path}\n\n{}\nb", NOW + 60));
    assert_eq!(below(0), want(&format!("/ipfs/{CID}/")));
    assert_eq!(below(2), want(&format!("/ipfs/{CID}/a/b/")));
    assert_eq!(below(3), None);
    assert_eq!(below(usize::MAX), None);
    // The forms of one CID are one path; names stay as they are.
    let v0 = "QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8";
    let v1 = cid::CidGeneric::<128>::try_from(v0).unwrap();
    let v1 = cid::CidGeneric::<128>::new_v1(v1.codec(), *v1.hash());
    assert_eq!(canonical(&format!("/ipfs/{v0}/a")), format!("/ipfs/{v1}/a"));
    for base in [multibase::Base::Base16Lower, multibase::Base::Base36Lower] {
        let form = multibase::encode(base, v1.to_bytes());
        assert_eq!(canonical(&format!("/ipfs/{form}/%2f")), format!("/ipfs/{v1}/%2f"));
        let (rest, last) = form.split_at(form.rfind(char::is_alphabetic).unwrap());
        let mixed = format!("/ipfs/{rest}{}", last.to_uppercase());
        assert_eq!(canonical(&mixed), mixed);
    }
    let peer_id = "12D3KooWGjMCwKnVfdyvVRwGQpDVLLEyYnkrFUJKRzPnBgHqJnEz";
    let key = Name::parse(peer_id).unwrap().to_string();
    for same in [peer_id, &key] {
        assert_eq!(canonical(&format!("/ipns/{same}/a")), format!("/ipns/{key}/a"));
    }
    assert_eq!(canonical("/ipns/A.Example./B"), "/ipns/a.example/B");
    for same in ["/ipns/a.example/b", "/ipfs/nonsense/a", "/", ""] {
        assert_eq!(canonical(same), same);
    }
}

/// Computed beside, by Python's `hmac`.
#[test]
fn signatures_are_what_other_programs_compute() {
    let path = format!("/ipfs/{CID}");
    let signed = sign(&keys(), &path, Some("format=raw"), terms("a", None)).unwrap();
    assert_eq!(signed, VECTOR_PATH);
    let signed = sign(&keys(), &format!("{path}/"), None, terms("b", Some(0))).unwrap();
    assert_eq!(signed, VECTOR_BELOW);
}

const VECTOR_PATH: &str =
    "format=raw&expires=1800000060&key=a&signature=fl3DJyRqdts9tJ7lPj7B7sa2p7Ssy5XIloG2ySPKtvU";
const VECTOR_BELOW: &str =
    "depth=0&expires=1800000060&key=b&signature=VaX89rIrT7SlXm9ZnraRI02t78T5yvwH16VhjA4Hb34";

#[test]
fn a_signed_url_holds_until_it_expires_and_not_a_second_longer() {
    let path = format!("/ipfs/{CID}");
    let query = sign(&keys(), &path, None, terms("a", None)).unwrap();
    for (now, want) in [(0, None), (NOW + 59, None), (NOW + 60, Some(Refused::Expired))] {
        assert_eq!(check_at(now, &path, &query, "").err(), want, "{now}");
    }
    // That it has expired is said of good signatures only.
    let query = query.replace("expires=1800000060", "expires=1700000060");
    assert_eq!(check(&path, &query), Err(Refused::Invalid));
    assert_eq!(check(&path, ""), Err(Refused::Unsigned));
    assert_eq!(check(&path, "format=raw"), Err(Refused::Unsigned));
}

#[test]
fn the_signature_is_no_part_of_what_is_asked_for() {
    let path = format!("/ipfs/{CID}");
    let query = sign(&keys(), &path, Some("format=raw&x=1"), terms("a", None)).unwrap();
    assert_eq!(check(&path, &query).unwrap().query.as_deref(), Some("format=raw&x=1"));
    // Parameters may come in any order, for proxies sort them.
    let mut pairs: Vec<_> = query.split('&').collect();
    pairs.reverse();
    assert_eq!(check(&path, &pairs.join("&")).unwrap().query.as_deref(), Some("x=1&format=raw"));
    let query = sign(&keys(), &path, None, terms("a", None)).unwrap();
    assert_eq!(check(&path, &query).unwrap().query, None);
}

/// Every byte of the URL, turned into every other that can stand in one.
#[test]
fn not_one_byte_of_a_signed_url_can_be_altered() {
    let path = format!("/ipfs/{CID}/dir/a%20b.png");
    let query = sign(&keys(), &path, Some("format=raw&x=1"), terms("a", None)).unwrap();
    check(&path, &query).unwrap();
    let alter = |text: &str, at: usize, to: u8| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = to;
        String::from_utf8(bytes).unwrap()
    };
    for to in b'!'..=b'~' {
        for at in (0..path.len()).filter(|at| path.as_bytes()[*at] != to) {
            let altered = alter(&path, at, to);
            assert!(check(&altered, &query).is_err(), "{altered}");
        }
        for at in (0..query.len()).filter(|at| query.as_bytes()[*at] != to) {
            let altered = alter(&query, at, to);
            assert!(check(&path, &altered).is_err(), "{altered}");
        }
    }
    for extra in ["&y", "&", "&format=raw", "&expires=1900000000", "&key=a", "&depth=0"] {
        assert!(check(&path, &format!("{query}{extra}")).is_err(), "{extra}");
    }
    for cut in 0..query.len() {
        assert!(check(&path, &query[..cut]).is_err(), "{cut}");
    }
    for other in [format!("{path}/"), format!("/ipns/{CID}"), path.to_uppercase()] {
        assert_eq!(check(&other, &query), Err(Refused::Invalid), "{other}");
    }
}

#[test]
fn a_directory_is_signed_with_all_below_it_and_nothing_beside_it() {
    let root = format!("/ipfs/{CID}");
    let query = sign(&keys(), &format!("{root}/dir/"), None, terms("a", Some(1))).unwrap();
    for path in ["/dir/", "/dir/a.png", "/dir/b/c", "/dir//"] {
        assert!(check(&format!("{root}{path}"), &query).is_ok(), "{path}");
        assert!(check(&format!("{root}{path}"), &format!("format=raw&{query}")).is_ok());
    }
    for path in ["", "/", "/dir", "/dirs/a", "/other/a", "//dir/a", "/di/r/a", "/%64ir/a"] {
        assert!(check(&format!("{root}{path}"), &query).is_err(), "{path}");
    }
    for depth in [0, 2] {
        let query = query.replace("depth=1", &format!("depth={depth}"));
        assert!(check(&format!("{root}/dir/a/b"), &query).is_err(), "{depth}");
    }
    let query = query.replace("depth=1&", "");
    assert!(check(&format!("{root}/dir/"), &query).is_err());
}

#[test]
fn the_cookie_of_a_directory_is_good_for_it_alone() {
    let root = format!("/ipfs/{CID}");
    let query = sign(&keys(), &format!("{root}/dir/"), None, terms("a", Some(1))).unwrap();
    let grant = check(&format!("{root}/dir/"), &query).unwrap();
    let cookie = |value: &str| format!("x=1; estuary-signed=0.1.a.AA; {COOKIE}={value}; y=2");
    let value = grant.directory.clone().unwrap().cookie;
    let with = |path: &str, query: &str, value: &str| {
        check_at(NOW, &format!("{root}{path}"), query, &cookie(value))
    };
    assert_eq!(with("/dir/a.png", "format=raw", &value).unwrap().query.unwrap(), "format=raw");
    assert!(with("/other/a.png", "", &value).is_err());
    let late = check_at(NOW + 60, &format!("{root}/dir/a"), "", &format!("{COOKIE}={value}"));
    assert_eq!(late, Err(Refused::Expired));
    for at in 0..value.len() {
        let mut altered = value.clone().into_bytes();
        altered[at] = if altered[at] == b'1' { b'2' } else { b'1' };
        let altered = String::from_utf8(altered).unwrap();
        assert!(with("/dir/a.png", "", &altered).is_err(), "{altered}");
    }

    let bind = |site: &Site, original: &str, cache: &'static str, location: Option<&str>| {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        if let Some(location) = location {
            headers.insert(header::LOCATION, location.parse().unwrap());
        }
        grant.bind(&mut response, (site, original), true, NOW);
        let get = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
        [header::CACHE_CONTROL, header::SET_COOKIE, header::LOCATION]
            .map(|name| get(name).to_owned())
    };
    let immutable = "public, max-age=29030400, immutable";
    let original = format!("{root}/dir/b");
    let to = format!("{root}/dir/b/");
    let [cache, set, location] = bind(&Site::Path, &original, immutable, Some(&to));
    assert_eq!(cache, "private, max-age=60");
    let attributes = "Max-Age=60; HttpOnly; SameSite=Lax; Secure";
    assert_eq!(set, format!("{COOKIE}={value}; Path={root}/dir/; {attributes}"));
    assert_eq!(location, format!("{to}?{query}"));
    let origin =
        crate::gateway::site::Origin { host: "gateway.example".into(), url_path: "/dir/b".into() };
    let [cache, set, _] = bind(&Site::Subdomain(origin), &original, "public, max-age=5", None);
    assert_eq!(cache, "private, max-age=5");
    assert_eq!(set, format!("{COOKIE}={value}; Path=/dir/; {attributes}"));
    assert_eq!(bind(&Site::Path, &original, "no-store", None)[0], "no-store");
    assert_eq!(bind(&Site::Path, &original, "public", None)[0], "private, no-cache");
}

#[test]
fn keys_take_over_from_one_another() {
    let path = format!("/ipfs/{CID}");
    for key in ["a", "b"] {
        let query = sign(&keys(), &path, None, terms(key, None)).unwrap();
        assert!(check(&path, &query).is_ok());
        let other = if key == "a" { "key=b" } else { "key=a" };
        assert!(check(&path, &query.replace(&format!("key={key}"), other)).is_err());
    }
    assert_eq!(sign(&keys(), &path, None, terms("c", None)), None);
    let old = SigningKeys::new([("old", "00".repeat(32))]).unwrap();
    let query = sign(&old, &path, None, terms("old", None)).unwrap();
    assert_eq!(check(&path, &query), Err(Refused::Invalid));
}

#[test]
fn no_secret_is_shown_and_no_weak_one_taken() {
    let secret = "5ec7".repeat(16);
    let keys = SigningKeys::new([("a", &secret)]).unwrap();
    let shown = format!("{keys:?} {}", serde_json::to_string(&keys).unwrap());
    assert!(shown.contains("\"a\"") && !shown.contains("5ec7"), "{shown}");
    let bad = |id: &str, secret: &str| SigningKeys::new([(id, secret)]).unwrap_err();
    for weak in ["", "5ec7", &"5ec7".repeat(15), "not hex and not base64url!"] {
        let told = bad("a", weak);
        assert_eq!(told, BadKey::Secret("a".into()));
        assert!(!told.to_string().contains("5ec7"));
    }
    for id in ["", "a b", "a.b", "a&b", "ü", &"a".repeat(65)] {
        assert_eq!(bad(id, &secret), BadKey::Id);
    }
    let text = format!("\"a:{secret},b:{secret}\"");
    let keys: SigningKeys = serde_json::from_str(&text).unwrap();
    assert_eq!(keys.ids().collect::<Vec<_>>(), ["a", "b"]);
    let base64 = BASE64URL_NOPAD.encode(&[7; 32]);
    assert!(SigningKeys::new([("a", base64)]).is_ok());
}

proptest! {
    #[test]
    fn nothing_that_is_sent_is_taken_for_signed(
        path in "/ipfs/[a-z0-9/%.]{0,60}",
        query in "((depth|expires|key|signature|x)=[a-zA-Z0-9_-]{0,50}&?){0,6}",
        cookie in "(estuary-signed=[0-9a-zA-Z._-]{0,80}; ?){0,10}",
    ) {
        prop_assert!(check_at(NOW, &path, &query, &cookie).is_err());
    }
}
