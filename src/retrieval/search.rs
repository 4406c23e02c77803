//! What one request has of the sources: a session of each, who gave its blocks, who was found.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::block::{Cid, Missing, Phase};
use crate::provider::{ADDRESSES_MAX, BlockSource, Met, Provider, ProviderId, SourceSession};

use super::givers::unnamed;
use super::lookup::{Lookup, Lookups};
use super::metrics::{Rung, Rungs};

/// Searches for providers that one request has under way at once.
const LOOKUPS_MAX: usize = 3;
/// Searches for providers that one request may begin at all.
const LOOKUPS_ALL_MAX: usize = 64;
/// Useful providers that one request is told of.
const PROVIDERS_MAX: usize = 20;
/// How long what was told of a provider is not told again: it may have gone since.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long the providers of the root are not searched for again.
const ROOT_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The least time that the source which gives a request its blocks has for one by itself.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// How many of its typical times that source has for a block by itself.
const PATIENCE_TIMES: u32 = 3;

/// The part of one request that goes beyond memory and disk. Dropped, it ends its sessions and
/// whatever it searched for.
pub(super) struct Search {
    sources: Box<[Asked]>,
    /// One more than the place of the source that gave the last block; 0 where none has.
    lead: AtomicUsize,
    /// Changes when providers were added and when a search ended.
    changed: watch::Sender<()>,
    offers: Mutex<Offers>,
    /// What the request's content belongs to.
    root: Option<Cid>,
    lookups: Arc<Lookups>,
}

/// One source's part.
pub(super) struct Asked {
    pub(super) name: &'static str,
    pub(super) session: Arc<dyn SourceSession>,
    pub(super) rung: Arc<Rung>,
    /// How often it was given somebody to ask.
    generation: AtomicU64,
    /// What a block takes here, typically, in microseconds; 0 where none came.
    typical: AtomicU64,
}

#[derive(Default)]
struct Offers {
    seen: HashMap<ProviderId, (Provider, Instant)>,
    useful: usize,
    lookups: Vec<Arc<Lookup>>,
    begun: usize,
    failed: u32,
    /// The search for providers of the root, and when it was begun.
    of_root: Option<(Arc<Lookup>, Instant)>,
}

impl Search {
    pub(super) fn open(
        sources: &[Arc<dyn BlockSource>],
        lookups: &Arc<Lookups>,
        rungs: &Rungs,
        root: Option<&Cid>,
    ) -> Arc<Self> {
        let sources = sources
            .iter()
            .map(|source| Asked {
                name: source.name(),
                session: source.open(),
                rung: rungs.source(source.name()),
                generation: AtomicU64::new(0),
                typical: AtomicU64::new(0),
            })
            .collect();
        let search = Arc::new(Self {
            sources,
            lead: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
            offers: Mutex::default(),
            root: root.copied(),
            lookups: Arc::clone(lookups),
        });
        let givers = root.map(|root| lookups.givers().of(root));
        givers.iter().flatten().for_each(|giver| search.offer(giver));
        search
    }

    pub(super) fn sources(&self) -> &[Asked] {
        &self.sources
    }

    /// The place of the source that gives this request its blocks, and how long it has for one
    /// before the others are asked, too.
    pub(super) fn lead(&self) -> Option<(usize, Duration)> {
        let lead = self.lead.load(Ordering::Relaxed).checked_sub(1)?;
        let typical = self.sources.get(lead)?.typical.load(Ordering::Relaxed);
        let patience = Duration::from_micros(typical).saturating_mul(PATIENCE_TIMES);
        Some((lead, patience.max(PATIENCE_MIN)))
    }

    /// Notes that the source at this place gave a block.
    pub(super) fn gave(&self, place: usize, took: Duration) {
        self.lead.store(place + 1, Ordering::Relaxed);
        let Some(source) = self.sources.get(place) else { return };
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = source.typical.load(Ordering::Relaxed);
        let typical = if before == 0 { took } else { before - before / 8 + took / 8 };
        source.typical.store(typical.max(1), Ordering::Relaxed);
    }

    /// Hears of providers added and searches ended.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Wakes the fetches that wait for a change.
    pub(super) fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Tells the sources of a provider, unless they know it.
    pub(super) fn offer(&self, provider: &Provider) {
        let Some(id) = provider.id() else { return };
        let mut offers = self.lock();
        let known = offers.seen.get(&id);
        let (now, is_new) = (Instant::now(), known.is_none());
        let known = known.filter(|(_, told)| now < *told + TOLD_AGAIN_AFTER);
        let Some(news) = news(known.map(|(known, _)| known), provider) else { return };
        if is_new && offers.useful >= PROVIDERS_MAX {
            return;
        }
        let mut is_useful = false;
        for source in &self.sources {
            if source.session.add_provider(&news) {
                source.generation.fetch_add(1, Ordering::Release);
                is_useful = true;
            }
        }
        offers.useful += usize::from(is_useful && is_new);
        offers.seen.insert(id, (news, now));
        drop(offers);
        if is_useful {
            self.tell();
        }
    }

