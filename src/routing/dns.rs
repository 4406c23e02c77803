//! DNSLink: which content a domain stands for, by its TXT records, and for how long (DNSLink
//! specification).
//!
//! What was answered is used for as long as its TTL says. When no resolver answers, it is used for
//! a day longer, so that sites do not go down with a resolver (RFC 8767).

mod cached;
mod flights;
pub(super) mod resolvers;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::task::Tasks;

use super::Error;
use super::metrics::Metrics;
use super::name::{Domain, Value};

use cached::Cached;
use flights::{Flights, Lookup, Waiter};
use resolvers::{Resolvers, Txt};

/// Lookups under way at once; further ones wait.
const LOOKUPS_MAX: usize = 512;
/// How long one lookup may take, in milliseconds.
const LOOKUP_MS_MAX: u64 = 5_000;
/// How long a lookup may wait for others to end, in milliseconds.
const WAIT_MS_MAX: u64 = 4_000;
/// How long somebody waits for a new answer where an old one is at hand, in milliseconds.
const PATIENCE_MS: u64 = 1_800;
/// How often the log warns of lookups that fail, in milliseconds: their domains are what clients ask
/// for.
const WARNING_MS: u64 = 60_000;
/// Memory that answers take, in bytes, about.
const CACHE_BYTES_MAX: u64 = 8 << 20;
/// What an answer takes beside its texts, in bytes, about.
const ANSWER_BYTES: usize = 256;

#[cfg(test)]
use cached::STALE_S_MAX;

/// What a domain leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) value: Value,
    /// For how long from now.
    pub(super) ttl: Duration,
}

/// Looks up domains. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dns {
    inner: Arc<Inner>,
}

struct Inner {
    resolvers: Resolvers,
    answers: moka::sync::Cache<Domain, Cached>,
    flights: Flights,
    permits: Semaphore,
    tasks: Tasks,
    metrics: Metrics,
    /// When the log last warned of a lookup that failed.
    warned: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("resolvers", &self.resolvers).finish_non_exhaustive()
    }
}

