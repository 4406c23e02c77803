//! What was learned of each provider: decayed averages, kept in the database, so that those known
//! good are tried first and those that keep failing last.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::db::{self, Db, Table};
use crate::provider::{Deed, Provider, ProviderId};
use crate::task::now_unix;

const SCORES: Table = Table::new("retrieval_scores");
/// Providers of which something is remembered.
const SCORES_MAX: usize = 4_096;
/// How often what changed is written down.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// How much the newest counts in an average.
const NEWEST: f32 = 0.3;
/// Time after which a failure counts half, in seconds.
const FAILURES_HALVE_SECONDS: u64 = 600;
/// Failures at which a provider is asked only where there is no other.
const FAILURES_DOUBTFUL: f32 = 3.0;
/// Most failures counted: so long bad, so long doubtful.
const FAILURES_MAX: f32 = 32.0;
/// Bytes for which a provider's time is reckoned.
const RECKONED_BYTES: f32 = 262_144.0;
/// The time reckoned with a provider of which nothing is known, in seconds.
const UNKNOWN_SECONDS: f32 = 0.5;

/// What was learned of one provider.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Score {
    /// From a want to its answer, in seconds; 0 where it never answered.
    latency: f32,
    /// Bytes a second; 0 where it never gave any.
    rate: f32,
    /// Failures, those of long ago counting less.
    failures: f32,
    /// When something was learned last, in seconds since 1970.
    seen: u64,
}

impl Score {
    /// With one more deed.
    fn after(mut self, deed: &Deed, now: u64) -> Self {
        let average = |old: f32, new: f32| match old {
            0.0 => new,
            old => old + NEWEST * (new - old),
        };
        self.failures = self.failures_at(now);
        if deed.blocks > 0 {
            self.failures /= 2.0;
        }
        self.failures = (self.failures + deed.failures as f32).min(FAILURES_MAX);
        if let Some(latency) = deed.latency {
            self.latency = average(self.latency, latency.as_secs_f32().max(1e-6));
        }
        if deed.bytes > 0 && !deed.busy.is_zero() {
            self.rate = average(self.rate, deed.bytes as f32 / deed.busy.as_secs_f32());
        }
        Self { seen: now, ..self }
    }

    fn failures_at(&self, now: u64) -> f32 {
        let halvings = now.saturating_sub(self.seen) as f32 / FAILURES_HALVE_SECONDS as f32;
        self.failures * (-halvings).exp2()
    }

    fn is_doubtful(&self, now: u64) -> bool {
        self.failures_at(now) >= FAILURES_DOUBTFUL
    }

    /// How long a block from it takes, as far as can be told; failures make it longer.
    fn seconds(&self, now: u64) -> f32 {
        let takes = match (self.latency, self.rate) {
            (0.0, _) => UNKNOWN_SECONDS,
            (latency, 0.0) => latency + UNKNOWN_SECONDS,
            (latency, rate) => latency + RECKONED_BYTES / rate,
        };
        takes * (1.0 + self.failures_at(now))
    }

    fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.latency.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.rate.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.failures.to_le_bytes());
        bytes[12..].copy_from_slice(&self.seen.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (latency, rest) = bytes.split_first_chunk()?;
        let (rate, rest) = rest.split_first_chunk()?;
        let (failures, rest) = rest.split_first_chunk()?;
        let score = Self {
            latency: f32::from_le_bytes(*latency),
            rate: f32::from_le_bytes(*rate),
            failures: f32::from_le_bytes(*failures),
            seen: u64::from_le_bytes(rest.try_into().ok()?),
        };
        let finite = [score.latency, score.rate, score.failures];
        finite.iter().all(|value| value.is_finite() && *value >= 0.0).then_some(score)
    }
}

/// The scores of all providers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Scores {
    table: Arc<Mutex<Scored>>,
    db: Option<Db>,
    /// Told when there is much to write down.
    full: Arc<Notify>,
}

