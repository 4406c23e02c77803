//! What every request passes on its way to a service, and its answer on the way back.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, service_fn};
use tracing::Instrument;

use super::body::Body;
use super::error::{Error, Framing};
use super::metrics::ListenerMetrics;
use super::server::Client;
use crate::accounts::Secret;

/// What a listener asks of its stack.
#[derive(Debug, Clone)]
pub(super) struct Manners {
    /// How long the head of an answer may take; as long as it likes where none.
    pub(super) patience: Option<Duration>,
    /// Whether requests may have bodies. Where not, a connection that brought one is closed, so
    /// that nothing of a body can be taken for a request.
    pub(super) bodies: bool,
    /// Whether pages of any site may read what is answered, refusals too.
    pub(super) public: bool,
    /// `Strict-Transport-Security`, where it is to be said.
    pub(super) hsts: Option<HeaderValue>,
}

/// The stack over `service`, for one connection. All its layers are known when it is compiled, and
/// none of them boxes anything; the service boxes its future once, since each layer moves it.
pub(super) fn stack<S, B>(
    service: S,
    client: &Arc<Client>,
    metrics: &ListenerMetrics,
    manners: &Manners,
) -> impl Stacked<B> + use<S, B>
where
    S: Stacked<B>,
    B: Send + 'static,
{
    let Manners { patience, bodies, public, .. } = *manners;
    let hsts = manners.hsts.clone();
    ServiceBuilder::new()
        // Outermost: whatever is logged below belongs to this request.
        .layer_fn(|inner| traced(inner, Arc::clone(client)))
        // Around all that refuses, so that refusals are counted and timed too.
        .layer_fn(|inner| measured(inner, metrics.clone()))
        // Around all that refuses, too: a page should be able to tell why.
        .layer_fn(|inner| readable(inner, public, hsts.clone()))
        // A bug in one request is an answer to that one, and leaves its connection usable.
        .layer_fn(|inner| contained(inner, metrics.clone()))
        // Before any work: what a proxy in front could have read in another way.
        .layer_fn(|inner| framed(inner, metrics.clone(), bodies))
        // Sheds load. The place it gives is held until the body is through.
        .layer_fn(|inner| admitted(inner, Arc::clone(client), metrics.clone()))
        // Innermost: times the service alone.
        .layer_fn(|inner| punctual(inner, patience))
        .service(service)
}

/// A service in the stack. (An alias: whatever fits is one.)
pub(super) trait Stacked<B>:
    Service<
        Request<Incoming>,
        Response = Response<Body<B>>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + 'static
{
}

impl<S, B> Stacked<B> for S where
    S: Service<
            Request<Incoming>,
            Response = Response<Body<B>>,
            Error = Infallible,
            Future: Send + 'static,
        > + Send
        + 'static
{
}

/// Gives each request a span with a number.
fn traced<S: Stacked<B>, B: Send + 'static>(mut inner: S, client: Arc<Client>) -> impl Stacked<B> {
    service_fn(move |request: Request<Incoming>| {
        let span = tracing::debug_span!(
            "request",
            number = client.number(),
            method = %request.method(),
            path = %without_keys(request.uri().path()),
        );
        inner.call(request).instrument(span)
    })
}

/// A path as it may be logged. A key that is to end can be named by its text, and goes on to hold
/// where that is refused.
fn without_keys(path: &str) -> String {
    let shown = |segment| {
        let text = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
        if Secret::parse(&text).is_some() { "(key)" } else { segment }
    };
    path.split('/').map(shown).collect::<Vec<_>>().join("/")
}

/// Counts requests and bytes, and times answers.
fn measured<S: Stacked<B>, B: Send + 'static>(
    mut inner: S,
    metrics: ListenerMetrics,
) -> impl Stacked<B> {
    let metrics = Arc::new(metrics);
    service_fn(move |request: Request<Incoming>| {
        let began = Instant::now();
        let answer = inner.call(request);
        let metrics = Arc::clone(&metrics);
        async move {
            let response = answer.await?;
            let took = began.elapsed();
            metrics.answered(response.status(), took);
            tracing::debug!(status = response.status().as_u16(), ?took, "answered");
            Ok(response.map(|body| body.count(metrics.sent.clone())))
        }
    })
}

