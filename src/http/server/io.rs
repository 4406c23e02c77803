//! The socket as hyper sees it: counted, and with lines that end one way only.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::Client;
use super::connection::Preface;

/// A socket whose movements are noted with its client.
pub(super) struct Counted<S> {
    socket: S,
    client: Arc<Client>,
    /// What was read to tell the protocol, and is yet to be given on.
    preface: Preface,
    lines: Lines,
    /// Whether the last write left something that the client does not take.
    blocked: bool,
    /// Whether what was written before is still on its way into the socket: TLS keeps some.
    held: bool,
}

impl<S> Counted<S> {
    pub(super) fn new(socket: S, client: Arc<Client>, preface: Preface, lines: Lines) -> Self {
        Self { socket, client, preface, lines, blocked: false, held: false }
    }

    fn note(&mut self, blocked: bool, held: bool) {
        if (self.blocked || self.held) != (blocked || held) {
            self.client.set_blocked(blocked || held);
        }
        (self.blocked, self.held) = (blocked, held);
    }

    /// Notes how much of what was offered the client took.
    fn wrote(
        &mut self,
        offered: usize,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let taken = match &outcome {
            Poll::Ready(Ok(taken)) => *taken,
            Poll::Ready(Err(_)) => offered,
            Poll::Pending => 0,
        };
        self.note(taken < offered, self.held);
        self.client.wrote(taken);
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if !this.preface.give(buf) {
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        }
        if let Some(read) = buf.filled_mut().get_mut(before..) {
            this.client.read(read.len());
            this.lines.check(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(buf.len(), outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(bufs.iter().map(|buf| buf.len()).sum(), outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_flush(cx);
        let blocked = self.blocked;
        self.note(blocked, outcome.is_pending());
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// How the lines of what is read must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// As the parser likes it: bodies may hold anything.
    Free,
    /// With CR LF, where requests have no bodies. The parser would take a bare LF too, and so
    /// see a request where a proxy in front sees a header. It becomes a NUL here, which no parser
    /// takes, and so a 400.
    Strict {
        /// Whether the last byte was a CR.
        cr: bool,
    },
}

impl Lines {
    fn check(&mut self, read: &mut [u8]) {
        let Self::Strict { cr } = self else { return };
        for byte in read {
            if *byte == b'\n' && !*cr {
                *byte = 0;
            }
            *cr = *byte == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_line_feed_is_made_unreadable_wherever_reads_are_cut() {
        let text = b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n\n";
        let expected = b"GET / HTTP/1.1\r\nA: b\0C: d\r\n\r\n\0";
        for cut in 0..text.len() {
            let mut read = *text;
            let (first, second) = read.split_at_mut(cut);
            let mut lines = Lines::Strict { cr: false };
            lines.check(first);
            lines.check(second);
            assert_eq!(&read, expected, "{cut}");
        }
        let mut read = *text;
        Lines::Free.check(&mut read);
        assert_eq!(&read, text);
    }
}
