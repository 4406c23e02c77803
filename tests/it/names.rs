//! Names: records that are put by command and API, DNSLinks over real DNS, and what the gateway says
//! of them.

use std::sync::Arc;

use estuary::routing::Name;
use http::{Method, StatusCode};
use libp2p_identity::Keypair;
use tempfile::TempDir;

use super::api::{assert_refused, key, with};
use super::command::run;
use super::dns_server::{DnsServer, Says};
use super::harness::{Answer, Estuary, Process, request};

fn keypair(number: u8) -> Keypair {
    Keypair::ed25519_from_bytes([number; 32]).unwrap()
}

/// The name of an Ed25519 key: its peer id, and its CID in base36.
fn name(number: u8) -> (String, String) {
    let peer_id = keypair(number).public().to_peer_id().to_string();
    let canonical = Name::parse(&peer_id).unwrap().to_string();
    (peer_id, canonical)
}

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, (bytes.len() & 0x7f) as u8];
    if bytes.len() > 0x7f {
        out[1] |= 0x80;
        out.push((bytes.len() >> 7) as u8);
    }
    out.extend(bytes);
    out
}

fn cbor(major: u8, number: u64) -> Vec<u8> {
    [&[major << 5 | 27][..], &number.to_be_bytes()].concat()
}

fn shortest(major: u8, number: u64) -> Vec<u8> {
    match number {
        0..24 => vec![major << 5 | number as u8],
        24..256 => vec![major << 5 | 24, number as u8],
        256..65_536 => [&[major << 5 | 25][..], &(number as u16).to_be_bytes()].concat(),
        65_536..0x1_0000_0000 => [&[major << 5 | 26][..], &(number as u32).to_be_bytes()].concat(),
        _ => cbor(major, number),
    }
}

/// A record of version 2, written by hand.
fn record(number: u8, value: &str, sequence: u64, ttl_s: u64, eol: &str) -> Vec<u8> {
    let text = |text: &str| [shortest(3, text.len() as u64), text.as_bytes().to_vec()].concat();
    let bytes = |text: &str| [shortest(2, text.len() as u64), text.as_bytes().to_vec()].concat();
    let data = [
        shortest(5, 5),
        text("TTL"),
        shortest(0, ttl_s * 1_000_000_000),
        text("Value"),
        bytes(value),
        text("Sequence"),
        shortest(0, sequence),
        text("Validity"),
        bytes(eol),
        text("ValidityType"),
        shortest(0, 0),
    ]
    .concat();
    let signature = keypair(number).sign(&[b"ipns-signature:", &data[..]].concat()).unwrap();
    [bytes_field(8, &signature), bytes_field(9, &data)].concat()
}

const EOL: &str = "2099-12-31T23:59:59.123456789Z";

async fn put(node: &Estuary, name: &str, record: Vec<u8>) -> Answer {
    node.ask_operator(with(Method::PUT, &format!("/names/{name}"), &[], record)).await
}

#[tokio::test]
async fn a_record_is_put_shown_resolved_and_removed_by_commands() {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let (peer_id, canonical) = name(1);
    let file = home.path().join("record");
    let bytes = record(1, "/ipfs/bafkqaddwgevxmmraojswg33smq/a", 4, 60, EOL);
    std::fs::write(&file, &bytes).unwrap();
    let run = |args: &[&str]| run(home.path(), args, b"").stdout;
    let text = |args: &[&str]| String::from_utf8(run(args)).unwrap();
    // The first opens the store itself, the others go to the node.
    let said = text(&["name", "put", &peer_id, file.to_str().unwrap()]);
    assert_eq!(said, format!("put /ipfs/bafkqaddwgevxmmraojswg33smq/a as {canonical}\n"));
    let _node = Process::spawn_with(Arc::clone(&home), |_| {});
    assert_eq!(
        text(&["name", "ls"]),
        format!("{canonical}  4  {EOL}  /ipfs/bafkqaddwgevxmmraojswg33smq/a\n")
    );
    assert_eq!(run(&["name", "get", &format!("/ipns/{canonical}")]), bytes);
    assert_eq!(text(&["name", "resolve", &peer_id]), "/ipfs/bafkqaddwgevxmmraojswg33smq/a\n");
    assert_eq!(text(&["name", "rm", &canonical]), format!("removed {canonical}\n"));
    assert_eq!(text(&["name", "ls"]), "");
}

