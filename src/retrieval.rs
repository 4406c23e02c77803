//! Where a block comes from: the ladder from memory to disk to the sources.
//!
//! **Invariant:** decides, and never speaks a wire protocol. Sources are handed in, in the order
//! they are asked.

mod fetch;
mod flight;
mod givers;
mod keep;
mod lookup;
mod metrics;
mod score;
mod search;
mod session;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::block::{Block, Blockstore, Cid, FetchError, Mh, Missing};
use crate::cache::BlockCache;
use crate::denylist::Denylist;
use crate::provider::{BlockSource, ContentRouter};
use crate::task::Tasks;

use flight::Flights;
use keep::Keeper;
use lookup::Lookups;
pub use metrics::Metrics;
use metrics::Rungs;
pub use score::Scores;
use search::Search;
pub use session::{Session, Tier, Trace};

/// How many absent blocks are remembered as absent.
const ABSENT_ENTRIES_MAX: u64 = 10_000;

/// How patient retrieval is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest wait for one block from the sources, in milliseconds.
    pub block_timeout_ms: u64,
    /// Longest life of one request, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a block that no source had is taken for absent, in milliseconds; at most 15,000.
    pub absent_ttl_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { block_timeout_ms: 25_000, request_timeout_ms: 3_600_000, absent_ttl_ms: 5_000 }
    }
}

/// Finds blocks. Cheap to clone.
#[derive(Clone)]
pub struct Retriever {
    shared: Arc<Shared>,
    denylist: Denylist,
}

struct Shared {
    cache: BlockCache,
    store: Arc<dyn Blockstore>,
    sources: Vec<Arc<dyn BlockSource>>,
    lookups: Arc<Lookups>,
    flights: Flights,
    /// What nobody had a moment ago, and what was said of it.
    absent: moka::sync::Cache<Mh, Arc<Missing>>,
    keeper: Keeper,
    ahead_bytes: Arc<AtomicUsize>,
    config: Config,
    rungs: Arc<Rungs>,
}

/// What the ladder is made of, from top to bottom.
pub struct Parts {
    /// Blocks in memory.
    pub cache: BlockCache,
    /// Blocks on disk.
    pub store: Arc<dyn Blockstore>,
    /// Where blocks are fetched from; none where only what is here is served.
    pub sources: Vec<Arc<dyn BlockSource>>,
    /// Who finds providers for them.
    pub router: Option<Arc<dyn ContentRouter>>,
    /// What was learned of providers.
    pub scores: Scores,
    /// Who owns what runs behind the requests.
    pub tasks: Tasks,
}

impl Parts {
    /// Memory and disk alone.
    #[must_use]
    pub fn local(cache: BlockCache, store: Arc<dyn Blockstore>) -> Self {
        let (scores, tasks) = (Scores::default(), Tasks::new());
        Self { cache, store, sources: Vec::new(), router: None, scores, tasks }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(|source| source.name()).collect();
        f.debug_struct("Parts").field("sources", &sources).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Retriever {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources: Vec<_> = self.shared.sources.iter().map(|source| source.name()).collect();
        f.debug_struct("Retriever").field("sources", &sources).finish_non_exhaustive()
    }
}

impl Retriever {
    /// A ladder of these rungs.
    #[must_use]
    pub fn new(parts: Parts, config: Config, metrics: &Metrics) -> Self {
        let Parts { cache, store, sources, router, scores, tasks } = parts;
        let absent_ttl = Duration::from_millis(config.absent_ttl_ms.min(15_000));
        let absent = moka::sync::Cache::builder()
            .max_capacity(ABSENT_ENTRIES_MAX)
            .time_to_live(absent_ttl)
            .build();
        let rungs = Arc::new(Rungs::new(metrics));
        let lookups = Arc::new(Lookups::new(router, scores, tasks.clone(), Arc::clone(&rungs)));
        let keeper = Keeper::new(Arc::clone(&store), tasks, rungs.not_kept.clone());
        let shared = Shared {
            cache,
            store,
            sources,
            lookups,
            flights: Flights::default(),
            absent,
            keeper,
            ahead_bytes: Arc::default(),
            config,
            rungs,
        };
        Self { shared: Arc::new(shared), denylist: Denylist::default() }
    }

    /// The same, but what this list blocks is given to nobody, wherever it is.
    #[must_use]
    pub fn guarded_by(self, denylist: Denylist) -> Self {
        Self { denylist, ..self }
    }

    /// What must not be given to anybody.
    #[must_use]
    pub fn denylist(&self) -> &Denylist {
        &self.denylist
    }

    /// A session for one request.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(Instant::now() + Duration::from_millis(self.shared.config.request_timeout_ms))
    }

