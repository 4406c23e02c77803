//! Hosts: which kind of gateway a request came to, and so which content path it means (subdomain
//! gateway and DNSLink gateway specifications).
//!
//! **Invariant:** a redirect to a host leads to one that the configuration names, or below one.

mod host;
pub mod label;

use std::sync::Arc;

use http::{Method, header};
use tokio::time::Instant;

use crate::ipld::path::{self, Root, parse_cid};
use crate::routing::{self, Name, Names};

use super::error::Error;
use super::request::{doubled_namespace, has_uri, is_local_only, is_worker_of_all, path_error};
use super::site::{Origin, Place, Site};
use super::{Config, Network, Peer, Request, escape};

pub use host::{HostPattern, NotAHost};

use host::Host;

/// The hosts that this gateway knows. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Hosts(Arc<Known>);

#[derive(Debug)]
struct Known {
    subdomain: Vec<HostPattern>,
    trustless: Vec<HostPattern>,
    dnslink: Vec<HostPattern>,
    inline_dnslink: bool,
    trusted_proxies: Arc<[Network]>,
}

/// What becomes of a request by its host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It means this.
    Here(Place),
    /// What it means has an origin of its own, at this URL.
    Elsewhere(String),
}

/// What becomes of a request by its host, as far as can be told without asking DNS.
enum Read<'a> {
    Known(Placed),
    /// Its host may be a DNSLink domain.
    Domain(Host<'a>),
}

/// A namespace of content paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipfs,
    Ipns,
}

impl Namespace {
    fn text(self) -> &'static str {
        match self {
            Self::Ipfs => "ipfs",
            Self::Ipns => "ipns",
        }
    }
}

impl Hosts {
    pub(super) fn new(config: &Config, trusted_proxies: Arc<[Network]>) -> Self {
        Self(Arc::new(Known {
            subdomain: config.subdomain_hosts.clone(),
            trustless: config.trustless_hosts.clone(),
            dnslink: config.dnslink_hosts.clone(),
            inline_dnslink: config.inline_dnslink,
            trusted_proxies,
        }))
    }

    /// Reads the host of a request; asks `names` about domains that may be DNSLink sites. Before
    /// that it tells `begin` the domain and the names of the path, which says until when to ask.
    pub(super) async fn place(
        &self,
        names: &Names,
        request: &Request,
        peer: Peer,
        begin: impl FnOnce(&str, &[String]) -> Result<Instant, Error>,
    ) -> Result<Placed, Error> {
        let host = match self.0.read(names, request, peer)? {
            Read::Known(placed) => return Ok(placed),
            Read::Domain(host) => host,
        };
        let name = host.name.to_ascii_lowercase();
        let content_path = format!("/ipns/{name}{}", path_of(request));
        // A path that cannot be read is refused later; its domain is what counts here.
        let below = path::split(&content_path).map(|(_, below)| below.segments);
        let deadline = begin(&name, &below.unwrap_or_default())?;
        // Boxed, for most requests have no domain to ask about.
        let is_site = if is_local_only(request.headers()) {
            Box::pin(is_site_at_hand(names, host.name)).await?
        } else {
            Box::pin(names.has_dnslink(host.name, deadline)).await?
        };
        if !is_site {
            return Ok(at_path(request));
        }
        let origin = Origin { host: host.authority(), url_path: url_path(request) };
        Ok(Placed::Here(Place { site: Site::DnsLink(origin), content_path }))
    }

    /// Whether the client's own connection is encrypted, to a trusted proxy or to us.
    pub(super) fn is_secure(&self, request: &Request, peer: Peer) -> bool {
        self.0.is_secure(request, peer, self.0.is_trusted(peer))
    }
}

