//! An endpoint: one server, what is known of it, and how much is asked of it at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, MutexGuard as AsyncMutexGuard, Semaphore, SemaphorePermit};

use crate::network::HttpUrl;

use super::health::Health;

/// Requests to one endpoint at once over HTTP/2; further ones wait.
const REQUESTS_MAX: usize = 64;
/// What a request over HTTP/1.1 counts for, which takes a connection: 8 at once.
const HTTP1_WEIGHT: u32 = 8;

/// A server of blocks.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: HttpUrl,
    health: Mutex<Health>,
    permits: Semaphore,
    /// Held by the first request, until it is known how many can follow.
    first: tokio::sync::Mutex<()>,
}

/// Leave to ask.
pub(super) struct Permit<'a> {
    _permit: SemaphorePermit<'a>,
    _first: Option<AsyncMutexGuard<'a, ()>>,
}

impl Endpoint {
    pub(super) fn new(url: HttpUrl) -> Self {
        let permits = Semaphore::new(REQUESTS_MAX);
        Self { url, health: Mutex::default(), permits, first: tokio::sync::Mutex::default() }
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for leave to ask. One request goes alone until the endpoint has answered, so that no
    /// more than one connection is begun before it is known whether one is enough.
    pub(super) async fn permit(&self) -> Result<Permit<'_>, AcquireError> {
        let mut first = None;
        if self.health().http2().is_none() {
            first = Some(self.first.lock().await);
            if self.health().http2().is_some() {
                first = None;
            }
        }
        let weight = if self.health().http2() == Some(false) { HTTP1_WEIGHT } else { 1 };
        Ok(Permit { _permit: self.permits.acquire_many(weight).await?, _first: first })
    }

    /// How long a block from here takes about, with what is under way.
    pub(super) fn cost(&self) -> Duration {
        let busy = REQUESTS_MAX.saturating_sub(self.permits.available_permits());
        let expected = self.health().expected();
        expected + expected * busy as u32 / REQUESTS_MAX as u32
    }
}
