//! The streams that peers open, each read by a task of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bitswap::PROTOCOLS;
use crate::bitswap::message::Message;
use crate::p2p::{Inbound, P2p, PeerId};
use crate::task::Tasks;

use super::{Budget, Reader};

/// Inbound streams that are read at once, of one peer and in all; further ones are reset. Kubo opens
/// one for each message, and so for each small block: what is asked of it at once must fit. Their
/// bytes are bounded by the budget of the peer.
const PEER_STREAMS_MAX: usize = 512;
const STREAMS_MAX: usize = 4096;

/// Reads what peers send, and has each message heard by `hear`; the next of its stream is read when
/// that is done.
pub fn listen<H, F>(p2p: &P2p, tasks: &Tasks, hear: H)
where
    H: Fn(PeerId, Message) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let mut incoming = p2p.accept(&PROTOCOLS);
    let (tracked, stop) = (tasks.clone(), tasks.stop_token());
    tasks.spawn(async move {
        let (places, all) = (Places::default(), Budget::default());
        while let Some(Some(inbound)) = stop.run_until_cancelled(incoming.next()).await {
            let Some(place) = places.take(inbound.peer) else {
                tracing::debug!(peer = %inbound.peer, "a Bitswap stream too many was reset");
                continue;
            };
            let (stop, all, hear) = (stop.clone(), all.clone(), hear.clone());
            tracked.spawn(async move {
                stop.run_until_cancelled(read(inbound, place, all, hear)).await;
            });
        }
    });
}

async fn read<H, F>(inbound: Inbound, place: Place, all: Budget, hear: H)
where
    H: Fn(PeerId, Message) -> F,
    F: Future<Output = ()>,
{
    let peer = inbound.peer;
    let mut reader = Reader::new(inbound.stream, place.budget.clone(), all);
    loop {
        match reader.next().await {
            Ok(Some(message)) => hear(peer, message).await,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%peer, %error, "a Bitswap stream ends");
                return;
            }
        }
    }
}

/// Who has how many streams.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    streams: usize,
    peers: HashMap<PeerId, (usize, Budget)>,
}

/// A stream's place, given back when it is dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    peer: PeerId,
    budget: Budget,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, peer: PeerId) -> Option<Place> {
        let mut taken = self.lock();
        if taken.streams >= STREAMS_MAX {
            return None;
        }
        let (streams, budget) = taken.peers.entry(peer).or_insert_with(|| (0, Budget::of_peer()));
        if *streams >= PEER_STREAMS_MAX {
            return None;
        }
        *streams += 1;
        let budget = budget.clone();
        taken.streams += 1;
        Some(Place { places: self.clone(), peer, budget })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.streams -= 1;
        if let Some((streams, _)) = taken.peers.get_mut(&self.peer) {
            *streams -= 1;
            if *streams == 0 {
                taken.peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_few_streams_and_all_have_many() {
        let places = Places::default();
        let peer = PeerId::random();
        let mut held: Vec<_> = (0..PEER_STREAMS_MAX).filter_map(|_| places.take(peer)).collect();
        assert_eq!(held.len(), PEER_STREAMS_MAX);
        assert!(places.take(peer).is_none());
        held.pop();
        assert!(places.take(peer).is_some());
        let others = STREAMS_MAX - held.len();
        let others: Vec<_> = (0..others).filter_map(|_| places.take(PeerId::random())).collect();
        assert_eq!(others.len() + held.len(), STREAMS_MAX);
        assert!(places.take(PeerId::random()).is_none());
        drop((held, others));
        assert!(places.lock().peers.is_empty());
    }
}
