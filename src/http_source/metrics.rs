crate::metrics! {
    /// What HTTP providers were asked, and gave.
    pub struct Metrics {
        /// Requests to HTTP providers that ended, by how: "block", "missing", "busy", "unfit", "wrong", "failed".
        requests: counter_vec("estuary_http_source_requests_total", "outcome"),
        /// Bytes of verified blocks from HTTP providers.
        bytes: counter("estuary_http_source_bytes_total"),
        /// Requests to HTTP providers under way.
        under_way: gauge("estuary_http_source_requests"),
        /// Times a second HTTP provider was asked for a block because the first took long.
        hedges: counter("estuary_http_source_hedges_total"),
        /// Time until a block from an HTTP provider is there, in seconds.
        seconds: histogram("estuary_http_source_seconds"),
    }
}
