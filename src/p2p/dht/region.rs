//! Announcing many keys that are near to each other: their peers are looked up once, and each hears
//! of all its keys on one stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use libp2p::PeerId;

use super::position::Position;
use super::side::{AskError, Side};
use super::table::K;
use super::wire::{self, ANSWER_BYTES_MAX, Contact, Kind, Message};
use super::{Dht, closest};

/// Peers that are told at a time.
const TOLD_MAX: usize = 20;
/// How long one peer has to hear of all its keys.
const TELL_TIMEOUT: Duration = Duration::from_secs(60);

/// A part of the space of keys, and the peers of each DHT that are nearest to what is in it.
#[derive(Debug)]
pub struct Region {
    target: Position,
    bits: u32,
    sides: Vec<(Arc<Side>, Vec<Contact>)>,
}

impl Dht {
    /// The region around a key; none where nobody is there to be told.
    pub async fn region(&self, key: &[u8]) -> Option<Region> {
        let target = Position::of(key);
        let mut sides = self.closest(key).await;
        sides.retain(|(_, peers)| !peers.is_empty());
        let bits = sides.iter().map(|(_, peers)| common_bits(&target, peers)).max()?;
        Some(Region { target, bits, sides })
    }
}

/// How many bits all of the nearest have in common with the target. Where there are fewer than a
/// key should have, there are no others anywhere.
fn common_bits(target: &Position, nearest: &[Contact]) -> u32 {
    let bits = |contact: &Contact| Position::of_peer(&contact.peer).common_bits(target);
    if nearest.len() < K { 0 } else { nearest.iter().map(bits).min().unwrap_or(0) }
}

impl Region {
    /// Whether a key at this place belongs to it.
    #[must_use]
    pub fn holds(&self, position: &Position) -> bool {
        self.target.common_bits(position) >= self.bits
    }

    /// Peers known in it.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.sides.iter().map(|(_, peers)| peers.len()).sum()
    }

    /// Whether the peers nearest to this place may be others than those known: of the half of the
    /// region that the lookup was not about, it found only a part.
    #[must_use]
    pub fn is_beside(&self, position: &Position) -> bool {
        self.bits > 0 && self.target.common_bits(position) == self.bits
    }

    /// Looks up the other half, too, by a key in it.
    pub async fn widen(&mut self, key: &[u8]) {
        for (side, peers) in &mut self.sides {
            for contact in closest(side, key).await {
                if !peers.iter().any(|known| known.peer == contact.peer) {
                    peers.push(contact);
                }
            }
        }
    }

    /// Tells the peers nearest to each key that we provide it. Of each key, how many peers heard of
    /// it.
    pub async fn announce(&self, keys: &[Vec<u8>]) -> Vec<usize> {
        let mut heard = vec![0; keys.len()];
        for (side, peers) in &self.sides {
            let own = Contact { peer: side.p2p.peer_id(), addresses: side.own_addresses().await };
            let own = Arc::new(own);
            let told = shares(keys, peers).into_iter().map(|(peer, share)| {
                let messages = share.iter().map(|at| message(&keys[*at], &own)).collect();
                let contact = peers.iter().find(|contact| contact.peer == peer).cloned();
                let side = Arc::clone(side);
                async move { (share, tell(&side, contact, messages).await) }
            });
            let mut told = stream::iter(told.collect::<Vec<_>>()).buffer_unordered(TOLD_MAX);
            while let Some((share, outcome)) = told.next().await {
                match outcome {
                    Ok(()) => share.into_iter().for_each(|at| heard[at] += 1),
                    Err(error) => {
                        tracing::debug!(%error, keys = share.len(), "a peer was not told of keys");
                    }
                }
            }
        }
        heard
    }
}

/// Which keys each peer is to hear of.
fn shares(keys: &[Vec<u8>], peers: &[Contact]) -> HashMap<PeerId, Vec<usize>> {
    let positions: Vec<_> =
        peers.iter().map(|contact| (Position::of_peer(&contact.peer), contact.peer)).collect();
    let mut shares: HashMap<_, Vec<_>> = HashMap::new();
    for (at, key) in keys.iter().enumerate() {
        let target = Position::of(key);
        let mut nearest: Vec<_> =
            positions.iter().map(|(position, peer)| (position.distance(&target), *peer)).collect();
        nearest.sort_unstable();
        for (_, peer) in nearest.into_iter().take(K) {
            shares.entry(peer).or_default().push(at);
        }
    }
    shares
}

fn message(key: &[u8], own: &Contact) -> Vec<u8> {
    let mut message = Message::new(Kind::AddProvider, key);
    message.providers.push(own.clone());
    message.encode()
}

/// Announcements have no answer, so the last message is a question: once that is answered, all
/// before it were read.
async fn tell(
    side: &Side,
    contact: Option<Contact>,
    messages: Vec<Vec<u8>>,
) -> Result<(), AskError> {
    let Some(contact) = contact else { return Ok(()) };
    let telling = async {
        let mut stream = side.open(&contact).await?;
        let _busy = side.p2p.busy(contact.peer);
        let question = Message::new(Kind::FindNode, &contact.peer.to_bytes()).encode();
        wire::send(&mut stream, &messages.concat()).await?;
        wire::send(&mut stream, &question).await?;
        wire::receive(&mut stream, ANSWER_BYTES_MAX).await?;
        Ok(())
    };
    tokio::time::timeout(TELL_TIMEOUT, telling).await.unwrap_or(Err(AskError::Timeout))
}
