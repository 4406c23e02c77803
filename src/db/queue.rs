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
    /// Jobs nobody waits for, and when they came.
    later: VecDeque<(Instant, Job)>,
    closed: bool,
}

impl State {
    /// How long the oldest of the jobs nobody waits for may still be put off.
    fn patience(&self) -> Option<Duration> {
        let (since, _) = self.later.front()?;
        Some(Duration::from_millis(LATER_MS_MAX).saturating_sub(since.elapsed()))
    }

    /// The next job: one that was put off long enough, one that somebody waits for, or any.
    fn take(&mut self) -> Option<Job> {
        if self.patience() != Some(Duration::ZERO)
            && let Some(mut job) = self.jobs.pop_front()
        {
            job.room = None;
            return Some(job);
        }
        self.later.pop_front().map(|(_, job)| job)
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
        state.later.push_back((Instant::now(), Job { run, makes_room: false, room: None }));
        drop(state);
        self.changed.notify_one();
        true
    }

    /// The first job of a batch: waits for one that somebody waits for, or until others were put
    /// off long enough. None once the queue is closed and empty.
    pub(super) fn first(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            let patience = state.patience();
            if state.closed || patience == Some(Duration::ZERO) || !state.jobs.is_empty() {
                return state.take();
            }
            state = match patience {
                Some(patience) => {
                    let waited = self.changed.wait_timeout(state, patience);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A job that says its name when it is refused.
    fn named(name: &'static str, said: &Sender<&'static str>) -> Run {
        let said = said.clone();
        Box::new(move |_| {
            said.send(name).unwrap();
            Ran { keep: false, answer: Box::new(|_| ()) }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_off_long_enough_goes_before_what_somebody_waits_for() {
        let queue = Queue::new();
        let (said, heard) = channel();
        assert!(queue.push_later(named("old", &said)));
        tokio::time::advance(Duration::from_millis(LATER_MS_MAX)).await;
        assert!(queue.push_later(named("new", &said)));
        queue.push(named("waited for", &said), false).await.unwrap();
        queue.first().unwrap().refuse(Error::Panicked);
        while let Some(job) = queue.another() {
            job.refuse(Error::Panicked);
        }
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["old", "waited for", "new"]);
        queue.close();
        assert!(queue.first().is_none());
        assert!(!queue.push_later(named("late", &said)));
    }
}
