//! The other end of a connection: what it moves, and what it has under way.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::watch::Seen;
use crate::gateway::Network;
use crate::metrics::IntGauge;

/// The other end of one connection. Its numbers are read by the connection's watch.
#[derive(Debug)]
pub(in crate::http) struct Client {
    peer: Option<SocketAddr>,
    shared: Arc<Shared>,
    address: Option<Arc<Address>>,
    read: AtomicU64,
    written: AtomicU64,
    begun: AtomicU64,
    under_way: AtomicUsize,
    ours: AtomicUsize,
    awaiting: AtomicUsize,
    blocked: AtomicBool,
}

/// What all clients of one listener share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Requests under way.
    requests: IntGauge,
    requests_max: usize,
    requests_per_address_max: usize,
    /// Whether connections are encrypted.
    secure: bool,
    addresses: Mutex<HashMap<IpAddr, Arc<Address>>>,
    /// Whose requests are not counted by address, beside this machine's own.
    trusted: Vec<Network>,
    /// Requests so far, to tell them apart in logs.
    numbered: AtomicU64,
}

/// An address, or the network of one household where addresses are plenty.
#[derive(Debug, Default)]
struct Address {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// Why a request or connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// This address has as much under way as one may.
    Address,
    /// All clients together have.
    Busy,
}

/// Connections of one address for each request that it may have under way.
const CONNECTIONS_PER_REQUEST: usize = 4;

impl Shared {
    /// Requests under way are counted in `requests`.
    pub(super) fn new(limits: &super::Limits, requests: IntGauge, secure: bool) -> Self {
        Self {
            requests,
            requests_max: limits.requests_max,
            requests_per_address_max: limits.requests_per_address_max,
            secure,
            addresses: Mutex::default(),
            trusted: limits.trusted_proxies.clone(),
            numbered: AtomicU64::new(0),
        }
    }

    /// The client at the other end of a new connection.
    pub(super) fn client(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
    ) -> Result<Arc<Client>, Refusal> {
        let ip = peer.map(|peer| peer.ip().to_canonical());
        let trusted = |ip: &IpAddr| self.trusted.iter().any(|network| network.contains(*ip));
        let counted = ip.filter(|ip| !ip.is_loopback() && !trusted(ip));
        let address = counted.map(|ip| self.address(network(ip))).transpose()?;
        Ok(Arc::new(Client {
            peer,
            shared: Arc::clone(self),
            address,
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            ours: AtomicUsize::new(0),
            awaiting: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
        }))
    }

    fn address(&self, ip: IpAddr) -> Result<Arc<Address>, Refusal> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let address = addresses.entry(ip).or_default();
        let max = self.requests_per_address_max.saturating_mul(CONNECTIONS_PER_REQUEST);
        if address.connections.load(Ordering::Relaxed) >= max {
            return Err(Refusal::Address);
        }
        address.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::clone(address))
    }
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

impl Client {
    /// Where it is; none for a unix socket.
    #[must_use]
    pub(in crate::http) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub(in crate::http) fn is_secure(&self) -> bool {
        self.shared.secure
    }

    /// The next number for a request of this listener.
    pub(in crate::http) fn number(&self) -> u64 {
        self.shared.numbered.fetch_add(1, Ordering::Relaxed)
    }

    /// Admits one more request, for as long as what is returned lives.
    pub(in crate::http) fn admit(self: &Arc<Self>) -> Result<UnderWay, Refusal> {
        let admitted = UnderWay::begin(Arc::clone(self));
        let shared = &self.shared;
        let requests = usize::try_from(shared.requests.get()).unwrap_or(0);
        if requests > shared.requests_max {
            return Err(Refusal::Busy);
        }
        let max = shared.requests_per_address_max;
        match &self.address {
            Some(address) if address.requests.load(Ordering::Relaxed) > max => {
                Err(Refusal::Address)
            }
            _ => Ok(admitted),
        }
    }

