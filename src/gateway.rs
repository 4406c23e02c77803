//! The IPFS gateway: a request for content in, a response out.
//!
//! **Invariant:** knows the gateway specifications (path gateway, trustless gateway), and nothing
//! of sockets.

mod body;
mod encoding;
mod error;
pub mod error_page;
mod escape;
mod headers;
pub mod hostname;
mod metrics;
mod network;
mod page;
mod read_ahead;
pub mod redirects;
mod request;
mod resolve;
mod respond;
pub mod signed;
mod site;
mod timing;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::block::{Cid, IDENTITY};
use crate::denylist::Allowlist;
use crate::retrieval::Retriever;
use crate::routing::Names;
use crate::task::now_unix;

pub use body::Body;
pub use error::Error;
pub use hostname::{HostPattern, NotAHost};
pub use metrics::Metrics;
pub use network::{Network, NotANetwork};

use encoding::Encoders;
use hostname::{Hosts, Placed};
use metrics::Counters;
use request::{Asked, ContentRequest, Format, Parsed, Root};
use respond::Responder;
use signed::{Grant, Signatures, Signed, SigningKeys};

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
    allowlist: Allowlist,
    /// None where nothing need be signed.
    signatures: Option<Signatures>,
    hosts: Hosts,
    trusted_proxies: Arc<[Network]>,
    counters: Counters,
    encoders: Encoders,
    listing_entries_max: usize,
    range_bytes_max: u64,
}

impl Gateway {
    /// A gateway to what the parts find.
    #[must_use]
    pub fn new(parts: Parts, config: &Config, metrics: &Metrics) -> Self {
        let trusted_proxies: Arc<[Network]> = config.trusted_proxies.as_slice().into();
        Self {
            parts,
            allowlist: Allowlist::default(),
            signatures: Signatures::new(config.signed, &config.signing_keys),
            hosts: Hosts::new(config, Arc::clone(&trusted_proxies)),
            trusted_proxies,
            counters: Counters::new(metrics),
            encoders: Encoders::new(config.compress),
            listing_entries_max: config.listing_entries_max.max(1),
            range_bytes_max: config.range_bytes_max,
        }
    }

    /// The same, but only what this list admits is answered.
    #[must_use]
    pub fn admitting(self, allowlist: Allowlist) -> Self {
        Self { allowlist, ..self }
    }

    /// Whose word counts on where a request came from.
    #[must_use]
    pub fn trusted_proxies(&self) -> &[Network] {
        &self.trusted_proxies
    }

    /// Answers a request that came from `peer`. Whatever goes wrong before the head is sent becomes
    /// a response that names it; what goes wrong later becomes an error of the body.
    pub async fn respond(&self, mut request: Request, peer: Peer) -> Response<Body> {
        let mut format = None;
        let encoding = self.encoders.read(&mut request);
        let outcome = self.answer(&request, peer, &mut format).await;
        let mut response = outcome.unwrap_or_else(|error| error.response(&request, format));
        if let Some(encoding) = encoding {
            response = self.encoders.apply(&encoding, response, format);
        }
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
        // What is blocked is not looked up.
        let begin = |domain: &str, below: &[String]| {
            self.parts.retriever.denylist().check_name(domain, below)?;
            Ok(deadline())
        };
        let place = match self.hosts.place(&self.parts.names, request, peer, begin).await? {
            Placed::Here(place) => place,
            Placed::Elsewhere(url) => {
                self.counters.moved.inc();
                return respond::redirect(&url);
            }
        };
        self.counters.came_to(&place.site);
        let mut asked = match request::parse(request, place)? {
            Parsed::Content(asked) => asked,
            Parsed::Options => return Ok(options()),
            Parsed::Redirect(location) => return respond::redirect(&location),
            Parsed::Protocols => return Ok(protocols(request)),
            Parsed::Found(location) => return respond::found(&location),
        };
        *format = Some(asked.wants.format);
        let signed = match &self.signatures {
            Some(signatures) => granted(signatures, request, peer, &mut asked)?,
            None => None,
        };
        self.admit(&asked, peer)?;
        if asked.wants.format == Format::IpnsRecord {
            let mut response = respond::ipns_record::ipns_record(&self.parts.names, &asked)?;
            if let Some(grant) = signed {
                let place = (&asked.site, asked.original.as_str());
                grant.bind(&mut response, place, self.hosts.is_secure(request, peer), now_unix());
            }
            return Ok(response);
        }
        let mut named_in = None;
        let content = match &asked.root {
            Root::Cid(cid) => {
                let cid = *cid;
                asked.at(cid)
            }
            Root::Name(name) => {
                let names = &self.parts.names;
                let began = Instant::now();
                let resolved = if asked.wants.local_only {
                    Box::pin(names.resolve_at_hand(name)).await?
                } else {
                    Box::pin(names.resolve(name, deadline())).await?
                };
                named_in = Some(began.elapsed());
                let content = asked.at_name(resolved);
                resolve::check_text(self.parts.retriever.denylist(), &content)?;
                content
            }
        };
        let mut response = self.content(&content).await?;
        if let Some(took) = named_in {
            response = timing::named(response, took);
        }
        if let Some(grant) = signed {
            let place = (&content.site, content.path.original.as_str());
            grant.bind(&mut response, place, self.hosts.is_secure(request, peer), now_unix());
        }
        Ok(response)
    }

