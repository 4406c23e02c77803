//! One request's conversation with HTTP providers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::block::{Block, Cid, FetchError, Mh};
use crate::network::HttpUrl;
use crate::provider::{Deed, FetchContext, Met, Provider, ProviderId, SourceSession, Want};

use super::Shared;
use super::endpoint::Endpoint;
use super::fetch::{self, Outcome};
use super::health::Use;

/// Endpoints that one session asks.
const ENDPOINTS_MAX: usize = 32;
/// Endpoints that are asked for one block at once.
const AT_ONCE_MAX: usize = 3;
/// How often one endpoint is asked for one block, where it was busy.
const TRIES_MAX: u32 = 3;
/// How long a busy endpoint is waited for.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
/// Blocks that are remembered as missing at an endpoint.
const MISSING_MAX: usize = 4_096;
/// How long a block is waited for until a second endpoint is asked, too: so many times what it is
/// expected to take, within these bounds.
const PATIENCE: (u32, Duration, Duration) =
    (3, Duration::from_millis(300), Duration::from_millis(2_000));

/// A session.
pub(super) struct HttpSession {
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// How many endpoints there are, for those who wait for more.
    known: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    members: Vec<Member>,
    /// What an endpoint, by its place, has not.
    missing: HashSet<(usize, Mh)>,
}

/// An endpoint as this session knows it.
struct Member {
    endpoint: Arc<Endpoint>,
    /// The provider that named it.
    who: ProviderId,
    /// It gave wrong bytes.
    banned: bool,
    reached: bool,
    blocks: u32,
    bytes: u64,
    failures: u32,
    latency: Option<Duration>,
    /// Requests under way, and since when there are any.
    under_way: u32,
    since: Instant,
    busy: Duration,
}

impl Member {
    fn new(endpoint: Arc<Endpoint>, who: ProviderId) -> Self {
        Self {
            endpoint,
            who,
            banned: false,
            reached: false,
            blocks: 0,
            bytes: 0,
            failures: 0,
            latency: None,
            under_way: 0,
            since: Instant::now(),
            busy: Duration::ZERO,
        }
    }

    fn answered_after(&mut self, took: Duration) {
        self.latency = Some(self.latency.map_or(took, |known| (known * 7 + took) / 8));
    }
}

/// A request under way at a member, until it is dropped.
struct Asking<'a> {
    session: &'a HttpSession,
    place: usize,
}

impl<'a> Asking<'a> {
    fn begin(session: &'a HttpSession, place: usize) -> Self {
        if let Some(member) = session.state().members.get_mut(place) {
            if member.under_way == 0 {
                member.since = Instant::now();
            }
            member.under_way += 1;
        }
        Self { session, place }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(member) = self.session.state().members.get_mut(self.place) {
            member.under_way -= 1;
            if member.under_way == 0 {
                member.busy += member.since.elapsed();
            }
        }
    }
}

/// How often an endpoint was asked for a block, and whether it is being asked.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    begun: u32,
    under_way: bool,
}

/// What to do next for a block.
enum Next {
    /// Ask this one.
    Ask(usize, Arc<Endpoint>),
    /// Wait for one that is busy until then.
    Wait(Instant),
    /// Nothing is left to do; some may have it, but are left alone for a while.
    Nobody { some_rest: bool },
}

impl HttpSession {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, state: Mutex::default(), known: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn block(&self, cid: &Cid, context: &FetchContext) -> Result<Block, FetchError> {
        let began = Instant::now();
        let mut known = self.known.subscribe();
        let mut tries: HashMap<usize, Tries> = HashMap::new();
        let mut under_way = FuturesUnordered::new();
        // When the next endpoint is asked, beside those that are.
        let mut next_at = began;
        let mut why = None;
        loop {
            let now = Instant::now();
            let mut until = context.deadline;
            if under_way.len() < AT_ONCE_MAX && (under_way.is_empty() || now >= next_at) {
                match self.next(cid, &tries, now) {
                    Next::Ask(place, endpoint) => {
                        if !under_way.is_empty() {
                            self.shared.metrics.hedges.inc();
                        }
                        let tries = tries.entry(place).or_default();
                        (tries.begun, tries.under_way) = (tries.begun + 1, true);
                        next_at = now + patience(&endpoint);
                        under_way.push(self.ask(place, endpoint, cid, context));
                        continue;
                    }
                    Next::Wait(free_at) if free_at < until => until = free_at,
                    Next::Nobody { some_rest } if under_way.is_empty() => {
                        let rest = || "those that may have it are left alone for a while".into();
                        let why = why.or_else(|| some_rest.then(rest));
                        return Err(match why {
                            Some(why) => FetchError::Unavailable(why),
                            None => FetchError::NotFound(Box::new(*cid)),
                        });
                    }
                    Next::Wait(_) | Next::Nobody { .. } => {}
                }
            } else if under_way.len() < AT_ONCE_MAX {
                until = until.min(next_at);
            }
            tokio::select! {
                Some((place, outcome)) = under_way.next() => {
                    if let Outcome::Block(block) = outcome {
                        return Ok(block);
                    }
                    tries.entry(place).or_default().under_way = false;
                    if let Some(reason) = self.note(place, cid, &outcome) {
                        why = Some(reason);
                    }
                    next_at = Instant::now();
                }
                Ok(()) = known.changed() => {}
                () = tokio::time::sleep_until(until) => {
                    if Instant::now() >= context.deadline {
                        return Err(FetchError::Timeout(Box::new(*cid), began.elapsed()));
                    }
                }
            }
        }
    }

