//! Which addresses may be dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use multiaddr::{Multiaddr, Protocol};

use super::Config;
use super::http_url::{Host, HttpUrl, name_is_plain};

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
            Protocol::Tcp(port) | Protocol::Udp(port) => port_is_allowed(port),
            Protocol::Dns(name)
            | Protocol::Dns4(name)
            | Protocol::Dns6(name)
            | Protocol::Dnsaddr(name)
            | Protocol::Sni(name) => name_is_plain(name.strip_suffix('.').unwrap_or(&name)),
            // A zone is of one machine's own links.
            Protocol::Ip6zone(_) | Protocol::Ipcidr(_) | Protocol::Unix(_) => false,
            _ => true,
        })
    }

    /// Whether a server may be asked, as far as its URL says; a name is checked when it is resolved.
    #[must_use]
    pub fn allows_url(&self, url: &HttpUrl) -> bool {
        match url.host() {
            Host::Ip(ip) => self.allows(*ip),
            Host::Name(_) => true,
        }
    }
}

/// Ports at which other protocols are spoken that may be misled by what we send (Fetch standard,
/// "bad ports"), or that answer anybody with more than they were sent.
const BAD_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 138, 139, 143, 161, 179, 389,
    427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989,
    990, 993, 995, 1719, 1720, 1723, 1900, 2049, 3659, 4045, 4190, 5060, 5061, 5353, 6000, 6566,
    6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211,
];

/// Whether a port may be dialled.
pub(super) fn port_is_allowed(port: u16) -> bool {
    BAD_PORTS.binary_search(&port).is_err()
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
        // Behind the NAT of a provider (RFC 6598).
        || (a == 100 && b & 0xc0 == 64)
        // Protocol assignments, and examples.
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || ip.is_documentation()
        // Anycast to whoever is nearest: 6to4 relays, AMT, AS112's sinks.
        || matches!((a, b, c), (192, 88, 99) | (192, 52, 193) | (192, 31, 196) | (192, 175, 48))
        // Measurements of networks (RFC 2544).
        || (a == 198 && b & 0xfe == 18)
        // Multicast, reserved, broadcast.
        || a >= 224)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, _, e, f, ..] = ip.segments();
    // Global unicast alone, without what embeds or tunnels addresses of IPv4 (Teredo, 6to4, ISATAP),
    // identifiers that look like addresses, AS112's sinks, and examples.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && a != 0x2002
        && !(a == 0x2620 && b == 0x004f && c == 0x8000)
        && !(a == 0x3fff && b < 0x1000)
        && !(e & !0x0200 == 0 && f == 0x5efe)
}

#[cfg(test)]
mod tests;
