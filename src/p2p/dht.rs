//! The DHT: who provides what, and the records of names, kept by everybody for everybody (libp2p's
//! kad-dht specification).
//!
//! As other nodes of IPFS, we have a part in two: one of public addresses, and one of private ones
//! for networks of one's own. Both are plain code over streams and no behaviour of the swarm: answers
//! are cut to their limits and freed of what belongs elsewhere before anything is made of them, and
//! a lookup asks on only as long as somebody takes its answers.

mod join;
mod lookup;
mod position;
mod query;
mod region;
mod server;
mod side;
mod store;
mod table;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, FuturesUnordered, StreamExt as _};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Semaphore, watch};

use crate::network::Guard;
use crate::task::Tasks;

use super::P2p;

pub use position::{Distance, Position};
pub use region::Region;

use query::Query;
use side::{Scope, Side};
use store::Store;
use wire::{Contact, Kind, Message};

/// Lookups under way at a time; further ones wait.
const QUERIES_MAX: usize = 128;
/// Providers that one lookup gives.
const PROVIDERS_MAX: usize = 1024;
/// How often a server drops what it kept long enough.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

/// Says whether a value may be kept under a key, in place of the one that is held.
pub type Validator = Arc<dyn Fn(&[u8], &[u8], Option<&[u8]>) -> bool + Send + Sync>;

/// How a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It asks.
    Client,
    /// It asks and answers.
    Server,
}

/// How a node takes part in both DHTs.
#[derive(Clone)]
pub struct Setup {
    /// Whether it answers others.
    pub part: Part,
    /// Which addresses named by peers are dialled.
    pub guard: Guard,
    /// Peers that lead in, where too few are known.
    pub bootstrap: Vec<Multiaddr>,
    /// Which records a server keeps.
    pub validator: Validator,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("part", &self.part).finish_non_exhaustive()
    }
}

/// Our part in both DHTs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dht {
    sides: Arc<[Arc<Side>]>,
    /// Whether we are still being led in, for the first time.
    entering: watch::Receiver<bool>,
}

impl Dht {
    /// Takes part; `tasks` own what runs.
    #[must_use]
    pub fn start(p2p: &P2p, setup: Setup, tasks: &Tasks) -> Self {
        let Setup { part, guard, bootstrap, validator: valid } = setup;
        let queries = Arc::new(Semaphore::new(QUERIES_MAX));
        let side = |scope| {
            let store = (part == Part::Server).then(|| Store::new(&p2p.peer_id(), valid.clone()));
            Arc::new(Side::new(scope, p2p.clone(), guard, Arc::clone(&queries), store))
        };
        let sides: Arc<[_]> = Arc::from([side(Scope::Wan), side(Scope::Lan)]);
        for side in &*sides {
            tasks.spawn(join::refresh(Arc::clone(side), tasks.stop_token()));
            if part == Part::Server {
                let incoming = p2p.accept(&[side.scope.protocol()]);
                tasks.spawn(server::serve(Arc::clone(side), incoming, tasks.clone()));
                tasks.spawn(expire(Arc::clone(side), tasks.clone()));
            }
        }
        let stop = tasks.stop_token();
        tasks.spawn(join::meet(Arc::clone(&sides), p2p.clone(), stop.clone()));
        let (entered, entering) = watch::channel(!bootstrap.is_empty());
        tasks.spawn(join::be_led(Arc::clone(&sides), p2p.clone(), bootstrap, entered, stop));
        Self { sides, entering }
    }

    /// Peers in the routing tables: of the DHT of public addresses, and of the one of private ones.
    #[must_use]
    pub fn peers(&self) -> (usize, usize) {
        let count = |at: usize| self.sides.get(at).map_or(0, |side| side.table().len());
        (count(0), count(1))
    }

