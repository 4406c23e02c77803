//! The DHT as a router: of content, of peers, and of records of names.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol as Piece};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::block::Cid;
use crate::network::Guard;
use crate::p2p::P2p;
use crate::p2p::dht::{Dht, Part, Position, Region, Setup, Validator};
use crate::provider::{ContentRouter, Protocol, Protocols, Provider, RouterError};
use crate::task::{Tasks, now_unix};

use super::content::FindPeer;
use super::ipns::Record;
use super::lookup::RecordRouter;
use super::metrics::Metrics;
use super::name::Key;
use super::provide::Announcer;
use super::{Config, DhtMode};

/// The name of this router.
pub(super) const NAME: &str = "dht";
/// What stands before the key of a name in the DHT (IPNS specification, "Routing record").
const NAMESPACE: &[u8] = b"/ipns/";
/// How often the peers of the tables are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How long a peer is looked for.
const FIND_TIMEOUT: Duration = Duration::from_secs(10);

impl ContentRouter for Dht {
    fn providers(
        &self,
        cid: &Cid,
        deadline: Instant,
    ) -> BoxStream<'static, Result<Provider, RouterError>> {
        let found = Self::providers(self, &cid.hash().to_bytes());
        let found = found.map(|(peer, addresses)| Ok(provider(peer, addresses)));
        found.take_until(tokio::time::sleep_until(deadline)).boxed()
    }

    fn describe(&self) -> Arc<str> {
        "the DHT".into()
    }
}

/// Whoever is in the DHT as a provider speaks Bitswap; some say by an address that they speak HTTP
/// as well.
fn provider(peer: PeerId, addresses: Vec<Multiaddr>) -> Provider {
    let is_http = |piece: Piece<'_>| matches!(piece, Piece::Http | Piece::Https);
    let mut protocols = Protocols::UNKNOWN.with(Protocol::Bitswap);
    if addresses.iter().any(|address| address.iter().any(is_http)) {
        protocols = protocols.with(Protocol::Http);
    }
    Provider { peer: Some(peer), addresses, protocols, found_by: NAME }
}

/// Looks for peers in the DHT that we are not connected with.
#[must_use]
pub fn find_peer(dht: Dht) -> FindPeer {
    Arc::new(move |peer| {
        let dht = dht.clone();
        async move {
            if dht.is_connected(&peer) {
                return Vec::new();
            }
            let found = tokio::time::timeout(FIND_TIMEOUT, dht.find_peer(peer));
            found.await.unwrap_or_default()
        }
        .boxed()
    })
}

/// Takes part in the DHT as the configuration says; none where it says not to. Peers at
/// `bootstrap` lead in.
#[must_use]
pub fn join(
    config: &Config,
    p2p: &P2p,
    bootstrap: Vec<Multiaddr>,
    guard: Guard,
    tasks: &Tasks,
    metrics: &Metrics,
) -> Option<Dht> {
    let part = match config.dht {
        DhtMode::Off => return None,
        DhtMode::Client => Part::Client,
        DhtMode::Server => Part::Server,
    };
    let setup = Setup { part, guard, bootstrap, validator: validator() };
    let dht = Dht::start(p2p, setup, tasks);
    tasks.spawn(count(dht.clone(), metrics.clone(), tasks.stop_token()));
    Some(dht)
}

/// Counts the peers of the tables from time to time.
async fn count(dht: Dht, metrics: Metrics, stop: CancellationToken) {
    loop {
        let (wan, lan) = dht.peers();
        for (name, peers) in [("wan", wan), ("lan", lan)] {
            let peers = i64::try_from(peers).unwrap_or(i64::MAX);
            metrics.dht_peers.with_label_values(&[name]).set(peers);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}

/// What our server in the DHT keeps: records of names, and of each the best.
fn validator() -> Validator {
    Arc::new(|key, value, held| is_better(key, value, held).unwrap_or(false))
}

fn is_better(key: &[u8], value: &[u8], held: Option<&[u8]>) -> Option<bool> {
    let key = Key::from_hash_bytes(key.strip_prefix(NAMESPACE)?)?;
    let record = Record::verify(&key, Bytes::copy_from_slice(value)).ok()?;
    record.remaining(now_unix())?;
    let held = held.and_then(|held| Record::verify(&key, Bytes::copy_from_slice(held)).ok());
    Some(held.is_none_or(|held| record.supersedes(&held)))
}

fn record_key(key: &Key) -> Vec<u8> {
    [NAMESPACE, &key.hash().to_bytes()].concat()
}

impl RecordRouter for Dht {
    fn records(&self, key: &Key, deadline: Instant) -> BoxStream<'static, Bytes> {
        let found = Self::records(self, &record_key(key)).map(Bytes::from);
        found.take_until(tokio::time::sleep_until(deadline)).boxed()
    }

    fn publish(&self, key: &Key, record: Bytes, deadline: Instant) -> BoxFuture<'static, usize> {
        let (dht, key) = (self.clone(), record_key(key));
        async move {
            let put = tokio::time::timeout_at(deadline, dht.put_record(&key, &record));
            put.await.unwrap_or(0)
        }
        .boxed()
    }
}

