//! Many streams over one TCP or WebSocket connection: yamux, with windows that suit all who speak it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::iter::{Once, once};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, ConnectionError, Mode, Stream};

/// Streams of one connection at a time, in both directions; a peer that opens more is cut off.
/// Protocols have fewer: what is beyond is for streams that are being negotiated or reset.
const STREAMS_MAX: usize = 1280;
/// What a stream may have under way to us at first, in bytes; yamux says so.
const WINDOW_BYTES: usize = 256 << 10;
/// What it may have at most, in bytes. Peers of js-libp2p send all that there is room for in one
/// frame, and a frame of more than 1 MiB is an error to the crate: a window that grew beyond that
/// would cost the connection.
const WINDOW_BYTES_MAX: usize = 1 << 20;
/// What all streams of a connection may have under way to us, in bytes. What is left when each has
/// its first window is less than what one would need to outgrow the longest.
const WINDOWS_BYTES_MAX: usize = STREAMS_MAX * WINDOW_BYTES + WINDOW_BYTES_MAX - WINDOW_BYTES;

/// The upgrade to yamux.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Yamux;

fn muxer<C: AsyncRead + AsyncWrite + Unpin>(socket: C, mode: Mode) -> Muxer<C> {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS_MAX);
    config.set_max_connection_receive_window(Some(WINDOWS_BYTES_MAX));
    let connection = Connection::new(socket, config, mode);
    Muxer { connection, opened: VecDeque::new(), waker: None }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(muxer(socket, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(muxer(socket, Mode::Client)))
    }
}

/// A connection of yamux.
#[derive(Debug)]
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams that the peer opened and nobody took yet: nothing goes on unless its frames are
    /// read, whether there is room for streams or not.
    opened: VecDeque<Stream>,
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let next = ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.opened.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.next(cx);
        if next.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let stream = ready!(self.next(cx))?;
        // Those that the peer itself has reset meanwhile do not count among its streams, but here.
        if self.opened.len() < STREAMS_MAX {
            self.opened.push_back(stream);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        // One at a time, for others have work, too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