    /// Who provides a key (the multihash of a CID), as they are found; those without addresses may
    /// come again with some. Dropped, the stream ends the lookup.
    pub fn providers(&self, key: &[u8]) -> BoxStream<'static, (PeerId, Vec<Multiaddr>)> {
        let message = Message::new(Kind::GetProviders, key);
        let found = self.answers(message).flat_map(|(side, _, answer)| {
            let found = answer.providers.into_iter().filter_map(move |found| side.provider(found));
            stream::iter(found.collect::<Vec<_>>())
        });
        let mut seen = HashSet::new();
        let new = move |Contact { peer, addresses }: Contact| {
            let new = seen.insert((peer, addresses.is_empty()));
            std::future::ready(new.then_some((peer, addresses)))
        };
        found.filter_map(new).take(PROVIDERS_MAX).boxed()
    }

    /// The records under a key that peers have, as they are found, not validated; the same may come
    /// often.
    pub fn records(&self, key: &[u8]) -> BoxStream<'static, Vec<u8>> {
        let message = Message::new(Kind::GetValue, key);
        let found = self.answers(message);
        found.filter_map(|(_, _, answer)| std::future::ready(answer.value)).boxed()
    }

    /// Gives a record to the peers nearest to its key. How many took it.
    pub async fn put_record(&self, key: &[u8], value: &[u8]) -> usize {
        let mut message = Message::new(Kind::PutValue, key);
        message.value = Some(value.to_vec());
        let framed: Arc<[u8]> = message.encode().into();
        let mut taken = 0;
        for (side, closest) in self.closest(key).await {
            let put = |contact: Contact| {
                let (side, framed) = (Arc::clone(&side), Arc::clone(&framed));
                async move { side.ask(&contact, &framed).await.is_ok() }
            };
            let puts: FuturesUnordered<_> = closest.into_iter().map(put).collect();
            taken += puts.filter(|taken| std::future::ready(*taken)).count().await;
        }
        taken
    }

    /// Whether we are connected with a peer.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.sides.iter().any(|side| side.p2p.is_connected(peer))
    }

    /// Where a peer can be reached, as others say.
    pub async fn find_peer(&self, peer: PeerId) -> Vec<Multiaddr> {
        let known = self.sides.iter().find_map(|side| side.table().get(&peer).cloned());
        if let Some(known) = known.filter(|known| !known.addresses.is_empty()) {
            return known.addresses;
        }
        let message = Message::new(Kind::FindNode, &peer.to_bytes());
        let mut answers = self.answers(message);
        while let Some((_, _, answer)) = answers.next().await {
            let found = answer.closer.into_iter().find(|contact| contact.peer == peer);
            if let Some(found) = found.filter(|found| !found.addresses.is_empty()) {
                return found.addresses;
            }
        }
        Vec::new()
    }

    /// The answers of both DHTs to a lookup, as they come.
    fn answers(&self, message: Message) -> BoxStream<'static, (Arc<Side>, PeerId, Message)> {
        let message = Arc::new(message);
        let of_side = |side: &Arc<Side>| {
            let (side, message) = (Arc::clone(side), Arc::clone(&message));
            let mut entering = self.entering.clone();
            let begun = async move {
                // Who asks while the node starts is not told that nobody has it.
                let _ = entering.wait_for(|entering| !entering).await;
                let query = Query::begin(&side, &message).await;
                stream::unfold((query, side), |(mut query, side)| async move {
                    let (peer, answer) = query.as_mut()?.next().await?;
                    Some(((Arc::clone(&side), peer, answer), (query, side)))
                })
            };
            stream::once(begun).flatten().boxed()
        };
        stream::select_all(self.sides.iter().map(of_side)).boxed()
    }

    /// The peers of each DHT nearest to a key.
    async fn closest(&self, key: &[u8]) -> Vec<(Arc<Side>, Vec<Contact>)> {
        let lookups = self.sides.iter().map(|side| {
            let side = Arc::clone(side);
            async move { (Arc::clone(&side), closest(&side, key).await) }
        });
        futures_util::future::join_all(lookups).await
    }
}

/// The peers nearest to a key that answer.
async fn closest(side: &Arc<Side>, key: &[u8]) -> Vec<Contact> {
    let message = Message::new(Kind::FindNode, key);
    let Some(mut query) = Query::begin(side, &message).await else { return Vec::new() };
    while query.next().await.is_some() {}
    query.into_closest()
}

async fn expire(side: Arc<Side>, tasks: Tasks) {
    let stop = tasks.stop_token();
    while tokio::time::timeout(EXPIRE_EVERY, stop.cancelled()).await.is_err() {
        if let Some(mut store) = side.store() {
            store.expire(tokio::time::Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
