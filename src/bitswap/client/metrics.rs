crate::metrics! {
    /// What was fetched from peers.
    pub struct Metrics {
        /// Blocks that peers sent and somebody waited for.
        blocks: counter("estuary_bitswap_client_blocks_total"),
        /// Bytes of the blocks that peers sent and somebody waited for.
        bytes: counter("estuary_bitswap_client_bytes_total"),
        /// Blocks that came after they had come from another peer, or after nobody waited any more.
        duplicates: counter("estuary_bitswap_client_duplicates_total"),
        /// Blocks that peers sent without ever having been asked.
        unrequested: counter("estuary_bitswap_client_unrequested_total"),
        /// Peers that were sent away for what they sent unasked.
        expelled: counter("estuary_bitswap_client_expelled_total"),
        /// What peers said of blocks: "have" or "dont_have".
        presences: counter_vec("estuary_bitswap_client_presences_total", "said"),
        /// Times a peer was asked and was silent for too long.
        timeouts: counter("estuary_bitswap_client_timeouts_total"),
        /// Blocks that are wanted of peers.
        wants: gauge("estuary_bitswap_client_wants"),
        /// Requests that may fetch from peers.
        sessions: gauge("estuary_bitswap_client_sessions"),
        /// Time from wanting a block to having it, in seconds.
        seconds: histogram("estuary_bitswap_client_block_seconds"),
    }
}
