//! What each address takes: its connections, its requests under way, and how often it asks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::client::Refusal;
use crate::gateway::Network;

/// Connections of one address for each request that it may have under way.
const CONNECTIONS_PER_REQUEST: usize = 4;
/// Addresses that are remembered beyond those with something under way, in number. Who is forgotten
/// begins anew.
const ADDRESSES_MAX: usize = 65_536;
/// Below this number none is looked for to be forgotten.
const ADDRESSES_MIN: usize = 1024;
/// Addresses that proxies added to a request which are looked at.
const FORWARDED_MAX: usize = 16;

/// The addresses of clients, of one listener or of several that are one to them.
#[derive(Debug)]
pub(in crate::http) struct Addresses {
    requests_max: usize,
    rate: Option<Rate>,
    /// Whose word counts on whom they speak for.
    trusted: Vec<Network>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    addresses: HashMap<IpAddr, Arc<Address>>,
    /// When there are so many, those that do not matter are forgotten.
    sweep_at: usize,
}

/// An address, or the network of one household where addresses are plenty.
#[derive(Debug, Default)]
pub(super) struct Address {
    connections: AtomicUsize,
    requests: AtomicUsize,
    bucket: Bucket,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Someone who is counted by this.
    Address(IpAddr),
    /// A trusted proxy, whose clients are counted.
    Proxy,
    /// A process of this machine.
    ThisMachine,
}

/// A connection, counted with its address until this is dropped.
#[derive(Debug)]
pub(super) struct Connected(Arc<Address>);

