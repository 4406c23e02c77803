//! DNSLink: which content a domain stands for, by its TXT records, and for how long (DNSLink
//! specification).
//!
//! What was answered is used for as long as its TTL says. When no resolver answers, it is used for
//! longer ([`STALE_S_MAX`]), so that sites do not go down with a resolver (RFC 8767).

mod cached;
pub(super) mod resolvers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::task::Tasks;

use super::Error;
use super::metrics::Metrics;
use super::name::{Domain, Value};

use cached::Cached;
use resolvers::{Resolvers, Txt};

/// Lookups under way at once; further ones wait.
const LOOKUPS_MAX: usize = 64;
/// Lookups that are under way or wait; further ones fail.
const LOOKUPS_WAITING_MAX: usize = 1024;
/// How long one lookup may take, in milliseconds.
const LOOKUP_MS_MAX: u64 = 5_000;
/// How long a lookup may wait for others to end, in milliseconds.
const WAIT_MS_MAX: u64 = 4_000;
/// How long somebody waits for a new answer where an old one is at hand, in milliseconds.
const PATIENCE_MS: u64 = 1_800;
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

type Flight = Shared<oneshot::Receiver<Cached>>;

/// Looks up domains. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dns {
    inner: Arc<Inner>,
}

struct Inner {
    resolvers: Resolvers,
    answers: moka::sync::Cache<Domain, Cached>,
    flights: Mutex<HashMap<Domain, Flight>>,
    permits: Semaphore,
    tasks: Tasks,
    metrics: Metrics,
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
            flights: Mutex::default(),
            permits: Semaphore::new(LOOKUPS_MAX),
            tasks,
            metrics,
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
        let Some(flight) = self.join(domain) else {
            return Err(unavailable(domain, "too many lookups are under way; try again soon"));
        };
        let old = held.and_then(|held| held.gone_stale(Instant::now()));
        let answer = match old {
            None => flight.await,
            Some(old) => {
                let patience = Duration::from_millis(PATIENCE_MS);
                tokio::time::timeout(patience, flight).await.unwrap_or(Ok(old))
            }
        };
        match answer {
            Ok(answer) => self.give(domain, &answer),
            Err(_) => Err(unavailable(domain, "the lookup was given up")),
        }
    }

    fn give(&self, domain: &Domain, answer: &Cached) -> Result<Option<Link>, Error> {
        if answer.is_stale() {
            self.inner.metrics.dns_stale.inc();
        }
        answer.link(Instant::now()).map_err(|reason| unavailable(domain, &reason))
    }

    /// The lookup of this domain that is under way, or a new one.
    fn join(&self, domain: &Domain) -> Option<Flight> {
        let mut flights = self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(domain) {
            return Some(flight.clone());
        }
        if flights.len() >= LOOKUPS_WAITING_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let flight = receiver.shared();
        flights.insert(domain.clone(), flight.clone());
        drop(flights);
        let (dns, domain, stop) = (self.clone(), domain.clone(), self.inner.tasks.stop_token());
        self.inner.tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = dns.ask(&domain) => outcome,
                () = stop.cancelled() => Err("the node is stopping".into()),
            };
            // It is kept before it is no longer under way, so that nobody asks in between.
            let answer = dns.keep(&domain, outcome);
            let mut flights = dns.inner.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.remove(&domain);
            drop(flights);
            // Nobody may be waiting any more.
            let _ = sender.send(answer);
        });
        Some(flight)
    }

    async fn ask(&self, domain: &Domain) -> Result<Option<Link>, Arc<str>> {
        let wait = Duration::from_millis(WAIT_MS_MAX);
        let permit = tokio::time::timeout(wait, self.inner.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
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
                let marked = stale.is_some();
                tracing::warn!(%domain, %reason, stale = marked, "a DNSLink was not looked up");
                (stale.unwrap_or_else(|| Cached::failed(reason, now)), "failed")
            }
        };
        self.inner.metrics.dns_lookups.with_label_values(&[label]).inc();
        self.inner.answers.insert(domain.clone(), answer.clone());
        answer
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
