//! From a socket to a connection that is encrypted.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::listener::Stream;

/// For whoever speaks HTTP where TLS is spoken.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Cache-Control: no-store\r\nConnection: close\r\nContent-Length: 42\r\n\r\n\
    this port speaks TLS: use an https:// URL\n";

/// Shakes hands. None where that fails: a client that cannot goes away and tells its user why.
pub(super) async fn shake(mut socket: TcpStream, tls: &TlsAcceptor) -> Option<Stream> {
    let mut first = [0];
    if socket.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    if first[0].is_ascii_uppercase() {
        let _ = socket.write_all(PLAIN).await;
        return None;
    }
    match tls.accept(socket).await {
        Ok(stream) => Some(Stream::Tls(Box::new(stream))),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}
