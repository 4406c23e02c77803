//! Follows connections and time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use libp2p::swarm::StreamProtocol;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::bitswap::PROTOCOLS;
use crate::bitswap::message::Dialect;
use crate::bitswap::wants::Speaks;
use crate::p2p::PeerEvent;

use super::{Shared, lock};

/// How often it is seen who is late, while something is wanted.
const TICK: Duration = Duration::from_millis(25);
/// How often it is told who gave blocks.
const TAGGING: Duration = Duration::from_secs(5);
/// The tag of peers that gave blocks, the most that those of one such time add to it, and after
/// which time it counts half.
const TAG: &str = "bitswap";
const TAG_STEP_MAX: i32 = 50;
const TAG_HALF_LIFE: Duration = Duration::from_secs(600);

pub(super) async fn run(
    shared: Arc<Shared>,
    mut events: broadcast::Receiver<PeerEvent>,
    stop: CancellationToken,
) {
    look_at_peers(&shared).await;
    let mut tagging = interval(TAGGING);
    tagging.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let p2p = shared.p2p.clone();
    let peered = pin!(p2p.peered());
    let mut peered = peered.fuse();
    loop {
        let is_idle = lock(&shared.wants).len() == 0;
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => heard(&shared, event),
                Err(RecvError::Lagged(_)) => look_at_peers(&shared).await,
                Err(RecvError::Closed) => return,
            },
            () = &mut peered => {
                // Connections that were made meanwhile may be events still to come.
                look_at_peers(&shared).await;
                shared.entered.send_replace(true);
            }
            () = shared.wanted.notified(), if is_idle => {}
            () = sleep(TICK), if !is_idle => tick(&shared),
            _ = tagging.tick() => tag(&shared).await,
        }
    }
}

fn tick(shared: &Arc<Shared>) {
    let timeouts = shared.with(|wants, now| {
        wants.tick(now);
        wants.take_timeouts()
    });
    shared.metrics.timeouts.inc_by(timeouts);
}

fn heard(shared: &Arc<Shared>, event: PeerEvent) {
    shared.with(|wants, now| match event {
        PeerEvent::Connected(peer) => wants.connected(peer, None, now),
        PeerEvent::Identified(peer, protocols) => {
            wants.connected(peer, Some(speaks(&protocols)), now);
        }
        PeerEvent::Disconnected(peer) => wants.disconnected(peer, now),
    });
}

/// What a peer speaks that named these protocols.
fn speaks(protocols: &[StreamProtocol]) -> Speaks {
    let known = PROTOCOLS.into_iter().find(|protocol| protocols.contains(protocol));
    match known.as_ref().map(Dialect::of) {
        Some(dialect) if dialect.has_presences() => Speaks::Presences,
        Some(_) => Speaks::Blocks,
        None => Speaks::Nothing,
    }
}

/// Looks at all connections, for events may have been missed.
async fn look_at_peers(shared: &Arc<Shared>) {
    let peers = shared.p2p.peers().await;
    shared.with(|wants, now| {
        for gone in wants.connected_peers() {
            if !peers.iter().any(|known| known.peer == gone) {
                wants.disconnected(gone, now);
            }
        }
        for known in &peers {
            let is_identified = !known.protocols.is_empty();
            wants.connected(known.peer, is_identified.then(|| speaks(&known.protocols)), now);
        }
    });
}

/// Tells the network of peers what each is worth here, and hears which the operator chose.
async fn tag(shared: &Arc<Shared>) {
    let given = lock(&shared.wants).take_given();
    for (peer, blocks) in given {
        shared.p2p.bump(&peer, TAG, blocks.min(TAG_STEP_MAX), TAG_HALF_LIFE);
    }
    let peers = shared.p2p.peers().await;
    let mut wants = lock(&shared.wants);
    for known in peers {
        wants.favour(&known.peer, !known.protected.is_empty());
    }
}
