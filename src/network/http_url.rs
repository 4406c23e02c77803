//! URLs of HTTP servers, read strictly: what one reader takes for a name and the next for an address
//! is refused. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use multiaddr::{Multiaddr, Protocol};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::guard::port_is_allowed;

/// Longest name of a host, in bytes (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Longest label of a name, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Longest path below which a server answers, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// What stands in a path as it is (RFC 3986 section 3.3, without what is easily mistaken).
const IN_PATH: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// An HTTP server, and the path below which it answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpUrl {
    secure: bool,
    host: Host,
    port: u16,
    /// Empty, or with a slash at its beginning and none at its end.
    path: Box<str>,
}

/// A server's host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name, in lower case, without a dot at its end.
    Name(Box<str>),
}

/// Why a text is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(&'static str);

impl HttpUrl {
    /// Reads `http[s]://host[:port][/path]`, and nothing that has more in it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(UrlError("it does not begin with https:// or http://")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(UrlError("a ] is missing"))?;
            let address: Ipv6Addr =
                address.parse().map_err(|_| UrlError("it has no IPv6 address in its []"))?;
            (Host::Ip(address.into()), port)
        } else {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            (Host::parse(host)?, port)
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|_| !digits.starts_with('0'))
                .ok_or(UrlError("its port is none"))?,
            _ => return Err(UrlError("it has more than a host and a port before its path")),
        };
        Self::new(secure, host, port, path)
    }

    /// The server that a multiaddr leads to: `/dns4/host/tcp/443/tls/http`, `…/https`, `…/http`, with
    /// `/http-path/…` and `/p2p/…` behind it where they are. None where it leads to none.
    #[must_use]
    pub fn of_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter().peekable();
        let mut host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                Host::parse(&name).ok()?
            }
            _ => return None,
        };
        let tcp =
            |part: &Protocol<'_>| if let Protocol::Tcp(port) = part { Some(*port) } else { None };
        let port = parts.peek().and_then(tcp);
        if port.is_some() {
            parts.next();
        }
        let secure = match parts.next()? {
            Protocol::Https => true,
            Protocol::Http => false,
            Protocol::Tls => {
                let mut part = parts.next()?;
                if let Protocol::Sni(name) = part {
                    // The certificate is this name's, so it is asked for where the name leads.
                    host = Host::parse(&name).ok()?;
                    part = parts.next()?;
                }
                matches!(part, Protocol::Http).then_some(true)?
            }
            _ => return None,
        };
        let mut path = String::new();
        let mut last = parts.next();
        if let Some(Protocol::HttpPath(below)) = &last {
            let below = utf8_percent_encode(below.trim_matches('/'), &IN_PATH);
            path = format!("/{below}");
            last = parts.next();
        }
        let ends = matches!(last, None | Some(Protocol::P2p(_))) && parts.next().is_none();
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        ends.then(|| Self::new(secure, host, port, &path).ok())?
    }

    fn new(secure: bool, host: Host, port: u16, path: &str) -> Result<Self, UrlError> {
        if !port_is_allowed(port) {
            return Err(UrlError("its port is one at which no HTTP is spoken"));
        }
        let path = path.trim_end_matches('/');
        check_path(path)?;
        Ok(Self { secure, host, port, path: path.into() })
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// It as a multiaddr, for where providers are told of by those.
    #[must_use]
    pub fn to_multiaddr(&self) -> Multiaddr {
        let mut address = match &self.host {
            Host::Ip(ip) => Multiaddr::from(*ip),
            Host::Name(name) => Multiaddr::empty().with(Protocol::Dns(name.to_string().into())),
        };
        address.push(Protocol::Tcp(self.port));
        if self.secure {
            address.push(Protocol::Tls);
        }
        address.push(Protocol::Http);
        let path = self.path.trim_start_matches('/');
        if !path.is_empty() {
            let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
            address.push(Protocol::HttpPath(path.into_owned().into()));
        }
        address
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "https://" } else { "http://" })?;
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            Host::Name(name) => f.write_str(name)?,
        }
        if self.port != if self.secure { 443 } else { 80 } {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, UrlError> {
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name_is_plain(&name) {
            Ok(Self::Name(name.into()))
        } else {
            Err(UrlError(
                "its host is neither a name nor an address; names in other scripts are \
                 written in ASCII (xn--…)",
            ))
        }
    }
}

/// Whether a name is made of labels as DNS has them, and cannot be taken for an address: the last of
/// them is no number, be it hexadecimal (URL standard, "ends in a number").
pub(super) fn name_is_plain(name: &str) -> bool {
    let label_is_plain = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    name.len() <= NAME_BYTES_MAX && name.split('.').all(label_is_plain) && !is_number
}

fn check_path(path: &str) -> Result<(), UrlError> {
    let bytes = path.as_bytes();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
    let escape = |at: usize| {
        bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let is_dots = |segment: &str| matches!(segment, "." | ".." | "");
    if path.len() > PATH_BYTES_MAX {
        return Err(UrlError("its path is over 512 bytes"));
    }
    if !bytes.iter().enumerate().all(|(at, byte)| plain(*byte) || (*byte == b'%' && escape(at))) {
        return Err(UrlError("its path has letters in it that no path has, or a query"));
    }
    if path.split('/').skip(1).any(is_dots) {
        return Err(UrlError("its path has empty segments, or dots, in it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
