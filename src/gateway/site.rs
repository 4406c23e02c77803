//! Where a request was made: it decides what URLs look like there, and whether pages are alone in
//! their origin.

/// The kind of gateway that a request came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Site {
    /// A path gateway, where all content shares one origin: `/ipfs/{cid}/a`.
    #[default]
    Path,
    /// The same, where only what a client can verify is served.
    Trustless,
    /// A subdomain gateway, where each root has its own: `{cid}.ipfs.{host}/a`.
    Subdomain(Origin),
    /// A domain that leads to content by its DNSLink: `{host}/a`.
    DnsLink(Origin),
}

/// An origin that has one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The gateway's host, with its port where it has one: on a subdomain gateway, what follows
    /// `{root}.ipfs.`; on a DNSLink domain, the domain.
    pub(super) host: String,
    /// The path of the URL, percent-encoded; it begins below the root, with one slash.
    pub(super) url_path: String,
}

impl Site {
    /// Whether pages of other roots are kept apart from this one's by the browser.
    pub(super) fn is_isolated(&self) -> bool {
        matches!(self, Self::Subdomain(_) | Self::DnsLink(_))
    }

    /// The gateway that a browser's handler of `ipfs:` URIs means here, for what comes before a
    /// path: nothing where it is this one. `None` where `uri` is the page's own parameter.
    pub(super) fn of_protocol_handler(&self) -> Option<String> {
        match self {
            Self::Path | Self::Trustless => Some(String::new()),
            Self::Subdomain(Origin { host, url_path })
                if matches!(url_path.as_str(), "/ipfs/" | "/ipns/") =>
            {
                Some(format!("//{host}"))
            }
            Self::Subdomain(_) | Self::DnsLink(_) => None,
        }
    }

    /// The path that the browser shows for the content path `original`.
    pub(super) fn url_path<'a>(&'a self, original: &'a str) -> &'a str {
        match self {
            Self::Path | Self::Trustless => original,
            Self::Subdomain(origin) | Self::DnsLink(origin) => &origin.url_path,
        }
    }
}

/// What a request's host and path come to: a content path, and where it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) site: Site,
    /// `/ipfs/{cid}/a` or `/ipns/{name}/a`, percent-encoded, without the query.
    pub(super) content_path: String,
}
