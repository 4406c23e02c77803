//! What peers answer: blocks are checked, away from the task that reads where they are large.

use std::sync::Arc;

use crate::bitswap::message::{Presence, RawBlock};
use crate::block::{Block, Cid};
use crate::p2p::PeerId;

use super::{Client, Shared, lock};

/// Blocks up to this size are checked where they are read: to hand them over costs as much.
const INLINE_BYTES_MAX: usize = 32 << 10;

impl Client {
    /// Hears what a peer sent. Returns when all of it is being checked, so that the peer is read
    /// no faster than that.
    pub async fn heard(
        &self,
        peer: PeerId,
        blocks: Vec<RawBlock>,
        presences: Vec<(Cid, Presence)>,
    ) {
        let shared = &self.shared;
        if !presences.is_empty() {
            let have = presences.iter().filter(|(_, said)| *said == Presence::Have).count() as u64;
            let counters = &shared.metrics.presences;
            counters.with_label_values(&["have"]).inc_by(have);
            counters.with_label_values(&["dont_have"]).inc_by(presences.len() as u64 - have);
            shared.with(|wants, now| {
                for (cid, said) in presences {
                    wants.presence(peer, &cid, said, now);
                }
            });
        }
        for raw in blocks {
            if !lock(&shared.wants).expects(&peer) {
                // Not worth hashing.
                shared.metrics.unrequested.inc();
                shared.with(|wants, now| wants.stray(peer, None, raw.data.len(), now));
            } else if raw.data.len() <= INLINE_BYTES_MAX {
                shared.check(peer, raw);
            } else if let Ok(permit) = Arc::clone(&shared.checks).acquire_owned().await {
                let shared = Arc::clone(shared);
                tokio::task::spawn_blocking(move || {
                    shared.check(peer, raw);
                    drop(permit);
                });
            }
        }
    }
}

impl Shared {
    fn check(self: &Arc<Self>, peer: PeerId, raw: RawBlock) {
        let bytes = raw.data.len();
        match Block::hashed(raw.version, raw.codec, raw.hash, raw.data) {
            Ok(block) => self.arrived(peer, &block),
            Err(error) => {
                tracing::debug!(%peer, %error, "a peer sent what is no block");
                self.metrics.unrequested.inc();
                self.with(|wants, now| wants.stray(peer, None, bytes, now));
            }
        }
    }
}
