use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FAILS_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
const ADDRESSES_MAX: usize = 4096;

/// Counts wrong keys by address (IPv6: by /64), so that whoever tries many is told to stop.
#[derive(Debug, Default)]
pub struct Attempts {
    fails: Mutex<HashMap<IpAddr, Fails>>,
}

#[derive(Debug, Clone, Copy)]
struct Fails {
    since: Instant,
    count: u32,
}

impl Attempts {
    /// Whether `peer` has tried wrong keys as often as it may within a minute.
    #[must_use]
    pub fn exhausted(&self, peer: IpAddr) -> bool {
        let fails = self.fails.lock().unwrap_or_else(PoisonError::into_inner);
        fails
            .get(&network(peer))
            .is_some_and(|f| f.since.elapsed() < WINDOW && f.count >= FAILS_MAX)
    }

    /// Notes a wrong key.
    pub fn failed(&self, peer: IpAddr) {
        let mut fails = self.fails.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = network(peer);
        if fails.len() >= ADDRESSES_MAX && !fails.contains_key(&peer) {
            fails.retain(|_, f| f.since.elapsed() < WINDOW);
            if fails.len() >= ADDRESSES_MAX {
                // Memory stays bounded; whoever has most addresses gains little by it.
                fails.clear();
            }
        }
        let now = Instant::now();
        let entry = fails.entry(peer).or_insert(Fails { since: now, count: 0 });
        if entry.since.elapsed() >= WINDOW {
            *entry = Fails { since: now, count: 0 };
        }
        entry.count = entry.count.saturating_add(1);
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_wrong_keys_a_minute_and_no_more() {
        let attempts = Attempts::default();
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        for _ in 0..FAILS_MAX {
            assert!(!attempts.exhausted(peer));
            attempts.failed(peer);
        }
        assert!(attempts.exhausted(peer) && attempts.exhausted(neighbour));
        assert!(!attempts.exhausted("192.0.2.1".parse().unwrap()));
        tokio::time::advance(WINDOW).await;
        assert!(!attempts.exhausted(peer));
    }
}