    /// Whether what is asked for may be answered, before anything is looked up.
    fn admit(&self, asked: &Asked, peer: Peer) -> Result<(), Error> {
        let segments = &asked.segments;
        let listed = match &asked.root {
            Root::Cid(root) => {
                self.check(root, segments)?;
                self.allowlist.admits_path(root, segments)
            }
            Root::Name(name) if self.is_guarded() => {
                let name = name.to_string();
                self.parts.retriever.denylist().check_name(&name, segments)?;
                self.allowlist.admits_name(&name, segments)
            }
            Root::Name(_) => true,
        };
        // The operator's own socket sees what is not for the public.
        if listed || peer.address.is_none() { Ok(()) } else { Err(Error::NotListed) }
    }

    fn is_guarded(&self) -> bool {
        !self.parts.retriever.denylist().is_off() || !self.allowlist.is_off()
    }

    /// Whether a path may be answered, and the block that it starts from: what the client has
    /// already is answered without a block.
    fn check(&self, root: &Cid, segments: &[String]) -> Result<(), Error> {
        let denylist = self.parts.retriever.denylist();
        denylist.check_path(root, segments)?;
        if !segments.is_empty() {
            denylist.check_block(root)?;
        }
        Ok(())
    }

    async fn content(&self, request: &ContentRequest) -> Result<Response<Body>, Error> {
        let responder = Responder {
            retriever: &self.parts.retriever,
            streams: &self.counters.streams,
            allowlist: &self.allowlist,
            request,
            listing_entries_max: self.listing_entries_max,
            range_bytes_max: self.range_bytes_max,
        };
        if responder.any_is_held() {
            let outcome = Box::pin(self.with_redirects(responder)).await;
            return outcome.map(respond::unless_held);
        }
        match responder.at_once() {
            Some(outcome) => outcome.map(timing::at_once),
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

/// The signature of a request, which it must have; it is no part of what is asked for. The operator's
/// own socket needs none, nor does the empty block that health checks ask for.
fn granted(
    signatures: &Signatures,
    request: &Request,
    peer: Peer,
    asked: &mut Asked,
) -> Result<Option<Grant>, Error> {
    let probe = |root: &Cid| root.hash().code() == IDENTITY && root.hash().size() == 0;
    if peer.address.is_none() || matches!(&asked.root, Root::Cid(root) if probe(root)) {
        return Ok(None);
    }
    let (query, headers) = (request.uri().query(), request.headers());
    let mut grant = signatures.check(&asked.original, query, headers, now_unix())?;
    asked.wants.query = grant.query.take();
    Ok(Some(grant))
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
