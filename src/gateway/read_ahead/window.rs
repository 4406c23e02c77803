//! How far ahead of its reader a response is fetched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Blocks under way or waiting when something first has to be waited for, doubled before it counts:
/// many who open a file leave after its beginning.
const BLOCKS_FIRST: usize = 4;
/// Fewest, however slow the reader is.
const BLOCKS_MIN: usize = 4;
/// Most, however small they are.
const BLOCKS_MAX: usize = 256;
/// Most bytes of one response under way or waiting, reckoned with the largest of late.
const BYTES_MAX: usize = 16 << 20;
/// Most bytes of all responses together; beyond it each has [`BLOCKS_MIN`].
const BYTES_MAX_OF_ALL: usize = 256 << 20;
/// A block that took longer than this has waited for those before it: more of them help nobody.
const LONG: Duration = Duration::from_secs(2);

/// The window of one response: it grows while the reader waits and the source keeps up, and shrinks
/// when the reader is slower than the source.
#[derive(Debug)]
pub(super) struct Window {
    blocks: usize,
    /// The largest block of late, in bytes.
    block_bytes: usize,
    /// How long the last block took.
    took: Duration,
    /// What this one is reckoned with in `of_all`, in bytes.
    reckoned: usize,
    of_all: Arc<AtomicUsize>,
}

impl Window {
    pub(super) fn new(of_all: Arc<AtomicUsize>) -> Self {
        let took = Duration::ZERO;
        Self { blocks: BLOCKS_FIRST, block_bytes: 1, took, reckoned: 0, of_all }
    }

    /// Blocks that may be under way or waiting.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Whether one more may be asked for.
    pub(super) fn has_room(&self, under_way: usize, arrived_bytes: usize) -> bool {
        let elsewhere = self.of_all.load(Ordering::Relaxed).saturating_sub(self.reckoned);
        let bytes_max = BYTES_MAX.min(BYTES_MAX_OF_ALL.saturating_sub(elsewhere));
        under_way < BLOCKS_MIN || arrived_bytes + (under_way + 1) * self.block_bytes <= bytes_max
    }

    /// Whether so many bytes that have come are too many to be held.
    pub(super) fn is_over(&self, arrived_bytes: usize) -> bool {
        arrived_bytes > BYTES_MAX
    }

    /// The reader waits.
    pub(super) fn waited(&mut self) {
        if self.took < LONG {
            self.blocks = (self.blocks * 2).min(BLOCKS_MAX);
        }
    }

    /// More is asked for although nobody waits.
    pub(super) fn looked(&mut self, under_way: usize, asked: usize) {
        if under_way * 4 < asked {
            self.blocks = (self.blocks * 3 / 4).max(BLOCKS_MIN);
        }
    }

    /// A block came.
    pub(super) fn came(&mut self, bytes: usize, took: Duration) {
        self.block_bytes = bytes.max(self.block_bytes - self.block_bytes / 8).max(1);
        self.took = took;
        if took >= LONG * 2 {
            self.blocks = (self.blocks * 7 / 8).max(BLOCKS_MIN);
        }
    }

    /// Reckons what is held with what all others hold.
    pub(super) fn holds(&mut self, under_way: usize, arrived_bytes: usize) {
        let now = arrived_bytes + under_way * self.block_bytes;
        if now >= self.reckoned {
            self.of_all.fetch_add(now - self.reckoned, Ordering::Relaxed);
        } else {
            self.of_all.fetch_sub(self.reckoned - now, Ordering::Relaxed);
        }
        self.reckoned = now;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.reckoned, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(Arc::default())
    }

    #[test]
    fn it_grows_while_the_reader_waits_and_the_source_keeps_up() {
        let mut window = window();
        let sizes = [8, 16, 32, 64, 128, 256, 256];
        for blocks in sizes {
            window.waited();
            assert_eq!(window.blocks(), blocks);
        }
        // The source is what is slow.
        window.came(1000, Duration::from_secs(5));
        window.waited();
        assert_eq!(window.blocks(), 224);
    }

    #[test]
    fn it_shrinks_when_what_was_asked_for_lies_there() {
        let mut window = window();
        (0..6).for_each(|_| window.waited());
        (0..3).for_each(|_| window.looked(100, 128));
        assert_eq!(window.blocks(), 256);
        (0..40).for_each(|_| window.looked(10, 128));
        assert_eq!(window.blocks(), BLOCKS_MIN);
    }

    #[test]
    fn it_counts_bytes_with_the_largest_block_of_late() {
        let mut window = window();
        window.came(256 << 10, Duration::ZERO);
        assert!(window.has_room(63, 0) && !window.has_room(64, 0));
        assert!(!window.has_room(32, 9 << 20) && window.has_room(BLOCKS_MIN - 1, 16 << 20));
        (0..64).for_each(|_| window.came(16 << 10, Duration::ZERO));
        assert!(window.has_room(255, 0), "what was large is forgotten");
        assert!(window.is_over(17 << 20) && !window.is_over(16 << 20));
    }

    #[test]
    fn all_together_have_a_budget_and_give_it_back() {
        let of_all = Arc::new(AtomicUsize::new(0));
        let mut windows: Vec<Window> = (0..40).map(|_| Window::new(Arc::clone(&of_all))).collect();
        for window in &mut windows {
            window.came(1 << 20, Duration::ZERO);
            let mut under_way = 0;
            while window.has_room(under_way, 0) {
                under_way += 1;
                window.holds(under_way, 0);
            }
            assert!(under_way >= BLOCKS_MIN);
        }
        let most = BYTES_MAX_OF_ALL + ((40 * BLOCKS_MIN) << 20);
        assert!(of_all.load(Ordering::Relaxed) <= most);
        drop(windows);
        assert_eq!(of_all.load(Ordering::Relaxed), 0);
    }
}
