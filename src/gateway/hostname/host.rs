//! The name of a host: as a request gives it, and as the configuration does. Pure.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a host, in bytes (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Longest label of a name, in bytes.
pub(super) const LABEL_BYTES_MAX: usize = 63;

/// The host that a request names. Addresses are none: browsers give all of an address one origin,
/// and it has no DNS of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host<'a> {
    /// Its name, without a dot at its end, in the case it was given.
    pub(super) name: &'a str,
    /// Its port with the colon before it; empty where none is given.
    pub(super) port: &'a str,
}

impl<'a> Host<'a> {
    /// Reads `name` or `name:port`; `None` for addresses and for what no name is made of.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = match text.bytes().rposition(|byte| byte == b':') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        if is_like_an_address(name) || !port.bytes().skip(1).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = if port.len() > 1 { port } else { "" };
        let name = name.strip_suffix('.').unwrap_or(name);
        check_name(name).is_ok().then_some(Self { name, port })
    }

    /// The name in lower case, with the port.
    pub(super) fn authority(&self) -> String {
        format!("{}{}", self.name.to_ascii_lowercase(), self.port)
    }
}

/// Whether browsers take a name for an IPv4 address: its last label is a number (WHATWG URL
/// standard, section 3.5); or it is an IPv6 address.
fn is_like_an_address(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let dot = name.bytes().rposition(|byte| byte == b'.');
    let last = dot.and_then(|at| name.get(at + 1..)).unwrap_or(name);
    let hex = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        || name.starts_with('[')
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Err("it is longer than 253 letters");
    }
    let mut length = 0;
    for byte in name.bytes() {
        match byte {
            b'.' if length == 0 => return Err("there is nothing between two dots"),
            b'.' => length = 0,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => length += 1,
            _ => {
                return Err(
                    "a name has letters, digits, hyphens and dots; those in other scripts stand in their xn-- form",
                );
            }
        }
    }
    if length == 0 { Err("there is nothing behind its last dot") } else { Ok(()) }
}

/// Hosts by name: `gateway.example` for that one, `*.example.com` for all that have one label more
/// than `example.com`, `*` for all; on every port, in upper and lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(Box<str>);

/// A text that names no hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no host: {reason}")]
pub struct NotAHost {
    text: String,
    reason: &'static str,
}

impl FromStr for HostPattern {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let wrong = |reason| NotAHost { text: text.to_owned(), reason };
        if text == "*" {
            return Ok(Self(text.into()));
        }
        if text.parse::<std::net::IpAddr>().is_ok() || is_like_an_address(text) {
            return Err(wrong(
                "an address has no subdomains, and browsers give all of it one origin; a name such as gateway.example is wanted",
            ));
        }
        if text.contains(':') {
            return Err(wrong(
                "every port is meant, so none is named; leave out what is behind the colon",
            ));
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.contains('*') {
            return Err(wrong("an asterisk stands for the whole first label, as in *.example.com"));
        }
        check_name(name).map_err(wrong)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl TryFrom<String> for HostPattern {
    type Error = NotAHost;

    fn try_from(text: String) -> Result<Self, NotAHost> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.0.into()
    }
}

impl HostPattern {
    /// Whether it means every host.
    #[must_use]
    pub fn is_every(&self) -> bool {
        &*self.0 == "*"
    }

    /// Whether it means the host of this name, which has no port and no dot at its end.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some(end) = self.0.strip_prefix('*') else {
            return self.0.eq_ignore_ascii_case(name);
        };
        let Some(at) = name.len().checked_sub(end.len()) else { return false };
        // As bytes, since the name may be cut inside a letter.
        let (label, rest) = name.as_bytes().split_at(at);
        end.is_empty()
            || !label.is_empty()
                && !label.contains(&b'.')
                && rest.eq_ignore_ascii_case(end.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_or_without_a_port() {
        let check = |text: &str, want: Option<(&str, &str)>| {
            let host = Host::parse(text).map(|host| (host.name, host.port));
            assert_eq!(host, want, "{text}");
        };
        check("localhost", Some(("localhost", "")));
        check("localhost:8080", Some(("localhost", ":8080")));
        check("LocalHost.:8080", Some(("LocalHost", ":8080")));
        check("a.example:", Some(("a.example", "")));
        check("1.example", Some(("1.example", "")));
        for none in [
            "",
            ".",
            ":80",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.1",
            "0x7f.1",
            "a.0x7f",
            "1",
            "[::1]",
            "[::1]:8080",
            "::1",
            "a..b",
            ".a",
            "a:b",
            "a:8:9",
            "a b",
            "a/b",
            "a@b",
            "a.example..",
            "\u{e4}.example",
            "a%2eb",
            "a.example:80x",
            "127.0.0.1.",
        ] {
            check(none, None);
        }
        assert_eq!(Host::parse(&"a.".repeat(200)), None);
    }

    #[test]
    fn patterns_mean_one_host_or_all_one_label_below() {
        let check = |pattern: &str, name: &str, want: bool| {
            let pattern: HostPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(name), want, "{pattern:?} {name}");
        };
        check("Gateway.Example", "gateway.eXample", true);
        check("gateway.example", "evilgateway.example", false);
        check("gateway.example", "gateway.example.evil", false);
        check("*.example.com", "a.example.com", true);
        check("*.example.com", "A.EXAMPLE.COM", true);
        check("*.example.com", "a.b.example.com", false);
        check("*.example.com", "example.com", false);
        check("*.example.com", ".example.com", false);
        check("*.example.com", "aexample.com", false);
        check("*.example.com", "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}", false);
        check("*", "anything", true);
    }

    #[test]
    fn what_names_no_host_is_refused_with_the_reason() {
        let check = |text: &str, says: &str| {
            let error = text.parse::<HostPattern>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        };
        check("127.0.0.1", "subdomains");
        check("::1", "subdomains");
        check("[::1]", "subdomains");
        check("10.1", "subdomains");
        check("gateway.example:8080", "port");
        check("https://gateway.example", "port");
        check("a.*.example", "asterisk");
        check("**", "asterisk");
        check("", "names no host");
        check("a..b", "dots");
        check("gateway.example/ipfs", "letters");
        check("b\u{fc}cher.example", "xn--");
    }
}