/// Lets pages of any site read answers, and tells browsers to stay with TLS.
fn readable<S: Stacked<B>, B: Send + 'static>(
    mut inner: S,
    public: bool,
    hsts: Option<HeaderValue>,
) -> impl Stacked<B> {
    const ANY: HeaderValue = HeaderValue::from_static("*");
    service_fn(move |request: Request<Incoming>| {
        let answer = inner.call(request);
        let hsts = hsts.clone();
        async move {
            let mut response = answer.await?;
            if let Some(hsts) = hsts {
                response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
            }
            if public {
                response.headers_mut().entry(header::ACCESS_CONTROL_ALLOW_ORIGIN).or_insert(ANY);
            }
            Ok(response)
        }
    })
}

/// Turns a panic into a 500.
fn contained<S: Stacked<B>, B: Send + 'static>(
    mut inner: S,
    metrics: ListenerMetrics,
) -> impl Stacked<B> {
    service_fn(move |request: Request<Incoming>| {
        let panics = metrics.panics.clone();
        let answer = AssertUnwindSafe(inner.call(request)).catch_unwind();
        async move {
            answer.await.unwrap_or_else(|_| {
                panics.inc();
                tracing::error!("a request's handling panicked: this is a bug");
                Ok(Error::Panicked.response())
            })
        }
    })
}

/// Refuses requests that can be read in two ways.
fn framed<S: Stacked<B>, B: Send + 'static>(
    mut inner: S,
    metrics: ListenerMetrics,
    bodies: bool,
) -> impl Stacked<B> {
    service_fn(move |request: Request<Incoming>| {
        let has_body = !request.body().is_end_stream();
        let close = has_body && !bodies && request.version() < Version::HTTP_2;
        let answer = match check_framing(&request, has_body) {
            Ok(()) => Ok(inner.call(request)),
            Err(framing) => {
                metrics.refused_framing.inc();
                Err(Error::Framing(framing).response_to(accept(&request)))
            }
        };
        async move {
            let mut response = match answer {
                Ok(answer) => answer.await?,
                Err(refusal) => refusal,
            };
            if close {
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    })
}

/// What the client accepts, as far as it tells whether a person will see the answer.
fn accept<B>(request: &Request<B>) -> Option<HeaderValue> {
    request.headers().get(header::ACCEPT).cloned()
}

/// What hyper leaves to us (RFC 9112 sections 3.2 and 6.1).
fn check_framing<B>(request: &Request<B>, has_body: bool) -> Result<(), Framing> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    let one = match request.version() {
        Version::HTTP_11 => host.is_some(),
        _ => true,
    };
    if !one || hosts.next().is_some() {
        return Err(Framing::Host);
    }
    if let (Some(host), Some(authority)) = (host, request.uri().authority())
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
    {
        return Err(Framing::Authority);
    }
    let named = host.map(HeaderValue::as_bytes);
    let named = named.or(request.uri().authority().map(|authority| authority.as_str().as_bytes()));
    if named.is_some_and(|named| named.contains(&b'@')) {
        return Err(Framing::Userinfo);
    }
    if has_body && !is_plainly_chunked(headers) {
        return Err(Framing::TransferEncoding);
    }
    Ok(())
}

/// Whether the transfer encoding is `chunked` and nothing else, if there is one.
fn is_plainly_chunked(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Takes as many requests as may be under way.
fn admitted<S: Stacked<B>, B: Send + 'static>(
    mut inner: S,
    client: Arc<Client>,
    metrics: ListenerMetrics,
) -> impl Stacked<B> {
    service_fn(move |request: Request<Incoming>| {
        let answer = match client.admit(request.headers()) {
            Ok(under_way) => Ok((under_way, inner.call(request))),
            Err(refusal) => {
                let error = Error::from(refusal);
                match error {
                    Error::TooMany => metrics.refused_address.inc(),
                    Error::TooOften(_) => metrics.refused_rate.inc(),
                    _ => metrics.refused_busy.inc(),
                }
                Err(error.response_to(accept(&request)))
            }
        };
        async move {
            match answer {
                Ok((under_way, answer)) => Ok(answer.await?.map(|body| body.hold(under_way))),
                Err(refusal) => Ok(refusal),
            }
        }
    })
}

/// Gives up on an answer that does not begin.
fn punctual<S: Stacked<B>, B: Send + 'static>(
    mut inner: S,
    patience: Option<Duration>,
) -> impl Stacked<B> {
    service_fn(move |request: Request<Incoming>| {
        let accepted = if patience.is_some() { accept(&request) } else { None };
        let answer = inner.call(request);
        async move {
            match patience {
                None => answer.await,
                Some(patience) => tokio::time::timeout(patience, answer)
                    .await
                    .unwrap_or_else(|_| Ok(Error::Deadline.response_to(accepted))),
            }
        }
    })
}

#[cfg(test)]
mod tests;
