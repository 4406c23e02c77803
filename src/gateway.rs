//! The IPFS gateway: a request for content in, a response out.
//!
//! **Invariant:** knows the gateway specifications (path, trustless, subdomain and DNSLink gateway,
//! `_redirects`), and nothing of sockets.

mod about;
mod body;
mod conditions;
mod config;
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

use std::net::IpAddr;
use std::sync::Arc;

use http::{Method, Response};
use tokio::time::Instant;

use crate::block::{Cid, IDENTITY};
use crate::denylist::Allowlist;
use crate::retrieval::Retriever;
use crate::routing::{Name, Names, Resolved};
use crate::task::now_unix;
use crate::traffic::Traffic;

pub use body::Body;
pub use config::Config;
pub use error::Error;
pub use hostname::{HostPattern, NotAHost};
pub use metrics::Metrics;
pub use network::{Network, NotANetwork};
pub use read_ahead::ReadAhead;

use encoding::Encoders;
use hostname::{Hosts, Placed};
use metrics::Counters;
use request::{Asked, ContentRequest, Format, Parsed, Root};
use respond::Responder;
use signed::{Grant, Signatures};
use site::Site;

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
    traffic: Option<Traffic>,
}

/// What is known of a request once it was read.
#[derive(Debug, Default)]
struct Read {
    format: Option<Format>,
    /// The root of the content that it asks for.
    root: Option<Cid>,
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
            traffic: None,
        }
    }

    /// The same, and what is answered is counted here.
    #[must_use]
    pub fn counting(self, traffic: Traffic) -> Self {
        Self { traffic: Some(traffic), ..self }
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
        let mut read = Read::default();
        if conditions::are_made(&request)
            && let Some(refusal) = Box::pin(self.refusal(&request, peer)).await
        {
            return refusal;
        }
        let encoding = self.encoders.read(&mut request);
        let outcome = self.answer(&request, peer, &mut read).await;
        let format = read.format;
        let mut response =
            outcome.unwrap_or_else(|error| error.for_asker(&request).response(&request, format));
        if let Some(encoding) = encoding {
            response = self.encoders.apply(&encoding, response, format);
        }
        self.counters.responded(format, response.status());
        match &self.traffic {
            Some(traffic) if request.method() == Method::GET => {
                response.map(|body| body.counted(traffic, read.root))
            }
            _ => response,
        }
    }

    /// The answer where a condition of the request does not hold. What has no content to be compared
    /// is answered as if there were no condition.
    async fn refusal(&self, request: &Request, peer: Peer) -> Option<Response<Body>> {
        let mut head = conditions::head_of(request);
        let mut read = Read::default();
        let encoding = self.encoders.read(&mut head);
        let mut there = self.answer(&head, peer, &mut read).await.ok()?;
        let format = read.format;
        if let Some(encoding) = encoding {
            there = self.encoders.apply(&encoding, there, format);
        }
        if !there.status().is_success() || conditions::hold(request.headers(), there.headers()) {
            return None;
        }
        let response = Error::Condition.response(request, format);
        self.counters.responded(format, response.status());
        Some(response)
    }

    /// Where it was made, what it asks for, whether it may, what its name stands for; and that.
    async fn answer(
        &self,
        request: &Request,
        peer: Peer,
        read: &mut Read,
    ) -> Result<Response<Body>, Error> {
        // What is blocked is not looked up.
        let begin = |domain: &str, below: &[String]| {
            self.parts.retriever.denylist().check_name(domain, below)?;
            Ok(self.parts.retriever.session().deadline())
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
            Parsed::Options => return Ok(about::options()),
            Parsed::Protocols => return Ok(about::protocols(request)),
            Parsed::Redirect(location) => return respond::redirect(&location),
            Parsed::Found(location) => return respond::found(&location),
        };
        read.format = Some(asked.wants.format);
        let grant = self.grant(request, peer, &mut asked)?;
        self.admit(&asked, peer)?;
        if asked.wants.format == Format::IpnsRecord {
            let response = respond::ipns_record::ipns_record(&self.parts.names, &asked)?;
            return Ok(self.bound(response, grant, (&asked.site, &asked.original), request, peer));
        }
        let (content, named_in) = match asked.root {
            Root::Cid(root) => (asked.at(root), None),
            // Boxed, for what is asked for by its CID need not pay for the room this takes.
            Root::Name(ref name) => {
                let began = Instant::now();
                let resolved = Box::pin(self.resolve(name, asked.wants.local_only)).await?;
                let took = began.elapsed();
                let content = asked.at_name(resolved);
                resolve::check_text(self.parts.retriever.denylist(), &content)?;
                (content, Some(took))
            }
        };
        read.root = Some(content.path.root);
        let mut response = self.content(&content).await?;
        if let Some(took) = named_in {
            response = timing::named(response, took);
        }
        let place = (&content.site, content.path.original.as_str());
        Ok(self.bound(response, grant, place, request, peer))
    }

    /// The signature of a request, where it must have one; it is no part of what is asked for. The
    /// operator's own socket needs none, nor does the empty block that health checks ask for.
    fn grant(
        &self,
        request: &Request,
        peer: Peer,
        asked: &mut Asked,
    ) -> Result<Option<Grant>, Error> {
        let Some(signatures) = &self.signatures else { return Ok(None) };
        let probe = |root: &Cid| root.hash().code() == IDENTITY && root.hash().size() == 0;
        if peer.address.is_none() || matches!(&asked.root, Root::Cid(root) if probe(root)) {
            return Ok(None);
        }
        let (query, headers) = (request.uri().query(), request.headers());
        let mut grant = signatures.check(&asked.original, query, headers, now_unix())?;
        asked.wants.query = grant.query.take();
        Ok(Some(grant))
    }

    async fn resolve(&self, name: &Name, local_only: bool) -> Result<Resolved, Error> {
        let names = &self.parts.names;
        Ok(if local_only {
            names.resolve_at_hand(name).await?
        } else {
            names.resolve(name, self.parts.retriever.session().deadline()).await?
        })
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

    /// The answer, kept to what the signature was for where there was one.
    fn bound(
        &self,
        mut response: Response<Body>,
        grant: Option<Grant>,
        place: (&Site, &str),
        request: &Request,
        peer: Peer,
    ) -> Response<Body> {
        if let Some(grant) = grant {
            grant.bind(&mut response, place, self.hosts.is_secure(request, peer), now_unix());
        }
        response
    }
}

#[cfg(test)]
mod tests;
