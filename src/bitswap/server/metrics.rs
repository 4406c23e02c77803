crate::metrics! {
    /// What peers were sent, and what they want.
    pub struct Metrics {
        /// Blocks sent to peers.
        blocks: counter("estuary_bitswap_server_blocks_total"),
        /// Bytes of blocks sent to peers.
        bytes: counter("estuary_bitswap_server_bytes_total"),
        /// Messages sent to peers with what they wanted.
        messages: counter("estuary_bitswap_server_messages_total"),
        /// What peers were told of blocks: "have" or "dont_have".
        presences: counter_vec("estuary_bitswap_server_presences_total", "said"),
        /// Wants of peers that are kept.
        wants: gauge("estuary_bitswap_server_wants"),
        /// Wants of peers that were let go of, for there were too many.
        wants_dropped: counter("estuary_bitswap_server_wants_dropped_total"),
        /// Peers that did not read what they wanted.
        stalled: counter("estuary_bitswap_server_stalled_total"),
    }
}
