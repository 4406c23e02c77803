//! The one writer: takes jobs from the queue and commits them in batches.
//!
//! **Invariant:** a job is told of success only after its batch is durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::backend::Failure;
use super::file::Opener;
use super::queue::{Answer, Job, Queue, Ran, Run};
use super::redb::{Engine, View};
use super::{Error, Metrics, State, Transaction};
use crate::block::StoreError;

/// Jobs committed together at most.
pub(super) const BATCH_JOBS_MAX: usize = 256;
/// How long jobs of one batch run before it is committed, in milliseconds.
pub(super) const BATCH_MS_MAX: u64 = 50;

/// The tables as of the last commit, for readers; an error once there are none.
pub(super) struct Published(RwLock<Result<Arc<View>, Error>>);

impl Published {
    pub(super) fn new(view: View) -> Self {
        Self(RwLock::new(Ok(Arc::new(view))))
    }

    pub(super) fn get(&self) -> Result<Arc<View>, Error> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, view: Result<View, Error>) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *held, view.map(Arc::new));
        drop(held);
        // Gives its pages back to the next commit.
        drop(old);
    }
}

/// The writer's state.
pub(super) struct Writer {
    /// What opens the engine anew; holds the lock.
    pub(super) opener: Opener,
    pub(super) engine: Engine,
    pub(super) queue: Arc<Queue>,
    pub(super) published: Arc<Published>,
    pub(super) metrics: Metrics,
}

impl Writer {
    /// Commits jobs until the queue is closed and empty, then closes the file.
    pub(super) fn run(self) -> Result<(), Error> {
        let queue = Arc::clone(&self.queue);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work()));
        // However it ended: nobody may wait for a writer that is gone.
        queue.close();
        while let Some(job) = queue.another() {
            job.refuse(StoreError::Closed.into());
        }
        outcome.unwrap_or_else(|_| Err(StoreError::Io("the writer panicked".into()).into()))
    }

    fn work(mut self) -> Result<(), Error> {
        while let Some(first) = self.queue.first() {
            self.batch(first);
        }
        self.published.set(Err(StoreError::Closed.into()));
        self.engine.close()
    }

    /// Runs jobs until there is none, or enough of them, and commits.
    fn batch(&mut self, first: Job) {
        let started = Instant::now();
        self.reopen();
        if let Some(error) = self.engine.backend().error() {
            return first.refuse(error.into());
        }
        let full = self.full();
        let mut next = Some(first);
        let mut answers: Vec<Answer> = Vec::new();
        let mut outcome = self.engine.transact(|writing| {
            while let Some(job) = next.take() {
                match &full {
                    Some(full) if !job.makes_room => job.refuse(full.clone().into()),
                    _ => {
                        let mut transaction = Transaction::new(writing);
                        let Ran { keep, answer } = job.run(&mut transaction);
                        let overlay = transaction.into_overlay();
                        // Whatever becomes of its changes, it is answered.
                        answers.push(answer);
                        if keep {
                            writing.apply(overlay)?;
                        }
                    }
                }
                let enough = answers.len() >= BATCH_JOBS_MAX
                    || started.elapsed() >= Duration::from_millis(BATCH_MS_MAX);
                next = if enough { None } else { self.queue.another() };
            }
            Ok(())
        });
        // The disk may have run full after the commit was durable, or before.
        let commit = self.engine.commit();
        if outcome.is_err() && self.reopen() && self.engine.commit() > commit {
            outcome = Ok(true);
        }
        if let Ok(true) = outcome {
            self.published.set(self.engine.view());
            self.metrics.commits.inc();
            self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        }
        self.metrics.jobs.inc_by(answers.len() as u64);
        self.tell_state();
        let outcome = outcome.map(drop);
        if let (Some(job), Err(error)) = (next, &outcome) {
            job.refuse(error.clone());
        }
        for answer in answers {
            answer(outcome.clone());
        }
    }

    /// That the disk is full, if there is no reserve and it cannot be made.
    fn full(&self) -> Option<StoreError> {
        let reserve = self.engine.backend().reserve();
        (!reserve.ensure()).then(|| StoreError::Full { available_bytes: reserve.available_bytes() })
    }

    /// After a commit that failed because the disk was full, opens the engine anew, with the last
    /// commit that is durable. Where that fails, readers keep what they have. Whether it was done.
    fn reopen(&mut self) -> bool {
        let backend = self.engine.backend();
        if !matches!(backend.failure(), Some(Failure::Full)) {
            return false;
        }
        let opened = self.engine.give_back().and_then(|()| self.opener.engine());
        match opened.and_then(|engine| Ok((engine.view()?, engine))) {
            Ok((view, engine)) => {
                self.published.set(Ok(view));
                backend.retire();
                self.engine = engine;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the disk is full, and the database cannot be opened anew yet");
                false
            }
        }
    }

    fn tell_state(&self) {
        let backend = self.engine.backend();
        let state = match (backend.failure(), backend.reserve().is_held()) {
            (Some(_), _) => State::ReadOnly,
            (None, false) => State::Full,
            (None, true) => State::Writable,
        };
        self.metrics.state.set(state as i64);
        let bytes = backend.len().unwrap_or(0);
        self.metrics.file_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// Makes a job of a closure: what it returns goes to `answer` once its fate is known.
pub(super) fn job<T, E>(
    job: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    answer: impl FnOnce(Result<T, E>) + Send + 'static,
) -> Run
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    Box::new(move |transaction| {
        let outcome = transaction.map_err(E::from).and_then(|transaction| {
            catch_unwind(AssertUnwindSafe(|| job(transaction)))
                .unwrap_or_else(|_| Err(E::from(Error::Panicked)))
        });
        let keep = outcome.is_ok();
        let answer = Box::new(move |committed: Result<(), Error>| {
            // What a job saw in a transaction that then failed says nothing, not even its error.
            answer(committed.map_err(E::from).and(outcome));
        });
        Ran { keep, answer }
    })
}
