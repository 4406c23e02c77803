use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::*;
use crate::metrics::Registry;
use crate::provider::Protocol;

/// What a router of the test says, and after how long.
type Said = Vec<(u64, Result<Provider, RouterError>)>;

/// Says what it was told to; then it ends, or never does.
struct Fake {
    says: Said,
    ends: bool,
}

impl ContentRouter for Fake {
    fn providers(&self, _: &Cid, _: Instant) -> BoxStream<'static, Result<Provider, RouterError>> {
        let says = stream::iter(self.says.clone()).then(|(after_ms, said)| async move {
            sleep(Duration::from_millis(after_ms)).await;
            said
        });
        if self.ends { says.boxed() } else { says.chain(stream::pending()).boxed() }
    }
}

fn provider(peer: PeerId, addresses: &[&str], found_by: &'static str) -> Provider {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let protocols = Protocols::UNKNOWN.with(Protocol::Bitswap);
    Provider { peer: Some(peer), addresses, protocols, found_by }
}

fn failed(router: &str) -> RouterError {
    RouterError { router: router.into(), reason: "it is down".into() }
}

fn routing(routers: Vec<(&'static str, Said, bool)>, find: Option<FindPeer>) -> Routing {
    let fake = |(name, says, ends)| {
        let router: Arc<dyn ContentRouter> = Arc::new(Fake { says, ends });
        (name, router)
    };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Routing::new(routers.into_iter().map(fake).collect(), find, metrics)
}

fn cid() -> Cid {
    "bafkqaaa".parse().unwrap()
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

const AT: &str = "/ip4/9.9.9.9/tcp/4001";
const ELSEWHERE: &str = "/ip4/9.9.9.10/tcp/4001";

#[tokio::test(start_paused = true)]
async fn the_slow_never_delay_the_fast_and_failures_are_told() {
    let (one, two) = (PeerId::random(), PeerId::random());
    let slow = vec![(20_000, Ok(provider(one, &[AT], "slow")))];
    let fast = vec![(10, Ok(provider(two, &[AT], "fast"))), (0, Err(failed("fast")))];
    let routing = routing(vec![("slow", slow, true), ("fast", fast, true)], None);
    let asked = Instant::now();
    let mut found = routing.providers(&cid(), deadline());
    assert_eq!(found.next().await.unwrap().unwrap().peer, Some(two));
    assert!(asked.elapsed() < Duration::from_millis(50));
    assert!(found.next().await.unwrap().is_err());
    assert_eq!(found.next().await.unwrap().unwrap().peer, Some(one));
    assert!(found.next().await.is_none());

    let metrics = &routing.inner.metrics;
    for (router, outcome) in [("slow", "found"), ("fast", "found")] {
        assert_eq!(metrics.lookups.with_label_values(&[router, outcome]).get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_comes_again_only_with_something_new() {
    let peer = PeerId::random();
    let says = |addresses: &'static [&'static str], by| {
        (1, Ok::<_, RouterError>(provider(peer, addresses, by)))
    };
    let one = vec![says(&[AT], "one"), says(&[AT], "one"), says(&[AT, ELSEWHERE], "one")];
    let routing = routing(vec![("one", one, true), ("two", vec![says(&[AT], "two")], true)], None);
    let found: Vec<_> = routing.providers(&cid(), deadline()).collect().await;
    let addresses: Vec<_> = found.into_iter().map(|found| found.unwrap().addresses.len()).collect();
    assert_eq!(addresses, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn providers_without_addresses_are_looked_for() {
    let (peer, hidden) = (PeerId::random(), PeerId::random());
    let find: FindPeer = Arc::new(move |sought| {
        Box::pin(async move {
            sleep(Duration::from_secs(1)).await;
            if sought == peer { vec![AT.parse().unwrap()] } else { Vec::new() }
        })
    });
    let says = vec![(1, Ok(provider(peer, &[], "dht"))), (1, Ok(provider(hidden, &[], "dht")))];
    let routing = routing(vec![("dht", says, true)], Some(find));
    let found: Vec<_> = routing.providers(&cid(), deadline()).collect().await;
    let found: Vec<_> = found.into_iter().map(|found| found.unwrap()).collect();
    assert_eq!(found.len(), 3);
    assert_eq!(found[2], provider(peer, &[AT], "dht"));
}

/// All of the DHT around the key is hostile: it names many that do not have the content, and never
/// comes to an end.
#[tokio::test(start_paused = true)]
async fn what_the_dht_hides_is_found_by_a_delegated_router() {
    let holder = PeerId::random();
    let lies = (0..100).map(|_| (50, Ok(provider(PeerId::random(), &[AT], "dht")))).collect();
    let honest = vec![(400, Ok(provider(holder, &[ELSEWHERE], "delegated")))];
    let routers = vec![("dht", lies, false), ("delegated", honest, true)];
    let routing = routing(routers, None);
    let asked = Instant::now();
    let mut found = routing.providers(&cid(), deadline());
    while found.next().await.unwrap().unwrap().peer != Some(holder) {}
    assert!(asked.elapsed() < Duration::from_secs(1));
    // Where nobody else knows either, the search still ends.
    let silent = vec![("dht", Vec::new(), false), ("delegated", vec![(1, Err(failed("x")))], true)];
    let mut found = self::routing(silent, None).providers(&cid(), deadline());
    assert!(found.next().await.unwrap().is_err());
    let end = timeout(Duration::from_secs(31), found.next()).await;
    assert!(end.unwrap().is_none());
}
