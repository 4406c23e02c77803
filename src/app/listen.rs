//! Binding the listeners: a default port that is taken gives way, a configured one is an error.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::Error;
use crate::http::Listener;

/// Connections that wait to be accepted. With fewer, a burst is dropped by the kernel, and a client
/// that had nothing to say yet never learns of it.
const BACKLOG: u32 = 4096;

/// A listener of the node: its key in the configuration, and its port where that says nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) key: &'static str,
    pub(super) port: u16,
}

pub(super) const GATEWAY: Place = Place { key: "gateway.listen", port: 8080 };
pub(super) const GATEWAY_TLS: Place = Place { key: "gateway.tls_listen", port: 8443 };
pub(super) const API: Place = Place { key: "api.listen", port: 3004 };
pub(super) const API_TLS: Place = Place { key: "api.tls_listen", port: 3443 };
pub(super) const ADMIN: Place = Place { key: "admin.listen", port: 3005 };

/// A listener, and where it listens.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: Listener,
    pub(super) address: SocketAddr,
}

impl Place {
    /// Where it listens, as far as that is known before it does.
    pub(super) fn address(self, configured: Option<SocketAddr>) -> SocketAddr {
        configured.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// Binds it.
    pub(super) fn bind(self, configured: Option<SocketAddr>) -> Result<Bound, Error> {
        let wanted = self.address(configured);
        let failed = |source| Error::Bind { key: self.key, address: wanted, source };
        let listener = match listen(wanted) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && configured.is_none() => {
                let free = SocketAddr::new(wanted.ip(), 0);
                let listener = listen(free).map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                tracing::warn!(
                    "port {} is taken, so {} is {address} this time; set it to have one that stays",
                    self.port,
                    self.key,
                );
                listener
            }
            outcome => outcome.map_err(failed)?,
        };
        let address = listener.local_addr().map_err(failed)?;
        Ok(Bound { listener: Listener::tcp(listener).map_err(failed)?, address })
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A node that is started again need not wait for its old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The URL at which this machine reaches a listener.
pub(super) fn url(scheme: &str, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_default_port_gives_way_and_a_configured_one_does_not() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let place = Place { key: "gateway.listen", port: address.port() };
        let bound = place.bind(None).unwrap();
        assert_ne!(bound.address.port(), address.port());
        let said = place.bind(Some(address)).unwrap_err().to_string();
        assert!(said.contains("gateway.listen") && said.contains(&address.to_string()), "{said}");
    }

    #[test]
    fn urls_name_an_address_that_can_be_reached() {
        let check = |address: &str, expected: &str| {
            assert_eq!(url("http", address.parse().unwrap()), expected);
        };
        check("127.0.0.1:1", "http://127.0.0.1:1");
        check("0.0.0.0:1", "http://127.0.0.1:1");
        check("[::]:1", "http://[::1]:1");
        check("192.0.2.7:1", "http://192.0.2.7:1");
    }
}
