use libp2p_identity::Keypair;
use time::OffsetDateTime;

use super::*;
use crate::db;
use crate::metrics::Registry;
use crate::routing::RecordError;
use crate::testing::dns::DnsServer;
use crate::testing::ipns::{Draft, keypairs, name_of};

fn names(fixed: &[String]) -> Names {
    let fixed = NameMap::parse(fixed).unwrap();
    Names::new(Parts { fixed, ..Parts::default() }, Metrics::register(&Registry::new()).unwrap())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn resolve(names: &Names, name: &str) -> Result<Resolved, Error> {
    names.resolve(&Name::parse(name).unwrap(), soon()).await
}

/// `a1.test` to `a2.test` and so on, and the last to content.
fn chain(length: usize) -> Vec<String> {
    let link = |n: usize| match n {
        n if n == length => format!("a{n}.test:/ipfs/bafkqaaa/d{n}"),
        n => format!("a{n}.test:/ipns/A{}.TEST./d{n}", n + 1),
    };
    (1..=length).map(link).collect()
}

#[tokio::test]
async fn a_name_leads_through_names_and_the_paths_add_up() {
    let resolved = resolve(&names(&chain(3)), "a1.test").await.unwrap();
    assert_eq!(resolved.root.to_string(), "bafkqaaa");
    assert_eq!(resolved.segments, ["d3", "d2", "d1"]);
    assert_eq!(resolved.ttl, None);
}

#[tokio::test]
async fn thirty_two_names_are_followed_and_no_more() {
    assert!(resolve(&names(&chain(32)), "a1.test").await.is_ok());
    let error = resolve(&names(&chain(33)), "a1.test").await.unwrap_err();
    assert!(matches!(&error, Error::Recursion(name) if &**name == "a1.test"), "{error:?}");
}

#[tokio::test]
async fn loops_of_names_end() {
    let looping = ["a.test:/ipns/b.test", "b.test:/ipns/a.test", "c.test:/ipns/c.test/x"];
    let names = names(&looping.map(str::to_owned));
    for name in ["a.test", "c.test"] {
        let error = resolve(&names, name).await.unwrap_err();
        assert!(matches!(error, Error::Recursion(_)), "{name}: {error:?}");
    }
    let counted = names.metrics.resolutions.with_label_values(&["dnslink", "recursion"]);
    assert_eq!(counted.get(), 2);
}

#[tokio::test]
async fn what_leads_nowhere_is_not_found() {
    let names = names(&["a.test:/ipns/b.test".to_owned()]);
    let error = resolve(&names, "a.test").await.unwrap_err();
    assert!(error.to_string().contains("offline"), "{error}");
    let key = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
    assert!(matches!(resolve(&names, key).await, Err(Error::NoRecord(_))));
}

#[tokio::test]
async fn a_domain_has_a_dnslink_even_where_that_leads_nowhere() {
    let names = names(&["a.test:/ipns/b.test".to_owned()]);
    let check = async |domain: &str, want: bool| {
        assert_eq!(names.has_dnslink(domain, soon()).await.unwrap(), want, "{domain}");
    };
    check("a.test", true).await;
    check("A.test.", true).await;
    check("b.test", false).await;
    check("127.0.0.1", false).await;
    check("not a domain", false).await;
    check("k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r", false).await;
}

/// Names over a database in this directory, and over this server where there is one.
fn opened(dir: &std::path::Path, server: Option<&DnsServer>) -> (Names, Db) {
    let registry = Registry::new();
    let metrics = db::Metrics::register(&registry).unwrap();
    let db = Db::open(&dir.join("db"), &db::Config::default(), metrics).unwrap();
    let metrics = Metrics::register(&registry).unwrap();
    let mut config = Config::default();
    config.resolvers.extend(server.map(|server| format!(".:{}", server.address())));
    let offline = server.is_none();
    let parts = Parts::open(&config, offline, db.clone(), &Tasks::new(), &metrics).unwrap();
    (Names::new(parts, metrics), db)
}

fn keypair() -> Keypair {
    keypairs().unwrap().remove(0)
}

async fn put(names: &Names, draft: &Draft) -> Result<(Record, Put), Error> {
    let keypair = keypair();
    names.put(&name_of(&keypair).unwrap(), draft.sign(&keypair).unwrap().into()).await
}

fn own_name() -> String {
    name_of(&keypair()).unwrap().to_string()
}

fn at(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds.try_into().unwrap()).unwrap()
}

