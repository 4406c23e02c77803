//! From a name to content, through as many other names as it takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::block::Cid;
use crate::db::Db;
use crate::task::{Tasks, now_unix};

use super::dns::Dns;
use super::dns::resolvers::Resolvers;
use super::ipns::Record;
use super::lookup::{Lookups, RecordRouter};
use super::metrics::{Metrics, Outcome, Source};
use super::name::{Key, Name, Root, Value};
use super::name_map::NameMap;
use super::records::{Put, Records};
use super::{Config, Error, NAMES_MAX, RESOLVE_MS_MAX, SEGMENTS_MAX};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The root of the content.
    pub root: Cid,
    /// Names below it that the record itself gives.
    pub segments: Vec<String>,
    /// For how long this holds from now; none where nobody says.
    pub ttl: Option<Duration>,
    /// The names that led there, that which was asked for first; each with how many of `segments`,
    /// counted from their end, stand below it.
    pub through: Vec<(Name, usize)>,
}

/// What resolves names. By default nothing does.
#[derive(Debug, Default)]
pub struct Parts {
    /// Names that are fixed.
    pub fixed: NameMap,
    /// Records that this node was given.
    pub records: Option<Records>,
    /// The DNS; none where the network is not to be touched.
    pub dns: Option<Dns>,
    /// Who else has records of names.
    pub lookups: Option<Lookups>,
    /// Longest time that an answer found by a name may be kept; none for as long as it says itself.
    pub ttl_max: Option<Duration>,
}

impl Parts {
    /// The parts as they are configured. Nobody is asked anything yet; `tasks` owns what is asked
    /// later.
    pub fn open(
        config: &Config,
        offline: bool,
        db: Db,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        let dns = if offline {
            None
        } else {
            let resolvers = Resolvers::new(config.rules()?).map_err(Error::Resolver)?;
            Some(Dns::new(resolvers, tasks.clone(), metrics.clone()))
        };
        Ok(Self {
            fixed: NameMap::parse(&config.names)?,
            records: Some(Records::new(db, metrics.held_records.clone())?),
            dns,
            lookups: None,
            ttl_max: Some(Duration::from_secs(config.ttl_s_max)),
        })
    }

    /// The same, but records that are not held, have ended or are to be asked for again are looked
    /// for by these routers, in `tasks`.
    #[must_use]
    pub fn asking(
        self,
        routers: Vec<Arc<dyn RecordRouter>>,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Self {
        let records = self.records.clone().filter(|_| !routers.is_empty());
        let lookups =
            records.map(|records| Lookups::new(routers, records, tasks.clone(), metrics.clone()));
        Self { lookups, ..self }
    }
}

/// Resolves names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Names {
    parts: Arc<Parts>,
    metrics: Metrics,
}

/// Who may be asked.
#[derive(Debug, Clone, Copy)]
enum Reach {
    Anywhere,
    AtHand,
}

/// One step from a name.
struct Step {
    value: Value,
    ttl: Option<Duration>,
}

impl Names {
    /// Resolves names by these parts, and by nothing else.
    #[must_use]
    pub fn new(parts: Parts, metrics: Metrics) -> Self {
        Self { parts: Arc::new(parts), metrics }
    }

    /// What `name` stands for, through as many other names as it takes, [`NAMES_MAX`] at most.
    pub async fn resolve(&self, name: &Name, deadline: Instant) -> Result<Resolved, Error> {
        let deadline = deadline.min(Instant::now() + Duration::from_millis(RESOLVE_MS_MAX));
        let resolving = tokio::time::timeout_at(deadline, self.follow(name, Reach::Anywhere));
        let resolved =
            resolving.await.unwrap_or_else(|_| Err(Error::Timeout(name.to_string().into())));
        self.metrics.resolved(Source::of(name), Outcome::of(&resolved));
        resolved
    }

    /// The same, as far as this node knows it already: nobody is asked.
    pub async fn resolve_at_hand(&self, name: &Name) -> Result<Resolved, Error> {
        let resolved = self.follow(name, Reach::AtHand).await;
        self.metrics.resolved(Source::of(name), Outcome::of(&resolved));
        resolved
    }

