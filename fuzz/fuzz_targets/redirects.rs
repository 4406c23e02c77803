//! A `_redirects` file and a path, with a NUL between: read or refused, and what a rule leads to is
//! short, fit for a header, and on the site unless the rule names another.
#![no_main]

use estuary::gateway::redirects::{Answer, Rules, TARGET_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (path, file) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(0));
    let path = String::from_utf8_lossy(path);
    let names: Vec<String> = path.split('/').map(str::to_owned).collect();
    let Ok(rules) = Rules::parse(file.get(1..).unwrap_or_default()) else { return };
    if let Ok(Some(found)) = rules.find(&names) {
        assert!(found.target.len() <= TARGET_BYTES_MAX);
        assert!(found.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
        if !matches!(found.answer, Answer::Redirect(_)) {
            assert!(found.target.starts_with('/') && !found.target.starts_with("//"));
        }
    }
});
