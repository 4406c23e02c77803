//! Small pieces of a body gathered into frames, large ones sent as they are: copying a small piece
//! costs less than writing it by itself.

use bytes::{Buf, Bytes, BytesMut};

/// Largest piece that is copied.
const PIECE_BYTES_MAX: usize = 32 << 10;
/// A frame is sent when it is this large.
const FRAME_BYTES: usize = 64 << 10;

/// What is ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    small: BytesMut,
    /// A piece to be sent after `small`, without being copied.
    large: Option<Bytes>,
}

impl Gathered {
    /// Room for what is written piece by piece, before a piece of `more` bytes.
    pub(super) fn room(&mut self, more: usize) -> &mut BytesMut {
        if more <= PIECE_BYTES_MAX {
            self.small.reserve(FRAME_BYTES + PIECE_BYTES_MAX);
        }
        &mut self.small
    }

    /// Adds a piece. What [`Self::full`] gives must have been taken before.
    pub(super) fn put(&mut self, data: Bytes) {
        if data.len() <= PIECE_BYTES_MAX {
            self.room(data.len()).extend_from_slice(&data);
        } else {
            self.large = Some(data);
        }
    }

    /// The next frame, if there is enough for one.
    pub(super) fn full(&mut self) -> Option<Bytes> {
        if self.small.len() >= FRAME_BYTES || self.large.is_some() {
            self.rest().or_else(|| self.large.take())
        } else {
            None
        }
    }

    /// What there is of small pieces, while more is waited for or after the last.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        (!self.small.is_empty()).then(|| self.small.split().freeze())
    }

    /// Leaves out the first bytes, up to `count`. Says how many there were.
    pub(super) fn skip(&mut self, count: u64) -> u64 {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut skipped = count.min(self.small.len());
        self.small.advance(skipped);
        if let Some(large) = &mut self.large {
            let more = (count - skipped).min(large.len());
            large.advance(more);
            skipped += more;
        }
        self.large.take_if(|large| large.is_empty());
        skipped as u64
    }
}
