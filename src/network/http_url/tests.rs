use super::*;

#[test]
fn urls_are_read_strictly_or_not_at_all() {
    let good = [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("https://A.Example:443/x/y/", "https://a.example/x/y"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:8080/x", "http://a.example:8080/x"),
        ("https://a.example.", "https://a.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://192.0.2.1:81", "http://192.0.2.1:81"),
        ("http://[2001:DB8::1]:81/x", "http://[2001:db8::1]:81/x"),
        ("https://[::1]", "https://[::1]"),
        ("https://a.example/%41~b", "https://a.example/%41~b"),
        ("https://localhost:8443", "https://localhost:8443"),
    ];
    for (text, shown) in good {
        assert_eq!(HttpUrl::parse(text).map(|url| url.to_string()), Ok(shown.into()), "{text}");
    }
    let bad = [
        // Schemes.
        "",
        "a.example",
        "//a.example",
        "ftp://a.example",
        "file:///etc/passwd",
        "gopher://a.example",
        "HTTPS://a.example",
        " https://a.example",
        "https:/a.example",
        "https:a.example",
        "https://",
        "http://http://a.example",
        "javascript://a.example",
        // Who else would read another host.
        "https://user@a.example",
        "https://user:pass@a.example",
        "https://a.example@b.example",
        "https://@a.example",
        "https://a.example:80@b.example",
        "https://a.example#@b.example",
        "https://a.example\\@b.example",
        "https://a.example\\b",
        "https://a.example?x",
        "https://a.example/x?y=z",
        "https://a.example/#x",
        "https://a.example /x",
        "https://a .example",
        "https://a.example\t",
        "https://a.example\r\nHost: b",
        "https://a.example/x\r\ny",
        "https://a.example/x\ny",
        "https://a.example/\0",
        "https://a%2eexample",
        "https://%61.example",
        // Addresses in other clothes.
        "http://2130706433",
        "http://0x7f000001",
        "http://0x7f.0.0.1",
        "http://0177.0.0.1",
        "http://127.1",
        "http://127.0.1",
        "http://0",
        "http://127.0.0.01",
        "http://127.0.0.1.",
        "http://0x7f.1",
        "http://1.2.3.4.5",
        "http://256.0.0.1",
        "http://1.2.3",
        "http://a.example.0x1",
        "http://a.1",
        "http://①②⑦.0.0.1",
        "http://[::1",
        "http://::1",
        "http://[::1%25eth0]",
        "http://[fe80::1%eth0]",
        "http://[fe80::1%1]",
        "http://[127.0.0.1]",
        "http://[::ffff:1.2.3.400]",
        "http://[::1]x",
        "http://[::1]:",
        "http://[]",
        "http://[v1.x]",
        // Names that are none.
        "https://bücher.example",
        "https://a。example",
        "https://a..example",
        "https://.example",
        "https://-a.example",
        "https://a-.example",
        "https://a.example..",
        "https://a,b.example",
        "https://*.example",
        "https://a!b.example",
        "https://e\u{301}.example",
        "https://a\u{ad}.example",
        // Ports.
        "https://a.example:",
        "https://a.example:0",
        "https://a.example:22",
        "https://a.example:25",
        "https://a.example:023",
        "https://a.example:+80",
        "https://a.example:65536",
        "https://a.example:99999",
        "https://a.example:80:80",
        "https://a.example:8o",
        "https://a.example:6667",
        "https://a.example:-1",
        "https://a.example:80 ",
        // Paths.
        "https://a.example/../x",
        "https://a.example/x/..",
        "https://a.example/./x",
        "https://a.example//x",
        "https://a.example/%",
        "https://a.example/%4",
        "https://a.example/%zz",
        "https://a.example/<x>",
        "https://a.example/\"",
        "https://a.example/ü",
        "https://a.example/x y",
        "https://a.example/{x}",
        "https://a.example/x|y",
        "https://a.example/^",
        "https://a.example/`",
    ];
    for text in bad {
        assert!(HttpUrl::parse(text).is_err(), "{text:?} was read as {:?}", HttpUrl::parse(text));
    }
    let long = format!("https://{}.example", "a.".repeat(130));
    assert!(HttpUrl::parse(&long).is_err());
    assert!(HttpUrl::parse(&format!("https://{}.example", "a".repeat(64))).is_err());
    assert!(HttpUrl::parse(&format!("https://a.example/{}", "a".repeat(600))).is_err());
}

#[test]
fn multiaddrs_lead_to_urls() {
    let check = |address: &str, url: Option<&str>| {
        let parsed: Multiaddr = address.parse().unwrap_or_else(|_| panic!("{address}"));
        let found = HttpUrl::of_multiaddr(&parsed).map(|url| url.to_string());
        assert_eq!(found.as_deref(), url, "{address}");
    };
    check("/dns4/a.example/tcp/443/tls/http", Some("https://a.example"));
    check("/dns/a.example/tcp/8443/https", Some("https://a.example:8443"));
    check("/dns6/a.example/tcp/80/http", Some("http://a.example"));
    check("/dns/a.example/https", Some("https://a.example"));
    check("/dns/a.example/http", Some("http://a.example"));
    check("/ip4/192.0.2.1/tcp/8080/http", Some("http://192.0.2.1:8080"));
    check("/ip6/2001:db8::1/tcp/443/https", Some("https://[2001:db8::1]"));
    check("/ip4/192.0.2.1/tcp/443/tls/sni/a.example/http", Some("https://a.example"));
    check("/dns/a.example/tcp/443/tls/http/http-path/x%2Fy%20z", Some("https://a.example/x/y%20z"));
    check(
        "/dns/a.example/tcp/443/https/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
        Some("https://a.example"),
    );
    for other in [
        "/ip4/192.0.2.1/tcp/4001",
        "/ip4/192.0.2.1/udp/443/http",
        "/ip4/192.0.2.1/udp/4001/quic-v1",
        "/dns/a.example/tcp/443/tls",
        "/dns/a.example/tcp/443/tls/ws",
        "/dns/a.example/tcp/443/wss",
        "/dns/a.example/tcp/443/http/http",
        "/dns/a.example/tcp/443/http/p2p-circuit",
        "/dnsaddr/a.example/tcp/443/http",
        "/dns/a.example/tcp/22/http",
        "/dns/a.example/tcp/0/http",
        "/dns/2130706433/tcp/80/http",
        "/dns/0x7f.1/tcp/80/http",
        "/dns/127.0.0.1.x@y/tcp/80/http",
        "/dns/a.example/tcp/80/http/http-path/..%2Fx",
        "/dns/a.example/tcp/80/http/http-path/x%3Fy/p2p-circuit",
        "/ip6zone/eth0/ip6/fe80::1/tcp/80/http",
        "/unix/run.sock/http",
        "/http",
    ] {
        check(other, None);
    }
}

#[test]
fn a_url_survives_being_a_multiaddr() {
    for text in [
        "https://a.example",
        "http://a.example:8080",
        "http://192.0.2.1:81/x/y",
        "https://[2001:db8::1]",
        "https://a.example/x%20y",
    ] {
        let url = HttpUrl::parse(text).unwrap();
        let shown = url.to_multiaddr().to_string().parse().unwrap();
        assert_eq!(HttpUrl::of_multiaddr(&shown), Some(url), "{text}: {shown}");
    }
}

proptest::proptest! {
    #[test]
    fn what_is_read_is_read_again_as_the_same(text in "https?://[a-z0-9.:@\\[\\]%/?#\\\\x_-]{0,40}") {
        if let Ok(url) = HttpUrl::parse(&text) {
            let shown = url.to_string();
            proptest::prop_assert_eq!(&HttpUrl::parse(&shown).unwrap(), &url);
            // The other parser that sees it takes it for the same host and port.
            let uri: http::Uri = shown.parse().unwrap();
            let port = uri.port_u16().unwrap_or(if url.is_secure() { 443 } else { 80 });
            proptest::prop_assert_eq!(port, url.port());
            let host = uri.host().unwrap().trim_matches(['[', ']']);
            match url.host() {
                Host::Ip(ip) => proptest::prop_assert_eq!(host.parse::<IpAddr>().unwrap(), *ip),
                Host::Name(name) => proptest::prop_assert_eq!(host, name.as_ref()),
            }
        }
    }
}