impl Connected {
    pub(super) fn address(&self) -> &Address {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Address {
    /// Counts a request, until its end.
    pub(super) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Addresses {
    pub(in crate::http) fn new(limits: &super::Limits) -> Self {
        let rate = Rate::new(limits.requests_per_second_max, limits.requests_burst_max);
        let table = Table { addresses: HashMap::new(), sweep_at: ADDRESSES_MIN };
        Self {
            requests_max: limits.requests_per_address_max,
            rate,
            trusted: limits.trusted_proxies.clone(),
            table: Mutex::new(table),
        }
    }

    /// Who is at this address.
    pub(super) fn who(&self, ip: IpAddr) -> Who {
        let ip = ip.to_canonical();
        if self.trusted.iter().any(|trusted| trusted.contains(ip)) {
            Who::Proxy
        } else if ip.is_loopback() {
            Who::ThisMachine
        } else {
            Who::Address(network(ip))
        }
    }

    /// For whom a trusted proxy passed a request on: the last in `X-Forwarded-For` who is not such
    /// a proxy, for what stands before it may be made up. None for what it asks for itself.
    pub(super) fn forwarded(&self, headers: &HeaderMap) -> Option<Arc<Address>> {
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let names = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for name in names.take(FORWARDED_MAX) {
            match self.who(address(name)?) {
                Who::Proxy => {}
                Who::ThisMachine => return None,
                Who::Address(ip) => return Some(self.get(ip)),
            }
        }
        None
    }

    /// Counts a connection from an address.
    pub(super) fn connect(&self, ip: IpAddr) -> Result<Connected, Refusal> {
        let address = self.get(ip);
        let max = self.requests_max.saturating_mul(CONNECTIONS_PER_REQUEST);
        let before = address.connections.fetch_add(1, Ordering::Relaxed);
        let connected = Connected(address);
        if before < max { Ok(connected) } else { Err(Refusal::Address) }
    }

    /// Whether a request that has begun may go on.
    pub(super) fn check(&self, address: &Address) -> Result<(), Refusal> {
        if address.requests.load(Ordering::Relaxed) > self.requests_max {
            return Err(Refusal::Address);
        }
        match &self.rate {
            Some(rate) => address.bucket.take(rate.now(), rate).map_err(Refusal::Rate),
            None => Ok(()),
        }
    }

    fn get(&self, ip: IpAddr) -> Arc<Address> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.addresses.len() >= table.sweep_at && !table.addresses.contains_key(&ip) {
            table.sweep(self.rate.as_ref());
        }
        Arc::clone(table.addresses.entry(ip).or_default())
    }
}

impl Table {
    /// Forgets who has nothing under way and asked for nothing in a while; and where these are not
    /// enough, who has nothing under way.
    fn sweep(&mut self, rate: Option<&Rate>) {
        let rested = |address: &Address| {
            rate.is_none_or(|rate| address.bucket.0.load(Ordering::Relaxed) <= rate.now())
        };
        let held = |address: &Arc<Address>| Arc::strong_count(address) > 1;
        self.addresses.retain(|_, address| held(address) || !rested(address));
        if self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.retain(|_, address| held(address));
        }
        let len = self.addresses.len();
        self.sweep_at = (2 * len).clamp(ADDRESSES_MIN, ADDRESSES_MAX.max(len + ADDRESSES_MIN));
    }
}

/// `192.0.2.7`, `192.0.2.7:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn address(name: &[u8]) -> Option<IpAddr> {
    let name = std::str::from_utf8(name.trim_ascii()).ok()?;
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    plain.parse().ok().or_else(|| name.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// How often one address may ask.
#[derive(Debug)]
struct Rate {
    began: Instant,
    /// Between two requests, in nanoseconds.
    interval: u64,
    /// How much earlier than that requests may come, in nanoseconds.
    tolerance: u64,
}

impl Rate {
    fn new(per_second: usize, burst: usize) -> Option<Self> {
        let interval = 1_000_000_000_u64.checked_div(per_second as u64)?;
        let tolerance = interval.saturating_mul((burst as u64).saturating_sub(1));
        Some(Self { began: Instant::now(), interval, tolerance })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// When the next request of an address is due, in nanoseconds of its rate's clock: a token bucket
/// in one number (the generic cell rate algorithm).
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one request out at `now`, or says how long to wait for it.
    fn take(&self, now: u64, rate: &Rate) -> Result<(), Duration> {
        let next = |due: u64| {
            let due = due.max(now);
            (due - now <= rate.tolerance).then(|| due.saturating_add(rate.interval))
        };
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let early = |due: u64| Duration::from_nanos(due - now - rate.tolerance);
        taken.map(drop).map_err(early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::Limits;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_taken_and_then_a_steady_rate() {
        let rate = Rate::new(10, 5).unwrap();
        let bucket = Bucket::default();
        let at = |now| bucket.take(now, &rate);
        for _ in 0..5 {
            assert_eq!(at(0), Ok(()));
        }
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(SECOND / 20), Err(Duration::from_millis(50)));
        assert_eq!(at(SECOND / 10), Ok(()));
        assert_eq!(at(SECOND / 10), Err(Duration::from_millis(100)));
        // However long it rests, it has no more than a burst.
        let taken = (0..100).filter(|_| at(1000 * SECOND).is_ok()).count();
        assert_eq!(taken, 5);
        let steady = (0..100).filter(|n| at((1001 + n) * SECOND).is_ok()).count();
        assert_eq!(steady, 100);
        assert!(Rate::new(0, 5).is_none());
    }

    #[test]
    fn addresses_are_forgotten_when_they_are_many() {
        let limits =
            Limits { requests_per_second_max: 1, requests_burst_max: 10, ..Limits::default() };
        let addresses = Addresses::new(&limits);
        let count = || addresses.table.lock().unwrap().addresses.len();
        let ip = |n: u32| IpAddr::V4(n.into());
        let held = addresses.connect(ip(1)).unwrap();
        // They asked for nothing, so there is nothing to remember of them.
        for n in 2..5000 {
            addresses.connect(ip(n)).unwrap();
        }
        assert!(count() <= ADDRESSES_MIN, "{}", count());
        // These are not at rest.
        for n in 0..2 * ADDRESSES_MAX as u32 {
            let address = addresses.get(ip(10_000 + n));
            addresses.check(&address).unwrap();
        }
        assert!(count() <= ADDRESSES_MAX, "{}", count());
        assert!(Arc::ptr_eq(&held.0, &addresses.get(ip(1))));
    }
}
