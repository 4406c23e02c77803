//! One request's conversation with peers.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::DropGuard;

use crate::bitswap::wants::{Patience, SessionId, Ticket};
use crate::block::{Block, Cid, FetchError, check_cid};
use crate::provider::{Deed, FetchContext, Met, Protocol, Provider, SourceSession, Want};
use crate::traffic::Way;

use super::dials::Dials;
use super::{Shared, lock};

/// One request's conversation with peers. Dropped, it leaves nothing behind.
pub(super) struct Session {
    shared: Arc<Shared>,
    id: SessionId,
    dials: Dials,
    /// Ends the dials that were begun for it.
    _ended: DropGuard,
}

impl Session {
    pub(super) fn open(shared: Arc<Shared>) -> Self {
        let id = lock(&shared.wants).open();
        shared.metrics.sessions.inc();
        let ended = shared.tasks.stop_token().child_token();
        let dials = Dials::new(Arc::clone(&shared), id, ended.clone());
        Self { shared, id, dials, _ended: ended.drop_guard() }
    }

    async fn block(
        &self,
        cid: Cid,
        patience: Patience,
        context: &FetchContext,
    ) -> Result<Block, FetchError> {
        // What cannot be checked is nowhere to be had.
        check_cid(&cid).map_err(|_| FetchError::NotFound(Box::new(cid)))?;
        let started = Instant::now();
        // Who asks while the node starts is not told that there is nobody to ask.
        let mut entered = self.shared.entered.subscribe();
        let _ = timeout_at(context.deadline, entered.wait_for(|entered| *entered)).await;
        let mut wait = Wait::begin(self, cid, patience);
        let told = timeout_at(context.deadline, &mut wait.told).await;
        let block = match told {
            Ok(Ok(Some(block))) => block,
            Ok(Ok(None)) => return Err(FetchError::NotFound(Box::new(cid))),
            Ok(Err(_)) => return Err(FetchError::Unavailable("the node stops".into())),
            Err(_) => return Err(FetchError::Timeout(Box::new(cid), started.elapsed())),
        };
        self.shared.metrics.seconds.observe(started.elapsed().as_secs_f64());
        let bytes = block.data().len() as u64;
        self.shared.traffic.count(Way::BitswapIn, context.root.as_ref(), bytes);
        // It was matched by its multihash.
        block.with_cid(cid).ok_or_else(|| FetchError::NotFound(Box::new(cid)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.with(|wants, _| wants.close(self.id));
        self.shared.metrics.sessions.dec();
    }
}

impl SourceSession for Session {
    fn fetch<'a>(
        &'a self,
        want: Want,
        context: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>> {
        Box::pin(self.block(want.cid, Patience::UntilAllLack, context))
    }

    fn await_late<'a>(
        &'a self,
        want: Want,
        context: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>> {
        Box::pin(self.block(want.cid, Patience::WhileKept, context))
    }

    fn add_provider(&self, provider: &Provider) -> bool {
        let Some(peer) = provider.peer else { return false };
        let p2p = &self.shared.p2p;
        let speaks = provider.protocols;
        if peer == p2p.peer_id() || !(speaks.is_unknown() || speaks.contains(Protocol::Bitswap)) {
            return false;
        }
        let mut addresses = provider.addresses.clone();
        addresses.retain(|address| self.shared.guard.allows_multiaddr(address));
        let is_beyond_reach = addresses.is_empty() && !provider.addresses.is_empty();
        if is_beyond_reach && !p2p.is_connected(&peer) {
            return false;
        }
        self.dials.take_in(peer, addresses)
    }

    fn met(&self) -> Met {
        lock(&self.shared.wants).met(self.id)
    }

    fn deeds(&self) -> Vec<Deed> {
        lock(&self.shared.wants).deeds(self.id)
    }
}

/// Somebody waits; when that is dropped, nobody does.
struct Wait {
    shared: Arc<Shared>,
    ticket: Ticket,
    told: oneshot::Receiver<Option<Block>>,
}

impl Wait {
    fn begin(session: &Session, cid: Cid, patience: Patience) -> Self {
        let (waiter, told) = oneshot::channel();
        let shared = Arc::clone(&session.shared);
        shared.metrics.wants.inc();
        let ticket = shared.with(|wants, now| wants.want(session.id, cid, (waiter, patience), now));
        shared.wanted.notify_one();
        Self { shared, ticket, told }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.shared.metrics.wants.dec();
        self.shared.with(|wants, _| wants.unwant(&self.ticket));
    }
}