impl Dns {
    /// Asks these resolvers, in tasks of this owner.
    pub(super) fn new(resolvers: Resolvers, tasks: Tasks, metrics: Metrics) -> Self {
        let weigh = |domain: &Domain, answer: &Cached| {
            let bytes = domain.as_str().len() + answer.bytes() + ANSWER_BYTES;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let answers = moka::sync::Cache::builder().max_capacity(CACHE_BYTES_MAX).weigher(weigh);
        let inner = Inner {
            resolvers,
            answers: answers.build(),
            flights: Flights::default(),
            permits: Semaphore::new(LOOKUPS_MAX),
            tasks,
            metrics,
            warned: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What a domain leads to, as far as that is known: nobody is asked.
    pub(super) fn at_hand(&self, domain: &Domain) -> Result<Option<Link>, Error> {
        match self.inner.answers.get(domain).filter(|held| held.holds(Instant::now())) {
            Some(held) => self.give(domain, &held),
            None => Err(Error::NotAtHand(domain.to_string().into())),
        }
    }

    /// What a domain leads to; none where its DNS says that it has no DNSLink.
    pub(super) async fn lookup(&self, domain: &Domain) -> Result<Option<Link>, Error> {
        let held = self.inner.answers.get(domain);
        if let Some(held) = held.as_ref().filter(|held| held.holds(Instant::now())) {
            self.inner.metrics.dns_hits.inc();
            return self.give(domain, held);
        }
        let Some(waiter) = self.join(domain) else {
            return Err(unavailable(domain, "too many lookups are under way; try again soon"));
        };
        let old = held.and_then(|held| held.gone_stale(Instant::now()));
        let answer = match old {
            None => waiter.answer().await,
            Some(old) => {
                // The old answer is to be replaced, even if that takes longer.
                waiter.keep();
                let patience = Duration::from_millis(PATIENCE_MS);
                tokio::time::timeout(patience, waiter.answer()).await.unwrap_or(Some(old))
            }
        };
        match answer {
            Some(answer) => self.give(domain, &answer),
            None => Err(unavailable(domain, "the lookup was given up")),
        }
    }

    fn give(&self, domain: &Domain, answer: &Cached) -> Result<Option<Link>, Error> {
        if answer.is_stale() {
            self.inner.metrics.dns_stale.inc();
        }
        answer.link(Instant::now()).map_err(|reason| unavailable(domain, &reason))
    }

    /// Waits for the lookup of this domain that is under way, or for a new one.
    fn join(&self, domain: &Domain) -> Option<Waiter> {
        let (waiter, lookup) = self.inner.flights.join(domain)?;
        if let Some(lookup) = lookup {
            self.inner.tasks.spawn(self.clone().run(lookup));
        }
        Some(waiter)
    }

    async fn run(self, lookup: Lookup) {
        let stop = self.inner.tasks.stop_token();
        let outcome = tokio::select! {
            outcome = self.ask(&lookup) => Some(outcome),
            () = lookup.gone.cancelled() => None,
            () = stop.cancelled() => Some(Err("the node is stopping".into())),
        };
        let answer = match outcome {
            // It is kept before it is no longer under way, so that nobody asks in between.
            Some(outcome) => Some(self.keep(&lookup.domain, outcome)),
            None => {
                self.inner.metrics.dns_lookups.with_label_values(&["dropped"]).inc();
                None
            }
        };
        self.inner.flights.land(lookup, answer);
    }

    async fn ask(&self, lookup: &Lookup) -> Result<Option<Link>, Arc<str>> {
        let domain = &lookup.domain;
        // Who waits for others of its own end keeps nobody else waiting.
        let room = async { (lookup.end.acquire().await, self.inner.permits.acquire().await) };
        let wait = Duration::from_millis(WAIT_MS_MAX);
        let Ok((Ok(_of_end), Ok(_of_all))) = tokio::time::timeout(wait, room).await else {
            return Err("too many lookups are under way".into());
        };
        let started = Instant::now();
        let most = Duration::from_millis(LOOKUP_MS_MAX);
        let outcome = tokio::time::timeout(most, dnslink(&self.inner.resolvers, domain)).await;
        self.inner.metrics.dns_seconds.observe(started.elapsed().as_secs_f64());
        outcome.unwrap_or_else(|_| Err("no resolver answered in time".into()))
    }

    fn keep(&self, domain: &Domain, outcome: Result<Option<Link>, Arc<str>>) -> Cached {
        let now = Instant::now();
        let (answer, label) = match outcome {
            Ok(Some(link)) => (Cached::linked(link.value, link.ttl, now), "link"),
            Ok(None) => (Cached::nothing(now), "none"),
            Err(reason) => {
                let old = self.inner.answers.get(domain);
                let stale = old.and_then(|old| old.gone_stale(now));
                tracing::debug!(%domain, %reason, stale = stale.is_some(), "a lookup failed");
                if self.may_warn(now) {
                    tracing::warn!(%domain, %reason, "DNSLinks are not looked up, such as this one");
                }
                (stale.unwrap_or_else(|| Cached::failed(reason, now)), "failed")
            }
        };
        self.inner.metrics.dns_lookups.with_label_values(&[label]).inc();
        self.inner.answers.insert(domain.clone(), answer.clone());
        answer
    }

    /// Whether it is time to warn again.
    fn may_warn(&self, now: Instant) -> bool {
        let period = Duration::from_millis(WARNING_MS);
        let mut warned = self.inner.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned.is_none_or(|at| now.saturating_duration_since(at) >= period);
        if is_due {
            *warned = Some(now);
        }
        is_due
    }
}

/// Asks for `_dnslink.{domain}`, and only where that has none for the domain itself, as older
/// DNSLinks have it.
async fn dnslink(resolvers: &Resolvers, domain: &Domain) -> Result<Option<Link>, Arc<str>> {
    for name in [format!("_dnslink.{domain}."), format!("{domain}.")] {
        if let Some(txt) = resolvers.txt(domain, &name).await?
            && let Some(value) = chosen(&txt)
        {
            return Ok(Some(Link { value, ttl: txt.ttl }));
        }
    }
    Ok(None)
}

/// The DNSLink among TXT records: of several the first in the order of their bytes.
fn chosen(txt: &Txt) -> Option<Value> {
    let links = txt.texts.iter().filter_map(|text| text.trim().strip_prefix("dnslink="));
    links
        .filter_map(|link| Some((link, Value::parse(link).ok()?)))
        .min_by_key(|(link, _)| *link)
        .map(|(_, value)| value)
}

fn unavailable(domain: &Domain, reason: &str) -> Error {
    Error::Unavailable { name: domain.to_string().into(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
