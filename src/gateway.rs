//! The IPFS gateway: a request for content in, a response out.
//!
//! **Invariant:** knows the gateway specifications (path gateway, trustless gateway), and nothing
//! of sockets.

mod body;
mod error;
pub mod error_page;
mod escape;
mod headers;
mod hostname;
mod metrics;
mod network;
mod page;
mod read_ahead;
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
    /// Addresses and networks whose `X-Forwarded-Proto` and `X-Forwarded-Host` count, and whose
    /// requests are not limited by address: your CDN's.
    pub trusted_proxies: Vec<Network>,
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
            url: None,
            trusted_proxies: Vec::new(),
            listing_entries_max: 1000,
            range_bytes_max: 5 << 30,
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
    range_bytes_max: u64,
}

impl Gateway {
    /// A gateway to what the parts find.
    #[must_use]
    pub fn new(parts: Parts, config: &Config, metrics: &Metrics) -> Self {
        Self {
            parts,
            hosts: Hosts::new(),
            trusted_proxies: config.trusted_proxies.as_slice().into(),
            counters: Counters::new(metrics),
            listing_entries_max: config.listing_entries_max.max(1),
            range_bytes_max: config.range_bytes_max,
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
        let response = outcome.unwrap_or_else(|error| error.response(&request, format));
        self.counters.responded(format, response.status());
        response
    }

    async fn answer(
        &self,
        request: &Request,
        peer: Peer,
        format: &mut Option<Format>,
    ) -> Result<Response<Body>, Error> {
        let Placed::Here(place) = self.hosts.place(request, peer).await?;
        let asked = match request::parse(request, place)? {
            Parsed::Content(asked) => asked,
            Parsed::Options => return Ok(options()),
            Parsed::Redirect(location) => return respond::redirect(&location),
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
                    let deadline = self.parts.retriever.session().deadline();
                    Box::pin(names.resolve(name, deadline)).await?
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
            range_bytes_max: self.range_bytes_max,
        };
        let outcome = match responder.at_once() {
            Some(outcome) => outcome,
            // Boxed, for what is answered at once need not pay for the room this takes.
            None => Box::pin(responder.respond()).await,
        };
        if responder.any_is_held() { outcome.map(respond::unless_held) } else { outcome }
    }
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
