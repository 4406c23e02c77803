//! A lookup over the network, as a stream of answers. Dropped, it asks nobody more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use libp2p::PeerId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::lookup::Lookup;
use super::position::Position;
use super::side::{AskError, Side};
use super::table::K;
use super::wire::{Contact, Message};

/// Longest time that a lookup takes.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

type Answer = (PeerId, Result<Message, AskError>);

/// A lookup under way.
pub(super) struct Query {
    side: Arc<Side>,
    lookup: Lookup,
    framed: Arc<[u8]>,
    running: FuturesUnordered<BoxFuture<'static, Answer>>,
    deadline: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Query {
    /// Begins a lookup of what is nearest to the message's key; none where the node stops. Waits while too many are
    /// under way.
    pub(super) async fn begin(side: &Arc<Side>, message: &Message) -> Option<Self> {
        let permit = Arc::clone(&side.queries).acquire_owned().await.ok()?;
        let target = Position::of(&message.key);
        let seeds = side.table().closest(&target, K);
        Some(Self {
            side: Arc::clone(side),
            lookup: Lookup::new(target, side.p2p.peer_id(), seeds),
            framed: message.encode().into(),
            running: FuturesUnordered::new(),
            deadline: Instant::now() + QUERY_TIMEOUT,
            _permit: permit,
        })
    }

    /// The next answer, with peers that cannot be asked left out; none when the nearest have
    /// answered, or the time is over.
    pub(super) async fn next(&mut self) -> Option<(PeerId, Message)> {
        loop {
            while let Some(contact) = self.lookup.next() {
                let (side, framed) = (Arc::clone(&self.side), Arc::clone(&self.framed));
                self.running.push(Box::pin(async move {
                    let answer = side.ask(&contact, &framed).await;
                    (contact.peer, answer)
                }));
            }
            if self.lookup.is_over() {
                return None;
            }
            let answer = tokio::time::timeout_at(self.deadline, self.running.next()).await;
            let (peer, answer) = answer.ok().flatten()?;
            match answer {
                Ok(mut answer) => {
                    let closer = std::mem::take(&mut answer.closer);
                    let closer = closer.into_iter().filter_map(|contact| self.side.heard(contact));
                    answer.closer = closer.collect();
                    self.lookup.answered(&peer, answer.closer.clone());
                    return Some((peer, answer));
                }
                Err(error) => {
                    let dht = self.side.scope.name();
                    tracing::trace!(%peer, dht, %error, "a peer of the DHT gave no answer");
                    self.lookup.failed(&peer);
                }
            }
        }
    }

    /// The nearest that answered so far.
    pub(super) fn into_closest(self) -> Vec<Contact> {
        self.lookup.into_closest()
    }
}
