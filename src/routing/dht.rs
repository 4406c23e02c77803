//! The DHT as a router: of content, of peers, and of records of names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol as Piece};
use tokio::time::Instant;

use crate::block::Cid;
use crate::network::Guard;
use crate::p2p::P2p;
use crate::p2p::dht::{Dht, Part, Setup, Validator};
use crate::provider::{ContentRouter, Protocol, Protocols, Provider, RouterError};
use crate::task::{Tasks, now_unix};

use super::content::FindPeer;
use super::ipns::Record;
use super::lookup::RecordRouter;
use super::name::Key;
use super::{Config, DhtMode};

/// The name of this router.
pub(super) const NAME: &str = "dht";
/// What stands before the key of a name in the DHT (IPNS specification, "Routing record").
const NAMESPACE: &[u8] = b"/ipns/";
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
) -> Option<Dht> {
    let part = match config.dht {
        DhtMode::Off => return None,
        DhtMode::Client => Part::Client,
        DhtMode::Server => Part::Server,
    };
    let setup = Setup { part, guard, bootstrap, validator: validator() };
    Some(Dht::start(p2p, setup, tasks))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ipns::{Draft, keypairs, name_of};

    #[test]
    fn p11_only_records_of_their_names_are_kept_and_never_older_ones() {
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
