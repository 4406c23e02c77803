use std::net::SocketAddr;

use super::resolvers::Rule;
use super::*;
use crate::metrics::Registry;
use crate::routing::Name;
use crate::testing::dns::{DnsServer, Says};

fn dns_at(address: SocketAddr) -> Dns {
    let rule = Rule::parse(&format!(".:{address}")).unwrap();
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Dns::new(Resolvers::new(vec![rule]).unwrap(), Tasks::new(), metrics)
}

fn world() -> (DnsServer, Dns) {
    let server = DnsServer::start().unwrap();
    let dns = dns_at(server.address());
    (server, dns)
}

fn domain(text: &str) -> Domain {
    match Name::parse(text).unwrap() {
        Name::Domain(domain) => domain,
        Name::Key(key) => panic!("{key}"),
    }
}

async fn lookup(dns: &Dns, name: &str) -> Result<Option<(String, u64)>, String> {
    let link = dns.lookup(&domain(name)).await.map_err(|error| error.to_string())?;
    Ok(link.map(|link| (link.value.to_string(), link.ttl.as_secs())))
}

/// What is found, without its TTL, which runs down while tests run.
async fn value(dns: &Dns, name: &str) -> Option<String> {
    lookup(dns, name).await.unwrap().map(|(value, _)| value)
}

/// How many lookups there were; of questions there may be more, for some are asked again.
fn lookups(dns: &Dns) -> u64 {
    let count = |how: &&str| dns.inner.metrics.dns_lookups.with_label_values(&[*how]).get();
    ["link", "none", "failed", "dropped"].iter().map(count).sum()
}

fn linked(to: &str) -> String {
    format!("dnslink={to}")
}

#[tokio::test]
async fn a_dnslink_is_found_with_its_ttl_and_not_asked_for_again() {
    let (server, dns) = world();
    server.link("a.test", 300, "/ipfs/bafkqaaa/x");
    for _ in 0..3 {
        let (value, ttl) = lookup(&dns, "A.test.").await.unwrap().unwrap();
        assert_eq!(value, "/ipfs/bafkqaaa/x");
        assert!((290..=300).contains(&ttl), "{ttl}");
    }
    assert_eq!(lookups(&dns), 1);
    assert_eq!(dns.inner.metrics.dns_hits.get(), 2);
}

#[tokio::test]
async fn ttls_are_between_10_seconds_and_an_hour() {
    let (server, dns) = world();
    for (name, said, most) in [("a.test", 0, 10), ("b.test", 1 << 31, 3600), ("c.test", 7, 10)] {
        server.link(name, said, "/ipfs/bafkqaaa");
        let (_, ttl) = lookup(&dns, name).await.unwrap().unwrap();
        assert!((most - 5..=most).contains(&ttl), "{name}: {ttl}");
    }
}

#[tokio::test]
async fn of_several_dnslinks_the_first_in_order_counts_and_junk_is_passed_over() {
    let (server, dns) = world();
    let texts = [
        "v=spf1 -all".into(),
        linked("/ipns/b.test"),
        linked("/ipfs/bafkqabzpmjqxezq"),
        linked("/ipfs/bafkqaaa"),
        linked("/ipfs/a-broken-one"),
        "dnslink=".into(),
        "DNSLINK=/ipfs/bafkqaaa".into(),
    ];
    server.say("_dnslink.a.test", Says::Txt(60, texts.to_vec()));
    assert_eq!(value(&dns, "a.test").await.as_deref(), Some("/ipfs/bafkqaaa"));
}

#[tokio::test]
async fn the_domain_itself_is_asked_only_where_its_dnslink_name_has_none() {
    let (server, dns) = world();
    server.say("a.test", Says::Txt(60, vec![linked("/ipfs/bafkqaaa")]));
    assert_eq!(value(&dns, "a.test").await.as_deref(), Some("/ipfs/bafkqaaa"));
    server.link("b.test", 60, "/ipfs/bafkqaaa");
    server.say("b.test", Says::Txt(60, vec![linked("/ipfs/bafkqaaa/old")]));
    assert_eq!(value(&dns, "b.test").await.as_deref(), Some("/ipfs/bafkqaaa"));
    assert_eq!(server.asked("b.test"), 0);
}

