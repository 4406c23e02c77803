//! Anything in any order, and a crash at any time, against a model of a few lines.

use std::collections::{BTreeMap, BTreeSet};

use super::fixture::{Fixture, Rng, block};
use crate::block::{Block, Blockstore as _, Cid};
use crate::blockstore::Store;

/// Blocks there are to play with.
const BLOCKS: u64 = 80;

struct Model {
    fixture: Fixture,
    rng: Rng,
    pins: BTreeMap<Cid, BTreeSet<u64>>,
    /// Blocks that were pinned or cached at some time: they may be there.
    may: BTreeSet<u64>,
    /// Blocks of DAGs that were given up and not collected yet. One that two of them had may stay
    /// as a cached one: the second has found it, and cannot know that the first was given up.
    given_up: BTreeSet<u64>,
}

impl Model {
    fn block(n: u64) -> Block {
        block(n, (n * 97 % 3000) as usize + 8)
    }

    fn store(&self) -> Store {
        self.fixture.store()
    }

    fn some_blocks(&mut self) -> Vec<u64> {
        let count = self.rng.below(40) + 1;
        (0..count).map(|_| self.rng.below(BLOCKS)).collect()
    }

    async fn step(&mut self) {
        match self.rng.below(14) {
            0..=4 => self.upload().await,
            5 | 6 => {
                let at = self.rng.below(self.pins.len() as u64 + 1) as usize;
                let root = self.pins.keys().nth(at).copied();
                let root = root.unwrap_or_else(|| *Self::block(0).cid());
                let was = self.pins.remove(&root);
                self.may.extend(was.iter().flatten());
                assert_eq!(self.store().unpin(&root).await.unwrap(), was.is_some());
            }
            7 => {
                let blocks = self.some_blocks();
                let put = blocks.iter().map(|n| Self::block(*n)).collect();
                self.store().put_many(put).await.unwrap();
                self.may.extend(blocks);
            }
            8 => {
                let n = self.rng.below(BLOCKS);
                let cid = *Self::block(n).cid();
                let had = self.store().has(&cid).await.unwrap();
                let pinned = self.store().pin(cid).await.is_ok();
                assert_eq!(had || self.pins.contains_key(&cid), pinned);
                if pinned {
                    self.pins.entry(cid).or_insert_with(|| [n].into());
                }
            }
            9 => {
                self.store().gc(false).await.unwrap();
                self.given_up.clear();
                // What was given up, or cut off, left nothing that anyone can see.
                let pinned: BTreeSet<u64> = self.pins.values().flatten().copied().collect();
                for n in (0..BLOCKS).filter(|n| !pinned.contains(n) && !self.may.contains(n)) {
                    assert!(!self.store().has(Self::block(n).cid()).await.unwrap(), "block {n}");
                }
            }
            10 => self.collect_all().await,
            11 => self.fixture.crash(),
            12 => self.fixture.reopen().await,
            _ => {
                let report = self.store().fsck(false).await.unwrap();
                assert!(report.ok, "{report:?}");
            }
        }
        self.fixture.world.now.fetch_add(10, std::sync::atomic::Ordering::SeqCst);
        self.check().await;
    }

    async fn upload(&mut self) {
        let chosen = self.some_blocks();
        let root = *Self::block(chosen[0]).cid();
        let mut writing = self.store().begin().await.unwrap();
        for part in chosen.chunks(9) {
            writing.put(part.iter().map(|n| Self::block(*n)).collect()).await.unwrap();
            if self.rng.below(30) == 0 {
                // The process dies with everything in it.
                std::mem::forget(writing);
                self.give_up(chosen);
                return self.fixture.crash();
            }
        }
        match self.rng.below(6) {
            0 => {
                drop(writing);
                self.give_up(chosen);
            }
            1 => {
                writing.keep().await.unwrap();
                self.may.extend(chosen);
            }
            _ => {
                writing.pin(root, |_| Ok(())).await.unwrap();
                self.may.extend(&chosen);
                self.pins.entry(root).or_insert_with(|| chosen.into_iter().collect());
            }
        }
    }

    fn give_up(&mut self, blocks: Vec<u64>) {
        let blocks: BTreeSet<u64> = blocks.into_iter().collect();
        self.may.extend(blocks.intersection(&self.given_up));
        self.given_up.extend(blocks);
    }

    async fn collect_all(&mut self) {
        self.store().gc(true).await.unwrap();
        let pinned: BTreeSet<u64> = self.pins.values().flatten().copied().collect();
        let stats = self.store().stats().unwrap();
        let bytes: usize = pinned.iter().map(|n| Self::block(*n).data().len()).sum();
        assert_eq!((stats.blocks, stats.bytes), (pinned.len() as u64, bytes as u64));
        assert_eq!(stats.cached_bytes, 0);
        // No segment is more than half dead; what a record adds is small.
        let bound = 2 * (bytes as u64 + 51 * stats.blocks) + 1;
        assert!(stats.disk_bytes <= bound, "{} of {bound}", stats.disk_bytes);
        self.may = pinned;
        self.given_up.clear();
    }

    async fn check(&self) {
        let listed: BTreeSet<Cid> =
            self.store().pins(None, 1000).unwrap().into_iter().map(|pin| pin.cid).collect();
        assert_eq!(listed, self.pins.keys().copied().collect());
        let pinned: BTreeSet<u64> = self.pins.values().flatten().copied().collect();
        for n in 0..BLOCKS {
            let block = Self::block(n);
            match self.store().get(block.cid()).await.unwrap() {
                Some(read) => assert_eq!(read, block),
                None => assert!(!pinned.contains(&n), "block {n} of a pin is lost"),
            }
        }
    }
}

#[tokio::test]
async fn the_store_does_what_the_model_does() {
    let seeds = std::env::var("ESTUARY_TEST_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    for seed in 0..seeds {
        let mut fixture = Fixture::new();
        fixture.config.cache_bytes_max = 20_000;
        fixture.crash();
        let (pins, may, given_up) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut model = Model { fixture, rng: Rng::new(seed), pins, may, given_up };
        for _ in 0..60 {
            model.step().await;
        }
        let report = model.store().fsck(false).await.unwrap();
        assert!(report.ok, "seed {seed}: {report:?}");
        for root in std::mem::take(&mut model.pins).into_keys() {
            assert!(model.store().unpin(&root).await.unwrap());
        }
        model.collect_all().await;
        assert_eq!(model.store().stats().unwrap().disk_bytes, 0, "seed {seed}");
    }
}