#[tokio::test]
async fn a_record_that_was_put_is_what_its_name_stands_for() {
    let dir = tempfile::tempdir().unwrap();
    let (names, _db) = opened(dir.path(), None);
    assert!(matches!(resolve(&names, &own_name()).await, Err(Error::NoRecord(_))));
    let (record, kept) = put(&names, &Draft::new("/ipfs/bafkqaaa/a/b")).await.unwrap();
    assert_eq!(kept, Put::Kept);
    let resolved = resolve(&names, &own_name()).await.unwrap();
    assert_eq!(resolved.segments, ["a", "b"]);
    assert_eq!(resolved.ttl, Some(Duration::from_secs(1800)));
    let key = name_of(&keypair()).unwrap();
    assert_eq!(names.record(&key).unwrap(), record);
    assert_eq!(names.list(None, 10).unwrap(), [(key.clone(), record)]);
    assert_eq!(names.list(Some(&key), 10).unwrap(), []);
    assert_eq!(names.metrics.held_records.get(), 1);
    assert!(names.remove(&key).await.unwrap());
    assert!(!names.remove(&key).await.unwrap());
    assert!(matches!(names.record(&key), Err(Error::NoRecord(_))));
    assert_eq!(names.metrics.held_records.get(), 0);
}

#[tokio::test]
async fn the_sequence_never_goes_back_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (names, db) = opened(dir.path(), None);
    let draft = |sequence| Draft::new(&format!("/ipfs/bafkqaaa/{sequence}")).sequence(sequence);
    put(&names, &draft(5)).await.unwrap();
    assert_eq!(put(&names, &draft(5)).await.unwrap().1, Put::Same);
    for restarted in [false, true] {
        let again;
        let names = if restarted {
            db.close().unwrap();
            again = opened(dir.path(), None);
            &again.0
        } else {
            &names
        };
        let error = put(names, &draft(4)).await.unwrap_err();
        assert!(matches!(error, Error::Older { sequence: 4, held: 5, .. }), "{error:?}");
        assert_eq!(resolve(names, &own_name()).await.unwrap().segments, ["5"]);
        if restarted {
            put(names, &draft(6)).await.unwrap();
            assert_eq!(resolve(names, &own_name()).await.unwrap().segments, ["6"]);
        }
    }
}

#[tokio::test]
async fn a_record_that_has_ended_is_an_error_and_none_takes_its_place_but_a_newer() {
    let dir = tempfile::tempdir().unwrap();
    let (names, _db) = opened(dir.path(), None);
    let ended = Draft::new("/ipfs/bafkqaaa").sequence(7).ends(at(now_unix() - 5));
    assert!(matches!(put(&names, &ended).await, Err(Error::Expired(_))));
    let keypair = keypair();
    let key = name_of(&keypair).unwrap();
    let record = Record::verify(&key, ended.sign(&keypair).unwrap().into()).unwrap();
    names.records().unwrap().put(&key, record).await.unwrap();
    assert!(matches!(resolve(&names, &own_name()).await, Err(Error::Expired(_))));
    assert_eq!(names.max_age(&names.record(&key).unwrap()), None);
    let older = Draft::new("/ipfs/bafkqaaa").sequence(6);
    assert!(matches!(put(&names, &older).await, Err(Error::Older { .. })));
    put(&names, &Draft::new("/ipfs/bafkqaaa").sequence(8)).await.unwrap();
    assert!(resolve(&names, &own_name()).await.is_ok());
}

#[tokio::test]
async fn a_ttl_is_the_least_of_what_the_record_its_end_and_the_configuration_say() {
    let dir = tempfile::tempdir().unwrap();
    let (names, _db) = opened(dir.path(), None);
    let ttl = async |draft: Draft| {
        put(&names, &draft).await.unwrap();
        resolve(&names, &own_name()).await.unwrap().ttl
    };
    let seconds = |seconds: i128| Some(ipld_core::ipld::Ipld::Integer(seconds * 1_000_000_000));
    let draft = |sequence| Draft::new("/ipfs/bafkqaaa").sequence(sequence);
    assert_eq!(ttl(draft(1).with("TTL", seconds(60))).await, Some(Duration::from_secs(60)));
    assert_eq!(
        ttl(draft(2).with("TTL", seconds(9_000_000_000))).await,
        Some(Duration::from_secs(86_400))
    );
    assert_eq!(ttl(draft(3).with("TTL", seconds(-1))).await, Some(Duration::ZERO));
    assert_eq!(ttl(draft(4).with("TTL", None)).await, None);
    let soon = ttl(draft(5).ends(at(now_unix() + 100))).await.unwrap();
    assert!((90..=100).contains(&soon.as_secs()), "{soon:?}");
}

