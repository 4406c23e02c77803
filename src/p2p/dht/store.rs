//! What a server keeps for others: who provides what, and records. In memory, within bounds. Pure.
//!
//! **Invariant:** where there is no more room, what is near to us stays: a flood of keys from
//! anywhere does not push out what only we and our neighbours are asked for.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::Validator;
use super::position::{Distance, Position};
use super::wire::Contact;

/// Keys that have providers here.
const PROVIDED_KEYS_MAX: usize = 1024;
/// Providers of one key.
const PROVIDERS_PER_KEY_MAX: usize = 20;
/// Keys of one provider.
const KEYS_PER_PROVIDER_MAX: usize = 512;
/// Records kept.
const RECORDS_MAX: usize = 1024;
/// How long both are kept (kad-dht specification).
const KEPT_FOR: Duration = Duration::from_secs(48 * 3600);

#[derive(Debug, Clone)]
struct Held {
    contact: Contact,
    until: Instant,
}

#[derive(Debug, Clone)]
struct Record {
    value: Vec<u8>,
    until: Instant,
}

/// What is kept for others.
pub(super) struct Store {
    position: Position,
    validator: Validator,
    providers: BTreeMap<Distance, Vec<Held>>,
    /// Keys of each provider.
    keys_of: HashMap<PeerId, usize>,
    records: BTreeMap<Distance, Record>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (keys, records) = (self.providers.len(), self.records.len());
        f.debug_struct("Store").field("keys", &keys).field("records", &records).finish()
    }
}

impl Store {
    pub(super) fn new(own: &PeerId, validator: Validator) -> Self {
        Self {
            position: Position::of_peer(own),
            validator,
            providers: BTreeMap::new(),
            keys_of: HashMap::new(),
            records: BTreeMap::new(),
        }
    }

    fn distance(&self, key: &[u8]) -> Distance {
        Position::of(key).distance(&self.position)
    }

    /// Keeps a provider of a key. Whether it is kept.
    pub(super) fn add_provider(&mut self, key: &[u8], contact: Contact, now: Instant) -> bool {
        let at = self.distance(key);
        let peer = contact.peer;
        let until = now + KEPT_FOR;
        if let Some(held) = self.providers.get_mut(&at)
            && let Some(held) = held.iter_mut().find(|held| held.contact.peer == peer)
        {
            *held = Held { contact, until };
            return true;
        }
        if self.keys_of.get(&peer).is_some_and(|keys| *keys >= KEYS_PER_PROVIDER_MAX) {
            return false;
        }
        if !self.providers.contains_key(&at) && self.providers.len() >= PROVIDED_KEYS_MAX {
            self.expire(now);
            if self.providers.len() >= PROVIDED_KEYS_MAX {
                match self.providers.last_key_value() {
                    Some((farthest, _)) if *farthest > at => {
                        let gone = self.providers.pop_last().map(|(_, held)| held);
                        gone.into_iter().flatten().for_each(|held| self.forget(&held.contact.peer));
                    }
                    _ => return false,
                }
            }
        }
        let held = self.providers.entry(at).or_default();
        let gone = (held.len() >= PROVIDERS_PER_KEY_MAX)
            .then(|| (0..held.len()).min_by_key(|at| held[*at].until))
            .flatten()
            .map(|at| held.swap_remove(at));
        held.push(Held { contact, until });
        *self.keys_of.entry(peer).or_default() += 1;
        if let Some(gone) = gone {
            self.forget(&gone.contact.peer);
        }
        true
    }

    fn forget(&mut self, peer: &PeerId) {
        if let Some(keys) = self.keys_of.get_mut(peer) {
            *keys -= 1;
            if *keys == 0 {
                self.keys_of.remove(peer);
            }
        }
    }

    /// Who provides a key.
    pub(super) fn providers(&self, key: &[u8], now: Instant) -> Vec<Contact> {
        let held = self.providers.get(&self.distance(key)).into_iter().flatten();
        held.filter(|held| held.until > now).map(|held| held.contact.clone()).collect()
    }

    /// Keeps a record that is what its key says, and better than the one that is kept. Whether it is
    /// kept.
    pub(super) fn put(&mut self, key: &[u8], value: Vec<u8>, now: Instant) -> bool {
        let at = self.distance(key);
        let held = self.records.get(&at).filter(|held| held.until > now);
        let held = held.map(|held| held.value.as_slice());
        let same = held == Some(value.as_slice());
        if !same && !(self.validator)(key, &value, held) {
            return false;
        }
        if !self.records.contains_key(&at) && self.records.len() >= RECORDS_MAX {
            self.expire(now);
            if self.records.len() >= RECORDS_MAX {
                match self.records.last_key_value() {
                    Some((farthest, _)) if *farthest > at => drop(self.records.pop_last()),
                    _ => return false,
                }
            }
        }
        self.records.insert(at, Record { value, until: now + KEPT_FOR });
        true
    }

