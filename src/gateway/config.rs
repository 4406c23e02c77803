//! The gateway's section of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::hostname::HostPattern;
use super::network::Network;
use super::signed::{Signed, SigningKeys};

/// The gateway's section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the gateway listens, for whoever binds it. Not set: 127.0.0.1:8080, or a free port
    /// where that one is taken.
    pub listen: Option<SocketAddr>,
    /// Where it listens for those who speak TLS. Not set: nowhere.
    pub tls_listen: Option<SocketAddr>,
    /// Files of certificates, PEM. Which is shown decides the name that a client asks for.
    pub tls_cert: Vec<PathBuf>,
    /// Files of their keys, in the same order.
    pub tls_key: Vec<PathBuf>,
    /// The gateway's public URL, for links to it: `https://host` or `http://host:port`. Not set:
    /// the address it listens on.
    pub url: Option<String>,
    /// Hosts that give each root an origin of its own, `{cid}.ipfs.{host}`; path requests to them are
    /// sent there. Addresses cannot be.
    pub subdomain_hosts: Vec<HostPattern>,
    /// Whether `/ipns/a-b.example` is sent to `a--b-example.ipns.{host}`, one label, over http too.
    pub inline_dnslink: bool,
    /// Domains that may be DNSLink sites when they are asked for as the host, beside those that
    /// `routing.names` has.
    pub dnslink_hosts: Vec<HostPattern>,
    /// Hosts that serve only what clients can verify: blocks, CARs, and records of keys.
    pub trustless_hosts: Vec<HostPattern>,
    /// Addresses and networks whose `X-Forwarded-Proto` and `X-Forwarded-Host` count, and whose
    /// requests are limited by the address in `X-Forwarded-For`: your CDN's.
    pub trusted_proxies: Vec<Network>,
    /// Files, and directories of files `*.allow`, that list what is answered, in the form of
    /// denylists. None: everything is.
    pub allow: Vec<PathBuf>,
    /// Whether only signed URLs are answered.
    pub signed: Signed,
    /// The keys that sign them, by name: secrets of 32 bytes or more, in hex or base64url.
    pub signing_keys: SigningKeys,
    /// Whether text and the like is compressed for clients that take it so.
    pub compress: bool,
    /// Entries on one page of a directory listing.
    pub listing_entries_max: usize,
    /// Largest file of which ranges are served, in bytes; of larger ones a range is refused with
    /// 501. Some CDNs turn a range of such a file into a request for all of it.
    pub range_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            tls_listen: None,
            tls_cert: Vec::new(),
            tls_key: Vec::new(),
            url: None,
            subdomain_hosts: "localhost".parse().into_iter().collect(),
            inline_dnslink: true,
            dnslink_hosts: Vec::new(),
            trustless_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            allow: Vec::new(),
            signed: Signed::Off,
            signing_keys: SigningKeys::default(),
            compress: true,
            listing_entries_max: 1000,
            range_bytes_max: 5 << 30,
        }
    }
}
