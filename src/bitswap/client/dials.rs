//! Reaching the providers that a session is told of.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::bitswap::wants::SessionId;
use crate::p2p::{Multiaddr, PeerId};

use super::Shared;

/// Peers that are dialled at a time for one session.
const DIALS_MAX: usize = 8;

/// The dials of one session.
pub(super) struct Dials {
    shared: Arc<Shared>,
    session: SessionId,
    places: Arc<Semaphore>,
    ended: CancellationToken,
}

impl Dials {
    pub(super) fn new(shared: Arc<Shared>, session: SessionId, ended: CancellationToken) -> Self {
        Self { shared, session, places: Arc::new(Semaphore::new(DIALS_MAX)), ended }
    }

    /// Takes a provider in, and has it reached. False where the session has enough of them.
    pub(super) fn take_in(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> bool {
        let is_connected = self.shared.p2p.is_connected(&peer);
        let session = self.session;
        let taken = self.shared.with(|wants, now| {
            if is_connected {
                // Its event may be on the way.
                wants.connected(peer, None, now);
            }
            wants.named(session, peer, now)
        });
        if taken.is_new && !is_connected {
            let (shared, places) = (Arc::clone(&self.shared), Arc::clone(&self.places));
            let ended = self.ended.clone();
            self.shared.tasks.spawn(async move {
                ended.run_until_cancelled(reach(&shared, &places, session, peer, &addresses)).await;
            });
        }
        taken.is_in
    }
}

async fn reach(
    shared: &Arc<Shared>,
    places: &Semaphore,
    session: SessionId,
    peer: PeerId,
    addresses: &[Multiaddr],
) {
    let Ok(_place) = places.acquire().await else { return };
    let Ok(_place_of_all) = shared.dials.acquire().await else { return };
    let reached = shared.p2p.connect(peer, addresses).await;
    shared.with(|wants, now| match reached {
        Ok(()) if shared.p2p.is_connected(&peer) => wants.connected(peer, None, now),
        Ok(()) => wants.not_reached(session, &peer, now),
        Err(error) => {
            tracing::debug!(%peer, %error, "a provider was not reached");
            wants.not_reached(session, &peer, now);
        }
    });
}