#[tokio::test]
async fn aliases_are_followed_and_the_shortest_ttl_counts() {
    let (server, dns) = world();
    server.say("_dnslink.a.test", Says::Alias(40, "_dnslink.b.test".into()));
    server.link("b.test", 3000, "/ipfs/bafkqaaa");
    let (value, ttl) = lookup(&dns, "a.test").await.unwrap().unwrap();
    assert_eq!(value, "/ipfs/bafkqaaa");
    assert!((30..=40).contains(&ttl), "{ttl}");
    // One that leads to itself is no link, and ends.
    server.say("_dnslink.c.test", Says::Alias(40, "_dnslink.c.test".into()));
    assert!(!matches!(lookup(&dns, "c.test").await, Ok(Some(_))));
}

#[tokio::test]
async fn names_that_do_not_exist_are_remembered_for_a_while() {
    let (server, dns) = world();
    for _ in 0..3 {
        assert_eq!(lookup(&dns, "a.test").await, Ok(None));
    }
    assert_eq!((lookups(&dns), server.asked("a.test") > 0), (1, true));
    // A flood of random names costs what the answers take, and no more.
    for n in 0..200 {
        assert_eq!(lookup(&dns, &format!("n{n}.test")).await, Ok(None));
    }
    dns.inner.answers.run_pending_tasks();
    assert!(dns.inner.answers.weighted_size() <= CACHE_BYTES_MAX);
}

#[tokio::test]
async fn too_many_or_too_long_txt_records_are_an_error() {
    let (server, dns) = world();
    let check = async |name: &str, texts: Vec<String>, want: &str| {
        server.say(&format!("_dnslink.{name}"), Says::Txt(60, texts));
        match lookup(&dns, name).await {
            Err(error) => assert!(error.contains(want), "{error}"),
            found => assert_eq!(want, "", "{found:?}"),
        }
    };
    let link = || vec![linked("/ipfs/bafkqaaa")];
    let with = |count: usize, text: String| [link(), vec![text; count]].concat();
    check("a.test", with(63, "x".into()), "").await;
    check("b.test", with(64, "x".into()), "64").await;
    check("c.test", with(1000, "x".into()), "64").await;
    check("d.test", with(1, "x".repeat(4097)), "4 KiB").await;
    check("e.test", with(1, "x".repeat(4096)), "").await;
    check("f.test", with(1, "x".repeat(60_000)), "4 KiB").await;
    check("g.test", with(15, "x".repeat(4000)), "").await;
}

#[tokio::test]
async fn a_resolver_that_fails_is_an_error_that_is_soon_forgotten() {
    let (server, dns) = world();
    for code in [2, 5] {
        let name = format!("c{code}.test");
        server.say(&format!("_dnslink.{name}"), Says::Code(code));
        assert!(lookup(&dns, &name).await.unwrap_err().contains("cannot be resolved now"));
        let asked = lookups(&dns);
        assert!(lookup(&dns, &name).await.is_err());
        assert_eq!(lookups(&dns), asked, "it is not asked again at once");
    }
}

#[tokio::test]
async fn a_resolver_that_never_answers_takes_no_more_than_five_seconds() {
    let (server, dns) = world();
    server.say("_dnslink.a.test", Says::Silence);
    let started = Instant::now();
    assert!(lookup(&dns, "a.test").await.is_err());
    assert!(started.elapsed() < Duration::from_millis(LOOKUP_MS_MAX + 1000));
}

