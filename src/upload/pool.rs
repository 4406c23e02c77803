//! Hashing on all cores: how many jobs run at once, and how many bytes may be under way.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// Bytes of all uploads together that are hashed or wait to be written.
const UNDER_WAY_BYTES_MAX: usize = 48 << 20;
/// What one permit stands for, in bytes.
const PERMIT_BYTES: usize = 1 << 10;
/// Jobs beyond the number of cores, so that a core that is done finds the next one ready.
const JOBS_READY: usize = 1;

/// Where hashing happens. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    memory: Arc<Semaphore>,
    cores: Arc<Semaphore>,
}

/// A share of the memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Memory(Option<OwnedSemaphorePermit>);

impl Memory {
    /// No memory yet.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Whether it holds any.
    pub(super) fn is_held(&self) -> bool {
        self.0.is_some()
    }

    /// Takes another share in.
    pub(super) fn merge(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(permit), Some(more)) => permit.merge(more),
            (none, more) => *none = more,
        }
    }
}

/// A job under way, and the memory that what it makes will take.
#[derive(Debug)]
pub(super) struct Job<T> {
    outcome: JoinHandle<T>,
    memory: Memory,
}

impl<T> Job<T> {
    /// Waits for the outcome; `None` where the job was lost, as at a shutdown.
    pub(super) async fn outcome(self) -> Option<(T, Memory)> {
        Some((self.outcome.await.ok()?, self.memory))
    }
}

impl Pool {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            memory: Arc::new(Semaphore::new(UNDER_WAY_BYTES_MAX / PERMIT_BYTES)),
            cores: Arc::new(Semaphore::new(cores + JOBS_READY)),
        }
    }

    /// Starts a job over so many bytes as soon as there is memory and a core for it.
    pub(super) async fn start<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Job<T> {
        let memory = self.memory(bytes).await;
        // The semaphore is never closed.
        let core = Arc::clone(&self.cores).acquire_owned().await.ok();
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = job();
            drop(core);
            outcome
        });
        Job { outcome, memory }
    }

    /// Waits for a share of the memory, at most all of it.
    pub(super) async fn memory(&self, bytes: usize) -> Memory {
        let permits = bytes.min(UNDER_WAY_BYTES_MAX).div_ceil(PERMIT_BYTES) as u32;
        Memory(Arc::clone(&self.memory).acquire_many_owned(permits).await.ok())
    }
}
