//! Who is asking on the API listener.
//!
//! A person at this machine's own browser needs no key, yet no page from elsewhere may speak for
//! them: foreign pages send a foreign `Origin`, rebound names a foreign `Host`, and neither can
//! read the token that is in our own page.

use std::net::SocketAddr;

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, Uri, Version, header};
use subtle::ConstantTimeEq;

/// The header in which the console page shows its token.
pub const PAGE_TOKEN: &str = "x-estuary-page-token";

/// What proxies add to what they pass on.
const BY_PROXIES: [HeaderName; 4] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// The address a request came from, put into its extensions by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What tells whether a request is the page's: its head, and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where it came from.
    pub peer: Peer,
    /// Its version of HTTP.
    pub version: Version,
    /// What it asks for.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// Why the page's own way in is closed to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It came over a network.
    #[error("without a key, uploads are taken from this machine only")]
    Peer,
    /// It asks for a name that is not this listener's.
    #[error("this listener has another name")]
    Host,
    /// A proxy passed it on, so that it comes from anywhere.
    #[error("without a key, nothing is taken from a proxy")]
    Proxy,
    /// Another site's page sent it.
    #[error("requests from pages of other sites are refused")]
    Origin,
    /// It does not show the page's token.
    #[error("the page's token is missing or old: load the page again")]
    Token,
}

/// The console page's way in: its token, and the names under which the page may be asked for.
#[derive(Clone)]
pub struct Page {
    token: String,
    hosts: Vec<String>,
}

impl Page {
    /// A new token for the listener at `address`, which also goes by `names` (`host` or
    /// `host:port`).
    pub fn new(address: SocketAddr, names: &[String]) -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let port = address.port();
        let mut hosts = Vec::new();
        for name in ["127.0.0.1", "localhost", "[::1]"] {
            hosts.push(format!("{name}:{port}"));
            // Browsers leave out the port that is usual.
            if port == 80 {
                hosts.push(name.to_owned());
            }
        }
        if address.ip().is_loopback() {
            hosts.push(address.to_string());
        }
        hosts.extend(names.iter().map(|name| name.to_ascii_lowercase()));
        Ok(Self { token: HEXLOWER.encode(&random), hosts })
    }

    /// The token, for the page itself.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether the page may be shown: asked for from this machine, by a name of ours, and not by
    /// another site's page, which could read the token in it.
    pub fn may_load(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        let Asked { peer, version, uri, headers } = *asked;
        if !peer.0.ip().to_canonical().is_loopback() {
            return Err(Refused::Peer);
        }
        // A proxy on this machine may ask for the public, and by a name of ours too: it is what
        // nginx does unless told otherwise, in HTTP/1.0, which no browser speaks.
        if version < Version::HTTP_11 || BY_PROXIES.iter().any(|name| headers.contains_key(name)) {
            return Err(Refused::Proxy);
        }
        let host = self.own_host(uri, headers)?;
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let own = |origin: &http::HeaderValue| {
            origin.to_str().is_ok_and(|text| text.strip_prefix("http://") == Some(host))
        };
        if !origins.all(own) {
            return Err(Refused::Origin);
        }
        Ok(())
    }

    /// Whether a request is the page's own.
    pub fn may_act(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        self.may_load(asked)?;
        let headers = asked.headers;
        let mut tokens = headers.get_all(PAGE_TOKEN).iter();
        match (tokens.next(), tokens.next()) {
            (Some(token), None) if token.as_bytes().ct_eq(self.token.as_bytes()).into() => Ok(()),
            _ => Err(Refused::Token),
        }
    }

    /// The listener's name that the request asks for. With HTTP/2 it stands in the URI.
    fn own_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<&str, Refused> {
        let mut named = headers.get_all(header::HOST).iter();
        let (first, more) = (named.next(), named.next());
        let header = first.map(|value| value.to_str()).transpose().map_err(|_| Refused::Host)?;
        let authority = uri.authority().map(http::uri::Authority::as_str);
        if more.is_some() || matches!((header, authority), (Some(a), Some(b)) if a != b) {
            return Err(Refused::Host);
        }
        let asked = header.or(authority).ok_or(Refused::Host)?.to_ascii_lowercase();
        self.hosts.iter().find(|own| **own == asked).map(String::as_str).ok_or(Refused::Host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: (&str, &str) = ("host", "localhost:3004");
    const HOME: &str = "127.0.0.1:40000";

    fn page() -> Page {
        Page::new("127.0.0.1:3004".parse().unwrap(), &["Box.local:3004".into()]).unwrap()
    }

    fn check(page: &Page, peer: &str, headers: &[(&str, &str)], expected: Result<(), Refused>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let (peer_address, uri) = (Peer(peer.parse().unwrap()), Uri::from_static("/put"));
        let version = Version::HTTP_11;
        let asked = Asked { peer: peer_address, version, uri: &uri, headers: &map };
        let got = page.may_act(&asked);
        assert_eq!(got, expected, "{peer} {headers:?}");
    }

    #[test]
    fn the_page_goes_by_the_name_that_a_browser_gives_its_listener() {
        for (listens, host) in [
            ("127.0.0.2:3004", "127.0.0.2:3004"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("0.0.0.0:80", "localhost"),
        ] {
            let page = Page::new(listens.parse().unwrap(), &[]).unwrap();
            let origin = format!("http://{host}");
            let token = (PAGE_TOKEN, page.token());
            check(&page, HOME, &[("host", host), ("origin", &origin), token], Ok(()));
            for host in ["0.0.0.0", "0.0.0.0:80", "evil.example", ""] {
                check(&page, HOME, &[("host", host), token], Err(Refused::Host));
            }
        }
    }

    #[test]
    fn only_our_own_page_on_this_machine_may_act() {
        let page = page();
        let token = (PAGE_TOKEN, page.token());
        check(&page, HOME, &[HOST, token], Ok(()));
        check(&page, HOME, &[HOST, token, ("origin", "http://localhost:3004")], Ok(()));
        check(&page, "[::ffff:127.0.0.1]:9", &[HOST, token], Ok(()));
        check(&page, HOME, &[("host", "box.local:3004"), token], Ok(()));
        check(&page, "192.0.2.7:9", &[HOST, token], Err(Refused::Peer));
        check(&page, HOME, &[token], Err(Refused::Host));
        check(&page, HOME, &[HOST, HOST, token], Err(Refused::Host));
        for host in ["evil.example", "evil.example:3004", "localhost", "localhost:8080"] {
            check(&page, HOME, &[("host", host), token], Err(Refused::Host));
        }
        for origin in
            ["http://evil.example", "https://localhost:3004", "null", "", "http://127.0.0.1:3004"]
        {
            check(&page, HOME, &[HOST, token, ("origin", origin)], Err(Refused::Origin));
        }
        for name in ["forwarded", "via", "x-forwarded-for", "x-real-ip"] {
            check(&page, HOME, &[HOST, token, (name, "203.0.113.9")], Err(Refused::Proxy));
        }
        check(&page, HOME, &[HOST], Err(Refused::Token));
        check(&page, HOME, &[HOST, token, token], Err(Refused::Token));
        check(&page, HOME, &[HOST, (PAGE_TOKEN, "")], Err(Refused::Token));
        check(&page, HOME, &[HOST, (PAGE_TOKEN, &token.1[1..])], Err(Refused::Token));
    }
}
