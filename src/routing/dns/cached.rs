//! An answer of the DNS, and for how long it is used. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::routing::name::Value;

use super::Link;

/// Shortest and longest time that a DNSLink is used without asking again, in seconds.
const TTL_S: (u64, u64) = (10, 3600);
/// How long nobody asks again for a DNSLink that is not there, in seconds.
const NOTHING_TTL_S: u64 = 60;
/// How long nobody asks again after a failure, in seconds.
const FAILED_TTL_S: u64 = 5;
/// How long an answer is used after its TTL where no resolver answers, in seconds.
pub(crate) const STALE_S_MAX: u64 = 24 * 3600;
/// How long such an answer is used before a resolver is tried again, in seconds (RFC 8767
/// section 5).
const STALE_TTL_S: u64 = 30;

/// An answer that is kept.
#[derive(Debug, Clone)]
pub(super) struct Cached {
    answer: Answer,
    /// Until when nobody need ask again.
    until: Instant,
    /// When its TTL ended or will end.
    fresh_until: Instant,
}

#[derive(Debug, Clone)]
enum Answer {
    Link(Arc<Value>),
    Nothing,
    Failed(Arc<str>),
}

impl Cached {
    /// The domain has this DNSLink.
    pub(super) fn linked(value: Value, ttl: Duration, now: Instant) -> Self {
        let (least, most) = TTL_S;
        let ttl = ttl.clamp(Duration::from_secs(least), Duration::from_secs(most));
        Self::new(Answer::Link(Arc::new(value)), now + ttl)
    }

    /// The domain has no DNSLink.
    pub(super) fn nothing(now: Instant) -> Self {
        Self::new(Answer::Nothing, now + Duration::from_secs(NOTHING_TTL_S))
    }

    /// Nobody said whether it has one.
    pub(super) fn failed(reason: Arc<str>, now: Instant) -> Self {
        Self::new(Answer::Failed(reason), now + Duration::from_secs(FAILED_TTL_S))
    }

    fn new(answer: Answer, until: Instant) -> Self {
        Self { answer, until, fresh_until: until }
    }

    /// The same answer for a while longer, where no new one is to be had; none where it is no
    /// DNSLink, or has been used for too long.
    pub(super) fn gone_stale(&self, now: Instant) -> Option<Self> {
        let is_link = matches!(self.answer, Answer::Link(_));
        let kept = now < self.fresh_until + Duration::from_secs(STALE_S_MAX);
        (is_link && kept)
            .then(|| Self { until: now + Duration::from_secs(STALE_TTL_S), ..self.clone() })
    }

    /// Whether nobody need ask again yet.
    pub(super) fn holds(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Whether it is used beyond its TTL.
    pub(super) fn is_stale(&self) -> bool {
        self.until > self.fresh_until
    }

    /// What it says; the error is the end of a sentence.
    pub(super) fn link(&self, now: Instant) -> Result<Option<Link>, Arc<str>> {
        match &self.answer {
            Answer::Link(value) => {
                let ttl = self.until.saturating_duration_since(now);
                Ok(Some(Link { value: Value::clone(value), ttl }))
            }
            Answer::Nothing => Ok(None),
            Answer::Failed(reason) => Err(Arc::clone(reason)),
        }
    }

    /// Memory that its texts take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match &self.answer {
            Answer::Link(value) => {
                value.segments.iter().map(|segment| segment.len() + size_of::<String>()).sum()
            }
            Answer::Nothing => 0,
            Answer::Failed(reason) => reason.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn value() -> Value {
        Value::parse("/ipfs/bafkqaaa").unwrap()
    }

    fn ttl(answer: &Cached, now: Instant) -> u64 {
        answer.link(now).unwrap().unwrap().ttl.as_secs()
    }

    #[test]
    fn a_ttl_is_between_10_seconds_and_an_hour_and_runs_down() {
        let now = Instant::now();
        for (said, used) in [(0, 10), (9, 10), (300, 300), (3601, 3600), (1 << 31, 3600)] {
            let answer = Cached::linked(value(), seconds(said), now);
            assert_eq!(ttl(&answer, now), used, "{said}");
        }
        let answer = Cached::linked(value(), seconds(300), now);
        assert_eq!(ttl(&answer, now + seconds(200)), 100);
        assert!(answer.holds(now + seconds(299)) && !answer.holds(now + seconds(300)));
    }

    #[test]
    fn what_is_not_there_is_not_asked_for_again_for_a_minute() {
        let now = Instant::now();
        let answer = Cached::nothing(now);
        assert_eq!(answer.link(now), Ok(None));
        assert!(answer.holds(now + seconds(59)) && !answer.holds(now + seconds(60)));
        assert!(answer.gone_stale(now).is_none(), "that it is not there is not believed on");
    }

    #[test]
    fn a_link_outlives_a_day_without_a_resolver_and_no_more() {
        let now = Instant::now();
        let answer = Cached::linked(value(), seconds(60), now);
        assert!(!answer.is_stale());
        let end = now + seconds(60 + STALE_S_MAX);
        let mut at = now + seconds(60);
        let mut stale = answer;
        while let Some(again) = stale.gone_stale(at) {
            assert!(again.is_stale() && again.holds(at));
            assert!(ttl(&again, at) <= STALE_TTL_S);
            stale = again;
            at += seconds(STALE_TTL_S);
        }
        assert_eq!(at, end);
    }

    #[test]
    fn a_failure_is_forgotten_soon() {
        let now = Instant::now();
        let answer = Cached::failed("no answer".into(), now);
        assert_eq!(&*answer.link(now).unwrap_err(), "no answer");
        assert!(answer.holds(now) && !answer.holds(now + seconds(FAILED_TTL_S)));
    }
}
