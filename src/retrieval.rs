//! Where a block comes from: the ladder from memory to disk to the sources.
//!
//! **Invariant:** decides, and never speaks a wire protocol. Sources are handed in, in the order
//! they are asked.

mod flight;
mod metrics;
mod session;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::block::{Block, Blockstore, Cid, FetchError, Mh};
use crate::cache::BlockCache;
use crate::denylist::Denylist;
use crate::provider::{BlockSource, FetchContext, Want};

use flight::Flights;
pub use metrics::Metrics;
use metrics::Rungs;
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
        Self { block_timeout_ms: 30_000, request_timeout_ms: 3_600_000, absent_ttl_ms: 5_000 }
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
    flights: Flights,
    /// What no source had a moment ago.
    absent: moka::sync::Cache<Mh, ()>,
    config: Config,
    rungs: Rungs,
}

impl std::fmt::Debug for Retriever {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources: Vec<_> = self.shared.sources.iter().map(|source| source.name()).collect();
        f.debug_struct("Retriever").field("sources", &sources).finish_non_exhaustive()
    }
}

impl Retriever {
    /// A ladder of these rungs; `sources` may be none.
    #[must_use]
    pub fn new(
        cache: BlockCache,
        store: Arc<dyn Blockstore>,
        sources: Vec<Arc<dyn BlockSource>>,
        config: Config,
        metrics: &Metrics,
    ) -> Self {
        let absent_ttl = Duration::from_millis(config.absent_ttl_ms.min(15_000));
        let absent = moka::sync::Cache::builder()
            .max_capacity(ABSENT_ENTRIES_MAX)
            .time_to_live(absent_ttl)
            .build();
        let rungs = Rungs::new(metrics);
        let flights = Flights::default();
        let shared = Shared { cache, store, sources, flights, absent, config, rungs };
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
        self.ask_sources(cid, session).await
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
        if self.shared.absent.contains_key(cid.hash()) {
            self.shared.rungs.none.inc();
            return Err(FetchError::NotFound(Box::new(*cid)));
        }
        let patience = Duration::from_millis(self.shared.config.block_timeout_ms);
        let deadline = session.deadline().min(Instant::now() + patience);
        loop {
            let flight = self.shared.flights.join(cid.hash(), || {
                let (shared, cid) = (Arc::clone(&self.shared), *cid);
                Box::pin(async move { shared.fetch(cid, FetchContext { deadline }).await })
            });
            let outcome = tokio::time::timeout_at(deadline, flight).await;
            return match outcome {
                Ok(Ok((block, source))) => {
                    session.trace().found_at(source);
                    block.with_cid(*cid).ok_or_else(|| FetchError::NotFound(Box::new(*cid)))
                }
                // The fetch was another's, who began to wait earlier: this one still has time.
                Ok(Err(FetchError::Timeout(..))) if Instant::now() < deadline => continue,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(FetchError::Timeout(Box::new(*cid), patience)),
            };
        }
    }
}

impl Shared {
    /// Asks one source after the other, and keeps what the first of them gives; says which it was.
    async fn fetch(
        &self,
        cid: Cid,
        context: FetchContext,
    ) -> Result<(Block, &'static str), FetchError> {
        let started = Instant::now();
        let mut worst = FetchError::NotFound(Box::new(cid));
        for source in &self.sources {
            let session = source.open();
            let asked = session.fetch(Want { cid }, &context);
            let outcome = tokio::time::timeout_at(context.deadline, asked).await;
            match outcome {
                Ok(Ok(block)) if block.cid().hash() == cid.hash() => {
                    self.rungs.source(source.name()).found(block.data().len());
                    self.rungs.source(source.name()).took(started);
                    self.keep(&block).await;
                    return Ok((block, source.name()));
                }
                // It gave a block, but another one: as good as none.
                Ok(Ok(_) | Err(FetchError::NotFound(_))) => {}
                Ok(Err(error)) => worst = error,
                Err(_) => {
                    return Err(FetchError::Timeout(Box::new(cid), started.elapsed()));
                }
            }
        }
        self.rungs.none.inc();
        if matches!(worst, FetchError::NotFound(_)) {
            self.absent.insert(*cid.hash(), ());
        }
        Err(worst)
    }

    /// Keeps a fetched block. That the disk is full must not keep it from whoever asked.
    async fn keep(&self, block: &Block) {
        self.cache.insert(block);
        if let Err(error) = self.store.put_many(vec![block.clone()]).await {
            self.rungs.not_kept.inc();
            tracing::debug!(%error, "a fetched block was not kept on disk");
        }
    }
}

#[cfg(test)]
mod tests;