#[tokio::test]
async fn what_is_no_record_of_the_key_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (names, _db) = opened(dir.path(), None);
    let key = name_of(&keypair()).unwrap();
    let other = Draft::new("/ipfs/bafkqaaa").sign(&keypairs().unwrap()[3]).unwrap();
    for (bytes, want) in [(Vec::new(), RecordError::Version1), (other, RecordError::Key)] {
        match names.put(&key, bytes.into()).await {
            Err(Error::Invalid { error, .. }) => assert_eq!(error, want),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(names.list(None, 1).unwrap(), []);
}

#[tokio::test]
async fn a_row_that_was_changed_on_disk_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (names, db) = opened(dir.path(), None);
    put(&names, &Draft::new("/ipfs/bafkqaaa")).await.unwrap();
    let table = db::Table::new("ipns_records");
    let changed = db.write(move |tx| {
        for (key, mut row) in tx.rows(table, std::ops::Bound::Unbounded, 1)? {
            *row.last_mut().unwrap() ^= 1;
            tx.put(table, &key, &row)?;
        }
        Ok::<_, db::Error>(())
    });
    changed.await.unwrap();
    assert!(matches!(resolve(&names, &own_name()).await, Err(Error::Db(_))));
    // It may be put anew.
    put(&names, &Draft::new("/ipfs/bafkqaaa")).await.unwrap();
    assert!(resolve(&names, &own_name()).await.is_ok());
}

#[tokio::test]
async fn names_lead_from_records_to_dnslinks_and_back_and_loops_end_after_32_lookups() {
    let dir = tempfile::tempdir().unwrap();
    let server = DnsServer::start().unwrap();
    let (names, _db) = opened(dir.path(), Some(&server));
    put(&names, &Draft::new("/ipns/b.test/r").with("TTL", None)).await.unwrap();
    server.link("a.test", 100, &format!("/ipns/{}/a", own_name()));
    server.link("b.test", 50, "/ipfs/bafkqaaa/b");
    let resolved = resolve(&names, "a.test").await.unwrap();
    assert_eq!(resolved.segments, ["b", "r", "a"]);
    let ttl = resolved.ttl.unwrap().as_secs();
    assert!((40..=50).contains(&ttl), "the shortest of the chain: {ttl}");
    // Round and round: domain to key to domain.
    server.link("loop.test", 100, &format!("/ipns/{}", own_name()));
    put(&names, &Draft::new("/ipns/loop.test").sequence(9)).await.unwrap();
    for name in ["loop.test", &own_name()] {
        assert!(matches!(resolve(&names, name).await, Err(Error::Recursion(_))), "{name}");
    }
    assert_eq!(server.asked("_dnslink.loop.test"), 1);
    // A chain of 33 domains.
    let asked = server.questions();
    for n in 1..=33 {
        server.link(&format!("c{n}.test"), 100, &format!("/ipns/c{}.test", n + 1));
    }
    server.link("c34.test", 100, "/ipfs/bafkqaaa");
    assert!(matches!(resolve(&names, "c1.test").await, Err(Error::Recursion(_))));
    assert_eq!(server.questions() - asked, 32);
    assert!(resolve(&names, "c3.test").await.is_ok());
}

#[tokio::test]
async fn a_resolution_ends_with_its_request_and_after_ten_seconds_at_the_latest() {
    let dir = tempfile::tempdir().unwrap();
    let server = DnsServer::start().unwrap();
    let (names, _db) = opened(dir.path(), Some(&server));
    server.say("_dnslink.a.test", crate::testing::dns::Says::Silence);
    let started = Instant::now();
    let name = Name::parse("a.test").unwrap();
    let soon = Instant::now() + Duration::from_millis(100);
    assert!(matches!(names.resolve(&name, soon).await, Err(Error::Timeout(_))));
    assert!(matches!(names.has_dnslink("a.test", soon).await, Err(Error::Timeout(_))));
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(RESOLVE_MS_MAX <= 10_000);
}

#[tokio::test]
async fn a_node_that_is_offline_asks_no_dns() {
    let dir = tempfile::tempdir().unwrap();
    let (names, _db) = opened(dir.path(), None);
    assert!(names.parts.dns.is_none());
    assert!(matches!(resolve(&names, "a.test").await, Err(Error::Unavailable { .. })));
    assert!(!names.has_dnslink("a.test", soon()).await.unwrap());
}
