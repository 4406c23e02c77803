//! The IPFS gateway: a request for content in, a response out.
//!
//! **Invariant:** knows the gateway specifications (path gateway, trustless gateway), and nothing
//! of sockets.

mod body;
mod error;
mod escape;
mod headers;
mod metrics;
mod read_ahead;
mod request;
mod resolve;
mod respond;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use serde::{Deserialize, Serialize};

use crate::retrieval::Retriever;

pub use body::Body;
pub use error::Error;
pub use metrics::Metrics;

use metrics::Counters;
use request::{ContentRequest, Parsed};
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
    /// Entries on one page of a directory listing.
    pub listing_entries_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: None, url: None, listing_entries_max: 1000 }
    }
}

/// The head of a request; gateway requests have no body that matters.
pub type Request = http::Request<()>;

/// Answers gateway requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    retriever: Retriever,
    counters: Counters,
    listing_entries_max: usize,
}

impl Gateway {
    /// A gateway to what `retriever` finds.
    #[must_use]
    pub fn new(retriever: Retriever, config: &Config, metrics: &Metrics) -> Self {
        let listing_entries_max = config.listing_entries_max.max(1);
        Self { retriever, counters: Counters::new(metrics), listing_entries_max }
    }

    /// Answers a request. Whatever goes wrong before the head is sent becomes a response that
    /// names it; what goes wrong later becomes an error of the body.
    pub async fn respond(&self, request: Request) -> Response<Body> {
        let head = request.method() == http::Method::HEAD;
        let parsed = request::parse(request.method(), request.uri(), request.headers());
        drop(request);
        let (format, outcome) = match parsed {
            Ok(Parsed::Content(content)) => (Some(content.format), self.content(&content).await),
            Ok(Parsed::Options) => (None, Ok(options())),
            Ok(Parsed::Redirect(location)) => (None, respond::redirect(&location)),
            Err(error) => (None, Err(error)),
        };
        let response = outcome.unwrap_or_else(|error| error.response(head));
        self.counters.responded(format, response.status());
        response
    }

    async fn content(&self, request: &ContentRequest) -> Result<Response<Body>, Error> {
        let responder = Responder {
            retriever: &self.retriever,
            streams: &self.counters.streams,
            request,
            listing_entries_max: self.listing_entries_max,
        };
        match responder.at_once() {
            Some(outcome) => outcome,
            // Boxed, for what is answered at once need not pay for the room this takes.
            None => Box::pin(responder.respond()).await,
        }
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
