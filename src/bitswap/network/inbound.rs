//! The streams that peers open, each read by a task of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bitswap::PROTOCOLS;
use crate::bitswap::message::Message;
use crate::p2p::{Inbound, P2p, PeerId};
use crate::task::Tasks;

use super::{Budget, Reader};

/// Inbound streams that are read at once, of one peer and in all; further ones are reset, and what
/// was on them is lost. Kubo opens one for each message, and so for each small block, and waits for
/// nothing: what is asked of it at once must fit. Their messages are bounded by the budgets.
const PEER_STREAMS_MAX: usize = 1024;
const STREAMS_MAX: usize = 16_384;

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
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::bitswap::message::RawBlock;
    use crate::bitswap::network::Courier;
    use crate::block::{Block, codec};
    use crate::metrics::Registry;
    use crate::network::{self, Guard};
    use crate::p2p::{self, Keypair};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn node(tasks: &Tasks) -> P2p {
        let listen = Some(vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
        let config = p2p::Config { listen, bootstrap: Vec::new(), ..p2p::Config::default() };
        let guard = Guard::new(&network::Config { allow_private: true });
        let metrics = p2p::Metrics::register(&Registry::new()).unwrap();
        let parts = p2p::Parts { guard, metrics, tasks: tasks.clone(), db: None };
        P2p::start(&config, Keypair::generate_ed25519(), parts).unwrap()
    }

    /// As Kubo sends them. Nobody hears the first before all are on their way.
    #[tokio::test]
    async fn a_thousand_messages_each_on_a_stream_of_its_own_are_all_heard() {
        const MESSAGES: usize = 1000;
        let tasks = Tasks::new();
        let (here, there) = (node(&tasks), node(&tasks));
        let (heard, mut messages) = mpsc::channel(1);
        listen(&here, &tasks, move |_, message| {
            let heard = heard.clone();
            async move { drop(heard.send(message).await) }
        });
        let addresses = timeout(PATIENCE, here.addresses()).await.unwrap();
        timeout(PATIENCE, there.connect(here.peer_id(), &addresses)).await.unwrap().unwrap();
        let block = Block::sha2_256(codec::RAW, vec![7; 16 << 10].into()).unwrap();
        let blocks = vec![RawBlock::of(block.cid(), block.data().clone())];
        let message = Arc::new(Message { blocks, ..Message::default() });
        let sent: Vec<_> = (0..MESSAGES)
            .map(|_| {
                let mut courier = Courier::new(there.clone(), here.peer_id());
                let message = Arc::clone(&message);
                tasks.spawn(async move {
                    courier.send(&message).await.unwrap();
                    courier.close().await;
                })
            })
            .collect();
        for sent in sent {
            timeout(PATIENCE, sent).await.unwrap().unwrap();
        }
        for _ in 0..MESSAGES {
            assert_eq!(timeout(PATIENCE, messages.recv()).await.unwrap().as_ref(), Some(&*message));
        }
        tasks.stop(PATIENCE).await;
    }

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