    /// The endpoint to ask for a block: the one that is likely to be the fastest.
    fn next(&self, cid: &Cid, tries: &HashMap<usize, Tries>, now: Instant) -> Next {
        let state = self.state();
        let mut best: Option<(Duration, usize, &Arc<Endpoint>)> = None;
        let mut free_at: Option<Instant> = None;
        let mut some_rest = false;
        for (place, member) in state.members.iter().enumerate() {
            let tried = tries.get(&place).copied().unwrap_or_default();
            let is_tried = tried.under_way || tried.begun >= TRIES_MAX;
            if member.banned || is_tried || state.missing.contains(&(place, *cid.hash())) {
                continue;
            }
            match member.endpoint.health().use_at(now) {
                Use::Now => {}
                Use::Later(at) if at <= now + BUSY_WAIT_MAX => {
                    free_at = Some(free_at.map_or(at, |known| known.min(at)));
                    continue;
                }
                Use::Later(_) | Use::Not => {
                    some_rest = true;
                    continue;
                }
            }
            // Whoever gave one block of a DAG most likely has the next.
            let cost = member.endpoint.cost() * if member.blocks > 0 { 1 } else { 2 };
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, place, &member.endpoint));
            }
        }
        match (best, free_at) {
            (Some((_, place, endpoint)), _) => Next::Ask(place, Arc::clone(endpoint)),
            (None, Some(at)) => Next::Wait(at),
            (None, None) => Next::Nobody { some_rest },
        }
    }

    async fn ask(
        &self,
        place: usize,
        endpoint: Arc<Endpoint>,
        cid: &Cid,
        context: &FetchContext,
    ) -> (usize, Outcome) {
        let (_asking, began) = (Asking::begin(self, place), Instant::now());
        let outcome = fetch::fetch(&self.shared, &endpoint, cid, context.root.as_ref()).await;
        let took = began.elapsed();
        if let Some(member) = self.state().members.get_mut(place) {
            match &outcome {
                Outcome::Block(block) => {
                    member.answered_after(took);
                    member.reached = true;
                    member.blocks = member.blocks.saturating_add(1);
                    member.bytes += block.data().len() as u64;
                }
                Outcome::Missing => member.answered_after(took),
                Outcome::Wrong | Outcome::Unfit(_) | Outcome::Failed(_) => member.failures += 1,
                Outcome::Busy | Outcome::Unasked => {}
            }
        }
        (place, outcome)
    }

    /// Notes how a request ended; says why it did, where it was not for want of the block.
    fn note(&self, place: usize, cid: &Cid, outcome: &Outcome) -> Option<Arc<str>> {
        let mut state = self.state();
        let key = (place, *cid.hash());
        let member = state.members.get_mut(place)?;
        let url = &member.endpoint.url;
        member.reached |= !matches!(outcome, Outcome::Failed(_) | Outcome::Unasked);
        let (is_missing, why) = match outcome {
            Outcome::Block(_) => (false, None),
            Outcome::Missing => (true, None),
            Outcome::Unasked => (false, Some(format!("{url} is left alone for a while"))),
            Outcome::Busy => (false, Some(format!("{url} is busy"))),
            Outcome::Failed(error) => (false, Some(format!("{url}: {error}"))),
            Outcome::Unfit(status) => {
                member.banned = true;
                (false, Some(format!("{url} answered {status}")))
            }
            Outcome::Wrong => {
                member.banned = true;
                (false, Some(format!("{url} gave other bytes than those asked for")))
            }
        };
        if is_missing && state.missing.len() < MISSING_MAX {
            state.missing.insert(key);
        }
        why.map(Into::into)
    }
}

fn patience(endpoint: &Endpoint) -> Duration {
    let (times, least, most) = PATIENCE;
    (endpoint.health().expected() * times).clamp(least, most)
}

impl SourceSession for HttpSession {
    fn fetch<'a>(
        &'a self,
        want: Want,
        context: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>> {
        Box::pin(async move { self.block(&want.cid, context).await })
    }

    fn add_provider(&self, provider: &Provider) -> bool {
        let Some(who) = provider.id() else { return false };
        let guard = self.shared.client.guard();
        let urls = provider.addresses.iter().filter_map(HttpUrl::of_multiaddr);
        let mut state = self.state();
        let mut is_of_use = false;
        for url in urls.filter(|url| guard.allows_url(url)) {
            let is_known = state.members.iter().any(|member| member.endpoint.url == url);
            if !is_known && state.members.len() < ENDPOINTS_MAX {
                let make = || Arc::new(Endpoint::new(url.clone()));
                let endpoint = self.shared.endpoints.get_with_by_ref(&url, make);
                state.members.push(Member::new(endpoint, who.clone()));
                is_of_use = true;
            }
            is_of_use |= is_known;
        }
        let known = state.members.len();
        drop(state);
        self.known.send_if_modified(|count| std::mem::replace(count, known) != known);
        is_of_use
    }

    fn met(&self) -> Met {
        let state = self.state();
        let count = |is: fn(&&Member) -> bool| state.members.iter().filter(is).count() as u32;
        let reached = count(|member| member.reached);
        Met {
            known: count(|_| true),
            reached,
            // Over HTTP one is reached by being answered.
            answered: reached,
            gave: count(|member| member.blocks > 0),
        }
    }

    fn deeds(&self) -> Vec<Deed> {
        let state = self.state();
        let deed = |member: &Member| Deed {
            who: member.who.clone(),
            blocks: member.blocks,
            bytes: member.bytes,
            busy: member.busy,
            latency: member.latency,
            failures: member.failures,
        };
        let did = |deed: &Deed| deed.latency.is_some() || deed.failures > 0;
        state.members.iter().map(deed).filter(did).collect()
    }
}
