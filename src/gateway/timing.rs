//! Where an answer came from and where its time went: `Cache-Status` (RFC 9211) and
//! `Server-Timing` (W3C).

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::body::Body;
use crate::retrieval::{Tier, Trace};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

const FROM_MEMORY: HeaderValue = HeaderValue::from_static("estuary; hit; detail=memory");
const FROM_DISK: HeaderValue = HeaderValue::from_static("estuary; hit; detail=disk");
/// The client has it already, which its entity tag alone told.
const FROM_ETAG: HeaderValue = HeaderValue::from_static("estuary; hit; detail=etag");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// An answer that took no waiting.
pub(super) fn at_once(mut response: Response<Body>) -> Response<Body> {
    let not_modified = response.status() == StatusCode::NOT_MODIFIED;
    let status = if not_modified { FROM_ETAG } else { FROM_MEMORY };
    response.headers_mut().insert(CACHE_STATUS, status);
    response
}

/// An answer whose head is ready now, after this.
pub(super) fn found(mut response: Response<Body>, trace: &Trace) -> Response<Body> {
    let tier = trace.tier();
    let status = match tier {
        Tier::Memory => FROM_MEMORY,
        Tier::Disk => FROM_DISK,
        Tier::Source(source) => {
            HeaderValue::try_from(format!("estuary; fwd=miss; stored; detail={source}"))
                .unwrap_or(HeaderValue::from_static("estuary; fwd=miss"))
        }
    };
    response.headers_mut().insert(CACHE_STATUS, status);
    if tier == Tier::Memory {
        return response;
    }
    let mut phases = String::with_capacity(96);
    if let Some(took) = trace.path_took() {
        phase(&mut phases, "path", took);
    }
    if let Some(took) = trace.first_block_took() {
        phase(&mut phases, "block", took);
        let source = match tier {
            Tier::Source(source) => source,
            Tier::Disk | Tier::Memory => "disk",
        };
        let _ = write!(phases, ";desc={source}");
    }
    phase(&mut phases, "total", trace.elapsed());
    put(response, phases)
}

/// An answer below a name, whose resolution took so long.
pub(super) fn named(response: Response<Body>, took: Duration) -> Response<Body> {
    let mut phases = String::with_capacity(24);
    phase(&mut phases, "name", took);
    put(response, phases)
}

/// Adds `name;dur=…`, in milliseconds.
fn phase(phases: &mut String, name: &str, took: Duration) {
    if !phases.is_empty() {
        phases.push_str(", ");
    }
    let _ = write!(phases, "{name};dur={:.3}", took.as_secs_f64() * 1e3);
}

fn put(mut response: Response<Body>, phases: String) -> Response<Body> {
    if let Ok(phases) = HeaderValue::try_from(phases) {
        let headers = response.headers_mut();
        headers.append(SERVER_TIMING, phases);
        headers.insert(TIMING_ALLOW_ORIGIN, ANY);
    }
    response
}
