//! The part of a DHT that answers others.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::p2p::{Inbound, Incoming};
use crate::task::Tasks;

use super::position::Position;
use super::side::Side;
use super::table::K;
use super::wire::{self, Contact, Kind, Message, REQUEST_BYTES_MAX};

/// Streams served at a time.
const STREAMS_MAX: usize = 256;
/// Streams of one peer served at a time.
const STREAMS_PER_PEER_MAX: usize = 8;
/// How long a stream may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a peer may take to read an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many streams each peer has open.
type Open = Arc<Mutex<HashMap<PeerId, usize>>>;

/// A place among the streams of one peer.
struct Place {
    open: Open,
    peer: PeerId,
}

impl Place {
    fn take(open: &Open, peer: PeerId) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= STREAMS_PER_PEER_MAX {
            return None;
        }
        *count += 1;
        Some(Self { open: Arc::clone(open), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Answers what peers ask, until the node stops.
pub(super) async fn serve(side: Arc<Side>, mut incoming: Incoming, tasks: Tasks) {
    let (places, open) = (Arc::new(Semaphore::new(STREAMS_MAX)), Open::default());
    let stop = tasks.stop_token();
    loop {
        let inbound = tokio::select! {
            () = stop.cancelled() => return,
            inbound = incoming.next() => inbound,
        };
        let Some(inbound) = inbound else { return };
        // Dropped, the stream is reset: its opener asks somebody else.
        let Ok(permit) = Arc::clone(&places).try_acquire_owned() else { continue };
        let Some(place) = Place::take(&open, inbound.peer) else { continue };
        let (side, stop) = (Arc::clone(&side), stop.clone());
        tasks.spawn(async move {
            let peer = inbound.peer;
            if let Err(error) = converse(&side, inbound, &stop).await {
                tracing::trace!(%peer, %error, "a stream of the DHT ended");
            }
            drop((permit, place));
        });
    }
}

async fn converse(side: &Side, inbound: Inbound, stop: &CancellationToken) -> io::Result<()> {
    let Inbound { peer, mut stream, .. } = inbound;
    loop {
        let asked = timeout(IDLE_TIMEOUT, wire::receive(&mut stream, REQUEST_BYTES_MAX));
        let asked = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            asked = asked => asked.map_err(|_| io::ErrorKind::TimedOut)??,
        };
        let Some(asked) = asked else { return Ok(()) };
        let own =
            if asked.kind == Kind::FindNode { side.own_addresses().await } else { Vec::new() };
        if let Some(answer) = answer(side, peer, asked, own, Instant::now())? {
            let sent = timeout(ANSWER_TIMEOUT, wire::send(&mut stream, &answer.encode())).await;
            sent.map_err(|_| io::ErrorKind::TimedOut)??;
        }
    }
}

/// What is answered to `peer`; nothing where nothing is expected. An error ends the stream.
pub(super) fn answer(
    side: &Side,
    peer: PeerId,
    asked: Message,
    own_addresses: Vec<libp2p::Multiaddr>,
    now: Instant,
) -> io::Result<Option<Message>> {
    let refused = |reason: &'static str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    let Some(mut store) = side.store() else { return refused("we are no server") };
    if asked.key.is_empty() && asked.kind != Kind::Ping {
        return refused("a key is empty");
    }
    let mut answer = Message::new(asked.kind, &asked.key);
    match asked.kind {
        Kind::Ping => {}
        Kind::FindNode => {
            answer.closer = closer(side, &asked.key, peer);
            if asked.key == side.p2p.peer_id().to_bytes() {
                let own = Contact { peer: side.p2p.peer_id(), addresses: own_addresses };
                answer.closer.insert(0, own);
            }
        }
        Kind::GetValue => {
            answer.value = store.get(&asked.key, now);
            answer.closer = closer(side, &asked.key, peer);
        }
        Kind::GetProviders => {
            answer.providers = store.providers(&asked.key, now);
            answer.closer = closer(side, &asked.key, peer);
        }
        Kind::PutValue => {
            let Some(value) = asked.value else { return refused("there is no record") };
            if !store.put(&asked.key, value.clone(), now) {
                return refused("the record is not valid, or not better than the one that is kept");
            }
            answer.value = Some(value);
        }
        Kind::AddProvider => {
            // Nobody says of others that they provide something.
            let own = asked.providers.into_iter().filter(|contact| contact.peer == peer);
            for contact in own.filter_map(|contact| side.provider(contact)) {
                store.add_provider(&asked.key, contact, now);
            }
            return Ok(None);
        }
    }
    Ok(Some(answer))
}

fn closer(side: &Side, key: &[u8], asker: PeerId) -> Vec<Contact> {
    let mut closest = side.table().closest(&Position::of(key), K + 1);
    // Whoever has no address that we know would be no help.
    closest.retain(|contact| contact.peer != asker && !contact.addresses.is_empty());
    closest.truncate(K);
    closest
}