/// Whether a domain has a DNSLink, as far as is known here.
async fn is_site_at_hand(names: &Names, domain: &str) -> Result<bool, Error> {
    match names.resolve_at_hand(&Name::parse(domain)?).await {
        Ok(_) => Ok(true),
        Err(routing::Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The request as its path says it.
fn at_path(request: &Request) -> Placed {
    let content_path = request.uri().path().to_owned();
    Placed::Here(Place { site: Site::Path, content_path })
}

fn path_of(request: &Request) -> &str {
    match request.uri().path() {
        "" => "/",
        path => path,
    }
}

/// The path of the URL, fit for a `Location`.
fn url_path(request: &Request) -> String {
    let mut path = String::new();
    escape::uri(&mut path, escape::one_slash(path_of(request)));
    path
}

impl Known {
    fn read<'a>(&self, names: &Names, request: &'a Request, peer: Peer) -> Result<Read<'a>, Error> {
        let trusted = self.is_trusted(peer);
        let host = self.host(request, trusted)?;
        // An address is a path gateway, and that is all there is to say about most requests.
        let Some(host) = host.and_then(Host::parse) else {
            let every = self.trustless.iter().any(HostPattern::is_every);
            return Ok(Read::Known(if every { trustless(request) } else { at_path(request) }));
        };
        let is_of = |patterns: &[HostPattern], name: &str| {
            patterns.iter().any(|pattern| pattern.matches(name))
        };
        if is_of(&self.trustless, host.name) {
            return Ok(Read::Known(trustless(request)));
        }
        let secure = self.is_secure(request, peer, trusted);
        if is_of(&self.subdomain, host.name) {
            let namespaced =
                path_of(request).starts_with("/ipfs/") || path_of(request).starts_with("/ipns/");
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            if namespaced
                && reads
                && !has_uri(request.uri().query())
                && let Some(url) = self.subdomain_of(request, host, secure)?
            {
                return Ok(Read::Known(Placed::Elsewhere(url)));
            }
            if namespaced {
                return Ok(Read::Known(at_path(request)));
            }
        } else if let Some((root, namespace, gateway)) = self.below_subdomain_host(host) {
            return self.at_subdomain(request, root, namespace, gateway, secure).map(Read::Known);
        }
        if is_of(&self.dnslink, host.name) || names.is_fixed(host.name) {
            return Ok(Read::Domain(host));
        }
        Ok(Read::Known(at_path(request)))
    }

    fn is_trusted(&self, peer: Peer) -> bool {
        let address = peer.address.filter(|_| !self.trusted_proxies.is_empty());
        address
            .is_some_and(|address| self.trusted_proxies.iter().any(|proxy| proxy.contains(address)))
    }

    /// What the request names as its host: a trusted proxy's word, the request line, or `Host`.
    fn host<'a>(&self, request: &'a Request, trusted: bool) -> Result<Option<&'a str>, Error> {
        // Not even looked for where nobody is trusted.
        if trusted {
            let mut forwarded = request.headers().get_all("x-forwarded-host").iter();
            if let Some(only) = forwarded.next() {
                // Which of several is the proxy's own word cannot be told.
                if forwarded.next().is_some() || only.as_bytes().contains(&b',') {
                    return Err(Error::ForwardedHosts);
                }
                return Ok(only.to_str().ok().map(str::trim));
            }
        }
        Ok(match request.uri().authority() {
            Some(authority) => Some(authority.as_str()),
            None => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()),
        })
    }

    fn is_secure(&self, request: &Request, peer: Peer, trusted: bool) -> bool {
        let scheme = if trusted { request.headers().get("x-forwarded-proto") } else { None };
        scheme.map_or(peer.secure, |scheme| {
            first(scheme).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
        })
    }

    /// Where the content of a path request has an origin of its own. `None` where the path is to be
    /// read as it is.
    fn subdomain_of(
        &self,
        request: &Request,
        host: Host<'_>,
        secure: bool,
    ) -> Result<Option<String>, Error> {
        let path = path_of(request);
        if matches!(path, "/ipfs/" | "/ipns/") || doubled_namespace(path).is_some() {
            return Ok(None);
        }
        let (root, below) = path::split(path).map_err(path_error)?;
        if is_worker_of_all(request.headers(), &below) {
            return Err(Error::ServiceWorker);
        }
        let (namespace, label) = match root {
            Root::Cid(cid) => (Namespace::Ipfs, label::of_cid(&cid)?),
            Root::Name(name) => (
                Namespace::Ipns,
                label::of_name(&Name::parse(&name)?, self.inline_dnslink || secure)?,
            ),
            Root::Other => return Ok(None),
        };
        // `/ipfs/`, the root, and what is behind it.
        let behind = path.splitn(4, '/').nth(3).unwrap_or_default();
        let below = format!("/{behind}");
        Ok(Some(url(secure, &label, namespace, host, &below, request.uri().query())))
    }

    /// Splits `{root}.ipfs.{gateway}`, where the gateway is one of ours.
    fn below_subdomain_host<'a>(&self, host: Host<'a>) -> Option<(&'a str, Namespace, Host<'a>)> {
        let name = host.name;
        let dots = name.match_indices('.').map(|(at, _)| at);
        dots.filter_map(|at| {
            let (root, rest) = (name.get(..at)?, name.get(at + 1..)?);
            let (label, gateway) = rest.split_once('.')?;
            let namespace = match label {
                _ if label.eq_ignore_ascii_case("ipfs") => Namespace::Ipfs,
                _ if label.eq_ignore_ascii_case("ipns") => Namespace::Ipns,
                _ => return None,
            };
            let ours = self.subdomain.iter().any(|pattern| pattern.matches(gateway));
            ours.then_some((root, namespace, Host { name: gateway, ..host }))
        })
        .next()
    }

    /// A request to the origin of one root.
    fn at_subdomain(
        &self,
        request: &Request,
        root: &str,
        namespace: Namespace,
        gateway: Host<'_>,
        secure: bool,
    ) -> Result<Placed, Error> {
        // Browsers make hosts lower case; some forms of CIDs and keys do not survive that.
        let lower = root.to_ascii_lowercase();
        let label = match namespace {
            Namespace::Ipfs => match parse_cid(root).or_else(|_| parse_cid(&lower)) {
                Ok(cid) => Some(label::of_cid(&cid)?),
                Err(_) => None,
            },
            // A dot makes it a domain.
            Namespace::Ipns if root.contains('.') => None,
            Namespace::Ipns => match Name::parse(root).or_else(|_| Name::parse(&lower)) {
                Ok(name) => Some(label::of_name(&name, false)?),
                Err(_) => None,
            },
        };
        let path = path_of(request);
        if let Some(label) = label.as_ref().filter(|label| **label != lower) {
            let query = request.uri().query();
            return Ok(Placed::Elsewhere(url(secure, label, namespace, gateway, path, query)));
        }
        let root = match (label, namespace) {
            (Some(label), _) => label,
            // What is no CID is said to be none, as it was given.
            (None, Namespace::Ipfs) => root.to_owned(),
            (None, Namespace::Ipns) if lower.contains('.') => lower,
            (None, Namespace::Ipns) => label::from_inlined(&lower),
        };
        let origin = Origin { host: gateway.authority(), url_path: url_path(request) };
        let content_path = format!("/{}/{root}{path}", namespace.text());
        Ok(Placed::Here(Place { site: Site::Subdomain(origin), content_path }))
    }
}

fn trustless(request: &Request) -> Placed {
    let content_path = request.uri().path().to_owned();
    Placed::Here(Place { site: Site::Trustless, content_path })
}

/// The first of the values that a chain of proxies gave.
fn first(value: &http::HeaderValue) -> Option<&str> {
    value.to_str().ok()?.split(',').next().map(str::trim)
}

/// The URL of a path at the origin of a root.
fn url(
    secure: bool,
    label: &str,
    namespace: Namespace,
    gateway: Host<'_>,
    path: &str,
    query: Option<&str>,
) -> String {
    let scheme = if secure { "https" } else { "http" };
    let mut url = format!("{scheme}://{label}.{}.{}", namespace.text(), gateway.authority());
    escape::uri(&mut url, path);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        url.push('?');
        escape::query(&mut url, query.as_bytes());
    }
    url
}

#[cfg(test)]
mod tests;