/// Lets the clock jump, while nothing is under way.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn answers_survive_an_outage_of_the_resolver_for_a_day() {
    let (server, dns) = world();
    server.link("a.test", 60, "/ipfs/bafkqaaa");
    assert!(value(&dns, "a.test").await.is_some());
    server.say("_dnslink.a.test", Says::Code(2));
    pass(61).await;
    for _ in 0..2 {
        let (value, ttl) = lookup(&dns, "a.test").await.unwrap().unwrap();
        assert_eq!(value, "/ipfs/bafkqaaa");
        assert!(ttl <= 30, "{ttl}");
    }
    assert_eq!(dns.inner.metrics.dns_stale.get(), 2);
    pass(STALE_S_MAX).await;
    assert!(lookup(&dns, "a.test").await.is_err());
}

#[tokio::test]
async fn an_old_answer_is_given_while_a_slow_resolver_is_waited_for() {
    let (server, dns) = world();
    server.link("a.test", 60, "/ipfs/bafkqaaa");
    assert!(value(&dns, "a.test").await.is_some());
    server.say("_dnslink.a.test", Says::Held(vec![linked("/ipfs/bafkqaaa/new")]));
    pass(61).await;
    assert_eq!(value(&dns, "a.test").await.as_deref(), Some("/ipfs/bafkqaaa"));
    server.release();
    let waiter = dns.join(&domain("a.test")).unwrap();
    waiter.answer().await.unwrap();
    assert_eq!(value(&dns, "a.test").await.as_deref(), Some("/ipfs/bafkqaaa/new"));
}

#[tokio::test]
async fn a_link_that_was_taken_away_is_gone_when_its_ttl_is_over() {
    let (server, dns) = world();
    server.link("a.test", 60, "/ipfs/bafkqaaa");
    assert!(value(&dns, "a.test").await.is_some());
    server.say("_dnslink.a.test", Says::Code(3));
    assert!(value(&dns, "a.test").await.is_some());
    pass(61).await;
    assert_eq!(value(&dns, "a.test").await, None);
}

#[tokio::test]
async fn one_domain_is_looked_up_once_however_many_wait() {
    let (server, dns) = world();
    let names: Vec<_> = (0..100).map(|n| format!("n{n}.test")).collect();
    for name in &names {
        let says = Says::Held(vec![linked("/ipfs/bafkqaaa")]);
        server.say(&format!("_dnslink.{name}"), says);
    }
    let all = names.iter().chain(&names).chain(&names);
    let waiting = futures_util::future::join_all(all.map(|name| value(&dns, name)));
    let release = async {
        while server.most_held() < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.release();
    };
    let (found, ()) = tokio::join!(waiting, release);
    assert!(found.iter().all(Option::is_some));
    assert_eq!(dns.inner.metrics.dns_lookups.with_label_values(&["link"]).get(), 100);
}

/// Waits for something that is about to happen.
async fn until(happened: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn slow_domains_of_one_owner_leave_room_for_all_others() {
    let (server, dns) = world();
    let names: Vec<_> = (0..64).map(|n| format!("n{n}.slow.test")).collect();
    for name in &names {
        server.say(&format!("_dnslink.{name}"), Says::Held(vec![linked("/ipfs/bafkqaaa")]));
    }
    server.link("a.test", 60, "/ipfs/bafkqaaa");
    let slow = futures_util::future::join_all(names.iter().map(|name| lookup(&dns, name)));
    let other = async {
        until(|| server.most_held() >= flights::LOOKUPS_OF_AN_END_MAX).await;
        assert!(value(&dns, "a.test").await.is_some());
        assert_eq!(server.most_held(), flights::LOOKUPS_OF_AN_END_MAX);
        server.release();
    };
    let (found, ()) = tokio::join!(slow, other);
    assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))), "{found:?}");
    assert!(dns.inner.flights.is_empty());
}

