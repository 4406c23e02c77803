//! A private gateway: it answers whoever has a signed URL.

use std::net::IpAddr;

use super::*;
use crate::gateway::signed::{Signed, SigningKeys};
use crate::gateway::signed::{Terms, sign};
use crate::testing::ipns::{Draft, keypairs, name_of};

fn private() -> (World, SigningKeys) {
    let keys = SigningKeys::new([("k", "5e".repeat(32))]).unwrap();
    let mut world = world();
    let config =
        Config { signed: Signed::Required, signing_keys: keys.clone(), ..Config::default() };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    world.gateway = Gateway::new(world.gateway.parts.clone(), &config, &metrics);
    (world, keys)
}

async fn ask(world: &World, method: Method, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let peer = Peer { address: Some(IpAddr::from([192, 0, 2, 1])), secure: false };
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = world.gateway.respond(request.body(()).unwrap(), peer).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, body, whole: true }
}

#[tokio::test]
async fn a_signed_url_works_and_an_unsigned_one_does_not() {
    let (world, keys) = private();
    let cid = world.raw("private");
    let path = format!("/ipfs/{cid}");
    let terms = Terms { expires: now_unix() + 100, key: "k", depth: None };
    let query = sign(&keys, &path, None, terms).unwrap();
    for method in [Method::GET, Method::HEAD] {
        let answer = ask(&world, method, &format!("{path}?{query}"), &[]).await;
        assert_eq!(answer.status, 200);
        let cache = answer.header("cache-control");
        let lasts = cache.strip_prefix("private, max-age=").unwrap();
        assert!((90..=100).contains(&lasts.parse::<u64>().unwrap()), "{cache}");
        assert_eq!(answer.header("x-ipfs-path"), path);
        assert_eq!(answer.header("set-cookie"), "");
    }
    let etag = format!("\"{cid}\"");
    let held = [("if-none-match", etag.as_str())];
    let again = ask(&world, Method::GET, &format!("{path}?{query}"), &held).await;
    assert_eq!(again.status, 304);
    assert!(again.header("cache-control").starts_with("private"));
    for uri in [path.clone(), format!("{path}?format=raw"), format!("{path}?{query}&format=raw")] {
        for headers in [&[][..], &held] {
            let answer = ask(&world, Method::GET, &uri, headers).await;
            assert_eq!((answer.status, answer.header("cache-control")), (403, "no-store"), "{uri}");
            assert!(answer.text().lines().count() == 1 && answer.text().contains("signed"));
        }
    }
    let old = Terms { expires: 1_000_000_000, ..terms };
    let query = sign(&keys, &path, None, old).unwrap();
    let answer = ask(&world, Method::GET, &format!("{path}?{query}"), &[]).await;
    assert!(answer.status == 403 && answer.text().contains("expired"), "{}", answer.text());
    // Health checks, preflights and the operator need none.
    assert_eq!(ask(&world, Method::GET, "/ipfs/bafkqaaa", &[]).await.status, 200);
    assert_eq!(ask(&world, Method::OPTIONS, &path, &[]).await.status, 200);
    assert_eq!(world.get(&path).await.text(), "private");
}

#[tokio::test]
async fn the_signature_shows_in_no_header_about_the_content() {
    let (world, keys) = private();
    let cid = world.raw("private");
    let path = format!("/ipfs/{cid}");
    let terms = Terms { expires: now_unix() + 100, key: "k", depth: None };
    let query = sign(&keys, &path, Some("download=true"), terms).unwrap();
    let accept = [("accept", "application/vnd.ipld.raw")];
    let signed = ask(&world, Method::GET, &format!("{path}?{query}"), &accept).await;
    assert_eq!(signed.status, 200);
    assert_eq!(signed.header("content-location"), format!("{path}?download=true&format=raw"));
    assert_eq!(signed.header("etag"), format!("\"{cid}.raw\""));
}

