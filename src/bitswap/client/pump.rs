//! Tells one peer what is wanted of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::bitswap::message::Dialect;
use crate::bitswap::network::{Courier, SendError};
use crate::bitswap::wants::Speaks;
use crate::p2p::{OpenError, PeerId};

use super::{Shared, lock};

/// Pause after a message could not be sent, doubled each time up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Sends all changes there are as one message, whenever there are some; more gather while it is
/// being written. Ends with the peer's connection.
pub(super) async fn run(shared: Arc<Shared>, peer: PeerId, wake: Arc<Notify>) {
    let stop = shared.tasks.stop_token();
    stop.run_until_cancelled(pump(&shared, peer, &wake)).await;
}

async fn pump(shared: &Arc<Shared>, peer: PeerId, wake: &Notify) {
    let mut courier = Courier::new(shared.p2p.clone(), peer);
    let (mut busy, mut pause) = (None, PAUSE_MIN);
    let mut dialect = None;
    loop {
        if dialect.is_none() && lock(&shared.wants).has_news_for(&peer) {
            // Before anything is said: what it speaks decides on what it is asked.
            match courier.dialect().await {
                Ok(known) => {
                    dialect = Some(known);
                    shared.with(|wants, now| wants.connected(peer, Some(speaks(known)), now));
                }
                Err(error) => {
                    failed(shared, peer, &error);
                    sleep(pause).await;
                    pause = (2 * pause).min(PAUSE_MAX);
                }
            }
        }
        let taken = lock(&shared.wants).take(&peer, dialect.is_some());
        let Some((message, is_asked)) = taken else {
            let mut pumps = lock(&shared.pumps);
            if lock(&shared.wants).take(&peer, false).is_none() {
                pumps.remove(&peer);
                return;
            }
            continue;
        };
        busy = is_asked.then(|| busy.take().unwrap_or_else(|| shared.p2p.busy(peer)));
        let Some(message) = message else {
            if dialect.is_some() || !lock(&shared.wants).has_news_for(&peer) {
                wake.notified().await;
            }
            continue;
        };
        match courier.send(&message).await {
            Ok(()) => pause = PAUSE_MIN,
            Err(error) => {
                failed(shared, peer, &error);
                dialect = None;
                sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
            }
        }
    }
}

fn speaks(dialect: Dialect) -> Speaks {
    if dialect.has_presences() { Speaks::Presences } else { Speaks::Blocks }
}

fn failed(shared: &Arc<Shared>, peer: PeerId, error: &SendError) {
    tracing::debug!(%peer, %error, "a wantlist was not sent");
    shared.with(|wants, now| match error {
        SendError::Open(OpenError::Unsupported(_)) => {
            wants.connected(peer, Some(Speaks::Nothing), now);
        }
        _ if !shared.p2p.is_connected(&peer) => wants.disconnected(peer, now),
        _ => wants.broken(peer),
    });
}
