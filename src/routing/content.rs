//! Who provides content, asked of several routers at once.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered, Stream, StreamExt};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use tokio::time::Instant;

use crate::block::Cid;
use crate::provider::{ContentRouter, Protocols, Provider, RouterError};

use super::metrics::{LookupEnd, Metrics};

/// Providers that one search remembers, so as not to give them twice.
const PROVIDERS_MAX: usize = 4096;
/// Providers without addresses that one search looks for, at a time.
const FINDING_MAX: usize = 4;
/// Providers without addresses that one search looks for, in all.
const FOUND_MAX: usize = 32;

/// Says where a peer is; nothing where that is not to be found, or not needed.
pub type FindPeer = Arc<dyn Fn(PeerId) -> BoxFuture<'static, Vec<Multiaddr>> + Send + Sync>;

/// Asks several routers at once: the slow never delay the fast. Cheap to clone.
#[derive(Clone)]
pub struct Routing {
    inner: Arc<Inner>,
}

struct Inner {
    routers: Vec<(&'static str, Arc<dyn ContentRouter>)>,
    find_peer: Option<FindPeer>,
    metrics: Metrics,
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.inner.routers.iter().map(|(name, _)| name)).finish()
    }
}

impl Routing {
    /// Asks these routers, each under its name in metrics. Providers that come without addresses
    /// are looked for by `find_peer`.
    #[must_use]
    pub fn new(
        routers: Vec<(&'static str, Arc<dyn ContentRouter>)>,
        find_peer: Option<FindPeer>,
        metrics: Metrics,
    ) -> Self {
        Self { inner: Arc::new(Inner { routers, find_peer, metrics }) }
    }

    /// Whether there is nobody to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.routers.is_empty()
    }
}

impl ContentRouter for Routing {
    fn providers(
        &self,
        cid: &Cid,
        deadline: Instant,
    ) -> BoxStream<'static, Result<Provider, RouterError>> {
        let asked = self.inner.routers.iter().map(|(name, router)| Watched {
            router: name,
            found: router.providers(cid, deadline),
            watch: Watch::new(name, self.inner.metrics.clone()),
        });
        let search = Search {
            found: stream::select_all(asked),
            given: HashMap::new(),
            finding: FuturesUnordered::new(),
            sought: 0,
            find_peer: self.inner.find_peer.clone(),
        };
        search.take_until(tokio::time::sleep_until(deadline)).boxed()
    }
}

/// What was given of a provider.
#[derive(Default)]
struct Given {
    protocols: Protocols,
    addresses: HashSet<Multiaddr>,
}

/// A search under way.
struct Search {
    found: stream::SelectAll<Watched>,
    given: HashMap<PeerId, Given>,
    finding: FuturesUnordered<BoxFuture<'static, Provider>>,
    sought: usize,
    find_peer: Option<FindPeer>,
}

impl Search {
    /// Whether a provider says something new: it is one, or has further addresses or protocols.
    fn is_new(&mut self, provider: &Provider) -> bool {
        let Some(peer) = provider.peer else { return true };
        if self.given.len() >= PROVIDERS_MAX && !self.given.contains_key(&peer) {
            return false;
        }
        let mut new = !self.given.contains_key(&peer);
        let given = self.given.entry(peer).or_default();
        for address in &provider.addresses {
            new |= given.addresses.insert(address.clone());
        }
        let protocols = given.protocols.or(provider.protocols);
        new |= protocols != given.protocols;
        given.protocols = protocols;
        new
    }

    /// Looks for the addresses of a provider that came without.
    fn seek(&mut self, provider: &Provider) {
        let (Some(peer), Some(find)) = (provider.peer, &self.find_peer) else { return };
        let known = self.given.get(&peer).is_some_and(|given| !given.addresses.is_empty());
        if known || !provider.addresses.is_empty() || self.finding.len() >= FINDING_MAX {
            return;
        }
        if self.sought < FOUND_MAX {
            self.sought += 1;
            let (found, provider) = (find(peer), provider.clone());
            self.finding
                .push(Box::pin(async move { Provider { addresses: found.await, ..provider } }));
        }
    }
}

impl Stream for Search {
    type Item = Result<Provider, RouterError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.found.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(provider))) => {
                    if self.is_new(&provider) {
                        self.seek(&provider);
                        return Poll::Ready(Some(Ok(provider)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                ended => match self.finding.poll_next_unpin(cx) {
                    Poll::Ready(Some(provider)) => {
                        if !provider.addresses.is_empty() && self.is_new(&provider) {
                            return Poll::Ready(Some(Ok(provider)));
                        }
                    }
                    Poll::Ready(None) => return ended,
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

/// The answers of one router, counted.
struct Watched {
    router: &'static str,
    found: BoxStream<'static, Result<Provider, RouterError>>,
    watch: Watch,
}

impl Stream for Watched {
    type Item = Result<Provider, RouterError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.found.poll_next_unpin(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => self.watch.found(),
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(router = self.router, %error, "a router failed");
                self.watch.failed = true;
            }
            Poll::Ready(None) => self.watch.ended = true,
            Poll::Pending => {}
        }
        polled
    }
}

/// Counts one question to one router, however it ends.
struct Watch {
    router: &'static str,
    metrics: Metrics,
    asked: Instant,
    found: u64,
    failed: bool,
    ended: bool,
}

impl Watch {
    fn new(router: &'static str, metrics: Metrics) -> Self {
        Self { router, metrics, asked: Instant::now(), found: 0, failed: false, ended: false }
    }

    fn found(&mut self) {
        if self.found == 0 {
            self.metrics.first_provider(self.router, self.asked.elapsed());
        }
        self.found += 1;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let end = match (self.found, self.failed, self.ended) {
            (1.., _, _) => LookupEnd::Found,
            (0, true, _) => LookupEnd::Failed,
            (0, false, true) => LookupEnd::Nobody,
            (0, false, false) => LookupEnd::Dropped,
        };
        self.metrics.lookup(self.router, end, self.found);
    }
}

#[cfg(test)]
mod tests;
