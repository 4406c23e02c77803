//! A name: an error, or one whose own text gives it back; the same for what names stand for.
#![no_main]

use estuary::routing::{Name, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = Name::parse(text) {
        assert_eq!(Name::parse(&name.to_string()).expect("it is a name"), name);
    }
    if let Ok(value) = Value::parse(text) {
        assert_eq!(Value::parse(&value.to_string()), Ok(value));
    }
});
