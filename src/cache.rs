//! Hot blocks in memory, within a budget of bytes.
//!
//! **Invariant:** holds verified blocks only, keyed by multihash: one entry whatever the codec or
//! version of the CID it was asked by.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use serde::Deserialize;

use crate::block::{Block, Cid, Mh};

/// What an entry costs beside the block's bytes: key, value and moka's bookkeeping.
const ENTRY_OVERHEAD_BYTES: usize = 512;
/// Bytes inserted before the cache is made to decide what stays: until then it holds all of them,
/// beyond its budget.
const UNDECIDED_BYTES_MAX: u64 = 8 << 20;

/// How much memory the cache may use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of blocks kept in memory, bookkeeping included.
    pub bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { bytes_max: 128 << 20 }
    }
}

crate::metrics! {
    /// What the cache did.
    pub struct Metrics {
        /// Blocks that were asked of the memory cache and found there.
        hits: counter("estuary_cache_hits_total"),
        /// Blocks that were asked of the memory cache and not found there.
        misses: counter("estuary_cache_misses_total"),
    }
}

/// A place in the cache. moka drops what it evicts some time later, dozens of entries a thread; so
/// that their bytes are not held meanwhile, an eviction empties the place.
#[derive(Debug, Clone)]
struct Place(Arc<Mutex<Bytes>>);

impl Place {
    fn of(data: &Bytes) -> Self {
        Self(Arc::new(Mutex::new(data.clone())))
    }

    /// The block's bytes; none once it was evicted. A block without bytes is the same.
    fn data(&self) -> Bytes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn empty(&self) {
        drop(std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// The cache: frequency decides what stays (TinyLFU), size what it costs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlockCache {
    blocks: moka::sync::Cache<Mh, Place>,
    undecided_bytes: Arc<AtomicU64>,
    metrics: Metrics,
}

impl BlockCache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        let blocks = moka::sync::Cache::builder()
            .max_capacity(config.bytes_max)
            .weigher(|_: &Mh, place: &Place| {
                u32::try_from(place.data().len() + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
            })
            .eviction_listener(|_, place: Place, _| place.empty())
            .eviction_policy(EvictionPolicy::tiny_lfu())
            .build();
        Self { blocks, undecided_bytes: Arc::default(), metrics }
    }

    /// The block, under the CID it is asked by.
    #[must_use]
    pub fn get(&self, cid: &Cid) -> Option<Block> {
        match self.blocks.get(cid.hash()).map(|place| place.data()) {
            Some(data) if !data.is_empty() => {
                self.metrics.hits.inc();
                // It was verified against this multihash before it was inserted.
                Some(Block::from_checked_record(*cid, data))
            }
            _ => {
                self.metrics.misses.inc();
                None
            }
        }
    }

    /// Whether the block is here; counts as no use of it.
    #[must_use]
    pub fn contains(&self, cid: &Cid) -> bool {
        self.blocks.contains_key(cid.hash())
    }

    /// Keeps a block for as long as others are not worth more.
    pub fn insert(&self, block: &Block) {
        if block.data().is_empty() {
            return; // it costs more here than where it comes from
        }
        self.blocks.insert(*block.cid().hash(), Place::of(block.data()));
        let bytes = block.data().len() as u64;
        if self.undecided_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > UNDECIDED_BYTES_MAX {
            self.undecided_bytes.store(0, Ordering::Relaxed);
            self.blocks.run_pending_tasks();
        }
    }

    /// Forgets a block.
    pub fn remove(&self, cid: &Cid) {
        self.blocks.invalidate(cid.hash());
    }

    /// Bytes held, bookkeeping included, as of the last housekeeping.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::codec;

    fn cache(bytes_max: u64) -> BlockCache {
        let metrics = Metrics::register(&crate::metrics::Registry::new()).unwrap();
        BlockCache::new(&Config { bytes_max }, metrics)
    }

    #[test]
    fn a_block_is_found_under_every_cid_of_its_multihash() {
        let cache = cache(1 << 20);
        let block = Block::sha2_256(codec::RAW, Bytes::from_static(b"estuary")).unwrap();
        cache.insert(&block);
        let other = Cid::new_v1(codec::DAG_PB, *block.cid().hash());
        assert_eq!(cache.get(&other).unwrap().cid(), &other);
        assert_eq!(cache.metrics.hits.get(), 1);
    }

    #[test]
    fn the_bytes_of_what_was_evicted_are_given_back_at_once() {
        let cache = cache(4 << 20);
        let data: Vec<Bytes> =
            (0..40_u32).map(|n| n.to_le_bytes().repeat(256 << 10).into()).collect();
        for data in &data {
            cache.insert(&Block::sha2_256(codec::RAW, data.clone()).unwrap());
        }
        cache.blocks.run_pending_tasks();
        let held = data.iter().filter(|data| !data.is_unique()).count();
        assert!(held <= 4, "{held} blocks of 1 MiB are held");
    }

    #[test]
    fn what_was_inserted_at_once_is_soon_bounded_too() {
        let cache = cache(16 << 20);
        let blocks: Vec<_> = (0..60_u32)
            .map(|n| n.to_le_bytes().repeat(256 << 10))
            .map(|data| Block::sha2_256(codec::RAW, data.into()).unwrap())
            .collect();
        for block in &blocks {
            cache.insert(block);
            let held = blocks.iter().filter(|block| cache.contains(block.cid())).count() as u64;
            let bytes_max = (16 << 20) + UNDECIDED_BYTES_MAX + (1 << 20);
            assert!(held << 20 <= bytes_max, "{held} MiB");
        }
    }

    #[test]
    fn it_stays_within_its_budget_of_bytes() {
        let cache = cache(1 << 20);
        for n in 0..1000_u32 {
            let data = n.to_le_bytes().repeat(1024);
            cache.insert(&Block::sha2_256(codec::RAW, data.into()).unwrap());
        }
        cache.blocks.run_pending_tasks();
        assert!(cache.bytes() <= 1 << 20, "{}", cache.bytes());
        assert!(cache.bytes() >= 1 << 19, "{}", cache.bytes());
    }
}
