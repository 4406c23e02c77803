//! When a router that fails is asked again. Pure: the time is an argument.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which a router is left alone.
const FAILED_MAX: u32 = 3;
/// For how long at first; each further failure doubles it.
const REST: Duration = Duration::from_secs(15);
/// For how long at most.
const REST_MAX: Duration = Duration::from_secs(300);

/// What is known of a router's health.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failed: u32,
    rests: Option<(Instant, Arc<str>)>,
}

impl Breaker {
    /// Why it is left alone now, if it is.
    pub(super) fn rests(&self, now: Instant) -> Option<Arc<str>> {
        let (until, why) = self.rests.as_ref()?;
        (now < *until).then(|| Arc::clone(why))
    }

    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, why: &str, now: Instant) {
        self.failed = self.failed.saturating_add(1);
        if let Some(over) = self.failed.checked_sub(FAILED_MAX) {
            let rest = REST.saturating_mul(1 << over.min(8)).min(REST_MAX);
            let why = format!("left alone for a while after {} failures: {why}", self.failed);
            self.rests = Some((now + rest, why.into()));
        }
    }

    /// It asked to be left alone itself.
    pub(super) fn asked_for_rest(&mut self, rest: Duration, now: Instant) {
        self.rests = Some((now + rest, "it asked to be left alone for a while".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_router_that_fails_is_left_alone_for_longer_and_longer() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILED_MAX - 1 {
            breaker.failed("no route", now);
            assert_eq!(breaker.rests(now), None);
        }
        for rest in [15, 30, 60, 120, 240, 300, 300] {
            breaker.failed("no route", now);
            let almost = now + Duration::from_secs(rest) - Duration::from_millis(1);
            assert!(breaker.rests(almost).is_some_and(|why| why.contains("no route")), "{rest}");
            now += Duration::from_secs(rest);
            assert_eq!(breaker.rests(now), None, "{rest}");
        }
        breaker.worked();
        breaker.failed("no route", now);
        assert_eq!(breaker.rests(now), None);
    }
}
