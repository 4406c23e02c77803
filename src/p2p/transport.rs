//! How peers are reached: TCP, QUIC and WebSocket, names of domains before them, relays beside them.
//!
//! Each connection is authenticated and carries many streams before anybody else sees it.

mod guarded;
mod mux;
mod secure;

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::{PeerId, quic, relay, tcp, websocket};
use libp2p_identity::Keypair;

use super::Error;
use super::gate::{Carrier, Gate};
use super::manager::{Dials, Paced};
use super::names::Names;
use guarded::{Followed, Guarded};
use mux::Yamux;
use secure::Secure;

/// Longest time until a connection is authenticated and carries streams, in either direction.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that a peer may have open over one QUIC connection; for more it waits.
const QUIC_STREAMS_MAX: u32 = 256;
/// Bytes of one QUIC stream, and of all of a connection, that may be under way to us.
const QUIC_STREAM_WINDOW_BYTES: u32 = 8 << 20;
const QUIC_WINDOW_BYTES: u32 = 16 << 20;
/// Longest frame and message of a WebSocket, in bytes.
const WEBSOCKET_BYTES_MAX: usize = 4 << 20;

/// All transports in one.
pub(super) type Transport = Boxed<(PeerId, StreamMuxerBox)>;

/// Makes the transports; through relays, too, where `relay` is their side of it.
pub(super) fn build(
    identity: &Keypair,
    gate: &Gate,
    names: &Names,
    dials: &Dials,
    relay: Option<relay::client::Transport>,
) -> Result<Transport, Error> {
    let secure = Secure::new(identity)?;
    let guarded_tcp = || {
        let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let tcp = Paced::new(tcp, dials.clone());
        Guarded::new(tcp, Carrier::Tcp, gate.clone(), names.clone())
    };
    let mut websocket = websocket::Config::new(guarded_tcp());
    websocket.set_max_data_size(WEBSOCKET_BYTES_MAX);
    let tcp = guarded_tcp()
        .upgrade(Version::V1Lazy)
        .authenticate(secure.clone())
        .multiplex(Yamux)
        .timeout(HANDSHAKE_TIMEOUT)
        .boxed();
    let websocket = websocket
        .upgrade(Version::V1Lazy)
        .authenticate(secure.clone())
        .multiplex(Yamux)
        .timeout(HANDSHAKE_TIMEOUT)
        .boxed();
    let mut config = quic::Config::new(identity);
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    config.max_concurrent_stream_limit = QUIC_STREAMS_MAX;
    config.max_stream_data = QUIC_STREAM_WINDOW_BYTES;
    config.max_connection_data = QUIC_WINDOW_BYTES;
    let quic = Paced::new(quic::tokio::Transport::new(config), dials.clone());
    let quic = Guarded::new(quic, Carrier::Quic, gate.clone(), names.clone())
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let either = OrTransport::new(quic, OrTransport::new(tcp, websocket));
    let direct = either.map(|either, _| match either {
        futures_util::future::Either::Left(connection) => connection,
        futures_util::future::Either::Right(other) => other.into_inner(),
    });
    let direct = Followed::new(direct.boxed(), names.clone());
    let Some(relay) = relay else { return Ok(direct.boxed()) };
    let relayed = relay
        .upgrade(Version::V1Lazy)
        .authenticate(secure)
        .multiplex(Yamux)
        .timeout(HANDSHAKE_TIMEOUT)
        .boxed();
    Ok(OrTransport::new(relayed, direct).map(|either, _| either.into_inner()).boxed())
}
