//! Follows connections and time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::bitswap::PROTOCOLS;
use crate::bitswap::wants::Speaks;
use crate::p2p::PeerEvent;

use super::{Shared, lock};

/// How often it is seen who is late, while something is wanted.
const TICK: Duration = Duration::from_millis(25);
/// How often tags of peers are compared with what they gave.
const TAGGING: Duration = Duration::from_secs(5);
/// The tag of peers that gave blocks, and the most it is worth.
const TAG: &str = "bitswap";
const TAG_MAX: f64 = 50.0;

pub(super) async fn run(
    shared: Arc<Shared>,
    mut events: broadcast::Receiver<PeerEvent>,
    stop: CancellationToken,
) {
    look_at_peers(&shared).await;
    let mut tagging = interval(TAGGING);
    tagging.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_idle = lock(&shared.wants).len() == 0;
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => heard(&shared, event),
                Err(RecvError::Lagged(_)) => look_at_peers(&shared).await,
                Err(RecvError::Closed) => return,
            },
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
            let knows = |at: usize| protocols.contains(&PROTOCOLS[at]);
            let speaks = match () {
                () if knows(0) => Speaks::Presences,
                () if (1..PROTOCOLS.len()).any(knows) => Speaks::Blocks,
                () => Speaks::Nothing,
            };
            wants.connected(peer, Some(speaks), now);
        }
        PeerEvent::Disconnected(peer) => wants.disconnected(peer, now),
    });
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
            wants.connected(known.peer, None, now);
        }
    });
}

/// Tells the network of peers what each is worth here, and hears which the operator chose.
async fn tag(shared: &Arc<Shared>) {
    let worths = lock(&shared.wants).worths(Instant::now());
    for (peer, worth) in worths {
        #[allow(clippy::cast_possible_truncation, reason = "it is at most TAG_MAX")]
        let weight = worth.min(TAG_MAX).round() as i32;
        shared.p2p.tag(&peer, TAG, weight);
    }
    let peers = shared.p2p.peers().await;
    let mut wants = lock(&shared.wants);
    for known in peers {
        wants.favour(&known.peer, !known.protected.is_empty());
    }
}
