//! A path from a request: parsed or refused, and what was parsed is within the limits.
#![no_main]

use estuary::ipld::path::{ContentPath, SEGMENTS_MAX, parse_cid};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(path) = ContentPath::parse(text) {
        assert_eq!(path.original, text);
        assert!(path.segments.len() <= SEGMENTS_MAX);
        assert!(path.segments.iter().all(|segment| !segment.is_empty()));
    }
    if let Ok(cid) = parse_cid(text) {
        assert_eq!(parse_cid(&cid.to_string()), Ok(cid));
    }
});
