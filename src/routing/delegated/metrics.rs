crate::metrics! {
    /// What delegated routers were asked, and said.
    pub struct Metrics {
        /// Questions to delegated routers that ended, by how: "found", "none", "held", "failed", "resting".
        requests: counter_vec("estuary_routing_delegated_requests_total", "outcome"),
        /// Providers that delegated routers named.
        providers: counter("estuary_routing_delegated_providers_total"),
        /// Records of delegated routers that could not be read, or were over a limit.
        bad_records: counter("estuary_routing_delegated_bad_records_total"),
        /// Time until a delegated router begins to answer, in seconds.
        seconds: histogram("estuary_routing_delegated_seconds"),
    }
}