/// How long the peers of a region are taken for the nearest.
const REGION_HOLDS: Duration = Duration::from_secs(60);

/// Regions remembered: as many as are announced to at a time, and some.
const REGIONS_MAX: usize = 8;

/// Announces what we provide in the DHT.
#[derive(Debug)]
pub struct DhtAnnouncer {
    dht: Dht,
    /// The regions that were announced to last, and when they were looked up.
    regions: Mutex<VecDeque<(Region, Instant)>>,
}

impl DhtAnnouncer {
    /// Announces in this DHT.
    #[must_use]
    pub fn new(dht: Dht) -> Self {
        Self { dht, regions: Mutex::default() }
    }

    /// The region of a place, looked up anew where it is another or grew old.
    async fn region(&self, key: &[u8]) -> Option<Region> {
        let position = Position::of(key);
        let fits = |(region, since): &&(Region, Instant)| {
            since.elapsed() < REGION_HOLDS && region.holds(&position)
        };
        let held = self.regions().iter().find(fits).map(|(region, _)| region.clone());
        if held.is_some() {
            return held;
        }
        let region = self.dht.region(key).await?;
        self.keep(&position, region.clone());
        Some(region)
    }

    /// Remembers the region of a place.
    fn keep(&self, position: &Position, region: Region) {
        let mut regions = self.regions();
        regions.retain(|(held, _)| !held.holds(position));
        regions.truncate(REGIONS_MAX - 1);
        regions.push_front((region, Instant::now()));
    }

    fn regions(&self) -> MutexGuard<'_, VecDeque<(Region, Instant)>> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn announce_all(&self, keys: Vec<Vec<u8>>) -> Option<Vec<usize>> {
        let mut heard = Vec::with_capacity(keys.len());
        let mut rest = keys.as_slice();
        while let Some(first) = rest.first() {
            let mut region = self.region(first).await?;
            let within = rest.iter().take_while(|key| region.holds(&Position::of(key))).count();
            let (now, later) = rest.split_at(within.max(1));
            if let Some(beside) = now.iter().find(|key| region.is_beside(&Position::of(key))) {
                region.widen(beside).await;
                self.keep(&Position::of(first), region.clone());
            }
            heard.extend(region.announce(now).await);
            rest = later;
        }
        Some(heard)
    }
}

impl Announcer for DhtAnnouncer {
    fn announce(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Option<Vec<usize>>> {
        self.announce_all(keys).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ipns::{Draft, keypairs, name_of};

    #[test]
    fn only_records_of_their_names_are_kept_and_never_older_ones() {
        for keypair in keypairs().unwrap() {
            let key = name_of(&keypair).unwrap();
            let value = "/ipfs/bafkqaaa";
            let record = |sequence| Draft::new(value).sequence(sequence).sign(&keypair).unwrap();
            let (old, new) = (record(1), record(2));
            let valid = validator();
            let at = record_key(&key);
            assert!(valid(&at, &old, None) && valid(&at, &new, Some(&old)));
            assert!(!valid(&at, &old, Some(&new)), "never back");
            assert!(!valid(&at, &new, Some(&new)), "the same is not better");
            assert!(!valid(&at, b"forged", None));
            assert!(!valid(&at[1..], &new, None), "another namespace");
            let ended = time::OffsetDateTime::UNIX_EPOCH;
            let ended = Draft::new(value).ends(ended).sign(&keypair).unwrap();
            assert!(!valid(&at, &ended, None), "expired");
        }
        let keys = keypairs().unwrap();
        let of_another = Draft::new("/ipfs/bafkqaaa").sign(&keys[0]).unwrap();
        assert!(!validator()(&record_key(&name_of(&keys[1]).unwrap()), &of_another, None));
    }

    #[test]
    fn providers_of_the_dht_speak_bitswap_and_some_http() {
        let check = |address: &str| {
            let found = provider(PeerId::random(), vec![address.parse().unwrap()]);
            (found.protocols.contains(Protocol::Bitswap), found.protocols.contains(Protocol::Http))
        };
        assert_eq!(check("/ip4/9.9.9.9/tcp/4001"), (true, false));
        assert_eq!(check("/dns4/example.com/tcp/443/tls/http"), (true, true));
    }
}
