//! Decides, from what a connection moved, when enough was waited for its client. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::Limits;

/// What a client must move while it is waited for, in bytes a second.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// Bytes of frames that an HTTP/2 client may send which has no bodies to send: at all, for each of
/// its requests, and one for so many that are written to it.
const FRAMES_BYTES_MAX: u64 = 64 << 10;
const FRAMES_BYTES_PER_REQUEST_MAX: u64 = 32 << 10;
const WRITTEN_PER_FRAMES_BYTE: u64 = 4;

/// What a connection did up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Bytes read.
    pub(super) read: u64,
    /// Bytes written.
    pub(super) written: u64,
    /// Requests begun.
    pub(super) begun: u64,
    /// Requests of these that are not over.
    pub(super) under_way: usize,
    /// Requests of these for which we have something to do.
    pub(super) ours: usize,
    /// Request bodies that are waited for.
    pub(super) awaiting: usize,
    /// Whether the socket does not take what is written.
    pub(super) blocked: bool,
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let it be.
    Go,
    /// Let it finish what it has under way, if anything.
    WindDown,
    /// End it.
    Cut(Why),
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A request's head does not come to its end.
    SlowHead,
    /// A body is given or taken too slowly.
    Stalled,
    /// Much is sent that is no request.
    Flood,
    /// Nothing happens.
    Idle,
}

/// What is remembered of a connection from one look to the next.
#[derive(Debug)]
pub(super) struct Watch {
    head_timeout: Duration,
    idle_timeout: Duration,
    stall_timeout: Duration,
    /// HTTP/2: other things than heads come between requests, and a response can wait for its
    /// client without the socket being blocked.
    multiplexed: bool,
    /// Whether requests have no bodies, so that there is little to send.
    bodiless: bool,
    begun: u64,
    /// Bytes read when the last request was seen under way.
    read: u64,
    idle_since: Instant,
    head_since: Option<Instant>,
    /// Since when the client is waited for, and what it had moved then.
    stall: Option<(Instant, u64)>,
    winding_down: bool,
}

impl Watch {
    /// Watches a connection that was accepted at `since`.
    pub(super) fn new(limits: &Limits, multiplexed: bool, since: Instant) -> Self {
        Self {
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            stall_timeout: limits.stall_timeout,
            multiplexed,
            bodiless: limits.strict_lines,
            begun: 0,
            read: 0,
            idle_since: since,
            // Whoever connects has something to ask.
            head_since: Some(since),
            stall: None,
            winding_down: false,
        }
    }

    /// How long between two looks, so that no limit is overrun by more than a tenth.
    pub(super) fn period(&self) -> Duration {
        self.head_timeout.min(self.stall_timeout).min(self.idle_timeout) / 10
    }

    /// Looks at what a connection did up to `now`.
    pub(super) fn judge(&mut self, now: Instant, seen: Seen) -> Verdict {
        if self.is_flood(seen) {
            return Verdict::Cut(Why::Flood);
        }
        if self.is_stalled(now, seen) {
            return Verdict::Cut(Why::Stalled);
        }
        if seen.under_way > 0 || seen.begun != self.begun || seen.blocked {
            self.begun = seen.begun;
            self.read = seen.read;
            self.idle_since = now;
            self.head_since = None;
            return Verdict::Go;
        }
        if !self.multiplexed && seen.read > self.read {
            self.head_since.get_or_insert(now);
        }
        if self.head_since.is_some_and(|since| now - since >= self.head_timeout) {
            return Verdict::Cut(Why::SlowHead);
        }
        match (now - self.idle_since >= self.idle_timeout, self.winding_down) {
            (false, _) => Verdict::Go,
            (true, false) => {
                self.winding_down = true;
                self.idle_since = now;
                Verdict::WindDown
            }
            (true, true) => Verdict::Cut(Why::Idle),
        }
    }

    /// Whether the client sends frames that mean next to nothing and cost us all the same: pings,
    /// settings, empty data. What windows need is little beside what they let through.
    fn is_flood(&self, seen: Seen) -> bool {
        let granted = FRAMES_BYTES_MAX
            .saturating_add(seen.begun.saturating_mul(FRAMES_BYTES_PER_REQUEST_MAX))
            .saturating_add(seen.written / WRITTEN_PER_FRAMES_BYTE);
        self.multiplexed && self.bodiless && seen.read > granted
    }

