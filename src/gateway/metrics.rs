use crate::metrics::{IntCounter, IntCounterVec};

use super::request::Format;

crate::metrics! {
    /// What the gateway answered.
    pub struct Metrics {
        /// Responses of the gateway, by the representation asked for and by status.
        responses: counter_vec("estuary_gateway_responses_total", "format", "status"),
        /// Responses that were cut off in their middle because a block could not be had.
        truncated: counter("estuary_gateway_truncated_total"),
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
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let responses = metrics.responses.clone();
        Self {
            default_ok: responses.with_label_values(&["default", "200"]),
            default_not_modified: responses.with_label_values(&["default", "304"]),
            raw_ok: responses.with_label_values(&["raw", "200"]),
            streams: Streams { truncated: metrics.truncated.clone() },
            responses,
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
