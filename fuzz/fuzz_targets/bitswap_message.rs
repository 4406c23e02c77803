//! A Bitswap message: an error, or what is told on gives it back.
#![no_main]

use bytes::Bytes;
use estuary::bitswap::message::{Dialect, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::decode(&Bytes::copy_from_slice(data)) else { return };
    let frame = message.encode(Dialect::V1_2);
    let bytes = frame.pieces.concat();
    assert_eq!(bytes.len(), frame.bytes);
    let head = bytes.iter().position(|byte| byte & 0x80 == 0).map_or(0, |at| at + 1);
    assert_eq!(Message::decode(&Bytes::copy_from_slice(&bytes[head..])), Ok(message));
});
