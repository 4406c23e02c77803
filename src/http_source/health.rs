//! How an endpoint fares: whether it is asked, and how long it takes. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Misses in a row after which an endpoint is left alone for [`MISSES_REST`].
const MISSES_MAX: u32 = 100;
/// How long that is.
const MISSES_REST: Duration = Duration::from_secs(300);
/// How long an endpoint that failed twice, or at its first request, is left alone; each further failure
/// doubles it.
const FAILED_REST: Duration = Duration::from_secs(10);
/// For how long at most; so long also one that gave wrong bytes, or does not serve blocks.
const REST_MAX: Duration = Duration::from_secs(600);
/// How long an endpoint is left alone that is busy and does not say for how long.
const BUSY_REST: Duration = Duration::from_secs(2);
/// What is expected of an endpoint of which nothing is known.
const EXPECTED: Duration = Duration::from_millis(300);

/// Whether an endpoint may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Yes.
    Now,
    /// It is busy until then.
    Later(Instant),
    /// It is left alone, for longer than it is waited for.
    Not,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    misses: u32,
    failures: u32,
    /// When it failed last: requests that began before that failed with it.
    failed_at: Option<Instant>,
    rests_until: Option<Instant>,
    /// Whether it rests because it is busy.
    busy: bool,
    /// Time to a block, a moving average.
    took: Option<Duration>,
    /// Whether it speaks HTTP/2; none until it has answered.
    http2: Option<bool>,
}

impl Health {
    pub(super) fn use_at(&self, now: Instant) -> Use {
        match self.rests_until {
            Some(until) if now < until && self.busy => Use::Later(until),
            Some(until) if now < until => Use::Not,
            _ => Use::Now,
        }
    }

    /// Whether it answered since it failed last, and then whether it speaks HTTP/2.
    pub(super) fn http2(&self) -> Option<bool> {
        self.http2
    }

    /// How long a block takes, about.
    pub(super) fn expected(&self) -> Duration {
        self.took.unwrap_or(EXPECTED)
    }

    /// It answered.
    pub(super) fn answered(&mut self, http2: bool) {
        self.http2 = Some(http2);
    }

    pub(super) fn gave(&mut self, took: Duration) {
        self.took = Some(self.took.map_or(took, |known| (known * 7 + took) / 8));
        (self.misses, self.failures) = (0, 0);
    }

    pub(super) fn missed(&mut self, now: Instant) {
        self.misses += 1;
        self.failures = 0;
        if self.misses >= MISSES_MAX {
            self.misses = 0;
            self.rest(MISSES_REST, now, false);
        }
    }

    pub(super) fn was_busy(&mut self, rest: Option<Duration>, now: Instant) {
        self.rest(rest.unwrap_or(BUSY_REST), now, true);
    }

    /// It gave wrong bytes, or what it serves is no blocks.
    pub(super) fn was_wrong(&mut self, now: Instant) {
        self.rest(REST_MAX, now, false);
    }

    /// A request that began at `began` failed.
    pub(super) fn failed(&mut self, began: Instant, now: Instant) {
        if self.failed_at.is_some_and(|at| began < at) {
            return;
        }
        let first = self.http2.take().is_none();
        self.failed_at = Some(now);
        self.failures = self.failures.saturating_add(1);
        if first || self.failures > 1 {
            let rest = FAILED_REST.saturating_mul(1 << (self.failures - 1).min(8));
            self.rest(rest.min(REST_MAX), now, false);
        }
    }

    fn rest(&mut self, rest: Duration, now: Instant, busy: bool) {
        (self.rests_until, self.busy) = (Some(now + rest), busy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_hundred_misses_in_a_row_turn_an_endpoint_off_for_a_while() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.answered(true);
        for _ in 0..MISSES_MAX - 1 {
            health.missed(now);
        }
        health.gave(MS);
        for _ in 0..MISSES_MAX - 1 {
            health.missed(now);
        }
        assert_eq!(health.use_at(now), Use::Now);
        health.missed(now);
        assert_eq!(health.use_at(now + MISSES_REST - MS), Use::Not);
        assert_eq!(health.use_at(now + MISSES_REST), Use::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_of_many_requests_is_one_failure() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.answered(true);
        for began in 0..64 {
            health.failed(now + began * MS, now + 100 * MS);
        }
        assert_eq!(health.use_at(now + 100 * MS), Use::Now);
        assert_eq!(health.http2(), None);
        health.failed(now + 101 * MS, now + 101 * MS);
        assert_eq!(health.use_at(now + 102 * MS), Use::Not);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_never_answered_is_left_alone_at_once_and_ever_longer() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
            health.failed(now, now);
            now += Duration::from_secs(seconds);
            assert_eq!(health.use_at(now - MS), Use::Not, "{seconds}");
            assert_eq!(health.use_at(now), Use::Now, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_endpoint_is_waited_for() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.was_busy(Some(Duration::from_secs(60)), now);
        assert_eq!(health.use_at(now), Use::Later(now + Duration::from_secs(60)));
        health.was_busy(None, now);
        assert_eq!(health.use_at(now), Use::Later(now + BUSY_REST));
        health.was_wrong(now);
        assert_eq!(health.use_at(now + BUSY_REST), Use::Not);
    }
}
