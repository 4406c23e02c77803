use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::block::Cid;

use super::search::Search;

/// What one request brings along on its way through retrieval. A clone is the same session.
#[derive(Debug, Clone)]
pub struct Session {
    deadline: Instant,
    local_only: bool,
    request: Arc<Request>,
}

/// What the clones of a session share.
struct Request {
    trace: Trace,
    /// What its content belongs to.
    root: OnceLock<Cid>,
    /// What goes beyond memory and disk, from the first block on that neither has.
    search: OnceLock<Arc<Search>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.trace.fmt(f)
    }
}

impl Session {
    /// A session that ends at `deadline`.
    #[must_use]
    pub fn new(deadline: Instant) -> Self {
        let request =
            Request { trace: Trace::new(), root: OnceLock::new(), search: OnceLock::new() };
        Self { deadline, local_only: false, request: Arc::new(request) }
    }

    /// The same, but no source is asked: memory and disk only (`only-if-cached`).
    #[must_use]
    pub fn local_only(self) -> Self {
        Self { local_only: true, ..self }
    }

    /// The same, for content below this root: where a block has no providers of its own, those of
    /// the root are asked, and its bytes are counted for the root. The first root counts.
    #[must_use]
    pub fn below(self, root: &Cid) -> Self {
        let _ = self.request.root.set(*root);
        self
    }

    /// What its content belongs to, where that is known.
    #[must_use]
    pub fn root(&self) -> Option<&Cid> {
        self.request.root.get()
    }

    /// When the request no longer waits for anything.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether no source may be asked.
    #[must_use]
    pub fn is_local_only(&self) -> bool {
        self.local_only
    }

    /// What was found, where, and how long that took.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.request.trace
    }

    /// The request's sessions with the sources, which `open` opens where that was not done.
    pub(super) fn search(&self, open: impl FnOnce() -> Arc<Search>) -> &Arc<Search> {
        self.request.search.get_or_init(open)
    }
}

/// The way of one request through retrieval so far, for whoever tells the client.
#[derive(Debug)]
pub struct Trace {
    began: Instant,
    /// Whether a block was read from disk.
    disk: AtomicBool,
    /// The source that gave a block, the first of them.
    source: OnceLock<&'static str>,
    /// When the path was walked and when the first block was there, in microseconds from the
    /// beginning; 0 where that has not come.
    walked: AtomicU64,
    first_block: AtomicU64,
}

/// The farthest place that a request's blocks came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The blocks were in memory.
    Memory,
    /// Some came from disk.
    Disk,
    /// Some came from this source.
    Source(&'static str),
}

impl Trace {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            disk: AtomicBool::new(false),
            source: OnceLock::new(),
            walked: AtomicU64::new(0),
            first_block: AtomicU64::new(0),
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn found_on_disk(&self) {
        self.disk.store(true, Ordering::Relaxed);
        self.found();
    }

    pub(super) fn found_at(&self, source: &'static str) {
        let _ = self.source.set(source);
        self.found();
    }

    /// Notes that the first block that was not in memory is there.
    fn found(&self) {
        if self.first_block.load(Ordering::Relaxed) == 0 {
            self.first_block.store(self.micros(), Ordering::Relaxed);
        }
    }

    /// Notes that it is known what the path leads to.
    pub fn walked(&self) {
        self.walked.store(self.micros(), Ordering::Relaxed);
    }

    /// The farthest place that blocks came from.
    #[must_use]
    pub fn tier(&self) -> Tier {
        match self.source.get() {
            Some(source) => Tier::Source(source),
            None if self.disk.load(Ordering::Relaxed) => Tier::Disk,
            None => Tier::Memory,
        }
    }

    /// From the beginning to the end of the path, where there was one to walk.
    #[must_use]
    pub fn path_took(&self) -> Option<Duration> {
        duration(&self.walked)
    }

    /// From the beginning to the first block that was not in memory.
    #[must_use]
    pub fn first_block_took(&self) -> Option<Duration> {
        duration(&self.first_block)
    }

    /// From the beginning to now.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

fn duration(micros: &AtomicU64) -> Option<Duration> {
    let micros = micros.load(Ordering::Relaxed);
    (micros > 0).then(|| Duration::from_micros(micros))
}
