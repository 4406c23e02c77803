//! Names of hosts, in the configuration and as labels: read or refused, and domains come back as
//! they were from being inlined.
#![no_main]

use estuary::gateway::HostPattern;
use estuary::gateway::hostname::label::{from_inlined, inlined};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pattern) = text.parse::<HostPattern>() {
        let again: HostPattern = String::from(pattern.clone()).parse().unwrap();
        assert_eq!(again, pattern);
        assert!(pattern.matches(text) || text.contains('*'));
    }
    if let Some((pattern, name)) = text.split_once(' ')
        && let Ok(pattern) = pattern.parse::<HostPattern>()
    {
        let _ = pattern.matches(name);
    }
    // No label is empty, and none begins with a hyphen.
    if !text.contains("..") && !text.contains(".-") {
        assert_eq!(from_inlined(&inlined(text)), text);
    }
});
