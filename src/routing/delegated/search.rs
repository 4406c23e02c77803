//! One router's answer about providers, given as it arrives, and kept for whoever asks next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::Instant;

use crate::block::Mh;
use crate::network::Pace;
use crate::provider::{Provider, RouterError};

use super::HELD_S;
use super::lines::Lines;
use super::record;
use super::router::{Router, Told};

/// Most records of one answer that are read.
const RECORDS_MAX: usize = 1_000;
/// Most bytes of one answer that are read.
const BODY_BYTES_MAX: usize = 4 << 20;
/// For how long an answer that names nobody is used again, in seconds.
const EMPTY_S: u64 = 15;
/// What a provider takes beside its addresses, in bytes, about.
const PROVIDER_BYTES: usize = 160;

/// Answers, by the router's place and what was asked for.
pub(super) type Held = moka::sync::Cache<(usize, Mh), Kept>;

/// An answer that came to its end.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    until: Instant,
    providers: Arc<[Provider]>,
}

impl Kept {
    fn new(providers: Vec<Provider>) -> Self {
        let seconds = if providers.is_empty() { EMPTY_S } else { HELD_S };
        Self { until: Instant::now() + Duration::from_secs(seconds), providers: providers.into() }
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        now < self.until
    }

    pub(super) fn weight(&self) -> u32 {
        let addresses =
            |provider: &Provider| provider.addresses.iter().map(|at| at.len() + 32).sum::<usize>();
        let bytes =
            self.providers.iter().map(|each| PROVIDER_BYTES + addresses(each)).sum::<usize>();
        u32::try_from(PROVIDER_BYTES + bytes).unwrap_or(u32::MAX)
    }

    pub(super) fn providers(self) -> impl Stream<Item = Result<Provider, RouterError>> {
        let count = self.providers.len();
        stream::iter((0..count).map(move |place| Ok(self.providers[place].clone())))
    }
}

/// Asks one router, and gives what it says.
pub(super) fn run(
    router: Arc<Router>,
    path: Arc<str>,
    deadline: Instant,
    keep: Option<(Held, (usize, Mh))>,
) -> BoxStream<'static, Result<Provider, RouterError>> {
    let opened = async move {
        let told = router.providers(&path, deadline).await;
        let ended = told.as_ref().is_ok_and(Option::is_none);
        if let Some((held, key)) = keep.as_ref().filter(|_| ended) {
            held.insert(*key, Kept::new(Vec::new()));
        }
        match told {
            Ok(Some(told)) => Search::new(router, told, deadline, keep).stream(),
            Ok(None) => stream::empty().boxed(),
            Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
        }
    };
    stream::once(opened).flatten().boxed()
}

/// An answer as it is read.
struct Search {
    router: Arc<Router>,
    told: Told,
    lines: Lines,
    ready: VecDeque<Provider>,
    records: usize,
    bytes: usize,
    over: bool,
    found: Vec<Provider>,
    keep: Option<(Held, (usize, Mh))>,
    deadline: Instant,
}

impl Search {
    fn new(
        router: Arc<Router>,
        told: Told,
        deadline: Instant,
        keep: Option<(Held, (usize, Mh))>,
    ) -> Self {
        let Told { answer, _permit } = told;
        Self {
            router,
            told: Told { answer: answer.at_pace(Pace::Until(deadline)), _permit },
            lines: Lines::default(),
            ready: VecDeque::new(),
            records: 0,
            bytes: 0,
            over: false,
            found: Vec::new(),
            keep,
            deadline,
        }
    }

    fn stream(self) -> BoxStream<'static, Result<Provider, RouterError>> {
        if self.told.answer.content_type().starts_with("application/x-ndjson") {
            stream::try_unfold(self, Self::next).boxed()
        } else {
            let whole = async move { self.whole().await };
            stream::once(whole)
                .flat_map(|found| match found {
                    Ok(found) => stream::iter(found.into_iter().map(Ok)).left_stream(),
                    Err(error) => stream::once(std::future::ready(Err(error))).right_stream(),
                })
                .boxed()
        }
    }

    /// The next provider of a stream of lines.
    async fn next(mut self) -> Result<Option<(Provider, Self)>, RouterError> {
        loop {
            if let Some(provider) = self.ready.pop_front() {
                if self.keep.is_some() {
                    self.found.push(provider.clone());
                }
                return Ok(Some((provider, self)));
            }
            if self.over {
                self.end();
                return Ok(None);
            }
            match self.told.answer.chunk().await {
                Ok(Some(piece)) => {
                    self.bytes += piece.len();
                    self.lines.feed(&piece);
                    while let Some(line) = self.lines.next() {
                        self.take(record::read(&line));
                    }
                    self.over |= self.records >= RECORDS_MAX || self.bytes >= BODY_BYTES_MAX;
                }
                Ok(None) => {
                    if let Some(line) = self.lines.last() {
                        self.take(record::read(&line));
                    }
                    self.over = true;
                }
                // Whoever asked waits no longer, or it is slow: what it said so far counts.
                Err(_) if self.records > 0 && Instant::now() >= self.deadline => return Ok(None),
                Err(error) => return Err(self.router.failed(&error.to_string())),
            }
        }
    }

    /// The providers of an answer that is no stream of lines.
    async fn whole(mut self) -> Result<Vec<Provider>, RouterError> {
        let Told { answer, _permit } = self.told;
        let body = answer.bytes(BODY_BYTES_MAX).await;
        let body = body.map_err(|error| self.router.failed(&error.to_string()))?;
        let Some(records) = record::read_all(&body, RECORDS_MAX) else {
            return Err(self.router.failed("what it answered is not JSON of providers"));
        };
        let bad = records.iter().filter(|record| record.is_none()).count();
        self.found = records.into_iter().flatten().collect();
        self.router.metrics.providers.inc_by(self.found.len() as u64);
        self.router.metrics.bad_records.inc_by(bad as u64);
        let found = self.found.clone();
        finish(&self.router, self.keep.as_ref(), self.found);
        Ok(found)
    }

    fn take(&mut self, provider: Option<Provider>) {
        self.records += 1;
        match provider {
            Some(provider) if self.records <= RECORDS_MAX => {
                self.router.metrics.providers.inc();
                self.ready.push_back(provider);
            }
            _ => self.router.metrics.bad_records.inc(),
        }
    }

    fn end(self) {
        self.router.metrics.bad_records.inc_by(self.lines.skipped() as u64);
        finish(&self.router, self.keep.as_ref(), self.found);
    }
}

fn finish(router: &Router, keep: Option<&(Held, (usize, Mh))>, found: Vec<Provider>) {
    router.worked(!found.is_empty());
    if let Some((held, key)) = keep {
        held.insert(*key, Kept::new(found));
    }
}
