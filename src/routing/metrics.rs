use std::time::Duration;

use super::{Error, Name};

crate::metrics! {
    /// What names were resolved, and how.
    pub struct Metrics {
        /// Names resolved, by what they are and how it ended: "ok", "not_found", "invalid", "unavailable", "recursion".
        resolutions: counter_vec("estuary_routing_resolutions_total", "kind", "outcome"),
        /// Records of names that are held.
        held_records: gauge("estuary_routing_held_records"),
        /// Lookups of DNSLinks that ended, by how: "link", "none", "failed", "dropped".
        dns_lookups: counter_vec("estuary_routing_dns_lookups_total", "outcome"),
        /// DNSLinks answered without a lookup.
        dns_hits: counter("estuary_routing_dns_hits_total"),
        /// DNSLinks answered beyond their TTL because no resolver answered.
        dns_stale: counter("estuary_routing_dns_stale_total"),
        /// Time a lookup of a DNSLink takes, in seconds.
        dns_seconds: histogram("estuary_routing_dns_seconds"),
        /// Searches for records of names that ended, by how: "found", "nothing".
        record_lookups: counter_vec("estuary_routing_record_lookups_total", "outcome"),
        /// Time a search for a record of a name takes, in seconds.
        record_seconds: histogram("estuary_routing_record_seconds"),
        /// Searches for providers that ended, by router and how: "found", "nobody", "failed", "dropped" by the asker before somebody was found.
        lookups: counter_vec("estuary_routing_lookups_total", "router", "outcome"),
        /// Providers found, by router.
        providers: counter_vec("estuary_routing_providers_total", "router"),
        /// Time until a router named the first provider, in seconds.
        first_provider_seconds: histogram_vec("estuary_routing_first_provider_seconds", "router"),
    }
}

/// What a name is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Key,
    Domain,
}

impl Source {
    pub(super) fn of(name: &Name) -> Self {
        match name {
            Name::Key(_) => Self::Key,
            Name::Domain(_) => Self::Domain,
        }
    }
}

/// How a router's search for providers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupEnd {
    Found,
    Nobody,
    Failed,
    Dropped,
}

/// How a resolution ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Ok,
    NotFound,
    Invalid,
    Unavailable,
    Recursion,
}

impl Outcome {
    pub(super) fn of<T>(resolved: &Result<T, Error>) -> Self {
        match resolved {
            Ok(_) => Self::Ok,
            Err(Error::NotFound(_) | Error::NoRecord(_)) => Self::NotFound,
            Err(Error::Recursion(_)) => Self::Recursion,
            Err(Error::Expired(_) | Error::Invalid { .. } | Error::TooLong(_)) => Self::Invalid,
            Err(_) => Self::Unavailable,
        }
    }
}

impl Metrics {
    pub(super) fn lookup(&self, router: &str, end: LookupEnd, found: u64) {
        let outcome = match end {
            LookupEnd::Found => "found",
            LookupEnd::Nobody => "nobody",
            LookupEnd::Failed => "failed",
            LookupEnd::Dropped => "dropped",
        };
        self.lookups.with_label_values(&[router, outcome]).inc();
        self.providers.with_label_values(&[router]).inc_by(found);
    }

    pub(super) fn first_provider(&self, router: &str, after: Duration) {
        let seconds = after.as_secs_f64();
        self.first_provider_seconds.with_label_values(&[router]).observe(seconds);
    }

    pub(super) fn record_lookup(&self, found: bool, took: Duration) {
        let outcome = if found { "found" } else { "nothing" };
        self.record_lookups.with_label_values(&[outcome]).inc();
        self.record_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn resolved(&self, source: Source, outcome: Outcome) {
        let kind = match source {
            Source::Key => "ipns",
            Source::Domain => "dnslink",
        };
        let outcome = match outcome {
            Outcome::Ok => "ok",
            Outcome::NotFound => "not_found",
            Outcome::Invalid => "invalid",
            Outcome::Unavailable => "unavailable",
            Outcome::Recursion => "recursion",
        };
        self.resolutions.with_label_values(&[kind, outcome]).inc();
    }
}