    pub(super) fn read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Notes that a request's body is waited for, or is no longer.
    pub(in crate::http) fn set_awaiting(&self, awaiting: bool) {
        if awaiting {
            self.awaiting.fetch_add(1, Ordering::Relaxed);
        } else {
            self.awaiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
            under_way: self.under_way.load(Ordering::Relaxed),
            ours: self.ours.load(Ordering::Relaxed),
            awaiting: self.awaiting.load(Ordering::Relaxed),
            blocked: self.blocked.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let (Some(address), Some(peer)) = (&self.address, self.peer) else { return };
        let mut addresses = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if address.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            addresses.remove(&network(peer.ip().to_canonical()));
        }
    }
}

/// A request under way, counted until this is dropped with the response's body.
#[derive(Debug)]
pub(in crate::http) struct UnderWay {
    client: Arc<Client>,
    ours: bool,
}

impl UnderWay {
    fn begin(client: Arc<Client>) -> Self {
        client.begun.fetch_add(1, Ordering::Relaxed);
        client.under_way.fetch_add(1, Ordering::Relaxed);
        client.ours.fetch_add(1, Ordering::Relaxed);
        client.shared.requests.inc();
        if let Some(address) = &client.address {
            address.requests.fetch_add(1, Ordering::Relaxed);
        }
        Self { client, ours: true }
    }

    /// Notes whether it is we who have something to do, or the client, who has to take what it got.
    pub(in crate::http) fn set_ours(&mut self, ours: bool) {
        if self.ours != ours {
            self.ours = ours;
            if ours {
                self.client.ours.fetch_add(1, Ordering::Relaxed);
            } else {
                self.client.ours.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.set_ours(false);
        self.client.under_way.fetch_sub(1, Ordering::Relaxed);
        self.client.shared.requests.dec();
        if let Some(address) = &self.client.address {
            address.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::Limits;

    fn shared(requests_max: usize, requests_per_address_max: usize) -> Arc<Shared> {
        let trusted_proxies = vec!["192.0.2.200/31".parse().unwrap()];
        let limits =
            Limits { requests_max, requests_per_address_max, trusted_proxies, ..Limits::default() };
        Arc::new(Shared::new(&limits, IntGauge::new("requests", "under way").unwrap(), false))
    }

    fn client(shared: &Arc<Shared>, peer: &str) -> Arc<Client> {
        shared.client(Some(peer.parse().unwrap())).unwrap()
    }

    #[test]
    fn an_address_has_its_share_over_all_its_connections() {
        let shared = shared(100, 2);
        let one = client(&shared, "192.0.2.7:1");
        let same = client(&shared, "[::ffff:192.0.2.7]:2");
        let other = client(&shared, "192.0.2.8:1");
        let held = [one.admit().unwrap(), same.admit().unwrap()];
        assert_eq!(one.admit().unwrap_err(), Refusal::Address);
        assert!(other.admit().is_ok());
        drop(held);
        assert!(same.admit().is_ok());
    }

    #[test]
    fn this_machine_and_trusted_proxies_are_not_counted_by_address() {
        let shared = shared(100, 1);
        for peer in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "192.0.2.200:1"] {
            let client = client(&shared, peer);
            let held: Vec<_> = (0..10).map(|_| client.admit().unwrap()).collect();
            assert_eq!(client.seen().under_way, held.len());
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address_and_is_forgotten() {
        let shared = shared(100, 1);
        let clients: Vec<_> =
            (0..4).map(|n| client(&shared, &format!("[2001:db8::{n}]:1"))).collect();
        let refused = shared.client(Some("[2001:db8::9]:1".parse().unwrap()));
        assert_eq!(refused.unwrap_err(), Refusal::Address);
        assert!(shared.client(Some("[2001:db8:0:1::9]:1".parse().unwrap())).is_ok());
        drop(clients);
        assert!(shared.addresses.lock().unwrap().is_empty());
    }

    #[test]
    fn all_together_are_bounded_whoever_they_are() {
        let shared = shared(2, 64);
        let clients = ["127.0.0.1:1", "192.0.2.7:1", "192.0.2.8:1"].map(|at| client(&shared, at));
        let held: Vec<_> = clients.iter().take(2).map(|client| client.admit().unwrap()).collect();
        assert_eq!(clients[2].admit().unwrap_err(), Refusal::Busy);
        drop(held);
        assert!(clients[2].admit().is_ok());
        assert_eq!(clients[0].seen().ours, 0);
    }
}