    /// Whether a domain leads to content by DNSLink; what is no domain does not. Fails where that
    /// cannot be told.
    pub async fn has_dnslink(&self, domain: &str, deadline: Instant) -> Result<bool, Error> {
        let Ok(name @ Name::Domain(_)) = Name::parse(domain) else { return Ok(false) };
        if self.parts.dns.is_none() {
            return Ok(self.parts.fixed.get(&name).is_some());
        }
        let deadline = deadline.min(Instant::now() + Duration::from_millis(RESOLVE_MS_MAX));
        match tokio::time::timeout_at(deadline, self.step(&name, Reach::Anywhere)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(Error::NotFound(_))) => Ok(false),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Timeout(name.to_string().into())),
        }
    }

    /// Whether the configuration says what a domain stands for.
    #[must_use]
    pub fn is_fixed(&self, domain: &str) -> bool {
        let fixed = &self.parts.fixed;
        !fixed.is_empty() && Name::parse(domain).is_ok_and(|name| fixed.get(&name).is_some())
    }

    /// The record of a key that this node holds, whether its time is over or not.
    pub fn record(&self, key: &Key) -> Result<Record, Error> {
        let held = self.records()?.get(key)?;
        held.ok_or_else(|| Error::NoRecord(key.to_string().into()))
    }

    /// Keeps a record of a key, checked, in place of an older one.
    pub async fn put(&self, key: &Key, bytes: Bytes) -> Result<(Record, Put), Error> {
        let name = || key.to_string().into();
        let record =
            Record::verify(key, bytes).map_err(|error| Error::Invalid { name: name(), error })?;
        if record.remaining(now_unix()).is_none() {
            return Err(Error::Expired(name()));
        }
        let put = self.records()?.put(key, record.clone()).await?;
        if let Some(lookups) = &self.parts.lookups {
            lookups.knows(key, &record);
        }
        Ok((record, put))
    }

    /// Forgets the record of a key. Whether there was one.
    pub async fn remove(&self, key: &Key) -> Result<bool, Error> {
        if let Some(lookups) = &self.parts.lookups {
            lookups.forget(key);
        }
        self.records()?.remove(key).await
    }

    /// Up to `limit` records in the order of their keys' multihashes, those after `after`.
    pub fn list(&self, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Record)>, Error> {
        self.records()?.list(after, limit)
    }

    /// For how long an answer that this record gives may be kept, from now; none where it has ended
    /// or does not say.
    #[must_use]
    pub fn max_age(&self, record: &Record) -> Option<Duration> {
        record.max_age(now_unix()).map(|age| self.capped(age))
    }

    fn capped(&self, ttl: Duration) -> Duration {
        self.parts.ttl_max.map_or(ttl, |most| ttl.min(most))
    }

    fn records(&self) -> Result<&Records, Error> {
        self.parts.records.as_ref().ok_or(Error::NoRecords)
    }

    async fn follow(&self, name: &Name, reach: Reach) -> Result<Resolved, Error> {
        let mut at = name.clone();
        let mut below: Vec<String> = Vec::new();
        let mut ttl: Option<Duration> = None;
        let mut through = Vec::new();
        for _ in 0..NAMES_MAX {
            let step = self.step(&at, reach).await?;
            let asked_below = below.len();
            // A chain holds for as long as the shortest of its links that have an end.
            ttl = ttl.into_iter().chain(step.ttl).min();
            let Value { root, mut segments } = step.value;
            segments.append(&mut below);
            if segments.len() > SEGMENTS_MAX {
                return Err(Error::TooLong(name.to_string().into()));
            }
            below = segments;
            let next = match root {
                Root::Cid(root) => {
                    through.push((at, asked_below));
                    let ttl = ttl.map(|ttl| self.capped(ttl));
                    return Ok(Resolved { root, segments: below, ttl, through });
                }
                Root::Name(next) => next,
            };
            through.push((std::mem::replace(&mut at, next), asked_below));
        }
        Err(Error::Recursion(name.to_string().into()))
    }

    async fn step(&self, name: &Name, reach: Reach) -> Result<Step, Error> {
        if let Some(value) = self.parts.fixed.get(name) {
            return Ok(Step { value: value.clone(), ttl: None });
        }
        match name {
            Name::Key(key) => {
                let held = match &self.parts.records {
                    Some(records) => records.get(key)?,
                    None => None,
                };
                let best = match (&self.parts.lookups, reach) {
                    (Some(lookups), Reach::Anywhere) => lookups.best(key, held).await?,
                    _ => held.map(|record| (record, Duration::MAX)),
                };
                let (record, fresh) =
                    best.ok_or_else(|| Error::NoRecord(key.to_string().into()))?;
                let left = record
                    .remaining(now_unix())
                    .ok_or_else(|| Error::Expired(key.to_string().into()))?;
                let ttl = record.ttl().map(|ttl| ttl.min(left).min(fresh));
                Ok(Step { value: record.value().clone(), ttl })
            }
            Name::Domain(domain) => {
                let Some(dns) = &self.parts.dns else {
                    let reason = "this node is offline and asks no DNS".into();
                    return Err(Error::Unavailable { name: domain.to_string().into(), reason });
                };
                let link = match reach {
                    Reach::Anywhere => dns.lookup(domain).await?,
                    Reach::AtHand => dns.at_hand(domain)?,
                };
                let link = link.ok_or_else(|| Error::NotFound(domain.to_string().into()))?;
                Ok(Step { value: link.value, ttl: Some(link.ttl) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
