//! Fakes for the traits of [`crate::block`], and a little content to play with.

pub mod crash;
pub mod dns;
pub mod faults;
pub mod http;
pub mod ipns;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::block::{Block, Blockstore, Cid, FetchError, Mh, StoreError};
use crate::ipld;
use crate::ipld::unixfs::import::{DirectoryBuilder, FileBuilder, Profile};
use crate::provider::{BlockSource, FetchContext, Met, Provider, SourceSession, Want};

/// A blockstore in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlockstore {
    blocks: Arc<Mutex<HashMap<Mh, Bytes>>>,
    reads: Arc<AtomicUsize>,
}

impl MemoryBlockstore {
    /// Puts blocks in.
    pub fn insert(&self, blocks: impl IntoIterator<Item = Block>) {
        let mut held = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(blocks.into_iter().map(|block| (*block.cid().hash(), block.into_data())));
    }

    /// Takes a block out.
    pub fn remove(&self, cid: &Cid) {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).remove(cid.hash());
    }

    /// Imports a file in chunks of so many bytes; gives its root.
    pub fn add_file(&self, data: &[u8], chunk_bytes: usize) -> Result<Cid, ipld::Error> {
        let profile = Profile::V1_2025;
        let mut builder = FileBuilder::new(profile, profile.links_max());
        for chunk in data.chunks(chunk_bytes) {
            let leaf = profile.leaf(Bytes::copy_from_slice(chunk))?;
            self.insert(builder.push(&leaf)?);
            self.insert([leaf.block]);
        }
        let built = builder.finish()?;
        self.insert(built.blocks);
        Ok(built.root)
    }

    /// Makes a directory of these names; gives its root.
    pub fn add_directory<N: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (N, Cid)>,
    ) -> Result<Cid, ipld::Error> {
        let mut builder = DirectoryBuilder::new(Profile::V1_2025);
        for (name, cid) in entries {
            builder.insert(name, &cid, 1);
        }
        let built = builder.finish()?;
        self.insert(built.blocks);
        Ok(built.root)
    }

    /// How often a block was asked for.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many blocks are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Blockstore for MemoryBlockstore {
    fn get<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Option<Block>, StoreError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let held = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let data = held.get(cid.hash()).cloned();
        let block = data.map(|data| Block::from_checked_record(*cid, data));
        std::future::ready(Ok(block)).boxed()
    }

    fn has<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<bool, StoreError>> {
        let held = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        std::future::ready(Ok(held.contains_key(cid.hash()))).boxed()
    }

    fn size<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        let held = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let size = held.get(cid.hash()).map(|data| data.len() as u64);
        std::future::ready(Ok(size)).boxed()
    }

    fn is_pinned<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.has(cid)
    }

    fn put_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.insert(blocks);
        std::future::ready(Ok(())).boxed()
    }
}

/// What a [`ScriptedSource`] does when it is asked for a block.
#[derive(Debug, Clone)]
pub enum Act {
    /// Gives the block after a while.
    Give(Block, Duration),
    /// Gives this block, whatever was asked for.
    Lie(Block),
    /// Never answers.
    Stall,
    /// Answers with an error.
    Fail(FetchError),
}

/// A source of blocks that does what its script says; it has nothing else.
#[derive(Debug, Clone, Default)]
pub struct ScriptedSource {
    script: Arc<Mutex<HashMap<Mh, Act>>>,
    asked: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
}

impl ScriptedSource {
    /// Says what to do when `cid` is asked for.
    pub fn on(&self, cid: &Cid, act: Act) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).insert(*cid.hash(), act);
    }

    /// How many fetches were begun.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many fetches have neither ended nor been given up.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }
}

impl BlockSource for ScriptedSource {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn open(&self) -> Arc<dyn SourceSession> {
        Arc::new(self.clone())
    }
}

impl SourceSession for ScriptedSource {
    fn add_provider(&self, _: &Provider) -> bool {
        false
    }

    fn met(&self) -> Met {
        Met::default()
    }

    fn fetch<'a>(
        &'a self,
        want: Want,
        _: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let act = script.get(want.cid.hash()).cloned();
        let under_way = UnderWay::begin(&self.under_way);
        async move {
            let _under_way = under_way;
            match act {
                Some(Act::Give(block, delay)) => {
                    tokio::time::sleep(delay).await;
                    Ok(block)
                }
                Some(Act::Lie(block)) => Ok(block),
                Some(Act::Stall) => std::future::pending().await,
                Some(Act::Fail(error)) => Err(error),
                None => Err(FetchError::NotFound(Box::new(want.cid))),
            }
        }
        .boxed()
    }
}

struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
