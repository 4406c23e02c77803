//! One connection: which protocol it speaks, and its life from there.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::client::Client;
use super::io::{Counted, Lines};
use super::watch::{Verdict, Watch, Why};
use super::{HttpService, Limits};
use crate::task::Tasks;

/// Streams that an HTTP/2 client may have open.
const STREAMS_MAX: u32 = 128;
/// Streams that it may have reset before we looked at them.
const PENDING_RESETS_MAX: usize = 20;
/// Bytes of a response that wait for an HTTP/2 window.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What a connection has from its listener.
pub(super) struct Context {
    pub(super) limits: Limits,
    /// When it was accepted.
    pub(super) accepted: Instant,
    /// Where the streams of HTTP/2 run.
    pub(super) tasks: Tasks,
    /// Tells the connection to finish what it has under way.
    pub(super) drain: CancellationToken,
    /// Tells it to end.
    pub(super) cut: CancellationToken,
}

/// Serves a connection to its end, and says why that came, if it was we who brought it.
pub(super) async fn serve<IO, S>(
    mut socket: IO,
    client: Arc<Client>,
    service: impl Fn() -> S,
    context: Context,
) -> Option<Why>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService,
{
    let Context { limits, accepted, tasks, drain, cut } = context;
    let preface = tokio::select! {
        biased;
        preface = Preface::read(&mut socket) => preface?,
        () = drain.cancelled() => return None,
        () = tokio::time::sleep_until(accepted + limits.head_timeout) => return Some(Why::SlowHead),
    };
    let multiplexed = preface.is_http2();
    let watch = Watch::new(&limits, multiplexed, accepted);
    let lines =
        if limits.strict_lines && !multiplexed { Lines::Strict { cr: false } } else { Lines::Free };
    let io = TokioIo::new(Counted::new(socket, Arc::clone(&client), preface, lines));
    if multiplexed {
        let connection = http2::Builder::new(Spawner(tasks))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
            .initial_stream_window_size(limits.window_bytes)
            .initial_connection_window_size(limits.window_bytes.saturating_mul(2))
            .serve_connection(io, one_task(service()));
        watched(connection, http2::Connection::graceful_shutdown, watch, &client, drain, cut).await
    } else {
        let builder = http1_builder(&limits);
        let connection = builder.serve_connection(io, one_task(service())).with_upgrades();
        let wind_down = http1::UpgradeableConnection::graceful_shutdown;
        let (drained, cut_off) = (drain.clone(), cut.clone());
        let ended = watched(connection, wind_down, watch, &client, drained, cut_off).await;
        let Some(upgrade) = client.tunnel().open().filter(|_| ended.is_none()) else {
            return ended;
        };
        let io = upgrade.await.ok()?;
        let watch = Watch::new(&limits, false, Instant::now());
        let connection = builder.serve_connection(io, one_task(service()));
        watched(connection, http1::Connection::graceful_shutdown, watch, &client, drain, cut).await
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The watch has the time for heads, for hyper's own costs an allocation a request and leaves
    // idle connections no more time than a head.
    builder
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(limits.buffer_bytes.max(HEAD_BYTES_MAX));
    builder
}

/// Runs a connection, looking at it now and then.
async fn watched<C>(
    connection: C,
    wind_down: fn(Pin<&mut C>),
    mut watch: Watch,
    client: &Client,
    drain: CancellationToken,
    cut: CancellationToken,
) -> Option<Why>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut look = pin!(tokio::time::sleep(watch.period()));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            // How a client went away is of no interest.
            _ = connection.as_mut() => return None,
            () = drain.cancelled(), if !draining => {
                draining = true;
                wind_down(connection.as_mut());
            }
            () = look.as_mut() => {
                if cut.is_cancelled() {
                    return None;
                }
                let now = Instant::now();
                match watch.judge(now, client.seen()) {
                    Verdict::Go => {}
                    Verdict::WindDown => wind_down(connection.as_mut()),
                    Verdict::Cut(why) => return Some(why),
                }
                look.as_mut().reset(now + watch.period());
            }
        }
    }
}

/// The first bytes of a connection, which tell the protocol.
#[derive(Debug)]
pub(super) struct Preface {
    bytes: [u8; PREFACE.len()],
    filled: usize,
    given: usize,
}

/// What HTTP/2 connections begin with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Preface {
    /// Reads until the protocol is told; `None` where the client goes before it.
    async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut bytes = [0; PREFACE.len()];
        let mut filled = 0;
        loop {
            let read = socket.read(bytes.get_mut(filled..)?).await.ok()?;
            filled += read;
            let preface = Self { bytes, filled, given: 0 };
            if preface.is_http2() || !PREFACE.starts_with(bytes.get(..filled)?) {
                return Some(preface);
            }
            if read == 0 {
                return None;
            }
        }
    }

    fn is_http2(&self) -> bool {
        &self.bytes == PREFACE
    }

    /// Gives what is left of it, if anything is.
    pub(super) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(left) = self.bytes.get(self.given..self.filled).filter(|left| !left.is_empty())
        else {
            return false;
        };
        let count = left.len().min(buf.remaining());
        buf.put_slice(left.get(..count).unwrap_or_default());
        self.given += count;
        true
    }
}

/// Runs the streams of HTTP/2 connections.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The service of one connection. Hyper calls it from the connection's task alone, one call after
/// the other.
struct OneTask<S>(RefCell<S>);

fn one_task<S>(service: S) -> OneTask<S> {
    OneTask(RefCell::new(service))
}

impl<S, Q> hyper::service::Service<Q> for OneTask<S>
where
    S: Service<Q>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Q) -> S::Future {
        self.0.borrow_mut().call(request)
    }
}
