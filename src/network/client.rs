//! HTTP to others' servers: HTTP/2 where they speak it, no redirects, nothing awaited for ever.

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use hyper_util::rt::TokioTimer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::task::Tasks;

use super::connector::{Connector, From};
use super::dial::{Dialer, Resolver, system_resolver};
use super::{Config, Error, Guard, HttpUrl, Metrics};

/// How long it may take until the head of an answer is there, dialling included, in milliseconds.
const HEAD_MS_MAX: u64 = 10_000;
/// How long a body may take over each [`PACE_BYTES`], in milliseconds.
const PACE_MS: u64 = 10_000;
/// So slow a body is cut, in bytes.
const PACE_BYTES: usize = 10 << 10;
/// Connections that are being made at once.
const DIALS_MAX: usize = 64;
/// Idle connections that are kept with one server.
const IDLE_MAX: usize = 8;
/// For how long, in milliseconds.
const IDLE_MS_MAX: u64 = 60_000;
/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most headers of an answer.
const HEADERS_MAX: usize = 100;
/// What one stream of HTTP/2 may have on its way to us, in bytes: a block.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// What one connection may, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How long a connection of HTTP/2 under requests may be silent before it is asked for a sign, and
/// how long it may take to give it, in milliseconds.
const PING_MS: u64 = 10_000;
/// Longest wait that a server may ask for, in seconds; longer ones are taken for this.
const RETRY_AFTER_S_MAX: u64 = 60;
/// What of a body that is of no interest is let come, in bytes.
const DRAIN_BYTES_MAX: usize = 16 << 10;
/// How long that may take, in milliseconds.
const DRAIN_MS_MAX: u64 = 500;
/// A body of fewer bytes is copied, lest it keep a buffer for the next ones from being freed.
const COPIED_BYTES: usize = 32 << 10;
/// How we call ourselves.
const AGENT: &str = concat!("estuary/", env!("CARGO_PKG_VERSION"));

/// Asks HTTP servers. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    dialer: Dialer,
    inner: legacy::Client<Connector, Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("guard", &self.dialer.guard).finish_non_exhaustive()
    }
}

/// What a client is made of.
struct Making {
    guard: Guard,
    limited: bool,
    roots: RootCertStore,
    resolver: Resolver,
}

impl Making {
    fn make(self, tasks: &Tasks, metrics: &Metrics) -> Result<Client, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let limits = self.limited.then(|| Arc::new(Mutex::default()));
        let dialer = Dialer { guard: self.guard, resolver: self.resolver, limits };
        let connector = Connector {
            dialer: dialer.clone(),
            tls: Arc::new(tls).into(),
            permits: Arc::new(Semaphore::new(DIALS_MAX)),
            metrics: metrics.clone(),
        };
        let inner = legacy::Client::builder(Executor(tasks.clone()))
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(IDLE_MS_MAX))
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(HEADERS_MAX)
            .http2_max_header_list_size(HEAD_BYTES_MAX as u32)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(Duration::from_millis(PING_MS))
            .http2_keep_alive_timeout(Duration::from_millis(PING_MS))
            .build(connector);
        Ok(Client { dialer, inner })
    }
}

impl Client {
    /// A client for servers that others name: it goes where `guard` lets it, and knocks nowhere
    /// too often. Its connections are tasks of this owner.
    pub fn guarded(guard: Guard, tasks: &Tasks, metrics: &Metrics) -> Result<Self, rustls::Error> {
        let roots = public_roots();
        let making = Making { guard, limited: true, roots, resolver: system_resolver() };
        making.make(tasks, metrics)
    }

    /// A client for servers that the operator's own configuration names, wherever they are.
    pub fn unguarded(tasks: &Tasks, metrics: &Metrics) -> Result<Self, rustls::Error> {
        let guard = Guard::new(&Config { allow_private: true });
        let roots = public_roots();
        let making = Making { guard, limited: false, roots, resolver: system_resolver() };
        making.make(tasks, metrics)
    }

    /// A client that goes anywhere and believes these authorities alone.
    #[cfg(test)]
    #[allow(clippy::unwrap_used, reason = "for tests")]
    pub(crate) fn trusting(roots: RootCertStore, tasks: &Tasks, metrics: &Metrics) -> Self {
        let guard = Guard::new(&Config { allow_private: true });
        let making = Making { guard, limited: true, roots, resolver: system_resolver() };
        making.make(tasks, metrics).unwrap()
    }

