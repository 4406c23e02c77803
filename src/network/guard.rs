//! Which addresses may be dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use multiaddr::{Multiaddr, Protocol};

use super::Config;

/// Says which addresses named by others may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    allow_private: bool,
}

impl Guard {
    /// The guard of this configuration.
    #[must_use]
    pub const fn new(config: &Config) -> Self {
        Self { allow_private: config.allow_private }
    }

    /// Whether an address may be dialled.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow_private || is_public(address)
    }

    /// Whether a multiaddr may be dialled, as far as it says itself; names are checked when they
    /// are resolved.
    #[must_use]
    pub fn allows_multiaddr(&self, address: &Multiaddr) -> bool {
        address.iter().all(|part| match part {
            Protocol::Ip4(ip) => self.allows(ip.into()),
            Protocol::Ip6(ip) => self.allows(ip.into()),
            _ => true,
        })
    }
}

/// Whether an address is one of the public internet (IANA's registries of special addresses).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || ip.is_documentation()
        || a >= 224)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Global unicast alone, without what embeds or tunnels addresses of IPv4, and examples.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}
