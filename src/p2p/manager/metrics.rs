//! What the connection manager counts.

crate::metrics! {
    /// Peers and connections.
    pub struct Metrics {
        /// Peers connected.
        peers: gauge("estuary_p2p_peers"),
        /// Connections with peers, by who began them.
        connections: gauge_vec("estuary_p2p_connections", "direction"),
        /// Connections being dialled or negotiated, by who began them.
        connections_pending: gauge_vec("estuary_p2p_connections_pending", "direction"),
        /// Connections refused before they were there, by what there was too much of.
        connections_refused: counter_vec("estuary_p2p_connections_refused_total", "reason"),
        /// Times that there were too many connections, and some were let go.
        trims: counter("estuary_p2p_trims_total"),
        /// Peers let go because there were too many connections.
        peers_trimmed: counter("estuary_p2p_peers_trimmed_total"),
        /// Peers whose addresses are kept for the next start.
        peers_known: gauge("estuary_p2p_peers_known"),
    }
}
