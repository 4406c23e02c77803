//! Connections for the HTTP client: dialled, and over TLS where the URL says so.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::dial::Dialer;
use super::http_url::{Host, HttpUrl};
use super::{Error, Metrics};

/// How long it may take until a connection stands, name and TLS included, in milliseconds.
const DIAL_MS_MAX: u64 = 5_000;

/// Makes connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) dialer: Dialer,
    pub(super) tls: TlsConnector,
    /// Connections that are being made at once.
    pub(super) permits: Arc<Semaphore>,
    pub(super) metrics: Metrics,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Link, Error> {
        let started = Instant::now();
        let most = Duration::from_millis(DIAL_MS_MAX);
        let dialled = tokio::time::timeout(most, self.dial(&uri)).await;
        let dialled = dialled.unwrap_or(Err(Error::Timeout("no connection within 5 s")));
        self.metrics.dialled(&dialled);
        if dialled.is_ok() {
            self.metrics.dial_seconds.observe(started.elapsed().as_secs_f64());
        }
        dialled
    }

    async fn dial(&self, uri: &Uri) -> Result<Link, Error> {
        let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string().into());
        let url = HttpUrl::parse(uri.to_string().split(['?']).next().unwrap_or_default())
            .map_err(|error| broken(&error))?;
        let _permit = self.permits.acquire().await.map_err(|error| broken(&error))?;
        let (stream, address) = self.dialer.connect(url.host(), url.port()).await?;
        let outcome = if url.is_secure() {
            self.secure(&url, stream).await
        } else {
            let stream: Box<dyn Transport> = Box::new(stream);
            Ok((stream, false))
        };
        if outcome.is_err() {
            self.dialer.limit(|limits| limits.failed(address));
        }
        let (stream, h2) = outcome?;
        Ok(Link { io: TokioIo::new(stream), h2, address })
    }

    /// Speaks TLS on a connection; says whether HTTP/2 comes next.
    async fn secure(
        &self,
        url: &HttpUrl,
        stream: tokio::net::TcpStream,
    ) -> Result<(Box<dyn Transport>, bool), Error> {
        let unreachable =
            |error: &dyn std::fmt::Display| Error::Unreachable(error.to_string().into());
        let name = match url.host() {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name) => {
                ServerName::try_from(name.to_string()).map_err(|error| unreachable(&error))?
            }
        };
        let stream = self.tls.connect(name, stream).await.map_err(|error| unreachable(&error))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), h2))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Link, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection that stands.
pub(super) struct Link {
    io: TokioIo<Box<dyn Transport>>,
    h2: bool,
    address: SocketAddr,
}

/// The address that an answer came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct From(pub(super) SocketAddr);

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(From(self.address));
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
