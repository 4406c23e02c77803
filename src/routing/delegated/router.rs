//! One delegated router: what it is asked, and how it fares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::network::{Answer, Client, HttpUrl, Pace, Question};
use crate::provider::RouterError;
use crate::routing::RECORD_BYTES_MAX;

use super::breaker::Breaker;
use super::metrics::Metrics;

/// Questions to one router at once; further ones wait.
const QUESTIONS_MAX: usize = 64;
/// The types of records of providers, the one that can be read as it arrives first.
const PROVIDERS: &str = "application/x-ndjson, application/json;q=0.9";
/// The type of a record of a name.
const RECORD: &str = "application/vnd.ipfs.ipns-record";

/// A router.
pub(super) struct Router {
    url: HttpUrl,
    name: Arc<str>,
    client: Client,
    permits: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    pub(super) metrics: Metrics,
}

/// An answer under way, and the permit it came by.
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Router {
    pub(super) fn new(url: HttpUrl, client: Client, metrics: Metrics) -> Self {
        let (name, permits) = (url.to_string().into(), Arc::new(Semaphore::new(QUESTIONS_MAX)));
        Self { url, name, client, permits, breaker: Mutex::default(), metrics }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, outcome: &str) {
        self.metrics.requests.with_label_values(&[outcome]).inc();
    }

    pub(super) fn answered_from_memory(&self) {
        self.ended("held");
    }

    /// Notes that an answer came to its end.
    pub(super) fn worked(&self, found: bool) {
        self.breaker().worked();
        self.ended(if found { "found" } else { "none" });
    }

    /// Notes that it gave no answer, or only part of one.
    pub(super) fn failed(&self, reason: &str) -> RouterError {
        tracing::debug!(router = %self.name, reason, "a delegated router failed");
        self.breaker().failed(reason, Instant::now());
        self.ended("failed");
        self.error(reason.into())
    }

    fn error(&self, reason: Arc<str>) -> RouterError {
        RouterError { router: Arc::clone(&self.name), reason }
    }

    /// The answer to a question about providers; none where the router knows none.
    pub(super) async fn providers(
        &self,
        path: &str,
        deadline: Instant,
    ) -> Result<Option<Told>, RouterError> {
        self.ask(path, PROVIDERS, None, deadline).await
    }

    /// The record of a name, as it has it.
    pub(super) async fn record(
        &self,
        path: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, RouterError> {
        let Some(told) = self.ask(path, RECORD, None, deadline).await? else { return Ok(None) };
        let answer = told.answer.at_pace(Pace::Until(deadline));
        // One without the record may say so in a text of its own.
        if !answer.content_type().starts_with(RECORD) {
            self.worked(false);
            return Ok(None);
        }
        match answer.bytes(RECORD_BYTES_MAX).await {
            Ok(record) => {
                self.worked(true);
                Ok(Some(record))
            }
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    /// Gives it the record of a name.
    pub(super) async fn put_record(
        &self,
        path: &str,
        record: Bytes,
        deadline: Instant,
    ) -> Result<(), RouterError> {
        let told = self.ask(path, "*/*", Some((RECORD, record)), deadline).await?;
        self.worked(told.is_some());
        told.map(drop).ok_or_else(|| self.error("it does not take records".into()))
    }

    /// Asks. None where the router has not what is asked for.
    async fn ask(
        &self,
        path: &str,
        accept: &'static str,
        put: Option<(&'static str, Bytes)>,
        deadline: Instant,
    ) -> Result<Option<Told>, RouterError> {
        if let Some(why) = self.breaker().rests(Instant::now()) {
            self.ended("resting");
            return Err(self.error(why));
        }
        let permit = Arc::clone(&self.permits).acquire_owned();
        // That others wait for it is no fault of its.
        let Ok(Ok(_permit)) = tokio::time::timeout_at(deadline, permit).await else {
            return Err(self.error("too many questions to it are under way".into()));
        };
        let started = Instant::now();
        let question = Question { url: &self.url, path, accept, put };
        let asked = tokio::time::timeout_at(deadline, self.client.ask(question)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.failed(&error.to_string())),
            Err(_) => return Err(self.failed("it did not answer in time")),
        };
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        let status = answer.status();
        match status {
            status if status.is_success() => Ok(Some(Told { answer, _permit })),
            StatusCode::NOT_FOUND => {
                self.worked(false);
                Ok(None)
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let error = self.failed(&format!("it answered {status}"));
                if let Some(rest) = answer.retry_after() {
                    self.breaker().asked_for_rest(rest, Instant::now());
                }
                Err(error)
            }
            status => Err(self.failed(&format!("it answered {status}"))),
        }
    }
}
