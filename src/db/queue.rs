//! Jobs on their way to the writer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Error, Transaction};
use crate::block::StoreError;

/// Jobs that wait for the writer at most; further writers wait for room.
pub(super) const QUEUE_JOBS_MAX: usize = 1024;
/// Jobs nobody waits for that are kept at most; further ones are dropped.
pub(super) const LATER_JOBS_MAX: usize = 4096;
/// How long a job nobody waits for is put off at most, in milliseconds.
pub(super) const LATER_MS_MAX: u64 = 500;

/// Tells whoever waits how the commit went.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What a job came to.
pub(super) struct Ran {
    /// Whether its changes are wanted.
    pub(super) keep: bool,
    pub(super) answer: Answer,
}

/// A job: runs in a transaction, or hears why it cannot.
pub(super) type Run = Box<dyn FnOnce(Result<&mut Transaction<'_>, Error>) -> Ran + Send>;

/// A job in the queue.
pub(super) struct Job {
    run: Run,
    /// Whether it runs on a full disk as well.
    pub(super) makes_room: bool,
    /// Its place in the queue.
    room: Option<OwnedSemaphorePermit>,
}

impl Job {
    pub(super) fn run(self, transaction: &mut Transaction<'_>) -> Ran {
        (self.run)(Ok(transaction))
    }

    /// Does not run it, and says why.
    pub(super) fn refuse(self, error: Error) {
        let ran = (self.run)(Err(error.clone()));
        (ran.answer)(Err(error));
    }
}

/// The queue between writers and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    later: VecDeque<Job>,
    /// When the oldest of `later` came.
    later_since: Option<Instant>,
    closed: bool,
}

impl State {
    fn take(&mut self) -> Option<Job> {
        if let Some(mut job) = self.jobs.pop_front() {
            job.room = None;
            return Some(job);
        }
        let job = self.later.pop_front();
        if self.later.is_empty() {
            self.later_since = None;
        }
        job
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            room: Arc::new(Semaphore::new(QUEUE_JOBS_MAX)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job in, once there is room.
    pub(super) async fn push(&self, run: Run, makes_room: bool) -> Result<(), Error> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let mut state = self.state();
        if state.closed {
            return Err(StoreError::Closed.into());
        }
        state.jobs.push_back(Job { run, makes_room, room: Some(room) });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Puts a job in that can be put off. False when there is no room.
    pub(super) fn push_later(&self, run: Run) -> bool {
        let mut state = self.state();
        if state.closed || state.later.len() >= LATER_JOBS_MAX {
            return false;
        }
        state.later.push_back(Job { run, makes_room: false, room: None });
        state.later_since.get_or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_one();
        true
    }

    /// The first job of a batch: waits for one that somebody waits for, or until others were put
    /// off long enough. None once the queue is closed and empty.
    pub(super) fn first(&self) -> Option<Job> {
        let patience = Duration::from_millis(LATER_MS_MAX);
        let mut state = self.state();
        loop {
            let put_off = state.later_since.map(|since| since.elapsed());
            let due = put_off.is_some_and(|put_off| put_off >= patience);
            if state.closed || due || !state.jobs.is_empty() {
                return state.take();
            }
            state = match put_off {
                Some(put_off) => {
                    let left = patience.saturating_sub(put_off);
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// A further job of the batch, if there is one.
    pub(super) fn another(&self) -> Option<Job> {
        self.state().take()
    }

    /// Takes no more jobs.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.room.close();
        self.changed.notify_all();
    }
}
