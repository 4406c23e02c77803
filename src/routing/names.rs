//! From a name to content, through as many other names as it takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::block::Cid;

use super::metrics::{Metrics, Outcome, Source};
use super::name::{Name, Root, Value};
use super::name_map::NameMap;
use super::{Error, NAMES_MAX, RESOLVE_MS_MAX};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The root of the content.
    pub root: Cid,
    /// Names below it that the record itself gives.
    pub segments: Vec<String>,
    /// For how long this holds from now; none where nobody says.
    pub ttl: Option<Duration>,
}

/// What resolves names.
#[derive(Debug, Default)]
pub struct Parts {
    /// Names that are fixed.
    pub fixed: NameMap,
}

/// Resolves names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Names {
    parts: Arc<Parts>,
    metrics: Metrics,
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
        let resolving = tokio::time::timeout_at(deadline, self.follow(name));
        let resolved =
            resolving.await.unwrap_or_else(|_| Err(Error::Timeout(name.to_string().into())));
        self.metrics.resolved(Source::of(name), Outcome::of(&resolved));
        resolved
    }

    /// Whether a domain leads to content by DNSLink; what is no domain does not. Fails where that
    /// cannot be told.
    pub async fn has_dnslink(&self, domain: &str, deadline: Instant) -> Result<bool, Error> {
        let Ok(name @ Name::Domain(_)) = Name::parse(domain) else { return Ok(false) };
        let deadline = deadline.min(Instant::now() + Duration::from_millis(RESOLVE_MS_MAX));
        match tokio::time::timeout_at(deadline, self.step(&name)).await {
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

    async fn follow(&self, name: &Name) -> Result<Resolved, Error> {
        let mut at = name.clone();
        let mut below: Vec<String> = Vec::new();
        let mut ttl: Option<Option<Duration>> = None;
        for _ in 0..NAMES_MAX {
            let step = self.step(&at).await?;
            ttl = Some(shortest(ttl, step.ttl));
            let Value { root, mut segments } = step.value;
            segments.append(&mut below);
            below = segments;
            match root {
                Root::Cid(root) => {
                    return Ok(Resolved { root, segments: below, ttl: ttl.flatten() });
                }
                Root::Name(next) => at = next,
            }
        }
        Err(Error::Recursion(name.to_string().into()))
    }

    async fn step(&self, name: &Name) -> Result<Step, Error> {
        if let Some(value) = self.parts.fixed.get(name) {
            return Ok(Step { value: value.clone(), ttl: None });
        }
        Err(match name {
            Name::Key(key) => Error::NoRecord(key.to_string().into()),
            Name::Domain(domain) => Error::NotFound(domain.to_string().into()),
        })
    }
}

/// A chain holds as long as its shortest link; where nobody says of one link, nobody says of all.
fn shortest(chain: Option<Option<Duration>>, link: Option<Duration>) -> Option<Duration> {
    match chain {
        None => link,
        Some(chain) => Some(chain?.min(link?)),
    }
}

#[cfg(test)]
mod tests;
