//! A list: read whatever is in it, and a rule that is read blocks what it names.
#![no_main]

use estuary::denylist::List;
use estuary::denylist::line::{self, Verdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let mut told = 0;
    if let Ok(list) = List::read(text, |_, _| told += 1) {
        assert_eq!(list.bad_lines(), told);
    }
    if let Ok(text) = std::str::from_utf8(text)
        && let Some(first) = text.lines().next()
    {
        let gone = line::parse(first, Verdict::Gone);
        let legal = line::parse(first, Verdict::Legal);
        // What lists block never depends on what is answered for it.
        match (gone, legal) {
            (Ok(Some(gone)), Ok(Some(legal))) => {
                assert_eq!((gone.subject, gone.reach), (legal.subject, legal.reach));
            }
            (gone, legal) => assert_eq!(gone.is_err(), legal.is_err()),
        }
    }
});
