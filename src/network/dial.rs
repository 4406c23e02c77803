//! Connecting with a host: every address of its name is checked, and the one that was checked is
//! the one that is connected with.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::dial_limits::DialLimits;
use super::http_url::Host;
use super::{Error, Guard};

/// Addresses of one name that are looked at.
const ANSWERS_MAX: usize = 16;
/// Addresses of one name that are dialled, at most.
const ATTEMPTS_MAX: usize = 4;
/// How long one of them is tried before the next is, too (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Names that are looked up at once, each on a thread of its own.
const LOOKUPS_MAX: usize = 32;

/// Finds the addresses of a name.
pub(super) type Resolver =
    Arc<dyn Fn(&str, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Connects.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) guard: Guard,
    pub(super) resolver: Resolver,
    /// None where the operator named whom to dial.
    pub(super) limits: Option<Arc<Mutex<DialLimits>>>,
}

impl Dialer {
    /// A connection with the first of the host's addresses that takes one.
    pub(super) async fn connect(
        &self,
        host: &Host,
        port: u16,
    ) -> Result<(TcpStream, SocketAddr), Error> {
        let (answers, name): (_, Arc<str>) = match host {
            Host::Ip(ip) => (vec![SocketAddr::new(*ip, port)], ip.to_string().into()),
            Host::Name(name) => {
                let answers = (self.resolver)(name, port).await;
                let answers = answers.map_err(|error| {
                    Error::Unresolved(name.as_ref().into(), error.to_string().into())
                })?;
                (answers, name.as_ref().into())
            }
        };
        let answers = answers.into_iter().take(ANSWERS_MAX);
        let allowed: Vec<_> = answers.filter(|address| self.guard.allows(address.ip())).collect();
        if allowed.is_empty() {
            return Err(Error::Forbidden(name));
        }
        let mut attempts: FuturesUnordered<_> = (0..)
            .zip(allowed.into_iter().take(ATTEMPTS_MAX))
            .map(|(place, address)| async move {
                tokio::time::sleep(ATTEMPT_DELAY * place).await;
                (address, self.attempt(address).await)
            })
            .collect();
        let mut why = None;
        while let Some((address, outcome)) = attempts.next().await {
            match outcome {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => why = why.or(error),
            }
        }
        Err(why.map_or(Error::Resting(name), |error| Error::Unreachable(error.to_string().into())))
    }

    /// Dials one address; no error where it is left alone.
    async fn attempt(&self, address: SocketAddr) -> Result<TcpStream, Option<io::Error>> {
        if !self.limit(|limits| limits.may_dial(address, Instant::now())).unwrap_or(true) {
            return Err(None);
        }
        let connected = TcpStream::connect(address).await;
        if connected.is_err() {
            self.limit(|limits| limits.failed(address));
        }
        let stream = connected?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(super) fn limit<T>(&self, act: impl FnOnce(&mut DialLimits) -> T) -> Option<T> {
        let limits = self.limits.as_ref()?;
        Some(act(&mut limits.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Asks the system. Whoever no longer waits for an answer does not make room for another question
/// before it has come, so that slow names take a bounded number of threads.
pub(super) fn system_resolver() -> Resolver {
    let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
    Arc::new(move |name, port| {
        let (lookups, name) = (Arc::clone(&lookups), name.to_owned());
        Box::pin(async move {
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = move || {
                let _permit = permit;
                // With a dot at its end it is not looked for below the domains of this machine.
                let name = if name.contains('.') { format!("{name}.") } else { name };
                Ok((name.as_str(), port).to_socket_addrs()?.take(ANSWERS_MAX).collect())
            };
            tokio::task::spawn_blocking(lookup).await.map_err(io::Error::other)?
        })
    })
}
