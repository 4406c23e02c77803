//! What the front door counts.

use std::time::Duration;

use crate::metrics::{Histogram, IntCounter, IntGauge};

crate::metrics! {
    /// What came in at the listeners.
    pub struct Metrics {
        /// Requests answered, by listener and class of status.
        requests: counter_vec("estuary_http_requests_total", "listener", "status"),
        /// Time until the head of a response was ready, in seconds.
        seconds: histogram_vec("estuary_http_response_head_seconds", "listener"),
        /// Bytes of response bodies that were handed out.
        sent: counter_vec("estuary_http_response_bytes_total", "listener"),
        /// Requests under way, until their responses are through.
        under_way: gauge_vec("estuary_http_requests_under_way", "listener"),
        /// Requests and connections turned away: "address" where one address had too many under way, "rate" where it asked too often, "busy" where all together had, "framing" where a request could be read in two ways.
        refused: counter_vec("estuary_http_refused_total", "listener", "why"),
        /// Requests whose handling failed by a bug.
        panics: counter_vec("estuary_http_panics_total", "listener"),
        /// Connections accepted.
        accepted: counter_vec("estuary_http_connections_accepted_total", "listener"),
        /// Connections open.
        connections: gauge_vec("estuary_http_connections_open", "listener"),
        /// Connections cut: "slow_head" where the head of a request did not come, "stalled" where a body was given or taken too slowly, "flood" where much was sent that is no request.
        cut: counter_vec("estuary_http_connections_cut_total", "listener", "why"),
        /// TLS handshakes: "done", or "failed" where the client went away, came too slowly or could not.
        handshakes: counter_vec("estuary_http_tls_handshakes_total", "listener", "outcome"),
        /// When the first certificate of a listener expires, in seconds since 1970.
        certificate_expiry: gauge_vec("estuary_http_certificate_expiry_seconds", "listener"),
        /// Certificates read anew because their files changed: "done", or "failed" where the one before it was kept.
        certificate_reloads: counter_vec("estuary_http_certificate_reloads_total", "listener", "outcome"),
        /// Failures to accept a connection, such as having no file descriptors left.
        accept_failed: counter_vec("estuary_http_accept_failures_total", "listener"),
    }
}

/// The collectors of one listener, looked up once.
#[derive(Debug, Clone)]
pub(super) struct ListenerMetrics {
    /// By class of status: 1xx to 5xx.
    requests: [IntCounter; 5],
    seconds: Histogram,
    pub(super) sent: IntCounter,
    pub(super) under_way: IntGauge,
    pub(super) refused_address: IntCounter,
    pub(super) refused_rate: IntCounter,
    pub(super) refused_busy: IntCounter,
    pub(super) refused_framing: IntCounter,
    pub(super) panics: IntCounter,
    pub(super) accepted: IntCounter,
    pub(super) connections: IntGauge,
    pub(super) cut_slow_head: IntCounter,
    pub(super) cut_stalled: IntCounter,
    pub(super) cut_flood: IntCounter,
    pub(super) accept_failed: IntCounter,
    pub(super) handshakes: IntCounter,
    pub(super) handshakes_failed: IntCounter,
}

/// The collectors of one listener's certificates.
#[derive(Debug, Clone)]
pub(super) struct CertificateMetrics {
    pub(super) expiry: IntGauge,
    pub(super) reloaded: IntCounter,
    pub(super) reload_failed: IntCounter,
}

impl Metrics {
    /// The collectors of the listener of this name.
    #[must_use]
    pub(super) fn of(&self, listener: &'static str) -> ListenerMetrics {
        let refused = |why| self.refused.with_label_values(&[listener, why]);
        let cut = |why| self.cut.with_label_values(&[listener, why]);
        ListenerMetrics {
            requests: ["1xx", "2xx", "3xx", "4xx", "5xx"]
                .map(|class| self.requests.with_label_values(&[listener, class])),
            seconds: self.seconds.with_label_values(&[listener]),
            sent: self.sent.with_label_values(&[listener]),
            under_way: self.under_way.with_label_values(&[listener]),
            refused_address: refused("address"),
            refused_rate: refused("rate"),
            refused_busy: refused("busy"),
            refused_framing: refused("framing"),
            panics: self.panics.with_label_values(&[listener]),
            accepted: self.accepted.with_label_values(&[listener]),
            connections: self.connections.with_label_values(&[listener]),
            cut_slow_head: cut("slow_head"),
            cut_stalled: cut("stalled"),
            cut_flood: cut("flood"),
            accept_failed: self.accept_failed.with_label_values(&[listener]),
            handshakes: self.handshakes.with_label_values(&[listener, "done"]),
            handshakes_failed: self.handshakes.with_label_values(&[listener, "failed"]),
        }
    }

    /// The collectors of this listener's certificates.
    #[must_use]
    pub(super) fn certificates(&self, listener: &'static str) -> CertificateMetrics {
        CertificateMetrics {
            expiry: self.certificate_expiry.with_label_values(&[listener]),
            reloaded: self.certificate_reloads.with_label_values(&[listener, "done"]),
            reload_failed: self.certificate_reloads.with_label_values(&[listener, "failed"]),
        }
    }
}

impl ListenerMetrics {
    /// Notes that a response's head is ready.
    pub(super) fn answered(&self, status: http::StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        if let Some(counter) = self.requests.get(class) {
            counter.inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }
}
