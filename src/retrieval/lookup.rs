//! Searches for providers: one for a block, whoever and however many ask for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::block::{Cid, Mh};
use crate::provider::{ContentRouter, Provider, RouterError};
use crate::task::Tasks;

use super::givers::Givers;
use super::metrics::Rungs;
use super::score::Scores;
use super::search::Search;

/// Longest search, and so how long routers may take.
const LOOKUP_MAX: Duration = Duration::from_secs(15);
/// Providers at which a search ends.
const PROVIDERS_MAX: usize = 20;
/// How long what a search found is given to whoever asks for the same.
const RECENT: Duration = Duration::from_secs(10);
/// How many such searches are remembered.
const RECENT_MAX: u64 = 1_000;
/// Providers that come at once and are put into order, at most.
const AT_ONCE_MAX: usize = 32;

/// Finds providers through the router.
pub(super) struct Lookups {
    router: Option<Arc<dyn ContentRouter>>,
    scores: Scores,
    tasks: Tasks,
    rungs: Arc<Rungs>,
    under_way: Arc<Mutex<HashMap<Mh, Weak<Lookup>>>>,
    recent: moka::sync::Cache<Mh, Arc<Finds>>,
    givers: Givers,
}

/// A search under way, which ends when nobody holds it any more; or one that is over.
pub(super) struct Lookup {
    finds: Arc<Finds>,
    task: Option<AbortHandle>,
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What a search found, and who is to be told.
#[derive(Default)]
struct Finds {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    found: Vec<Provider>,
    listeners: Vec<Weak<Search>>,
    over: bool,
    failed: u32,
}

impl Lookup {
    /// Whether no more will be found.
    pub(super) fn is_over(&self) -> bool {
        self.finds.lock().over
    }

    /// Routers that gave no answer.
    pub(super) fn failed(&self) -> u32 {
        self.finds.lock().failed
    }
}

impl Finds {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells `search` of what was found and of what will be.
    fn listen(&self, search: &Arc<Search>) {
        let found = {
            let mut state = self.lock();
            if !state.over {
                state.listeners.push(Arc::downgrade(search));
            }
            state.found.clone()
        };
        found.iter().for_each(|provider| search.offer(provider));
    }

    /// False where there are enough.
    fn add(&self, provider: &Provider) -> bool {
        let listeners = {
            let mut state = self.lock();
            if state.found.contains(provider) {
                return true;
            }
            state.found.push(provider.clone());
            state.listeners.retain(|listener| listener.strong_count() > 0);
            state.listeners.clone()
        };
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.offer(provider);
        }
        self.lock().found.len() < PROVIDERS_MAX
    }

    fn end(&self) {
        let listeners = {
            let mut state = self.lock();
            state.over = true;
            std::mem::take(&mut state.listeners)
        };
        listeners.iter().filter_map(Weak::upgrade).for_each(|search| search.tell());
    }
}

impl Lookups {
    pub(super) fn new(
        router: Option<Arc<dyn ContentRouter>>,
        scores: Scores,
        tasks: Tasks,
        rungs: Arc<Rungs>,
    ) -> Self {
        let recent =
            moka::sync::Cache::builder().max_capacity(RECENT_MAX).time_to_live(RECENT).build();
        let (under_way, givers) = (Arc::default(), Givers::default());
        Self { router, scores, tasks, rungs, under_way, recent, givers }
    }

    /// Who is asked, in words.
    pub(super) fn describe(&self) -> Option<Arc<str>> {
        self.router.as_ref().map(|router| router.describe())
    }

    /// What was learned of providers.
    pub(super) fn scores(&self) -> &Scores {
        &self.scores
    }

    /// Who gave blocks of which root lately.
    pub(super) fn givers(&self) -> &Givers {
        &self.givers
    }

    /// Joins the search for providers of `cid`, or begins it; `search` is told of each.
    pub(super) fn begin(&self, cid: &Cid, search: &Arc<Search>) -> Arc<Lookup> {
        let Some(router) = &self.router else {
            return Arc::new(Lookup { finds: Finds::none(), task: None });
        };
        if let Some(finds) = self.recent.get(cid.hash()) {
            finds.listen(search);
            return Arc::new(Lookup { finds, task: None });
        }
        let lookup = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let joined = under_way.get(cid.hash()).and_then(Weak::upgrade);
            joined.unwrap_or_else(|| {
                under_way.retain(|_, lookup| lookup.strong_count() > 0);
                let lookup = self.start(router, cid);
                under_way.insert(*cid.hash(), Arc::downgrade(&lookup));
                lookup
            })
        };
        lookup.finds.listen(search);
        lookup
    }

    fn start(&self, router: &Arc<dyn ContentRouter>, cid: &Cid) -> Arc<Lookup> {
        let finds = Arc::new(Finds::default());
        let deadline = Instant::now() + LOOKUP_MAX;
        let found = router.providers(cid, deadline).ready_chunks(AT_ONCE_MAX);
        let run = run(found, deadline, Arc::clone(&finds), self.scores.clone(), self.rungs.clone());
        let (recent, cid, ended) = (self.recent.clone(), *cid, Arc::clone(&finds));
        let task = self.tasks.spawn(async move {
            run.await;
            if !ended.lock().found.is_empty() {
                recent.insert(*cid.hash(), Arc::clone(&ended));
            }
            ended.end();
        });
        Arc::new(Lookup { finds, task: Some(task.abort_handle()) })
    }
}

impl Finds {
    /// The search of a node that has no router.
    fn none() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { over: true, ..State::default() }) })
    }
}

/// Hands on what is found: of those that come at once the best first, and those that kept failing
/// only where there are no others.
async fn run(
    mut found: impl futures_util::Stream<Item = Vec<Result<Provider, RouterError>>> + Unpin,
    deadline: Instant,
    finds: Arc<Finds>,
    scores: Scores,
    rungs: Arc<Rungs>,
) {
    let began = Instant::now();
    let mut doubtful = Vec::new();
    let mut few = true;
    while few && let Ok(Some(some)) = tokio::time::timeout_at(deadline, found.next()).await {
        let mut providers = Vec::with_capacity(some.len());
        for outcome in some {
            match outcome {
                Ok(provider) => {
                    rungs.found_by(provider.found_by);
                    providers.push(provider);
                }
                Err(error) => {
                    tracing::debug!(%error, "a router gave no providers");
                    finds.lock().failed += 1;
                }
            }
        }
        scores.sort(&mut providers);
        for provider in providers {
            if scores.is_doubtful(&provider) {
                doubtful.push(provider);
            } else if few {
                few = finds.add(&provider);
            }
        }
    }
    if finds.lock().found.is_empty() {
        let _enough = doubtful.iter().all(|provider| finds.add(provider));
    }
    let state = finds.lock();
    let outcome = match (state.found.is_empty(), state.failed) {
        (false, _) => "found",
        (true, 0) => "none",
        (true, _) => "failed",
    };
    drop(state);
    rungs.searched(outcome, began);
}