    /// Whether the client was waited for through a whole span and moved next to nothing in it.
    fn is_stalled(&mut self, now: Instant, seen: Seen) -> bool {
        let offered = self.multiplexed && seen.under_way > seen.ours;
        if !(seen.blocked || seen.awaiting > 0 || offered) {
            self.stall = None;
            return false;
        }
        let moved = seen.read + seen.written;
        let (since, before) = *self.stall.get_or_insert((now, moved));
        let waited = now - since;
        if waited < self.stall_timeout {
            return false;
        }
        self.stall = Some((now, moved));
        let wanted = u128::from(BYTES_PER_SECOND_MIN) * waited.as_millis() / 1000;
        u128::from(moved - before) < wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every second at what `seen` says for it, and says when and why it ended.
    fn watch(multiplexed: bool, seen: impl Fn(u64) -> Seen) -> (u64, Verdict) {
        let start = Instant::now();
        let limits = Limits {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            ..Limits::default()
        };
        let mut watch = Watch::new(&limits, multiplexed, start);
        assert_eq!(watch.period(), Duration::from_secs(1));
        for second in 1..1000 {
            match watch.judge(start + Duration::from_secs(second), seen(second)) {
                Verdict::Cut(why) => return (second, Verdict::Cut(why)),
                Verdict::Go | Verdict::WindDown => {}
            }
        }
        (1000, Verdict::Go)
    }

    #[test]
    fn a_head_must_come_in_time_however_it_dribbles() {
        let silent = watch(false, |_| Seen::default());
        assert_eq!(silent, (10, Verdict::Cut(Why::SlowHead)));
        let dribble = watch(false, |second| Seen { read: second / 5, ..Seen::default() });
        assert_eq!(dribble, (10, Verdict::Cut(Why::SlowHead)));
        // After a first request at once, the second head begins in second 40.
        let second_head = watch(false, |second| Seen {
            begun: 1,
            read: 100 + second.saturating_sub(39),
            ..Seen::default()
        });
        assert_eq!(second_head, (50, Verdict::Cut(Why::SlowHead)));
    }

    #[test]
    fn an_idle_connection_is_kept_for_a_while() {
        let idle = |_| Seen { begun: 1, read: 100, ..Seen::default() };
        assert_eq!(watch(false, idle), (151, Verdict::Cut(Why::Idle)));
        // HTTP/2 pings are no head, and no reason to stay either.
        let pings = |second| Seen { begun: 1, read: 100 + second, ..Seen::default() };
        assert_eq!(watch(true, pings), (151, Verdict::Cut(Why::Idle)));
        let busy = |second| Seen { begun: 1 + second / 50, read: second, ..Seen::default() };
        assert_eq!(watch(true, busy), (1000, Verdict::Go));
    }

    #[test]
    fn a_client_that_takes_or_gives_nothing_is_cut() {
        let taking = |rate| {
            move |second| Seen {
                begun: 1,
                under_way: 1,
                blocked: true,
                written: 65_536 + second * rate,
                ..Seen::default()
            }
        };
        assert_eq!(watch(false, taking(0)), (31, Verdict::Cut(Why::Stalled)));
        assert_eq!(watch(false, taking(1000)), (31, Verdict::Cut(Why::Stalled)));
        assert_eq!(watch(false, taking(1100)), (1000, Verdict::Go));
        let giving = |second| Seen {
            begun: 1,
            under_way: 1,
            ours: 1,
            awaiting: 1,
            read: second,
            ..Seen::default()
        };
        assert_eq!(watch(false, giving), (31, Verdict::Cut(Why::Stalled)));
        let window_shut = |_| Seen { begun: 1, under_way: 1, ..Seen::default() };
        assert_eq!(watch(true, window_shut), (31, Verdict::Cut(Why::Stalled)));
    }

    #[test]
    fn who_sends_much_that_is_no_request_is_cut() {
        let limits = Limits { strict_lines: true, ..Limits::default() };
        let judge = |limits: &Limits, multiplexed, seen| {
            Watch::new(limits, multiplexed, Instant::now()).judge(Instant::now(), seen)
        };
        // Each ping is answered by as many bytes.
        let pings = Seen { read: 100 << 10, written: 100 << 10, begun: 0, ..Seen::default() };
        assert_eq!(judge(&limits, true, pings), Verdict::Cut(Why::Flood));
        let under_way = Seen { begun: 1, under_way: 1, ours: 1, read: 200 << 10, ..pings };
        assert_eq!(judge(&limits, true, under_way), Verdict::Cut(Why::Flood));
        // Windows that are opened for what comes; requests; and who has bodies to send.
        let download = Seen { begun: 1, read: 1 << 20, written: 8 << 20, ..Seen::default() };
        assert_eq!(judge(&limits, true, download), Verdict::Go);
        let many = Seen { begun: 1000, read: 16 << 20, ..Seen::default() };
        assert_eq!(judge(&limits, true, many), Verdict::Go);
        assert_eq!(judge(&limits, false, pings), Verdict::Go);
        assert_eq!(judge(&Limits::default(), true, pings), Verdict::Go);
    }

    #[test]
    fn nobody_is_cut_for_what_we_are_slow_at() {
        let slow = |_| Seen { begun: 1, under_way: 1, ours: 1, ..Seen::default() };
        assert_eq!(watch(false, slow), (1000, Verdict::Go));
        assert_eq!(watch(true, slow), (1000, Verdict::Go));
    }
}
