use proptest::prelude::*;

use super::*;

/// Public addresses, many of them just outside what is special.
const PUBLIC: &[&str] = &[
    "1.1.1.1",
    "1.0.0.0",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "150.1.1.1",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.1.255",
    "192.0.3.0",
    "192.31.195.255",
    "192.31.197.0",
    "192.52.192.255",
    "192.52.194.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "192.175.47.255",
    "192.175.49.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "104.16.1.1",
    "147.75.87.27",
    "145.40.118.135",
    "209.94.90.1",
    "34.117.59.81",
    "2000::",
    "2001:200::",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2001:ffff::1",
    "2003::1",
    "2400:cb00:2048:1::6810:1",
    "2604:1380:40e1:9c00::1",
    "2606:4700:4700::1111",
    "2620:4f:7fff::1",
    "2620:4f:8001::1",
    "2620:fe::fe",
    "2a00:1450:4001:80f::200e",
    "2a02::",
    "3000::",
    "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff:1000::",
    "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2a00::5efe:1",
    "2a00::5eff:a00:1",
    "2a00::100:5efe:a00:1",
    "::ffff:8.8.8.8",
    "::ffff:1.1.1.1",
    "::ffff:223.255.255.255",
];

/// Special addresses: IANA's registries of special-purpose IPv4 and IPv6 addresses, multicast, and what
/// embeds or tunnels IPv4.
const SPECIAL: &[&str] = &[
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.0",
    "10.0.0.1",
    "10.1.2.3",
    "10.255.255.255",
    "100.64.0.0",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.0.1.1",
    "127.1.2.3",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.0",
    "172.16.0.1",
    "172.17.0.1",
    "172.20.10.1",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.10",
    "192.0.0.170",
    "192.0.0.171",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.1",
    "192.0.2.255",
    "192.31.196.0",
    "192.31.196.1",
    "192.31.196.255",
    "192.52.193.0",
    "192.52.193.255",
    "192.88.99.0",
    "192.88.99.1",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.0.1",
    "192.168.1.1",
    "192.168.255.255",
    "192.175.48.0",
    "192.175.48.1",
    "192.175.48.255",
    "198.18.0.0",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.1",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.1",
    "203.0.113.255",
    "224.0.0.0",
    "224.0.0.1",
    "224.0.0.251",
    "232.0.0.1",
    "233.252.0.1",
    "239.255.255.250",
    "239.255.255.255",
    "240.0.0.0",
    "240.0.0.1",
    "250.1.2.3",
    "255.0.0.0",
    "255.255.255.254",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:0:0",
    "::ffff:0.0.0.0",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:172.16.0.1",
    "::ffff:192.168.1.1",
    "::ffff:169.254.169.254",
    "::ffff:100.64.0.1",
    "::ffff:192.0.2.1",
    "::ffff:224.0.0.1",
    "::ffff:255.255.255.255",
    "::ffff:0:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::",
    "64:ff9b::1.1.1.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::",
    "64:ff9b:1::a00:1",
    "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "64:ff9a::1",
    "100::",
    "100::1",
    "100::ffff:ffff:ffff:ffff",
    "100:0:0:1::1",
    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "200::1",
    "400::1",
    "2001::",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:0:7f00:1::1",
    "2001:1::1",
    "2001:1::2",
    "2001:1::3",
    "2001:2::",
    "2001:2::1",
    "2001:3::1",
    "2001:4:112::1",
    "2001:10::1",
    "2001:1f::1",
    "2001:20::1",
    "2001:2f::1",
    "2001:30::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::",
    "2001:db8::1",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::",
    "2002::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2002:c0a8:101::1",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2620:4f:8000::",
    "2620:4f:8000::42",
    "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
    "3fff::",
    "3fff::1",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2a00::5efe:7f00:1",
    "2a00::5efe:10.0.0.1",
    "2a00:1:2:3:200:5efe:a00:1",
    "4000::",
    "4000::1",
    "5f00::",
    "5f00::1",
    "5f00:ffff::1",
    "6000::1",
    "8000::1",
    "a000::1",
    "c000::1",
    "e000::1",
    "f000::1",
    "f800::1",
    "fb00::1",
    "fc00::",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe00::1",
    "fe7f::1",
    "fe80::",
    "fe80::1",
    "fe80::a00:27ff:fe4e:66a1",
    "febf:ffff::1",
    "fec0::",
    "fec0::1",
    "fec0:0:0:ffff::1",
    "feff::1",
    "ff00::",
    "ff01::1",
    "ff02::1",
    "ff02::fb",
    "ff05::2",
    "ff0e::1",
    "ff3e::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

#[test]
fn every_special_address_is_told_from_public_ones() {
    assert!(PUBLIC.len() + SPECIAL.len() >= 200);
    let guard = Guard::new(&Config { allow_private: false });
    let open = Guard::new(&Config { allow_private: true });
    for (texts, public) in [(PUBLIC, true), (SPECIAL, false)] {
        for text in texts {
            let address: IpAddr = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(is_public(address), public, "{text}");
            assert_eq!(guard.allows(address), public, "{text}");
            assert!(open.allows(address), "{text}");
            let multiaddr = Multiaddr::from(address).with(Protocol::Tcp(4001));
            assert_eq!(guard.allows_multiaddr(&multiaddr), public, "{text}");
        }
    }
}

#[test]
fn multiaddrs_are_taken_strictly() {
    let guard = Guard::new(&Config { allow_private: true });
    let check = |address: &str, allowed: bool| {
        let parsed: Multiaddr = address.parse().unwrap_or_else(|_| panic!("{address}"));
        assert_eq!(guard.allows_multiaddr(&parsed), allowed, "{address}");
    };
    check("/ip4/192.0.2.1/tcp/4001", true);
    check("/ip4/192.0.2.1/udp/4001/quic-v1", true);
    check("/dns4/a.example/tcp/443/tls/sni/a.example/ws", true);
    check("/dnsaddr/bootstrap.libp2p.io", true);
    check("/dnsaddr/_x.a.example", true);
    check("/dns/a.example./tcp/443/https", true);
    check("/ip4/192.0.2.1/tcp/0", false);
    check("/ip4/192.0.2.1/tcp/22", false);
    check("/ip4/192.0.2.1/tcp/25", false);
    check("/ip4/192.0.2.1/udp/53/quic-v1", false);
    check("/ip4/192.0.2.1/udp/11211/quic-v1", false);
    check("/ip6zone/eth0/ip6/fe80::1/tcp/4001", false);
    check("/unix/run%2Fdocker.sock", false);
    for name in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "a..example",
        "user@a.example",
        "a.example#x",
        "bücher.example",
        "a example",
        "a\r\nb",
        "-a.example",
        "a.example:22",
        "[::1]",
        "",
    ] {
        for kind in [Protocol::Dns as fn(_) -> _, Protocol::Dns4, Protocol::Dns6, Protocol::Dnsaddr]
        {
            let address = Multiaddr::empty().with(kind(name.into())).with(Protocol::Tcp(4001));
            assert!(!guard.allows_multiaddr(&address), "{address}");
        }
    }
}

