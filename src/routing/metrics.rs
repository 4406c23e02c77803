use super::{Error, Name};

crate::metrics! {
    /// What names were resolved, and how.
    pub struct Metrics {
        /// Names resolved, by what they are and how it ended: "ok", "not_found", "invalid", "unavailable", "recursion".
        resolutions: counter_vec("estuary_routing_resolutions_total", "kind", "outcome"),
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
            Err(Error::Timeout(_)) => Self::Unavailable,
            Err(Error::Malformed { .. }) => Self::Invalid,
        }
    }
}

impl Metrics {
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