    /// The record of a key.
    pub(super) fn get(&self, key: &[u8], now: Instant) -> Option<Vec<u8>> {
        let held = self.records.get(&self.distance(key)).filter(|held| held.until > now);
        held.map(|held| held.value.clone())
    }

    /// Drops what has been kept long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.records.retain(|_, record| record.until > now);
        let mut gone = Vec::new();
        self.providers.retain(|_, held| {
            gone.extend(held.extract_if(.., |held| held.until <= now));
            !held.is_empty()
        });
        gone.iter().for_each(|held| self.forget(&held.contact.peer));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn peer(seed: u32) -> PeerId {
        let mut bytes = [2; 32];
        bytes[..4].copy_from_slice(&seed.to_be_bytes());
        libp2p_identity::Keypair::ed25519_from_bytes(bytes).unwrap().public().to_peer_id()
    }

    fn contact(seed: u32) -> Contact {
        Contact { peer: peer(seed), addresses: Vec::new() }
    }

    /// Values are good that begin with their key, and better where they are longer.
    fn store() -> Store {
        let better = |key: &[u8], value: &[u8], held: Option<&[u8]>| {
            value.starts_with(key) && held.is_none_or(|held| value.len() > held.len())
        };
        Store::new(&peer(0), Arc::new(better))
    }

    #[tokio::test]
    async fn a_flood_of_keys_is_bounded_and_does_not_push_out_what_is_near() {
        let (mut store, now) = (store(), Instant::now());
        let keys = || (0..20_000u32).map(u32::to_be_bytes);
        let own = Position::of_peer(&peer(0));
        let nearest = keys().min_by_key(|key| Position::of(key).distance(&own)).unwrap();
        assert!(store.add_provider(&nearest, contact(1), now));
        for (seed, key) in keys().enumerate() {
            // One provider has its share, and many together the room that there is.
            store.add_provider(&key, contact(2), now);
            store.add_provider(&key, contact(10 + seed as u32 % 40), now);
            assert!(store.keys_of.values().all(|keys| *keys <= KEYS_PER_PROVIDER_MAX));
            assert!(store.providers.len() <= PROVIDED_KEYS_MAX);
        }
        // What is held is what is nearest of all that came, and its provider was not driven out.
        let mut places: Vec<_> = keys().map(|key| store.distance(&key)).collect();
        places.sort_unstable();
        assert!(store.providers.keys().eq(&places[..PROVIDED_KEYS_MAX]));
        assert!(store.providers(&nearest, now).iter().any(|held| held.peer == peer(1)));
        let counted: usize = store.keys_of.values().sum();
        assert_eq!(counted, store.providers.values().map(Vec::len).sum::<usize>());
        store.expire(now + KEPT_FOR);
        assert!(store.providers.is_empty() && store.keys_of.is_empty());
    }

    #[tokio::test]
    async fn a_key_has_twenty_providers_and_the_newest_stay() {
        let (mut store, now) = (store(), Instant::now());
        for seed in 0..100 {
            store.add_provider(b"key", contact(seed), now + Duration::from_secs(seed.into()));
        }
        let held = store.providers(b"key", now);
        assert_eq!(held.len(), PROVIDERS_PER_KEY_MAX);
        assert!(held.iter().any(|held| held.peer == peer(99)));
        assert!(held.iter().all(|held| held.peer != peer(0)));
    }

    #[tokio::test]
    async fn only_valid_and_better_records_are_kept() {
        let (mut store, now) = (store(), Instant::now());
        assert!(!store.put(b"key", b"other".to_vec(), now));
        assert_eq!(store.get(b"key", now), None);
        assert!(store.put(b"key", b"key 22".to_vec(), now));
        assert!(store.put(b"key", b"key 22".to_vec(), now), "the same again, to keep it longer");
        assert!(!store.put(b"key", b"key 1".to_vec(), now), "an older one");
        assert_eq!(store.get(b"key", now).as_deref(), Some(&b"key 22"[..]));
        assert_eq!(store.get(b"key", now + KEPT_FOR), None);
        for key in (0..5000u32).map(u32::to_be_bytes) {
            store.put(&key, key.to_vec(), now);
        }
        assert_eq!(store.records.len(), RECORDS_MAX);
    }
}