#[tokio::test]
async fn a_signed_page_loads_its_parts_by_relative_links() {
    let (world, keys) = private();
    let (index, image) = (world.raw("<img src=a.png>"), world.raw("image"));
    let sub = world.store.add_directory([("b.png", image)]).unwrap();
    let site =
        world.store.add_directory([("a.png", image), ("index.html", index), ("sub", sub)]).unwrap();
    let root = world.store.add_directory([("site", site), ("other", index)]).unwrap();
    let path = format!("/ipfs/{root}/site/");
    let terms = Terms { expires: now_unix() + 100, key: "k", depth: Some(1) };
    let query = sign(&keys, &path, None, terms).unwrap();
    let page = ask(&world, Method::GET, &format!("{path}?{query}"), &[]).await;
    assert_eq!((page.status, page.text()), (200, "<img src=a.png>"));
    let set = page.header("set-cookie");
    assert!(set.contains(&format!("; Path={path}; ")) && set.contains("HttpOnly"), "{set}");
    let cookie = [("cookie", set.split(';').next().unwrap())];
    let get = async |path: &str| ask(&world, Method::GET, path, &cookie).await;
    let part = get(&format!("{path}a.png")).await;
    assert_eq!((part.status, part.text()), (200, "image"));
    assert!(part.header("cache-control").starts_with("private, max-age="));
    assert_eq!(get(&format!("{path}sub/b.png")).await.status, 200);
    assert_eq!(get(&format!("/ipfs/{root}/other")).await.status, 403);
    assert_eq!(get(&format!("/ipfs/{image}")).await.status, 403);
    // A client without cookies is led on with its signature.
    let moved = ask(&world, Method::GET, &format!("{path}sub?{query}"), &[]).await;
    assert_eq!(moved.status, 301);
    assert_eq!(moved.header("location"), format!("{path}sub/?{query}"));
    let there = ask(&world, Method::GET, moved.header("location"), &[]).await;
    assert_eq!(there.status, 200);
}

#[tokio::test]
async fn a_rule_of_a_signed_site_gives_its_signature_to_no_other_site() {
    let (world, keys) = private();
    let rules = world.raw("/away https://other.example/ 302\n/far //other.example 302\n/near /b#c 302\n/q /b?d=e 302\n");
    let site = world.store.add_directory([("_redirects", rules), ("b", world.raw("b"))]).unwrap();
    let terms = Terms { expires: now_unix() + 100, key: "k", depth: Some(0) };
    let query = sign(&keys, &format!("/ipfs/{site}/"), None, terms).unwrap();
    let host = format!("{site}.ipfs.localhost");
    for (path, location) in [
        ("/away", "https://other.example/".to_owned()),
        ("/far", "//other.example".to_owned()),
        ("/near", format!("/b?{query}#c")),
        ("/q", format!("/b?d=e&{query}")),
    ] {
        let uri = format!("{path}?{query}");
        let moved = ask(&world, Method::GET, &uri, &[("host", &host)]).await;
        assert_eq!((moved.status, moved.header("location")), (302, location.as_str()));
        assert!(moved.header("cache-control").starts_with("private, max-age="));
    }
}

