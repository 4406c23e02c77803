//! The other end of a connection: what it moves, and what it has under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;

use super::address::{Address, Addresses, Connected, Who};
use super::tunnel::Tunnel;
use super::watch::Seen;
use crate::metrics::IntGauge;

/// The other end of one connection. Its numbers are read by the connection's watch.
#[derive(Debug)]
pub(in crate::http) struct Client {
    peer: Option<SocketAddr>,
    shared: Arc<Shared>,
    address: Option<Connected>,
    /// Whether it is a trusted proxy, whose requests count for those who sent them.
    proxy: bool,
    read: AtomicU64,
    written: AtomicU64,
    begun: AtomicU64,
    under_way: AtomicUsize,
    ours: AtomicUsize,
    awaiting: AtomicUsize,
    blocked: AtomicBool,
    tunnel: Tunnel,
}

/// What all clients of one listener share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Requests under way.
    requests: IntGauge,
    requests_max: usize,
    /// Whether connections are encrypted.
    secure: bool,
    addresses: Arc<Addresses>,
    /// Requests so far, to tell them apart in logs.
    numbered: AtomicU64,
}

/// Why a request or connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// This address has as much under way as one may.
    Address,
    /// It asks too often; it may ask again after this.
    Rate(Duration),
    /// All clients together have as much under way as they may.
    Busy,
}

impl Shared {
    /// Requests under way are counted in `requests`.
    pub(super) fn new(
        limits: &super::Limits,
        addresses: Arc<Addresses>,
        requests: IntGauge,
        secure: bool,
    ) -> Self {
        Self {
            requests,
            requests_max: limits.requests_max,
            secure,
            addresses,
            numbered: AtomicU64::new(0),
        }
    }

    /// The client at the other end of a new connection.
    pub(super) fn client(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
    ) -> Result<Arc<Client>, Refusal> {
        let (address, proxy) = match peer.map(|peer| self.addresses.who(peer.ip())) {
            Some(Who::Address(address)) => (Some(self.addresses.connect(address)?), false),
            Some(Who::Proxy) => (None, true),
            Some(Who::ThisMachine) | None => (None, false),
        };
        Ok(Arc::new(Client {
            peer,
            shared: Arc::clone(self),
            address,
            proxy,
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            ours: AtomicUsize::new(0),
            awaiting: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            tunnel: Tunnel::default(),
        }))
    }
}

