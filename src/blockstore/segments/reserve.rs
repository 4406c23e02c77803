//! Disk space set aside ahead of a stream of large appends, so that the file system neither looks for
//! it block by block nor has to when the bytes are written back.
//!
//! A file is not longer for it, so nothing is read from what was set aside. It is given back when
//! the segment is full or the store is closed; after a crash, when it is opened.

use std::fs::{File, Metadata};

use super::{Segments, Tail};
use crate::blockstore::disk::taken_bytes;

/// How far ahead space is set aside, in bytes.
const AHEAD_BYTES: u32 = 32 << 20;
/// Smaller appends are no stream, and set nothing aside, in bytes.
const APPEND_BYTES_MIN: u32 = 1 << 20;
/// What a file may take beyond its length without anything being left of a reserve: file systems
/// round, and note where the bytes are, in bytes.
const ROUNDED_BYTES_MAX: u64 = 1 << 20;

impl Segments {
    /// Sees to it that there is room for these bytes at `end`, and some ahead. A wish: where the file
    /// system cannot, or the disk is nearly full, the bytes are written all the same.
    pub(super) fn reserve(&self, tail: &mut Tail, file: &File, end: u32, bytes: u32) {
        let wanted = end.saturating_add(bytes);
        let plenty = self.free_bytes_min.saturating_mul(2).saturating_add(AHEAD_BYTES.into());
        if wanted <= tail.reserved || bytes < APPEND_BYTES_MIN || tail.free_bytes < plenty {
            return;
        }
        let until = wanted.saturating_add(AHEAD_BYTES).min(self.sizes.segment_bytes_max);
        let from = tail.reserved.max(end);
        if until > from {
            let reserved = self.disk.reserve(file, from.into(), (until - from).into());
            if let Err(error) = reserved {
                tracing::debug!(%error, "no space can be set aside");
            }
            // Not asked again for these bytes where it cannot be done.
            tail.reserved = until;
        }
    }

    /// Gives back what is set aside and not written to. What cannot be given back now is when the
    /// store is opened.
    pub(super) fn give_back(&self, tail: &mut Tail) {
        let Some((id, file)) = &tail.active else { return };
        let end = self.read_slots().get(id).map_or(0, |slot| slot.end);
        if tail.reserved > end {
            self.disk.cut(*id, file, end.into()).ok();
            tail.reserved = end;
        }
    }

    /// As [`Segments::give_back`], when nothing more is written. Blocks.
    pub(in crate::blockstore) fn close(&self) {
        self.give_back(&mut self.lock_tail());
    }
}

/// Whether a process that ended early left space set aside behind this end of a file.
pub(super) fn is_left(file: &Metadata, end: u32) -> bool {
    taken_bytes(file) > u64::from(end) + ROUNDED_BYTES_MAX
}
