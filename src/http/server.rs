//! Accepts connections and serves them within limits, until it is told to stop.
//!
//! **Invariant:** what is accepted holds a permit, and is watched: nobody can hold a connection, or
//! memory behind it, by being slow.

mod address;
mod client;
mod connection;
mod handshake;
mod io;
mod listener;
mod tunnel;
mod watch;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::gateway::Network;
use crate::http::metrics::ListenerMetrics;
use crate::task::Tasks;

pub(super) use client::Client;
pub(super) use client::{Refusal, UnderWay};
pub use listener::Listener;

pub(super) use address::Addresses;
use client::Shared;
use connection::Context;
use listener::Stream;
use watch::Why;

/// How long accepting rests when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the log says so.
const ACCEPT_WARNING_PERIOD: Duration = Duration::from_secs(60);

/// What a listener grants its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Requests under way at once, until their responses are through.
    pub requests_max: usize,
    /// The same for one address; four times as many connections.
    pub requests_per_address_max: usize,
    /// Requests of one address a second in the long run; 0: as many as there are.
    pub requests_per_second_max: usize,
    /// Requests that it may send at once after a rest.
    pub requests_burst_max: usize,
    /// Whose requests count for those whom they name in `X-Forwarded-For`.
    pub trusted_proxies: Vec<Network>,
    /// How long the head of a request may take.
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long a client may give or take less than a kibibyte a second.
    pub stall_timeout: Duration,
    /// Bytes that are read at once, at least 16 KiB.
    pub buffer_bytes: usize,
    /// Bytes of an upload that HTTP/2 may have on the way.
    pub window_bytes: u32,
    /// Whether lines must end with CR LF, and little is to be sent: only where requests have no
    /// bodies.
    pub strict_lines: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            requests_max: 4096,
            requests_per_address_max: 64,
            requests_per_second_max: 0,
            requests_burst_max: 200,
            trusted_proxies: Vec::new(),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            buffer_bytes: 16 << 10,
            window_bytes: 64 << 10,
            strict_lines: false,
        }
    }
}

/// What answers the requests of one connection. (An alias: whatever fits is one.)
pub(super) trait HttpService:
    Service<
        Request<Incoming>,
        Response = Response<Self::Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + 'static
{
    /// The body of its responses.
    type Body: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync>
        + Send
        + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    type Body = B;
}

/// A listener that is being served.
#[derive(Debug)]
pub struct Server {
    tasks: Tasks,
    cut: CancellationToken,
}

/// Serves what comes in at `listener`, from clients who are counted in `addresses`; `service` makes
/// the service of one connection.
#[must_use]
pub(super) fn serve<S: HttpService>(
    listener: Listener,
    limits: Limits,
    addresses: Arc<Addresses>,
    metrics: ListenerMetrics,
    service: impl Fn(Arc<Client>) -> S + Send + Sync + 'static,
) -> Server {
    let server = Server { tasks: Tasks::new(), cut: CancellationToken::new() };
    let acceptor = Acceptor {
        permits: Arc::new(Semaphore::new(limits.connections_max)),
        shared: Arc::new(Shared::new(
            &limits,
            addresses,
            metrics.under_way.clone(),
            listener.is_secure(),
        )),
        tasks: server.tasks.clone(),
        cut: server.cut.clone(),
        tls: listener.tls(),
        limits,
        metrics,
    };
    server.tasks.spawn(acceptor.run(listener, Arc::new(service)));
    server
}

impl Server {
    /// Stops accepting, lets what is under way finish for as long as `grace`, and ends the rest.
    /// False when something had to be ended.
    pub async fn stop(self, grace: Duration) -> bool {
        let finished = self.tasks.stop(grace).await;
        self.cut.cancel();
        finished
    }
}

struct Acceptor {
    permits: Arc<Semaphore>,
    shared: Arc<Shared>,
    tasks: Tasks,
    cut: CancellationToken,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    metrics: ListenerMetrics,
}

impl Acceptor {
    async fn run<S: HttpService>(
        self,
        listener: Listener,
        service: Arc<impl Fn(Arc<Client>) -> S + Send + Sync + 'static>,
    ) {
        let stop = self.tasks.stop_token();
        let mut warned: Option<Instant> = None;
        loop {
            let next = async {
                let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, peer)) => self.begin(stream, peer, permit, &service),
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    self.metrics.accept_failed.inc();
                    if warned.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING_PERIOD) {
                        warned = Some(Instant::now());
                        tracing::warn!(%error, "connections cannot be accepted for the moment");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who was already connected when the stop came is not turned away.
        while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
            && let Some(Ok((stream, peer))) = listener.accept().now_or_never()
        {
            self.begin(stream, peer, Some(permit), &service);
        }
    }

    fn begin<S: HttpService>(
        &self,
        stream: Stream,
        peer: Option<std::net::SocketAddr>,
        permit: Option<OwnedSemaphorePermit>,
        service: &Arc<impl Fn(Arc<Client>) -> S + Send + Sync + 'static>,
    ) {
        let Ok(client) = self.shared.client(peer) else {
            self.metrics.refused_address.inc();
            return;
        };
        // A tunnel in the connection takes another.
        let (service, of) = (Arc::clone(service), Arc::clone(&client));
        let service = move || service(Arc::clone(&of));
        let context = Context {
            limits: self.limits.clone(),
            accepted: Instant::now(),
            tasks: self.tasks.clone(),
            // A token of its own, since many would meet at the lock of a common one.
            drain: self.tasks.stop_token().child_token(),
            cut: self.cut.clone(),
        };
        let (tls, metrics) = (self.tls.clone(), self.metrics.clone());
        metrics.accepted.inc();
        metrics.connections.inc();
        self.tasks.spawn(async move {
            let _open = Open { metrics: &metrics, _permit: permit };
            let secured = match (stream, tls) {
                (Stream::Tcp(socket), Some(tls)) => secure(socket, &tls, &context, &metrics).await,
                (stream, _) => Ok(stream),
            };
            let ended = match secured {
                Ok(stream) => connection::serve(stream, client, service, context).await,
                Err(why) => why,
            };
            match ended {
                Some(Why::SlowHead) => metrics.cut_slow_head.inc(),
                Some(Why::Stalled) => metrics.cut_stalled.inc(),
                Some(Why::Flood) => metrics.cut_flood.inc(),
                Some(Why::Idle) | None => {}
            }
        });
    }
}

/// Shakes hands within the time that a head may take. Otherwise says why it came to nothing, if it
/// was we who ended it.
async fn secure(
    socket: TcpStream,
    tls: &TlsAcceptor,
    context: &Context,
    metrics: &ListenerMetrics,
) -> Result<Stream, Option<Why>> {
    tokio::select! {
        biased;
        stream = handshake::shake(socket, tls) => match stream {
            Some(stream) => {
                metrics.handshakes.inc();
                Ok(stream)
            }
            None => {
                metrics.handshakes_failed.inc();
                Err(None)
            }
        },
        () = context.drain.cancelled() => Err(None),
        () = tokio::time::sleep_until(context.accepted + context.limits.head_timeout) => {
            metrics.handshakes_failed.inc();
            Err(Some(Why::SlowHead))
        }
    }
}

/// Whether only the connection that was to be accepted is broken.
fn is_of_connection(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

/// A connection, counted and permitted until it ends, in a panic too.
struct Open<'a> {
    metrics: &'a ListenerMetrics,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
