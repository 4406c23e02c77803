//! How fast a peer answers and how fast its blocks come.

use std::time::Duration;

use tokio::time::Instant;

/// Weight of the newest answer in the average of latencies.
const LATENCY_WEIGHT: f64 = 0.3;
/// How much busy time the rate looks back on, in seconds.
const RATE_MEMORY_SECONDS: f64 = 1.0;
/// Busy time below which nothing is said of a rate, in seconds.
const RATE_SECONDS_MIN: f64 = 0.0005;

/// What was measured of one peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    /// From asking to the beginning of the answer, in seconds.
    latency: Option<f64>,
    /// Bytes that came while more was awaited, and the seconds they took; both fade.
    bytes: f64,
    busy: f64,
    /// When the last block came, if more was awaited then.
    last: Option<Instant>,
}

impl Meter {
    /// An answer without a block, this long after asking a peer that had nothing else to do.
    pub(super) fn answered(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        let known = self.latency.unwrap_or(took);
        self.latency = Some(known + LATENCY_WEIGHT * (took - known));
    }

    /// A block came. `asked` is when a peer that had nothing else to do was asked for it; `more`
    /// whether further blocks are awaited.
    pub(super) fn block(&mut self, bytes: usize, asked: Option<Instant>, more: bool, now: Instant) {
        #[allow(clippy::cast_precision_loss, reason = "a block has at most 2 MiB")]
        let bytes = bytes as f64;
        match (self.last, asked) {
            (Some(last), _) => {
                let took = (now - last).as_secs_f64();
                let kept = (-took / RATE_MEMORY_SECONDS).exp();
                self.bytes = self.bytes * kept + bytes;
                self.busy = self.busy * kept + took;
            }
            (None, Some(asked)) => {
                let took = (now - asked).as_secs_f64();
                let moving = self.rate().map_or(0.0, |rate| bytes / rate);
                self.answered(Duration::from_secs_f64((took - moving).max(0.0)));
            }
            (None, None) => {}
        }
        self.last = more.then_some(now);
    }

    /// It did not send so much in this time: it is no faster than that.
    pub(super) fn outrun(&mut self, bytes: u64, took: Duration) {
        #[allow(clippy::cast_precision_loss, reason = "a block has at most 2 MiB")]
        let (bytes, took) = (bytes as f64, took.as_secs_f64());
        if took >= RATE_SECONDS_MIN && self.rate().is_none_or(|rate| rate > bytes / took) {
            (self.bytes, self.busy) = (bytes, took);
        }
    }

    /// Nothing more is awaited: the time until it is asked again is not the peer's.
    pub(super) fn idle(&mut self) {
        self.last = None;
    }

    /// From asking to the beginning of the answer, in seconds.
    pub(super) fn latency(&self) -> Option<f64> {
        self.latency
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.busy >= RATE_SECONDS_MIN && self.bytes > 0.0).then(|| self.bytes / self.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_latency_are_told_apart() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::default();
        assert_eq!((meter.rate(), meter.latency()), (None, None));
        // 20 ms of latency, then a block of 100,000 bytes each 10 ms.
        meter.block(100_000, Some(at(0)), true, at(20));
        for n in 1..50 {
            meter.block(100_000, None, n < 49, at(20 + 10 * n));
        }
        let rate = meter.rate().unwrap();
        assert!((9.9e6..10.1e6).contains(&rate), "{rate}");
        // A pause is not the peer's; what is then asked takes latency and time to move.
        meter.idle();
        meter.block(100_000, Some(at(9_000)), false, at(9_030));
        let latency = meter.latency().unwrap();
        assert!((0.019..0.021).contains(&latency), "{latency}");
        let rate = meter.rate().unwrap();
        assert!((9.9e6..10.1e6).contains(&rate), "{rate}");
    }

    #[test]
    fn a_change_of_rate_is_seen_soon() {
        let start = Instant::now();
        let mut meter = Meter::default();
        let mut now = start;
        for _ in 0..300 {
            now += Duration::from_millis(10);
            meter.block(1_000_000, None, true, now);
        }
        for _ in 0..10 {
            now += Duration::from_millis(200);
            meter.block(1_000_000, None, true, now);
        }
        let rate = meter.rate().unwrap();
        assert!((4.5e6..25e6).contains(&rate), "{rate}");
    }
}
