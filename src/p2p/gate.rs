//! The gate that every dial passes at the moment of connecting: addresses that peers, records and
//! routers name lead to the public internet only, to ports where peers may be, and never to
//! ourselves.
//!
//! What the operator named may be dialled wherever it is. That holds for the very host and port of
//! his, a name with whatever it resolves to; not for what a `/dnsaddr` leads to.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::network::Guard;

/// Hosts and ports that the operator named and that are remembered.
const NAMED_MAX: usize = 4096;

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Carrier {
    Tcp,
    Quic,
}

/// Which host is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String, Family),
}

/// Which addresses of a name are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    pub(super) fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

/// Where an address leads, as far as the gate looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) carrier: Carrier,
    pub(super) port: u16,
}

impl Target {
    /// Reads the beginning of an address; none where it begins otherwise.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            Protocol::Dns(name) => Host::Name(name.to_ascii_lowercase(), Family::Any),
            Protocol::Dns4(name) => Host::Name(name.to_ascii_lowercase(), Family::V4),
            Protocol::Dns6(name) => Host::Name(name.to_ascii_lowercase(), Family::V6),
            _ => return None,
        };
        let (carrier, port) = match parts.next()? {
            Protocol::Tcp(port) => (Carrier::Tcp, port),
            Protocol::Udp(port) => (Carrier::Quic, port),
            _ => return None,
        };
        Some(Self { host, carrier, port })
    }
}

/// Says what may be dialled. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    guard: Guard,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the operator named.
    named: HashSet<Target>,
    /// Where we listen or are reached ourselves.
    own: HashSet<Target>,
}

impl Gate {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, known: Arc::default() }
    }

    pub(super) fn guard(&self) -> Guard {
        self.guard
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operator named this address.
    pub(super) fn name(&self, address: &Multiaddr) {
        let mut known = self.lock();
        if known.named.len() < NAMED_MAX
            && let Some(target) = Target::of(address)
        {
            known.named.insert(target);
        }
    }

    /// We are reached at this address ourselves, from now on or no longer.
    pub(super) fn own(&self, address: &Multiaddr, from_now_on: bool) {
        if let Some(target) = Target::of(address) {
            let mut known = self.lock();
            if from_now_on {
                known.own.insert(target)
            } else {
                known.own.remove(&target)
            };
        }
    }

    /// Whether `ip`, which `target` is or resolves to, may be dialled.
    pub(super) fn admits(&self, target: &Target, ip: IpAddr) -> io::Result<()> {
        let Target { carrier, port, .. } = *target;
        let known = self.lock();
        if known.own.contains(&Target { host: Host::Ip(ip), carrier, port }) {
            return Err(refused(format_args!("{ip}:{port} is this node itself")));
        }
        if known.named.contains(target) {
            return Ok(());
        }
        if !self.guard.allows(ip) {
            return Err(refused(format_args!(
                "{ip} is no public address; network.allow_private lets such be dialled"
            )));
        }
        if !is_port_of_peers(port) {
            return Err(refused(format_args!("port {port} is none of peers")));
        }
        Ok(())
    }
}

/// Whether peers may be at a port: other services are to hear nothing from us.
fn is_port_of_peers(port: u16) -> bool {
    port >= 1024 || port == 80 || port == 443
}

fn refused(why: std::fmt::Arguments<'_>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network;

    fn gate(allow_private: bool) -> Gate {
        Gate::new(Guard::new(&network::Config { allow_private }))
    }

    fn admits(gate: &Gate, address: &str) -> bool {
        let target = Target::of(&address.parse().unwrap()).unwrap();
        let Host::Ip(ip) = target.host else { panic!("{address} is no address") };
        gate.admits(&target, ip).is_ok()
    }

    #[test]
    fn only_public_addresses_and_ports_of_peers_are_admitted() {
        let strict = gate(false);
        let check = |address: &str, admitted: bool| {
            assert_eq!(admits(&strict, address), admitted, "{address}");
        };
        check("/ip4/8.8.8.8/tcp/4001", true);
        check("/ip4/8.8.8.8/udp/4001/quic-v1", true);
        check("/ip4/8.8.8.8/tcp/443", true);
        for port in [0, 1, 22, 25, 53, 110, 465, 587, 993, 1023] {
            check(&format!("/ip4/8.8.8.8/tcp/{port}"), false);
            check(&format!("/ip4/8.8.8.8/udp/{port}/quic-v1"), false);
        }
        for ip in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"] {
            check(&format!("/ip4/{ip}/tcp/4001"), false);
        }
        for ip in ["::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            check(&format!("/ip6/{ip}/tcp/4001"), false);
        }
    }

    #[test]
    fn private_addresses_are_admitted_where_the_operator_allows_them() {
        let open = gate(true);
        assert!(admits(&open, "/ip4/127.0.0.1/tcp/4001"));
        assert!(!admits(&open, "/ip4/127.0.0.1/tcp/22"));
    }

    #[test]
    fn what_the_operator_named_is_admitted_and_nothing_beside_it() {
        let gate = gate(false);
        gate.name(
            &"/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWCSPUidZSmCbjaRJ5qRLzCid7jpjre3F8diq8RwkJQLhu"
                .parse()
                .unwrap(),
        );
        assert!(admits(&gate, "/ip4/10.0.0.1/tcp/4001"));
        assert!(!admits(&gate, "/ip4/10.0.0.1/tcp/4002"));
        assert!(!admits(&gate, "/ip4/10.0.0.1/udp/4001/quic-v1"));
        assert!(!admits(&gate, "/ip4/10.0.0.2/tcp/4001"));
    }

    #[test]
    fn a_name_of_the_operator_may_resolve_to_private_addresses() {
        let gate = gate(false);
        gate.name(&"/dns4/Box.local/tcp/4001/ws".parse().unwrap());
        let target = |text: &str| Target::of(&text.parse().unwrap()).unwrap();
        let private = IpAddr::from([10, 0, 0, 1]);
        assert!(gate.admits(&target("/dns4/box.local/tcp/4001"), private).is_ok());
        assert!(gate.admits(&target("/dns4/other.local/tcp/4001"), private).is_err());
    }

    #[test]
    fn we_never_dial_ourselves() {
        let gate = gate(true);
        let own: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        gate.own(&own, true);
        gate.name(&own);
        assert!(!admits(&gate, "/ip4/127.0.0.1/tcp/4001"));
        assert!(admits(&gate, "/ip4/127.0.0.1/udp/4001/quic-v1"));
        gate.own(&own, false);
        assert!(admits(&gate, "/ip4/127.0.0.1/tcp/4001"));
    }
}
