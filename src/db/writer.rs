//! The one writer: takes jobs from the queue and commits them in batches.
//!
//! **Invariant:** a job is told of success only after its batch is durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Answer, Job, Queue, Ran, Run};
use super::redb::{Engine, View, Writing};
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

    fn work(self) -> Result<(), Error> {
        while let Some(first) = self.queue.first() {
            match self.ready() {
                Ok(()) => self.batch(first),
                Err(error) => first.refuse(error),
            }
        }
        self.published.set(Err(StoreError::Closed.into()));
        self.engine.close()
    }

    /// Whether there is a point in beginning a batch.
    fn ready(&self) -> Result<(), Error> {
        let backend = self.engine.backend();
        if let Some(reason) = backend.failure() {
            self.metrics.state.set(State::ReadOnly as i64);
            return Err(StoreError::ReadOnly(reason).into());
        }
        if !backend.reserve().ensure() {
            self.metrics.state.set(State::Full as i64);
            let available_bytes = backend.reserve().available_bytes();
            return Err(StoreError::Full { available_bytes }.into());
        }
        self.metrics.state.set(State::Writable as i64);
        Ok(())
    }

    /// Runs jobs until there is none, or enough of them, and commits.
    fn batch(&self, first: Job) {
        let started = Instant::now();
        let mut first = Some(first);
        let mut answers: Vec<Answer> = Vec::new();
        let mut broken = None;
        let outcome = self.engine.transact(|writing| {
            while let Some(job) = first.take().or_else(|| {
                let enough = answers.len() >= BATCH_JOBS_MAX
                    || started.elapsed() >= Duration::from_millis(BATCH_MS_MAX);
                if enough { None } else { self.queue.another() }
            }) {
                match run(job, writing) {
                    (answer, Ok(())) => answers.push(answer),
                    (answer, Err(error)) => {
                        answers.push(answer);
                        broken = Some(error);
                        break;
                    }
                }
            }
            broken.clone().map_or(Ok(()), Err)
        });
        self.committed(started, answers.len(), &outcome);
        let outcome = outcome.map(drop);
        if let (Some(job), Err(error)) = (first, &outcome) {
            job.refuse(error.clone());
        }
        for answer in answers {
            answer(outcome.clone());
        }
    }

    /// Shows readers what was committed.
    fn committed(&self, started: Instant, jobs: usize, outcome: &Result<bool, Error>) {
        self.metrics.jobs.inc_by(jobs as u64);
        match outcome {
            Ok(true) => {
                self.published.set(self.engine.view());
                self.metrics.commits.inc();
                self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                let bytes = self.engine.backend().len().unwrap_or(0);
                self.metrics.file_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            Ok(false) => {}
            // Readers keep the last commit.
            Err(_) => {}
        }
        let backend = self.engine.backend();
        self.metrics.state.set(match (backend.failure(), backend.reserve().is_held()) {
            (Some(_), _) => State::ReadOnly,
            (None, false) => State::Full,
            (None, true) => State::Writable,
        } as i64);
    }
}

/// Runs one job and makes its changes part of the transaction. The error is the engine's.
fn run(job: Job, writing: &mut Writing<'_>) -> (Answer, Result<(), Error>) {
    let mut transaction = Transaction::new(writing);
    let Ran { keep, answer } = job.run(&mut transaction);
    let overlay = transaction.into_overlay();
    let applied = if keep { writing.apply(overlay) } else { Ok(()) };
    (answer, applied)
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
