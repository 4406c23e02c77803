//! What is counted of the network of peers.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::DialError;

crate::metrics! {
    /// The metrics of the network of peers.
    pub struct Metrics {
        /// Connections with peers.
        connections: gauge_vec("estuary_p2p_connections", "direction", "transport"),
        /// Peers connected.
        peers: gauge("estuary_p2p_peers"),
        /// Peers whose addresses are kept.
        peers_known: gauge("estuary_p2p_peers_known"),
        /// Peers let go because there were too many connections.
        peers_trimmed: counter("estuary_p2p_peers_trimmed_total"),
        /// Times that there were too many connections, and some were let go.
        trims: counter("estuary_p2p_trims_total"),
        /// Connections that are being dialled or negotiated.
        connections_pending: gauge_vec("estuary_p2p_connections_pending", "direction"),
        /// Connections refused before they were there, by what there was too much or little of.
        connections_refused: counter_vec("estuary_p2p_connections_refused_total", "reason"),
        /// Attempts to reach a peer that came to an end.
        dials: counter_vec("estuary_p2p_dials_total", "outcome"),
        /// Connections of others that did not come to be.
        inbound_failures: counter("estuary_p2p_inbound_failures_total"),
        /// Streams of protocols that are open.
        streams: gauge_vec("estuary_p2p_streams", "direction"),
        /// Streams of peers that were turned away, for there were too many.
        streams_refused: counter("estuary_p2p_streams_refused_total"),
        /// Bytes of the streams of protocols.
        stream_bytes: counter_vec("estuary_p2p_stream_bytes_total", "direction"),
        /// Slots held at relays.
        relay_slots: gauge("estuary_p2p_relay_slots"),
        /// Attempts to make a connection through a relay a direct one.
        hole_punches: counter_vec("estuary_p2p_hole_punches_total", "outcome"),
    }
}

/// What a connection is made of, as a label.
pub(super) fn transport(address: &Multiaddr) -> &'static str {
    let mut name = "other";
    for part in address {
        name = match part {
            Protocol::P2pCircuit => return "relay",
            Protocol::Ws(_) | Protocol::Wss(_) => "websocket",
            Protocol::QuicV1 => "quic",
            Protocol::Tcp(_) => "tcp",
            _ => name,
        };
    }
    name
}

/// Who began a connection or a stream, as a label.
pub(super) const fn direction(inbound: bool) -> &'static str {
    if inbound { "in" } else { "out" }
}

/// What a dial came to, as a label.
pub(super) fn outcome(error: &DialError) -> &'static str {
    match error {
        DialError::Denied { .. } => "denied",
        DialError::NoAddresses => "no_addresses",
        DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } => "wrong_peer",
        _ => "unreachable",
    }
}
