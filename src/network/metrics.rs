use super::Error;

crate::metrics! {
    /// Whom HTTP was spoken with.
    pub struct Metrics {
        /// Connections to HTTP servers that were begun, by how that ended: "ok", "forbidden", "unresolved", "resting", "failed".
        dials: counter_vec("estuary_network_dials_total", "outcome"),
        /// Time until a connection with an HTTP server stands, TLS included, in seconds.
        dial_seconds: histogram("estuary_network_dial_seconds"),
    }
}

impl Metrics {
    pub(super) fn dialled<T>(&self, outcome: &Result<T, Error>) {
        let label = match outcome {
            Ok(_) => "ok",
            Err(Error::Forbidden(_)) => "forbidden",
            Err(Error::Unresolved(..)) => "unresolved",
            Err(Error::Resting(_)) => "resting",
            Err(_) => "failed",
        };
        self.dials.with_label_values(&[label]).inc();
    }
}