#[tokio::test]
async fn a_record_that_is_put_by_the_api_is_served_and_outlives_a_restart() {
    let node = Estuary::start().await;
    let cid = node.add_block("hello names").await;
    let (peer_id, name) = name(2);
    let key = format!("Bearer {}", key(&node, "user").await);
    let headers = [("authorization", key.as_str())];
    let path = format!("/names/{peer_id}");
    let bytes = record(2, &format!("/ipfs/{cid}"), 7, 1800, EOL);
    let answer = node.ask_api(with(Method::PUT, &path, &headers, bytes.clone())).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let said = answer.json();
    assert_eq!((&said["name"], &said["sequence"]), (&name.clone().into(), &7.into()));
    assert_eq!((&said["ttl_s"], &said["new"]), (&1800.into(), &true.into()));
    let shown = node.ask_api(with(Method::GET, &path, &headers, "")).await.json();
    assert_eq!(shown["value"], format!("/ipfs/{cid}"));

    let older = record(2, "/ipfs/bafkqaaa", 6, 1800, EOL);
    let node = node.restart().await;
    let refused = node.ask_api(with(Method::PUT, &path, &headers, older)).await;
    assert_refused(&refused, 409, "sequence is 7", "an older record");

    let answer = node.get(&format!("/ipns/{name}")).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello names"[..]));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1800"));
    assert_eq!(answer.header("x-ipfs-path"), Some(format!("/ipns/{name}").as_str()));
    assert_eq!(answer.header("x-ipfs-roots"), Some(cid.to_string().as_str()));
    assert_eq!(answer.header("etag"), Some(format!("\"{cid}\"").as_str()));
    assert_eq!(answer.header("last-modified"), None);
    assert_eq!(node.metric("estuary_routing_held_records").await, 1.0);
    let counted = "estuary_routing_resolutions_total{kind=\"ipns\",outcome=\"ok\"}";
    assert_eq!(node.metric(counted).await, 1.0);
}

