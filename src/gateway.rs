//! The IPFS gateway: a request for content in, a response out.
//!
//! **Invariant:** knows the gateway specifications (path gateway, trustless gateway), and nothing
//! of sockets.

mod body;
mod error;
mod escape;
mod headers;
pub mod hostname;
mod metrics;
mod network;
mod read_ahead;
pub mod redirects;
mod request;
mod resolve;
mod respond;
mod site;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use serde::{Deserialize, Serialize};

use crate::retrieval::Retriever;
use crate::routing::Names;

pub use body::Body;
pub use error::Error;
pub use hostname::{HostPattern, NotAHost};
pub use metrics::Metrics;
pub use network::{Network, NotANetwork};

use hostname::{Hosts, Placed};
use metrics::Counters;
use request::{ContentRequest, Format, Parsed, Root};
use respond::Responder;

/// The gateway's section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the gateway listens, for whoever binds it. Not set: 127.0.0.1:8080, or a free port
    /// where that one is taken.
    pub listen: Option<SocketAddr>,
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
    /// requests are not limited by address: your CDN's.
    pub trusted_proxies: Vec<Network>,
    /// Entries on one page of a directory listing.
    pub listing_entries_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            url: None,
            subdomain_hosts: "localhost".parse().into_iter().collect(),
            inline_dnslink: true,
            dnslink_hosts: Vec::new(),
            trustless_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            listing_entries_max: 1000,
        }
    }
}

/// The other end of the connection that a request came by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none for processes of this machine that came by a socket's file.
    pub address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub secure: bool,
}

/// The head of a request; gateway requests have no body that matters.
pub type Request = http::Request<()>;

/// What a gateway is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Finds blocks.
    pub retriever: Retriever,
    /// Resolves names.
    pub names: Names,
}

/// Answers gateway requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    parts: Parts,
    hosts: Hosts,
    trusted_proxies: Arc<[Network]>,
    counters: Counters,
    listing_entries_max: usize,
}

impl Gateway {
    /// A gateway to what the parts find.
    #[must_use]
    pub fn new(parts: Parts, config: &Config, metrics: &Metrics) -> Self {
        let trusted_proxies: Arc<[Network]> = config.trusted_proxies.as_slice().into();
        Self {
            parts,
            hosts: Hosts::new(config, Arc::clone(&trusted_proxies)),
            trusted_proxies,
            counters: Counters::new(metrics),
            listing_entries_max: config.listing_entries_max.max(1),
        }
    }

    /// Whose word counts on where a request came from.
    #[must_use]
    pub fn trusted_proxies(&self) -> &[Network] {
        &self.trusted_proxies
    }

    /// Answers a request that came from `peer`. Whatever goes wrong before the head is sent becomes
    /// a response that names it; what goes wrong later becomes an error of the body.
    pub async fn respond(&self, request: Request, peer: Peer) -> Response<Body> {
        let mut format = None;
        let outcome = self.answer(&request, peer, &mut format).await;
        let head = request.method() == http::Method::HEAD;
        let response = outcome.unwrap_or_else(|error| error.response(head));
        self.counters.responded(format, response.status());
        response
    }

    async fn answer(
        &self,
        request: &Request,
        peer: Peer,
        format: &mut Option<Format>,
    ) -> Result<Response<Body>, Error> {
        let deadline = || self.parts.retriever.session().deadline();
        let place = match self.hosts.place(&self.parts.names, request, peer, deadline).await? {
            Placed::Here(place) => place,
            Placed::Elsewhere(url) => {
                self.counters.moved.inc();
                return respond::redirect(&url);
            }
        };
        self.counters.came_to(&place.site);
        let asked = match request::parse(request, place)? {
            Parsed::Content(asked) => asked,
            Parsed::Options => return Ok(options()),
            Parsed::Redirect(location) => return respond::redirect(&location),
            Parsed::Protocols => return Ok(protocols(request)),
            Parsed::Found(location) => return respond::found(&location),
        };
        *format = Some(asked.wants.format);
        if asked.wants.format == Format::IpnsRecord {
            return respond::ipns_record::ipns_record(&self.parts.names, &asked);
        }
        let content = match &asked.root {
            Root::Cid(cid) => {
                let cid = *cid;
                asked.at(cid)
            }
            Root::Name(name) => {
                let names = &self.parts.names;
                let resolved = if asked.wants.local_only {
                    Box::pin(names.resolve_at_hand(name)).await?
                } else {
                    Box::pin(names.resolve(name, deadline())).await?
                };
                asked.at_name(resolved)
            }
        };
        self.content(&content).await
    }

    async fn content(&self, request: &ContentRequest) -> Result<Response<Body>, Error> {
        let responder = Responder {
            retriever: &self.parts.retriever,
            streams: &self.counters.streams,
            request,
            listing_entries_max: self.listing_entries_max,
        };
        match responder.at_once() {
            Some(outcome) => outcome,
            // Boxed, for what is answered at once need not pay for the room this takes.
            None => Box::pin(self.with_redirects(responder)).await,
        }
    }

    /// Answers, by the rules of the site where the path does not exist.
    async fn with_redirects(&self, responder: Responder<'_>) -> Result<Response<Body>, Error> {
        match responder.respond().await {
            Err(error) if redirects::apply(responder.request, &error) => {
                redirects::answer(responder, error, &self.counters.redirects).await
            }
            outcome => outcome,
        }
    }
}

/// The protocols that are spoken here, and where (libp2p HTTP specification).
fn protocols(request: &Request) -> Response<Body> {
    const TEXT: &str = "{\"/ipfs/gateway\":{\"path\":\"/\"}}\n";
    let mut headers = HeaderMap::with_capacity(8);
    headers::put_cors(&mut headers);
    headers::put_nosniff(&mut headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(TEXT.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    let head = request.method() == http::Method::HEAD;
    let body = if head { Body::empty() } else { Body::full(TEXT) };
    headers::response(StatusCode::OK, headers, body)
}

fn options() -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(8);
    headers::put_cors(&mut headers);
    headers.insert(header::ALLOW, HeaderValue::from_static(headers::METHODS));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers::response(StatusCode::OK, headers, Body::empty())
}

#[cfg(test)]
mod tests;
