//! A CAR in pieces of any size: events or an error, and blocks that are true.
#![no_main]

use bytes::Bytes;
use estuary::ipld::car::{CarEvent, CarReader, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, data) = input;
    let mut reader = CarReader::new(Limits::default());
    for piece in data.chunks(usize::from(piece).max(1)) {
        reader.feed(Bytes::copy_from_slice(piece));
        loop {
            match reader.next() {
                Ok(Some(CarEvent::Block(block))) => drop(block.verify()),
                Ok(Some(CarEvent::Header(_))) => (),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    let _ = reader.finish();
});