#[derive(Default)]
struct Scored {
    of: HashMap<ProviderId, Score>,
    /// What is to be written down: put, or taken out.
    changed: HashMap<ProviderId, Option<Score>>,
}

impl std::fmt::Debug for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scores").finish_non_exhaustive()
    }
}

impl Scores {
    /// What was learned before, and is written down again by [`Self::write_down`]. Blocks for as
    /// long as it takes to read a few thousand rows.
    pub fn open(db: Db) -> Result<Self, db::Error> {
        let rows = db.read()?.range(SCORES, Bound::Unbounded, Bound::Unbounded)?;
        let mut of = HashMap::new();
        for row in rows.take(SCORES_MAX) {
            let (key, value) = row?;
            of.extend(id(&key).zip(Score::from_bytes(&value)));
        }
        let table = Arc::new(Mutex::new(Scored { of, changed: HashMap::new() }));
        Ok(Self { table, db: Some(db), full: Arc::default() })
    }

    /// Writes down what was learned, now and then and at the end.
    pub async fn write_down(self, stop: CancellationToken) {
        let Some(db) = &self.db else { return };
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = self.full.notified() => false,
                () = tokio::time::sleep(WRITE_EVERY) => false,
            };
            let changed = std::mem::take(&mut self.lock().changed);
            if !changed.is_empty() {
                let written = db.write(move |tx| {
                    for (id, score) in &changed {
                        match score {
                            Some(score) => tx.put(SCORES, &key(id), &score.to_bytes())?,
                            None => tx.remove(SCORES, &key(id))?,
                        }
                    }
                    Ok::<_, db::Error>(())
                });
                if let Err(error) = written.await {
                    tracing::debug!(%error, "what was learned of providers was not written down");
                }
            }
            if stopped {
                return;
            }
        }
    }

    /// Takes in what providers did.
    pub(super) fn learn(&self, deeds: Vec<Deed>) {
        if deeds.is_empty() {
            return;
        }
        let now = now_unix();
        let mut scored = self.lock();
        for deed in deeds {
            let before = scored.of.get(&deed.who).copied().unwrap_or_default();
            let score = before.after(&deed, now);
            scored.changed.insert(deed.who.clone(), Some(score));
            scored.of.insert(deed.who, score);
        }
        scored.bound();
        if self.db.is_none() {
            scored.changed.clear();
        } else if scored.changed.len() > SCORES_MAX {
            self.full.notify_one();
        }
    }

    /// Puts those first that are likely to give a block soonest.
    pub(super) fn sort(&self, providers: &mut [Provider]) {
        if providers.len() > 1 {
            let (now, scored) = (now_unix(), self.lock());
            let seconds = |provider: &Provider| {
                let score = provider.id().and_then(|id| scored.of.get(&id).copied());
                score.map_or(UNKNOWN_SECONDS, |score| score.seconds(now))
            };
            providers.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        }
    }

    /// Whether it kept failing of late.
    pub(super) fn is_doubtful(&self, provider: &Provider) -> bool {
        let Some(id) = provider.id() else { return false };
        self.lock().of.get(&id).is_some_and(|score| score.is_doubtful(now_unix()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Scored> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scored {
    /// When there are too many, forgets those of which nothing was heard for longest, a quarter.
    fn bound(&mut self) {
        if self.of.len() <= SCORES_MAX {
            return;
        }
        let too_many = self.of.len() - SCORES_MAX * 3 / 4;
        let mut seen: Vec<_> = self.of.iter().map(|(id, score)| (score.seen, id.clone())).collect();
        seen.sort_by_key(|(seen, _)| *seen);
        for (_, id) in seen.into_iter().take(too_many) {
            self.of.remove(&id);
            self.changed.insert(id, None);
        }
    }
}

/// The key of a provider's row.
fn key(id: &ProviderId) -> Vec<u8> {
    match id {
        ProviderId::Peer(peer) => [b"p", peer.to_bytes().as_slice()].concat(),
        ProviderId::Endpoint(address) => [b"e", address.to_vec().as_slice()].concat(),
    }
}

/// The provider of a row.
fn id(key: &[u8]) -> Option<ProviderId> {
    match key.split_first()? {
        (b'p', peer) => libp2p_identity::PeerId::from_bytes(peer).ok().map(ProviderId::Peer),
        (b'e', address) => {
            multiaddr::Multiaddr::try_from(address.to_vec()).ok().map(ProviderId::Endpoint)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(blocks: u32, failures: u32, latency_ms: u64) -> Deed {
        Deed {
            who: ProviderId::Peer(libp2p_identity::PeerId::random()),
            blocks,
            bytes: u64::from(blocks) << 18,
            busy: Duration::from_secs(1),
            latency: (latency_ms > 0).then(|| Duration::from_millis(latency_ms)),
            failures,
        }
    }

    #[test]
    fn averages_follow_what_happens_and_failures_fade() {
        let score = Score::default().after(&deed(4, 0, 100), 1000);
        assert!((score.latency - 0.1).abs() < 1e-6 && (score.rate - 1_048_576.0).abs() < 1.0);
        let later = score.after(&deed(4, 0, 200), 1001);
        assert!((later.latency - 0.13).abs() < 1e-6, "{later:?}");
        let failing = later.after(&deed(0, 4, 0), 1002);
        assert!(failing.is_doubtful(1002) && failing.seconds(1002) > 4.0 * later.seconds(1002));
        assert!(!failing.is_doubtful(1002 + FAILURES_HALVE_SECONDS));
        assert!(!failing.after(&deed(1, 0, 100), 1003).is_doubtful(1003), "one that gives is good");
        let worst = (0..100).fold(failing, |score, _| score.after(&deed(0, 9, 0), 1004));
        assert!(worst.failures <= FAILURES_MAX);
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_damaged_is_nothing() {
        let score = Score::default().after(&deed(4, 1, 100), 1000);
        assert_eq!(Score::from_bytes(&score.to_bytes()), Some(score));
        assert_eq!(Score::from_bytes(&[0; 19]), None);
        assert_eq!(Score::from_bytes(&[0xff; 20]), None);
        for who in [
            ProviderId::Peer(libp2p_identity::PeerId::random()),
            ProviderId::Endpoint("/dns4/example.com/tcp/443/https".parse().unwrap()),
        ] {
            assert_eq!(id(&key(&who)), Some(who));
        }
        assert_eq!((id(b""), id(b"x"), id(b"p\x01")), (None, None, None));
    }

    #[test]
    fn the_best_come_first_and_there_are_never_too_many() {
        let scores = Scores::default();
        let (good, bad) = (deed(4, 0, 10), deed(0, 5, 0));
        let provider = |deed: &Deed| Provider {
            peer: match &deed.who {
                ProviderId::Peer(peer) => Some(*peer),
                ProviderId::Endpoint(_) => None,
            },
            addresses: Vec::new(),
            protocols: crate::provider::Protocols::UNKNOWN,
            found_by: "test",
        };
        let unknown = deed(0, 0, 0);
        let mut order = [provider(&bad), provider(&unknown), provider(&good)];
        scores.learn(vec![good.clone(), bad.clone()]);
        scores.sort(&mut order);
        assert_eq!(order, [provider(&good), provider(&unknown), provider(&bad)]);
        assert!(scores.is_doubtful(&provider(&bad)) && !scores.is_doubtful(&provider(&unknown)));
        scores.learn((0..SCORES_MAX * 2).map(|_| deed(1, 0, 1)).collect());
        assert!(scores.lock().of.len() <= SCORES_MAX);
        assert!(scores.lock().changed.is_empty(), "nobody writes it down");
    }
}