impl Client {
    /// Where it is; none for a unix socket.
    #[must_use]
    pub(in crate::http) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether the connection is a tunnel.
    pub(in crate::http) fn tunnel(&self) -> &Tunnel {
        &self.tunnel
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

    /// Admits one more request with this head, for as long as what is returned lives.
    pub(in crate::http) fn admit(
        self: &Arc<Self>,
        headers: &HeaderMap,
    ) -> Result<UnderWay, Refusal> {
        let addresses = &self.shared.addresses;
        let forwarded = if self.proxy { addresses.forwarded(headers) } else { None };
        let admitted = UnderWay::begin(Arc::clone(self), forwarded);
        let requests = usize::try_from(self.shared.requests.get()).unwrap_or(0);
        if requests > self.shared.requests_max {
            return Err(Refusal::Busy);
        }
        if let Some(address) = admitted.address() {
            addresses.check(address)?;
        }
        Ok(admitted)
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

/// A request under way, counted until this is dropped with the response's body.
#[derive(Debug)]
pub(in crate::http) struct UnderWay {
    client: Arc<Client>,
    /// For whom a proxy passed it on.
    forwarded: Option<Arc<Address>>,
    ours: bool,
}

impl UnderWay {
    fn begin(client: Arc<Client>, forwarded: Option<Arc<Address>>) -> Self {
        client.begun.fetch_add(1, Ordering::Relaxed);
        client.under_way.fetch_add(1, Ordering::Relaxed);
        client.ours.fetch_add(1, Ordering::Relaxed);
        client.shared.requests.inc();
        let begun = Self { client, forwarded, ours: true };
        if let Some(address) = begun.address() {
            address.begin();
        }
        begun
    }

    /// Whose it is, where that is counted.
    fn address(&self) -> Option<&Address> {
        match (&self.forwarded, &self.client.address) {
            (Some(address), _) => Some(address),
            (None, Some(connected)) => Some(connected.address()),
            (None, None) => None,
        }
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
        if let Some(address) = self.address() {
            address.end();
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
        let addresses = Arc::new(Addresses::new(&limits));
        Arc::new(Shared::new(
            &limits,
            addresses,
            IntGauge::new("requests", "under way").unwrap(),
            false,
        ))
    }

    fn client(shared: &Arc<Shared>, peer: &str) -> Arc<Client> {
        shared.client(Some(peer.parse().unwrap())).unwrap()
    }

    fn admit(client: &Arc<Client>) -> Result<UnderWay, Refusal> {
        client.admit(&HeaderMap::new())
    }

    #[test]
    fn an_address_has_its_share_over_all_its_connections() {
        let shared = shared(100, 2);
        let one = client(&shared, "192.0.2.7:1");
        let same = client(&shared, "[::ffff:192.0.2.7]:2");
        let other = client(&shared, "192.0.2.8:1");
        let held = [admit(&one).unwrap(), admit(&same).unwrap()];
        assert_eq!(admit(&one).unwrap_err(), Refusal::Address);
        assert!(admit(&other).is_ok());
        drop(held);
        assert!(admit(&same).is_ok());
    }

    #[test]
    fn this_machine_and_trusted_proxies_are_not_counted_by_address() {
        let shared = shared(100, 1);
        for peer in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "192.0.2.200:1"] {
            let client = client(&shared, peer);
            let held: Vec<_> = (0..10).map(|_| admit(&client).unwrap()).collect();
            assert_eq!(client.seen().under_way, held.len());
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let shared = shared(100, 1);
        let clients: Vec<_> =
            (0..4).map(|n| client(&shared, &format!("[2001:db8::{n}]:1"))).collect();
        let next = || shared.client(Some("[2001:db8::9]:1".parse().unwrap()));
        assert_eq!(next().unwrap_err(), Refusal::Address);
        assert!(shared.client(Some("[2001:db8:0:1::9]:1".parse().unwrap())).is_ok());
        drop(clients);
        assert!(next().is_ok());
    }

    #[test]
    fn who_is_behind_a_trusted_proxy_is_counted_and_nobody_else_is_believed() {
        let shared = shared(100, 1);
        let forwarded = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            headers
        };
        let seven = forwarded(&["192.0.2.7"]);
        let proxy = client(&shared, "192.0.2.200:1");
        let held = proxy.admit(&seven).unwrap();
        for same in [
            &["192.0.2.7"][..],
            &["198.51.100.1, 192.0.2.7"],
            &["198.51.100.1", "192.0.2.7"],
            &["192.0.2.7, 192.0.2.201"],
            &[" 192.0.2.7:4711 ,[::ffff:192.0.2.200]:1"],
            &["::ffff:192.0.2.7"],
        ] {
            assert_eq!(proxy.admit(&forwarded(same)).unwrap_err(), Refusal::Address, "{same:?}");
        }
        // The same client, should it come without the proxy.
        assert_eq!(admit(&client(&shared, "192.0.2.7:1")).unwrap_err(), Refusal::Address);
        for other in [&["192.0.2.8"][..], &["192.0.2.7, 192.0.2.8"], &["[2001:db8::1]:9"]] {
            assert!(proxy.admit(&forwarded(other)).is_ok(), "{other:?}");
        }
        // What the proxy asks for itself.
        for own in [&[][..], &["192.0.2.201"], &["192.0.2.7, unknown"], &["127.0.0.1"], &[""]] {
            let held = [(); 3].map(|()| proxy.admit(&forwarded(own)).unwrap());
            assert_eq!(held.len(), 3, "{own:?}");
        }
        // Whoever else says it has another's address is counted by its own.
        let liar = client(&shared, "203.0.113.9:1");
        let of_liar = liar.admit(&seven).unwrap();
        let refused = liar.admit(&forwarded(&["192.0.2.99"]));
        assert_eq!(refused.unwrap_err(), Refusal::Address);
        drop((held, of_liar));
        assert!(proxy.admit(&seven).is_ok());
    }

    #[test]
    fn all_together_are_bounded_whoever_they_are() {
        let shared = shared(2, 64);
        let clients = ["127.0.0.1:1", "192.0.2.7:1", "192.0.2.8:1"].map(|at| client(&shared, at));
        let held: Vec<_> = clients.iter().take(2).map(|client| admit(client).unwrap()).collect();
        assert_eq!(admit(&clients[2]).unwrap_err(), Refusal::Busy);
        drop(held);
        assert!(admit(&clients[2]).is_ok());
        assert_eq!(clients[0].seen().ours, 0);
    }
}
