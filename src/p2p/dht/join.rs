//! How a node gets and stays among the peers of a DHT: it takes in servers that it meets, and looks
//! around from time to time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use libp2p::swarm::StreamProtocol;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::p2p::peering::peer_of;
use crate::p2p::{P2p, PeerEvent};

use super::position::Position;
use super::query::Query;
use super::side::Side;
use super::table::K;
use super::wire::{Contact, Kind, Message};

/// How long newcomers are gathered before we look around.
const GATHER: Duration = Duration::from_millis(300);
/// How long we wait at least between two looks around.
const REST: Duration = Duration::from_secs(5);
/// How often we look around where nothing changes.
const REFRESH: Duration = Duration::from_secs(600);
/// Buckets looked into by one refresh: few nodes have more that are not empty.
const BUCKETS_MAX: u32 = 15;
/// Identities tried to find one that belongs into a bucket.
const TRIES_MAX: u32 = 1 << 17;

/// Fewest peers in both tables with which nobody is asked to lead us in.
const PEERS_MIN: usize = 4;
/// Wait before we are led in again, the first time; it doubles as long as that does not help.
const LEAD_WAIT_MIN: Duration = Duration::from_secs(2);
/// Longest such wait.
const LEAD_WAIT_MAX: Duration = Duration::from_secs(300);

/// Has peers lead us in, whenever we know too few. That there is no network is no event. `entered`
/// hears when the first of them has, or none can.
pub(super) async fn be_led(
    sides: Arc<[Arc<Side>]>,
    p2p: P2p,
    leaders: Vec<Multiaddr>,
    entered: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut wait = LEAD_WAIT_MIN;
    while !leaders.is_empty() {
        let known: usize = sides.iter().map(|side| side.table().len()).sum();
        if known < PEERS_MIN {
            let led = leaders.iter().filter_map(|address| {
                let (peer, address) = (peer_of(address)?, address.clone());
                let p2p = p2p.clone();
                Some(async move { p2p.connect_named(peer, &[address]).await })
            });
            let mut asked: FuturesUnordered<_> = led.collect();
            let all = async {
                let mut led = 0;
                while let Some(outcome) = asked.next().await {
                    if outcome.is_ok() {
                        led += 1;
                        // It says at once that it is a server.
                        sleep(GATHER).await;
                        entered.send_replace(false);
                    }
                }
                entered.send_replace(false);
                led
            };
            let led = tokio::select! {
                () = stop.cancelled() => return,
                led = all => led,
            };
            tracing::debug!(led, "asked to be led into the DHT");
            wait = (wait * 2).min(LEAD_WAIT_MAX);
        } else {
            wait = LEAD_WAIT_MIN;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

/// Takes peers in that say that they are servers, until the node stops.
pub(super) async fn meet(sides: Arc<[Arc<Side>]>, p2p: P2p, stop: CancellationToken) {
    let mut events = p2p.events();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Ok(PeerEvent::Identified(peer, protocols)) => met(&sides, &p2p, peer, &protocols).await,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn met(sides: &[Arc<Side>], p2p: &P2p, peer: PeerId, protocols: &[StreamProtocol]) {
    let speaks = |side: &Side| protocols.contains(&side.scope.protocol());
    sides.iter().filter(|side| !speaks(side)).for_each(|side| side.forget(&peer));
    if !sides.iter().any(|side| speaks(side)) {
        return;
    }
    let connections = p2p.peer(peer).await.map(|info| info.connections).unwrap_or_default();
    let addresses: Vec<_> = connections.into_iter().map(|open| open.address).collect();
    for side in sides.iter().filter(|side| speaks(side)) {
        let bare = addresses.iter().filter_map(|a| super::wire::bare(a.clone(), &peer));
        let addresses: Vec<_> = bare.filter(|address| side.scope.holds(address)).collect();
        if !addresses.is_empty() {
            side.learn(Contact { peer, addresses });
        }
    }
}

/// Looks around: soon after newcomers came, as long as few are known, and from time to time.
pub(super) async fn refresh(side: Arc<Side>, stop: CancellationToken) {
    loop {
        let few = side.table().len() < K;
        tokio::select! {
            () = stop.cancelled() => return,
            () = side.grown.notified(), if few => sleep(GATHER).await,
            () = sleep(REFRESH) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = look_around(&side) => {}
        }
        let (dht, peers) = (side.scope.name(), side.table().len());
        tracing::debug!(dht, peers, "looked around in the DHT");
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(REST) => {}
        }
    }
}

async fn look_around(side: &Arc<Side>) {
    let own = side.p2p.peer_id();
    find(side, own).await;
    let deepest = side.table().deepest().min(BUCKETS_MAX);
    for bits in 0..deepest {
        if let Some(peer) = in_bucket(&Position::of_peer(&own), bits) {
            find(side, peer).await;
        }
    }
}

async fn find(side: &Arc<Side>, peer: PeerId) {
    let message = Message::new(Kind::FindNode, &peer.to_bytes());
    if let Some(mut query) = Query::begin(side, &message).await {
        while query.next().await.is_some() {}
    }
}

/// An identity that has as many bits in common with a place.
fn in_bucket(own: &Position, bits: u32) -> Option<PeerId> {
    let mut tries = (0..TRIES_MAX).map(|_| PeerId::random());
    tries.find(|peer| Position::of_peer(peer).common_bits(own) == bits)
}