#[tokio::test]
async fn so_many_lookups_are_under_way_in_all() {
    let (server, dns) = world();
    let all_but_one = dns.inner.permits.acquire_many(LOOKUPS_MAX as u32 - 1).await.unwrap();
    for name in ["_dnslink.a.test", "_dnslink.b.test"] {
        server.say(name, Says::Held(vec![linked("/ipfs/bafkqaaa")]));
    }
    let release = async {
        until(|| server.most_held() > 0).await;
        server.release();
    };
    let (a, b, ()) = tokio::join!(value(&dns, "a.test"), value(&dns, "b.test"), release);
    assert_eq!((a.is_some(), b.is_some(), server.most_held()), (true, true, 1));
    drop(all_but_one);
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_any_more_is_dropped() {
    let (server, dns) = world();
    server.say("_dnslink.a.test", Says::Silence);
    let dropped = || dns.inner.metrics.dns_lookups.with_label_values(&["dropped"]).get();
    let (one, other) = (dns.join(&domain("a.test")).unwrap(), dns.join(&domain("a.test")).unwrap());
    until(|| server.asked("_dnslink.a.test") > 0).await;
    drop(one);
    tokio::task::yield_now().await;
    assert!(!dns.inner.flights.is_empty(), "somebody waits for it");
    drop(other);
    // Whoever comes before it is gone has one of its own.
    server.link("a.test", 60, "/ipfs/bafkqaaa");
    assert!(value(&dns, "a.test").await.is_some());
    until(|| dns.inner.flights.is_empty()).await;
    assert_eq!((dropped(), lookups(&dns)), (1, 2));
    assert_eq!(dns.inner.permits.available_permits(), LOOKUPS_MAX);
}

/// A log, as far as warnings go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let own = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO);
        subscriber.with_writer(move || own.clone()).finish()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn names_that_clients_choose_do_not_flood_the_log() {
    let (_server, dns) = world();
    let log = Log::default();
    let lines = || log.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count();
    tokio::time::pause();
    for (after, want) in [(0, 1), (59, 1), (1, 2)] {
        tokio::time::advance(Duration::from_secs(after)).await;
        tracing::subscriber::with_default(log.subscriber(), || {
            for n in 0..100 {
                dns.keep(&domain(&format!("n{n}.test")), Err("it failed".into()));
            }
        });
        assert_eq!(lines(), want, "after {after} s more");
    }
    assert_eq!(lookups(&dns), 300);
}

#[tokio::test]
async fn a_lookup_ends_with_the_node() {
    let (server, dns) = world();
    server.say("_dnslink.a.test", Says::Silence);
    let a = domain("a.test");
    let (found, stopped) =
        tokio::join!(dns.lookup(&a), dns.inner.tasks.stop(Duration::from_secs(1)));
    assert!(found.is_err() && stopped);
}

#[tokio::test]
async fn what_is_at_hand_is_given_without_asking() {
    let (server, dns) = world();
    server.link("a.test", 60, "/ipfs/bafkqaaa");
    let a = domain("a.test");
    assert!(matches!(dns.at_hand(&a), Err(Error::NotAtHand(_))));
    assert_eq!(lookups(&dns), 0);
    assert!(value(&dns, "a.test").await.is_some());
    assert!(dns.at_hand(&a).unwrap().is_some());
    pass(61).await;
    assert!(matches!(dns.at_hand(&a), Err(Error::NotAtHand(_))));
    assert_eq!(lookups(&dns), 1);
}

#[tokio::test]
async fn domains_of_an_end_go_to_its_resolver_over_tls() {
    let server = DnsServer::start().unwrap();
    server.link("a.test", 60, "/ipfs/bafkqaaa");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rules = [format!("eth.:https://localhost:{port}/q"), format!(".:{}", server.address())];
    let rules = rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let dns = Dns::new(Resolvers::new(rules).unwrap(), Tasks::new(), metrics);
    let hello = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 2048];
        let length = tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await.unwrap();
        hello.truncate(length);
        drop((stream, listener));
        hello
    };
    let (found, hello) = tokio::join!(lookup(&dns, "b.eth"), hello);
    assert!(found.unwrap_err().contains("cannot be resolved now"));
    assert_eq!(hello[0], 0x16, "it begins a TLS handshake");
    assert!(hello.windows(9).any(|name| name == b"localhost"), "it asks for the host by name");
    assert_eq!(server.asked_below("eth"), 0);
    assert!(value(&dns, "a.test").await.is_some());
}
