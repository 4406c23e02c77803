//! Hosts: which kind of gateway a request came to, and so which content path it means (subdomain
//! gateway and DNSLink gateway specifications).

use super::error::Error;
use super::site::{Place, Site};
use super::{Peer, Request};

/// The hosts that this gateway knows.
#[derive(Debug, Clone)]
pub(super) struct Hosts;

/// What becomes of a request by its host.
#[derive(Debug)]
pub(super) enum Placed {
    /// It means this.
    Here(Place),
}

impl Hosts {
    pub(super) fn new() -> Self {
        Self
    }

    /// Reads the host of a request.
    pub(super) async fn place(&self, request: &Request, _peer: Peer) -> Result<Placed, Error> {
        let content_path = request.uri().path().to_owned();
        Ok(Placed::Here(Place { site: Site::Path, content_path }))
    }
}
