use crate::metrics::{IntCounter, IntCounterVec};

use super::redirects::Outcomes;
use super::request::Format;
use super::site::Site;

crate::metrics! {
    /// What the gateway answered.
    pub struct Metrics {
        /// Responses of the gateway, by the representation asked for and by status.
        responses: counter_vec("estuary_gateway_responses_total", "format", "status"),
        /// Responses that were cut off in their middle because a block could not be had.
        truncated: counter("estuary_gateway_truncated_total"),
        /// Requests whose host decides on what they mean: "subdomain" and "dnslink" for sites with an origin of their own, "trustless", "moved" where they were sent to one; all others came to the path gateway.
        hosted: counter_vec("estuary_gateway_hosted_requests_total", "site"),
        /// Paths that a site does not have, by what its _redirects file says: "redirected", "rewritten", "page", "no_rule", "faulty".
        redirects: counter_vec("estuary_gateway_redirects_total", "outcome"),
    }
}

/// What counts the streams that fail.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) truncated: IntCounter,
}

/// The collectors, those of usual responses looked up once.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    responses: IntCounterVec,
    default_ok: IntCounter,
    default_not_modified: IntCounter,
    raw_ok: IntCounter,
    pub(super) streams: Streams,
    subdomain: IntCounter,
    dnslink: IntCounter,
    trustless: IntCounter,
    pub(super) moved: IntCounter,
    pub(super) redirects: Outcomes,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let responses = metrics.responses.clone();
        let hosted = |site| metrics.hosted.with_label_values(&[site]);
        Self {
            default_ok: responses.with_label_values(&["default", "200"]),
            default_not_modified: responses.with_label_values(&["default", "304"]),
            raw_ok: responses.with_label_values(&["raw", "200"]),
            streams: Streams { truncated: metrics.truncated.clone() },
            subdomain: hosted("subdomain"),
            dnslink: hosted("dnslink"),
            trustless: hosted("trustless"),
            moved: hosted("moved"),
            redirects: Outcomes::new(&metrics.redirects),
            responses,
        }
    }

    /// Notes where a request was made. Most come to the path gateway, and cost nothing here.
    pub(super) fn came_to(&self, site: &Site) {
        match site {
            Site::Path => {}
            Site::Trustless => self.trustless.inc(),
            Site::Subdomain(_) => self.subdomain.inc(),
            Site::DnsLink(_) => self.dnslink.inc(),
        }
    }

    pub(super) fn responded(&self, format: Option<Format>, status: http::StatusCode) {
        match (format, status.as_u16()) {
            (Some(Format::Default), 200) => self.default_ok.inc(),
            (Some(Format::Default), 304) => self.default_not_modified.inc(),
            (Some(Format::Raw), 200) => self.raw_ok.inc(),
            _ => self.responses.with_label_values(&[label(format), status.as_str()]).inc(),
        }
    }
}

fn label(format: Option<Format>) -> &'static str {
    match format {
        None => "none",
        Some(Format::Default) => "default",
        Some(format) => format.name(),
    }
}