    /// Searches for providers of a block. `None` while this request has too many searches under way
    /// already.
    pub(super) fn look_for(self: &Arc<Self>, cid: &Cid) -> Option<Arc<Lookup>> {
        {
            let mut offers = self.lock();
            let mut failed = 0;
            offers.lookups.retain(|lookup| {
                let over = lookup.is_over();
                failed += if over { lookup.failed() } else { 0 };
                !over
            });
            offers.failed = offers.failed.max(failed);
            if offers.lookups.len() >= LOOKUPS_MAX || offers.begun >= LOOKUPS_ALL_MAX {
                return None;
            }
            offers.begun += 1;
        }
        let lookup = self.lookups.begin(cid, self);
        self.lock().lookups.push(Arc::clone(&lookup));
        Some(lookup)
    }

    /// Searches for providers of the root, for a block below it. `None` for the root itself, and
    /// where it is not known.
    pub(super) fn look_for_root(self: &Arc<Self>, cid: &Cid) -> Option<Arc<Lookup>> {
        let root = self.root.filter(|root| root.hash() != cid.hash())?;
        let now = Instant::now();
        if let Some((lookup, begun)) = &self.lock().of_root
            && (!lookup.is_over() || now < *begun + ROOT_AGAIN_AFTER)
        {
            return Some(Arc::clone(lookup));
        }
        let lookup = self.lookups.begin(&root, self);
        self.lock().of_root = Some((Arc::clone(&lookup), now));
        Some(lookup)
    }

    /// What the request's content belongs to.
    pub(super) fn root(&self) -> Option<Cid> {
        self.root
    }

    /// Whether this request may begin no more searches.
    pub(super) fn is_spent(&self) -> bool {
        self.lock().begun >= LOOKUPS_ALL_MAX
    }

    /// Whom the sources met.
    fn met(&self) -> Met {
        let all = self.sources.iter().map(|source| source.session.met());
        all.fold(Met::default(), |sum, met| Met {
            known: sum.known + met.known,
            reached: sum.reached + met.reached,
            answered: sum.answered + met.answered,
            gave: sum.gave + met.gave,
        })
    }

    /// What is said of a block that did not come.
    pub(super) fn report(&self, cid: &Cid, waited: Duration, timed_out: bool) -> Missing {
        let met = self.met();
        let (found, failed) = {
            let offers = self.lock();
            let of_root = offers.of_root.iter().map(|(lookup, _)| lookup);
            let lookups = offers.lookups.iter().chain(of_root);
            let failed = lookups.map(|lookup| lookup.failed()).max().unwrap_or(0);
            (offers.useful, offers.failed.max(failed))
        };
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        let known = met.known.max(found);
        let phase = match (known, met.reached) {
            (0, _) => Phase::Finding,
            (_, 0) => Phase::Connecting,
            _ => Phase::Fetching,
        };
        Missing {
            cid: *cid,
            phase,
            timed_out,
            waited,
            found,
            known,
            reached: met.reached,
            answered: met.answered,
            routers: self.lookups.describe(),
            routers_failed: failed,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Offers> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// How often it was given somebody to ask.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let deeds: Vec<_> = self.sources.iter().flat_map(|source| source.session.deeds()).collect();
        if let Some(root) = &self.root {
            let seen = &self.lock().seen;
            let gave = deeds.iter().filter(|deed| deed.blocks > 0).map(|deed| &deed.who);
            let named = |who: &ProviderId| seen.get(who).map(|(provider, _)| provider.clone());
            let gave = gave.filter_map(|who| named(who).or_else(|| unnamed(who))).collect();
            self.lookups.givers().gave(root, gave);
        }
        self.lookups.scores().learn(deeds);
    }
}

/// What `provider` is with all that is `known` of it; `None` where that is nothing new.
fn news(known: Option<&Provider>, provider: &Provider) -> Option<Provider> {
    let Some(known) = known else { return Some(provider.clone()) };
    let mut both = known.clone();
    both.protocols = known.protocols.or(provider.protocols);
    for address in &provider.addresses {
        if both.addresses.len() < ADDRESSES_MAX && !both.addresses.contains(address) {
            both.addresses.push(address.clone());
        }
    }
    (both != *known).then_some(both)
}