#[tokio::test]
async fn what_is_no_good_record_is_refused_and_its_name_is_a_5xx() {
    let node = Estuary::start().await;
    let (_, own) = name(3);
    let good = record(3, "/ipfs/bafkqaaa", 1, 60, EOL);
    let mut broken = good.clone();
    broken[10] ^= 1;
    let version_1 = [bytes_field(1, b"/ipfs/bafkqaaa"), bytes_field(2, &[1; 64])].concat();
    let differs = [bytes_field(1, b"/ipfs/bafkqaddwgevxmmraojswg33smq"), good.clone()].concat();
    let expired = record(3, "/ipfs/bafkqaaa", 1, 60, "2020-01-01T00:00:00Z");
    let cases = [
        (version_1, "version 2"),
        (broken, "signature is wrong"),
        (differs, "value differs"),
        (record(4, "/ipfs/bafkqaaa", 1, 60, EOL), "signature is wrong"),
        (expired, "expired"),
        (vec![0; 10 << 10], "not protobuf"),
        (vec![0; (10 << 10) + 1], "10 KiB"),
        (Vec::new(), "version 2"),
    ];
    for (bytes, why) in cases {
        assert_refused(&put(&node, &own, bytes).await, 400, why, why);
    }
    assert_refused(&put(&node, "a.example", good).await, 400, "DNSLink", "a domain");
    let answer = node.get(&format!("/ipns/{own}")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_record_is_given_as_it_is_to_whoever_checks_it() {
    let node = Estuary::start().await;
    let (_, name) = name(5);
    let bytes = record(5, "/ipfs/bafkqaaa", 1, 1800, EOL);
    assert_eq!(put(&node, &name, bytes.clone()).await.status, StatusCode::OK);
    let path = format!("/ipns/{name}?format=ipns-record");
    let answer = node.get(&path).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &bytes[..]));
    assert_eq!(answer.header("content-type"), Some("application/vnd.ipfs.ipns-record"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1800"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let disposition = answer.header("content-disposition").unwrap();
    assert!(disposition.starts_with(&format!("attachment; filename=\"{name}.ipns-record\"")));
    let etag = answer.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "{etag}");

    let gateway = node.gateway();
    let send = |request| super::harness::send(gateway, request);
    let accept = [("accept", "application/vnd.ipfs.ipns-record")];
    let plain = format!("/ipns/{name}");
    let accepted = send(with(Method::GET, &plain, &accept, "")).await;
    assert_eq!((accepted.status, accepted.header("vary")), (StatusCode::OK, Some("Accept")));
    assert_eq!(accepted.body, bytes);
    assert_eq!(accepted.header("content-location"), Some(path.as_str()));
    let head = send(with(Method::HEAD, &path, &[], "")).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.header("content-length"), answer.header("content-length"));
    let held = send(with(Method::GET, &path, &[("if-none-match", &etag)], "")).await;
    assert_eq!((held.status, held.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(held.header("cache-control"), Some("public, max-age=1800"));
    assert_eq!(held.header("etag"), Some(etag.as_str()));
    for wrong in [format!("/ipns/{name}/a"), "/ipfs/bafkqaaa".into(), "/ipns/a.example".into()] {
        let answer = node.get(&format!("{wrong}?format=ipns-record")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

/// A node that asks this server about all domains.
async fn over(server: &DnsServer) -> Estuary {
    let resolver = format!(".:{}", server.address());
    Estuary::start_with(|config| {
        config.offline = false;
        config.routing.resolvers = vec![resolver];
    })
    .await
}

#[tokio::test]
async fn a_dnslink_is_served_for_as_long_as_its_txt_record_says() {
    let server = DnsServer::start().unwrap();
    let node = over(&server).await;
    let cid = node.add_block("hello dns").await;
    server.link("site.test", 120, &format!("/ipfs/{cid}"));
    let lookups = "estuary_routing_dns_lookups_total{outcome=\"link\"}";
    for path in ["/ipns/site.test", "/ipns/SITE.test."] {
        let answer = node.get(path).await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello dns"[..]));
        assert_eq!(answer.header("x-ipfs-path"), Some(path));
        let max_age = answer.header("cache-control").unwrap().strip_prefix("public, max-age=");
        let max_age: u32 = max_age.unwrap().parse().unwrap();
        assert!((100..=120).contains(&max_age), "{max_age}");
    }
    assert_eq!(node.metric(lookups).await, 1.0);
    assert_eq!(node.metric("estuary_routing_dns_hits_total").await, 1.0, "the second");
    let only_here = [("cache-control", "only-if-cached")];
    for (path, status) in [("/ipns/site.test", 200), ("/ipns/unasked.test", 412)] {
        let asked = with(Method::GET, path, &only_here, "");
        assert_eq!(super::harness::send(node.gateway(), asked).await.status, status, "{path}");
    }
    assert_eq!(node.metric(lookups).await, 1.0);
    // Not there, said for sure; not known, for the resolver fails; round and round.
    let missing = node.get("/ipns/none.test").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.text().contains("_dnslink.none.test"), "{}", missing.text());
    server.say("_dnslink.broken.test", Says::Code(2));
    let failed = node.get("/ipns/broken.test").await;
    assert_eq!(
        (failed.status, failed.header("retry-after")),
        (StatusCode::BAD_GATEWAY, Some("60"))
    );
    server.link("a.test", 60, "/ipns/b.test");
    server.link("b.test", 60, "/ipns/a.test");
    let looping = node.get("/ipns/a.test").await;
    assert_eq!(looping.status, StatusCode::BAD_REQUEST, "{}", looping.text());
    for path in ["/ipns/127.0.0.1", "/ipns/localhost", "/ipns/a..test", "/ipns/%5B::1%5D"] {
        assert_eq!(node.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn an_offline_node_asks_nobody() {
    let server = DnsServer::start().unwrap();
    let resolver = format!(".:{}", server.address());
    let node = Estuary::start_with(|config| {
        config.routing.resolvers = vec![resolver];
        config.routing.names = vec!["fixed.offline.test:/ipfs/bafkqaddwgevxmmraojswg33smq".into()];
    })
    .await;
    server.link("site.offline.test", 120, "/ipfs/bafkqaaa");
    assert_eq!(node.get("/ipns/site.offline.test").await.status, StatusCode::BAD_GATEWAY);
    let fixed = node.get("/ipns/fixed.offline.test?format=raw").await;
    assert_eq!((fixed.status, fixed.header("cache-control")), (StatusCode::OK, None));
    assert_eq!(server.asked_below("offline.test"), 0);
}

#[tokio::test]
async fn resolvers_that_are_none_are_told_before_anything_starts() {
    let home = TempDir::new().unwrap();
    let mut command = super::harness::program(home.path());
    command.env("ESTUARY_ROUTING__RESOLVERS", "eth.:dns.eth.limo").arg("check-config");
    let said = command.output().unwrap();
    assert_eq!(said.status.code(), Some(64));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("ESTUARY_ROUTING__RESOLVERS") && text.contains("https://host"), "{text}");
}

#[tokio::test]
async fn keys_are_asked_for_by_their_base36_form() {
    let node = Estuary::start().await;
    let (peer_id, name) = name(6);
    let answer = node.get(&format!("/ipns/{peer_id}/a%20b/?x=1&y=%20")).await;
    assert_eq!(answer.status, StatusCode::FOUND);
    assert_eq!(answer.header("location"), Some(format!("/ipns/{name}/a%20b/?x=1&y=%20").as_str()));
    let answer = node.ask_operator(request(Method::GET, &format!("/resolve/{name}"))).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}