    /// Bytes that responses fetch, or hold, ahead of their readers: all of them together.
    #[must_use]
    pub fn ahead_bytes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.shared.ahead_bytes)
    }

    /// The block: from itself, from memory, from disk, from the sources.
    pub async fn block(&self, cid: &Cid, session: &Session) -> Result<Block, FetchError> {
        // Before anything is looked up, so that nothing need be evicted when lists change.
        self.denylist.check_block(cid)?;
        if let Some(block) = self.in_memory(cid) {
            return Ok(block);
        }
        if let Some(block) = self.read_disk(cid).await? {
            session.trace().found_on_disk();
            return Ok(block);
        }
        if session.is_local_only() || self.shared.sources.is_empty() {
            self.shared.rungs.none.inc();
            return Err(FetchError::NotFound(Box::new(*cid)));
        }
        // Boxed, so that whoever finds its blocks at hand carries nothing of it around.
        Box::pin(self.ask_sources(cid, session)).await
    }

    /// The block, if that takes no waiting: an identity CID, or one in memory. One that is blocked
    /// is not at hand; [`Self::block`] says why.
    #[must_use]
    pub fn at_hand(&self, cid: &Cid) -> Option<Block> {
        if self.denylist.would_block(cid) { None } else { self.in_memory(cid) }
    }

    fn in_memory(&self, cid: &Cid) -> Option<Block> {
        if let Some(block) = Block::from_identity(cid) {
            return Some(block);
        }
        let block = self.shared.cache.get(cid)?;
        self.shared.rungs.cache.found(block.data().len());
        Some(block)
    }

    /// Whether the block is in itself, in memory or on disk.
    pub async fn has_local(&self, cid: &Cid) -> Result<bool, FetchError> {
        self.denylist.check_block(cid)?;
        let identity = cid.hash().code() == crate::block::IDENTITY;
        Ok(identity || self.shared.cache.contains(cid) || self.shared.store.has(cid).await?)
    }

    /// How many bytes the block has, if it is on disk; it is not read.
    pub async fn size_on_disk(&self, cid: &Cid) -> Result<Option<u64>, FetchError> {
        self.denylist.check_block(cid)?;
        Ok(self.shared.store.size(cid).await?)
    }

    async fn read_disk(&self, cid: &Cid) -> Result<Option<Block>, FetchError> {
        let started = Instant::now();
        let Some(block) = self.shared.store.get(cid).await? else { return Ok(None) };
        self.shared.cache.insert(&block);
        self.shared.rungs.disk.found(block.data().len());
        self.shared.rungs.disk.took(started);
        Ok(block.with_cid(*cid))
    }

    /// Joins the fetch of this block that is under way, or begins one, and waits for it as long as
    /// this session may.
    async fn ask_sources(&self, cid: &Cid, session: &Session) -> Result<Block, FetchError> {
        if let Some(missing) = self.shared.absent.get(cid.hash()) {
            self.shared.rungs.none.inc();
            return Err(FetchError::Missing(missing));
        }
        let patience = Duration::from_millis(self.shared.config.block_timeout_ms);
        let deadline = session.deadline().min(Instant::now() + patience);
        let mut earlier = None;
        loop {
            let flight = self.shared.flights.join(cid.hash(), || {
                let search = session.search(|| self.shared.search(session.root()));
                let (shared, search, cid) = (Arc::clone(&self.shared), Arc::clone(search), *cid);
                Box::pin(async move { shared.fetch(search, cid, deadline).await })
            });
            return match tokio::time::timeout_at(deadline, flight).await {
                Ok(Ok((block, source))) => {
                    session.trace().found_at(source);
                    block.with_cid(*cid).ok_or_else(|| FetchError::NotFound(Box::new(*cid)))
                }
                Ok(Err(error)) if Instant::now() < deadline && is_of_time(&error) => {
                    // The fetch was another's, who began to wait earlier: this one still has time.
                    earlier = Some(error);
                    continue;
                }
                Ok(Err(error)) => Err(error),
                Err(_) => {
                    Err(earlier.unwrap_or_else(|| FetchError::Timeout(Box::new(*cid), patience)))
                }
            };
        }
    }
}

/// Whether a fetch failed for want of time alone.
fn is_of_time(error: &FetchError) -> bool {
    match error {
        FetchError::Timeout(..) => true,
        FetchError::Missing(missing) => missing.timed_out,
        _ => false,
    }
}

impl Shared {
    /// A session with each source, for content below this root.
    fn search(&self, root: Option<&Cid>) -> Arc<Search> {
        Search::open(&self.sources, &self.lookups, &self.rungs, root)
    }

    /// Fetches a block and keeps it; says which source gave it.
    async fn fetch(&self, search: Arc<Search>, cid: Cid, deadline: Instant) -> flight::Outcome {
        match fetch::fetch(search, cid, deadline).await {
            Ok((block, source)) => {
                self.cache.insert(&block);
                self.keeper.keep(block.clone()).await;
                Ok((block, source))
            }
            Err(error) => {
                self.rungs.none.inc();
                // Where there was nobody to ask, it costs nothing to see whether somebody has come.
                if let FetchError::Missing(missing) = &error
                    && !missing.timed_out
                    && (missing.known > 0 || missing.routers.is_some())
                {
                    self.absent.insert(*cid.hash(), Arc::clone(missing));
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