    /// The guard it goes by.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.dialer.guard
    }

    /// Asks, and gives the head of the answer as soon as it is there.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, Error> {
        let request = question.request()?;
        let head = Duration::from_millis(HEAD_MS_MAX);
        let asked = tokio::time::timeout(head, self.inner.request(request)).await;
        let response = asked.map_err(|_| Error::Timeout("no answer within 10 s"))?;
        let (parts, body) = response.map_err(|error| reason(&error))?.into_parts();
        if let Some(From(address)) = parts.extensions.get() {
            self.dialer.limit(|limits| limits.answered(*address));
        }
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            version: parts.version,
            body,
            pace: Pace::Steady,
            mark: Instant::now(),
            since_mark: 0,
        };
        // We asked for no coding; to undo one would be to let a small body become a large one.
        let codings = answer.headers.get_all(CONTENT_ENCODING);
        if codings.iter().any(|coding| coding != "identity") {
            return Err(Error::Broken("it is compressed, which was not asked for".into()));
        }
        Ok(answer)
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let most = Duration::from_secs(RETRY_AFTER_S_MAX);
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds).min(most));
    }
    // A date: how far it is from now, its clock and ours may not agree on.
    httpdate::parse_http_date(said).is_ok().then_some(most)
}

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// Why a request failed: what the connector said, else what the client says.
fn reason(error: &legacy::Error) -> Error {
    let mut cause = error.source();
    let mut deepest = error.to_string();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<Error>() {
            return error.clone();
        }
        deepest = inner.to_string();
        cause = inner.source();
    }
    Error::Broken(deepest.into())
}

/// A request.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The server.
    pub url: &'a HttpUrl,
    /// Path below it and query, made of letters that stand in a URL.
    pub path: &'a str,
    /// The types that are taken as an answer.
    pub accept: &'static str,
    /// What is put there, and its type; none where it is only asked for.
    pub put: Option<(&'static str, Bytes)>,
}

impl Question<'_> {
    fn request(self) -> Result<Request<Full<Bytes>>, Error> {
        let uri = format!("{}{}", self.url, self.path);
        let mut request = Request::builder()
            .uri(uri)
            .header(ACCEPT, self.accept)
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(USER_AGENT, HeaderValue::from_static(AGENT));
        let mut body = Bytes::new();
        if let Some((kind, bytes)) = self.put {
            request = request.method(Method::PUT).header(CONTENT_TYPE, kind);
            body = bytes;
        }
        request.body(Full::new(body)).map_err(|error| Error::Broken(error.to_string().into()))
    }
}

/// How a body has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At 1 KiB a second at least, and never silent for long.
    Steady,
    /// As it likes, until this time.
    Until(Instant),
}

/// An answer, whose body has yet to come.
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    version: Version,
    body: Incoming,
    pace: Pace,
    /// Since when `since_mark` bytes came.
    mark: Instant,
    since_mark: usize,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// The same, but its body comes at this pace.
    #[must_use]
    pub fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it came over HTTP/2, which takes many requests at once on one connection.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// The type of its body, as it says.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
    }

    /// For how long the server asks to be left alone, at most a minute; none where it does not.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The next piece of the body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let (until, slow) = match self.pace {
                Pace::Steady => {
                    let until = self.mark + Duration::from_millis(PACE_MS);
                    (until, "under 1 KiB a second")
                }
                Pace::Until(until) => (until, "its body did not end in time"),
            };
            let frame = tokio::time::timeout_at(until, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| Error::Timeout(slow))? else { return Ok(None) };
            let frame = frame.map_err(|error| Error::Broken(error.to_string().into()))?;
            // Trailers say nothing that counts.
            let Ok(bytes) = frame.into_data() else { continue };
            self.since_mark += bytes.len();
            if self.since_mark >= PACE_BYTES {
                (self.mark, self.since_mark) = (Instant::now(), 0);
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// Lets a body that is of no interest come to its end where that is near, so that the connection
    /// can be used again.
    pub async fn drain(mut self) {
        let until = Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        self.pace = Pace::Until(until);
        let mut left = DRAIN_BYTES_MAX;
        while let Ok(Some(chunk)) = self.chunk().await
            && chunk.len() <= left
        {
            left -= chunk.len();
        }
    }

    /// The whole body, of at most `most` bytes.
    pub async fn bytes(mut self, most: usize) -> Result<Bytes, Error> {
        let said = self.body.size_hint().lower();
        if said > most as u64 {
            return Err(Error::TooLarge(most));
        }
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        if self.body.is_end_stream() && first.len() <= most {
            let is_small = first.len() < COPIED_BYTES;
            return Ok(if is_small { Bytes::copy_from_slice(&first) } else { first });
        }
        let mut whole = BytesMut::with_capacity(first.len().max(said as usize).min(most));
        whole.extend_from_slice(&first);
        drop(first);
        while whole.len() <= most {
            let Some(chunk) = self.chunk().await? else { return Ok(whole.freeze()) };
            whole.extend_from_slice(&chunk);
        }
        Err(Error::TooLarge(most))
    }
}

/// Runs connections until the node stops.
#[derive(Clone)]
struct Executor(Tasks);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, connection: F) {
        let stop = self.0.stop_token();
        self.0.spawn(async move {
            stop.run_until_cancelled(connection).await;
        });
    }
}

#[cfg(test)]
mod tests;