#[tokio::test]
async fn a_signed_record_of_a_name_is_kept_by_no_shared_cache() {
    let (mut world, keys) = private();
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::new());
    let metrics = crate::db::Metrics::register(&registry).unwrap();
    let config = crate::db::Config::default();
    let db = crate::db::Db::open(&dir.path().join("db"), &config, metrics).unwrap();
    let metrics = routing::Metrics::register(&registry).unwrap();
    let (config, tasks) = (routing::Config::default(), crate::task::Tasks::new());
    let parts = routing::Parts::open(&config, true, db, &tasks, &metrics).unwrap();
    let names = Names::new(parts, metrics);
    let keypair = keypairs().unwrap().remove(0);
    let key = name_of(&keypair).unwrap();
    let record = Draft::new("/ipfs/bafkqaaa").sign(&keypair).unwrap();
    names.put(&key, record.into()).await.unwrap();
    world.gateway.parts.names = names;

    let path = format!("/ipns/{key}");
    let terms = Terms { expires: now_unix() + 100, key: "k", depth: None };
    let query = sign(&keys, &path, Some("format=ipns-record"), terms).unwrap();
    let answer = ask(&world, Method::GET, &format!("{path}?{query}"), &[]).await;
    assert_eq!(answer.status, 200);
    let tag = [("if-none-match", answer.header("etag"))];
    let again = ask(&world, Method::GET, &format!("{path}?{query}"), &tag).await;
    assert_eq!(again.status, 304);
    for answer in [&answer, &again] {
        let cache = answer.header("cache-control");
        let lasts = cache.strip_prefix("private, max-age=").unwrap_or_default();
        assert!(lasts.parse::<u64>().is_ok_and(|lasts| lasts <= 100), "{cache}");
    }
}

#[tokio::test]
async fn a_signature_outlives_every_redirect_of_its_root() {
    let (world, keys) = private();
    let cid = world.store.add_directory([("a", world.raw("private"))]).unwrap();
    let v0 = Cid::new_v0(*cid.hash()).unwrap().to_string();
    let base36 = multibase::encode(multibase::Base::Base36Lower, cid.to_bytes());
    let terms = Terms { expires: now_unix() + 100, key: "k", depth: None };
    for root in [v0, base36, cid.to_string()] {
        let path = format!("/ipfs/{root}/");
        let query = sign(&keys, &path, None, terms).unwrap();
        let moved =
            ask(&world, Method::GET, &format!("{path}?{query}"), &[("host", "localhost")]).await;
        assert_eq!(moved.status, 301);
        let to: http::Uri = moved.header("location").parse().unwrap();
        let host = [("host", to.host().unwrap())];
        let there = ask(&world, Method::GET, to.path_and_query().unwrap().as_str(), &host).await;
        assert_ne!(there.status, 403, "{root}");
        let by_path = ask(&world, Method::GET, &format!("/ipfs/{cid}/?{query}"), &[]).await;
        assert_ne!(by_path.status, 403, "{root}");
    }
    let peer_id = "12D3KooWGjMCwKnVfdyvVRwGQpDVLLEyYnkrFUJKRzPnBgHqJnEz";
    let query = sign(&keys, &format!("/ipns/{peer_id}"), None, terms).unwrap();
    let found = ask(&world, Method::GET, &format!("/ipns/{peer_id}?{query}"), &[]).await;
    assert_eq!(found.status, 302);
    let there = ask(&world, Method::GET, found.header("location"), &[]).await;
    assert_eq!(there.status, 502, "it is let in, and has no record");
}

#[tokio::test]
async fn the_cookie_is_for_tls_alone_where_the_proxy_speaks_it() {
    let (mut world, keys) = private();
    let trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
    let config = Config { trusted_proxies, ..Config::default() };
    let site = world.store.add_directory([("a", world.raw("a"))]).unwrap();
    let terms = Terms { expires: now_unix() + 100, key: "k", depth: Some(0) };
    let path = format!("/ipfs/{site}/");
    let uri = format!("{path}?{}", sign(&keys, &path, None, terms).unwrap());
    let told = [("x-forwarded-proto", "https")];
    let is_secure = async |world: &World, headers: &[(&str, &str)]| {
        let page = ask(world, Method::GET, &uri, headers).await;
        assert!(page.status == 200 && page.header("set-cookie").contains("HttpOnly"));
        page.header("set-cookie").ends_with("; Secure")
    };
    assert!(!is_secure(&world, &told).await, "a stranger says so");
    world.gateway.hosts = Hosts::new(&config, config.trusted_proxies.as_slice().into());
    assert!(is_secure(&world, &told).await);
    assert!(!is_secure(&world, &[("x-forwarded-proto", "http")]).await);
    assert!(!is_secure(&world, &[]).await);
}
