//! Where the node listens: what the configuration names, which must be had, or the port of IPFS,
//! or where that is taken a free one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

use super::gate::{Carrier, Host, Target};
use super::{Config, Error};

/// The port that peers of IPFS expect each other at.
const PORT: u16 = 4001;

/// Addresses to listen on.
pub(super) struct Listen {
    pub(super) addresses: Vec<Multiaddr>,
    /// Whether each must be had.
    pub(super) required: bool,
}

impl Listen {
    pub(super) fn of(config: &Config) -> Self {
        if let Some(addresses) = &config.listen {
            return Self { addresses: addresses.clone(), required: true };
        }
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let taken = any.into_iter().any(|ip| {
            [Carrier::Tcp, Carrier::Quic].into_iter().any(|carrier| {
                probe(SocketAddr::new(ip, PORT), carrier)
                    .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
            })
        });
        let port = if taken { 0 } else { PORT };
        let both = |ip: IpAddr| {
            let at = Multiaddr::from(ip);
            let quic = at.clone().with(Protocol::Udp(port)).with(Protocol::QuicV1);
            [at.with(Protocol::Tcp(port)), quic]
        };
        Self { addresses: any.into_iter().flat_map(both).collect(), required: false }
    }
}

/// Whether all can be had that the configuration names. The transports share ports with whoever
/// lets them, so they would not notice a second node on the same one.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    for address in config.listen.iter().flatten() {
        if let Some(Target { host: Host::Ip(ip), carrier, port }) = Target::of(address)
            && port != 0
        {
            probe(SocketAddr::new(ip, port), carrier).map_err(|error| Error::Listen {
                address: address.clone(),
                reason: error.to_string(),
            })?;
        }
    }
    Ok(())
}

/// Binds an address for nobody else, and lets it go again.
fn probe(address: SocketAddr, carrier: Carrier) -> io::Result<()> {
    let kind = match carrier {
        Carrier::Tcp => SocketType::STREAM,
        Carrier::Quic => SocketType::DGRAM,
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, kind, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if carrier == Carrier::Tcp {
        // As a listener does, or what is left of old connections would count.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if carrier == Carrier::Tcp {
        listen(&socket, 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(address: &str) -> Config {
        Config { listen: Some(vec![address.parse().unwrap()]), ..Config::default() }
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_and_a_free_one_is_not() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp_port = tcp.local_addr().unwrap().port();
        let udp_port = udp.local_addr().unwrap().port();
        let taken = [
            format!("/ip4/127.0.0.1/tcp/{tcp_port}"),
            format!("/ip4/127.0.0.1/tcp/{tcp_port}/ws"),
            format!("/ip4/127.0.0.1/udp/{udp_port}/quic-v1"),
        ];
        for address in &taken {
            let error = check(&named(address)).unwrap_err().to_string();
            assert!(error.contains(address) && error.contains("p2p.listen"), "{error}");
        }
        drop((tcp, udp));
        for address in &taken {
            check(&named(address)).unwrap();
        }
        check(&named("/ip4/127.0.0.1/tcp/0")).unwrap();
    }
}