#[test]
fn bad_ports_are_in_order() {
    assert!(BAD_PORTS.is_sorted());
    for port in [80, 443, 4001, 8080, 8443] {
        assert!(port_is_allowed(port), "{port}");
    }
}

/// Networks of IPv4 in which nothing is public: first address and length of prefix.
const NETWORKS: &[(u32, u32)] = &[
    (0, 8),
    (0x0a00_0000, 8),
    (0x6440_0000, 10),
    (0x7f00_0000, 8),
    (0xa9fe_0000, 16),
    (0xac10_0000, 12),
    (0xc000_0000, 24),
    (0xc000_0200, 24),
    (0xc01f_c400, 24),
    (0xc034_c100, 24),
    (0xc058_6300, 24),
    (0xc0a8_0000, 16),
    (0xc0af_3000, 24),
    (0xc612_0000, 15),
    (0xc633_6400, 24),
    (0xcb00_7100, 24),
    (0xe000_0000, 3),
];

proptest! {
    #[test]
    fn an_address_is_public_where_it_is_in_no_special_network(bits: u32) {
        let special = NETWORKS.iter().any(|(first, length)| (bits ^ first) >> (32 - length) == 0);
        let ip = Ipv4Addr::from(bits);
        prop_assert_eq!(is_public(ip.into()), !special);
        // However it is written as one of IPv6: as itself, or not at all.
        prop_assert_eq!(is_public(ip.to_ipv6_mapped().into()), !special);
        prop_assert!(!is_public(ip.to_ipv6_compatible().into()));
        let embedded = |first: u128, shift: u32| Ipv6Addr::from(first | u128::from(bits) << shift);
        prop_assert!(!is_public(embedded(0x2002 << 112, 80).into()));
        prop_assert!(!is_public(embedded(0x0064_ff9b << 96, 0).into()));
        prop_assert!(!is_public(embedded(0x2001 << 112, 64).into()));
        prop_assert!(!is_public(embedded(0x2a00 << 112 | 0x5efe << 32, 0).into()));
    }

    #[test]
    fn no_address_outside_global_unicast_is_public(bits: u128) {
        let ip = Ipv6Addr::from(bits);
        let mapped = ip.to_ipv4_mapped().is_some();
        prop_assert!(bits >> 125 == 1 || mapped || !is_public(ip.into()));
    }
}
