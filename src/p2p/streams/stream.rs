//! A stream as protocols get it: counted, and holding its place among those of its connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::io::{AsyncRead, AsyncWrite, IoSlice, IoSliceMut};
use prometheus::{IntCounter, IntGauge};
use tokio::sync::OwnedSemaphorePermit;

use crate::p2p::metrics::{Metrics, direction};

/// A stream to a peer. Dropped, it is reset where it was not closed.
#[derive(Debug)]
pub struct Stream {
    inner: libp2p::swarm::Stream,
    received: IntCounter,
    sent: IntCounter,
    open: IntGauge,
    /// Its place among the inbound streams of its connection.
    _place: Option<OwnedSemaphorePermit>,
}

impl Stream {
    pub(super) fn new(
        inner: libp2p::swarm::Stream,
        place: Option<OwnedSemaphorePermit>,
        metrics: &Metrics,
    ) -> Self {
        let open = metrics.streams.with_label_values(&[direction(place.is_some())]);
        open.inc();
        let bytes = |inbound| metrics.stream_bytes.with_label_values(&[direction(inbound)]);
        Self { inner, received: bytes(true), sent: bytes(false), open, _place: place }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open.dec();
    }
}

fn counted(counter: &IntCounter, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(bytes)) = done {
        counter.inc_by(bytes as u64);
    }
    done
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_read(cx, buffer);
        counted(&self.received, done)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_read_vectored(cx, buffers);
        counted(&self.received, done)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(cx, bytes);
        counted(&self.sent, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(cx, buffers);
        counted(&self.sent, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
