//! What connections come from: TCP, TLS over it, and unix sockets, the same to all that follows.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::http::tls::Tls;

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over TLS over TCP.
    Tls(TcpListener, Tls),
    /// For processes of this machine that may open the socket's file.
    Unix(UnixListener),
}

/// Bytes that the kernel takes of a response before they can be sent. More would be memory that a
/// slow client holds, and would hide from us whether it takes anything.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 << 10;

impl Listener {
    /// A listener over TCP. What it sets holds for the connections it accepts.
    pub fn tcp(listener: TcpListener) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        Ok(Self::Tcp(listener))
    }

    /// The same, for those who speak TLS.
    #[must_use]
    pub fn over_tls(self, tls: &Tls) -> Self {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => Self::Tls(listener, tls.clone()),
            Self::Unix(listener) => Self::Unix(listener),
        }
    }

    /// Whether its connections are encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(..))
    }

    /// What makes its connections secure, where they are to be.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        match self {
            Self::Tls(_, tls) => Some(tls.acceptor()),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// The next connection, not yet secured, and where it comes from if that has an address.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                // Heads and bodies are written together, so waiting for more would only delay.
                // Where that fails, the client is gone, and reading will tell.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Does the same with each kind of socket.
macro_rules! each {
    ($stream:expr, $socket:ident => $do:expr) => {
        match $stream.get_mut() {
            Stream::Tcp(socket) => {
                let $socket = Pin::new(socket);
                $do
            }
            Stream::Tls(socket) => {
                let $socket = Pin::new(socket.as_mut());
                $do
            }
            Stream::Unix(socket) => {
                let $socket = Pin::new(socket);
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, socket => socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => socket.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => socket.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => socket.poll_shutdown(cx))
    }
}
