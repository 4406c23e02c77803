//! Fakes for the traits of [`crate::block`] and [`crate::provider`], and a little content to play with.

pub mod crash;
pub mod dns;
pub mod faults;
pub mod http;
pub mod ipns;
mod sources;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::block::{Block, Blockstore, Cid, Mh, StoreError};
use crate::ipld;
use crate::ipld::unixfs::import::{DirectoryBuilder, FileBuilder, Profile};

pub use sources::{Act, ScriptedRouter, ScriptedSource};

/// What counts traffic, for whoever has to be given one: on a database that is gone when nobody
/// holds it any more.
#[cfg(test)]
pub(crate) fn traffic() -> crate::traffic::Traffic {
    let (dir, registry) = (tempfile::tempdir().unwrap(), prometheus::Registry::new());
    let metrics = crate::db::Metrics::register(&registry).unwrap();
    let db = crate::db::Db::open(&dir.path().join("db"), &Default::default(), metrics).unwrap();
    let metrics = crate::traffic::Metrics::register(&registry).unwrap();
    crate::traffic::Traffic::open(db, &metrics).unwrap()
}

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

    /// Takes all blocks out, under CIDs of raw blocks.
    #[must_use]
    pub fn take_all(&self) -> Vec<Block> {
        let mut held = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let cid = |mh| Cid::new_v1(crate::block::codec::RAW, mh);
        held.drain().map(|(mh, data)| Block::from_checked_record(cid(mh), data)).collect()
    }

    /// Imports a file in chunks of so many bytes; gives its root.
    pub fn add_file(&self, data: &[u8], chunk_bytes: usize) -> Result<Cid, ipld::Error> {
        self.add_narrow_file(data, chunk_bytes, Profile::V1_2025.links_max())
    }

    /// The same, with at most so many links in a node.
    pub fn add_narrow_file(
        &self,
        data: &[u8],
        chunk_bytes: usize,
        links_max: usize,
    ) -> Result<Cid, ipld::Error> {
        let profile = Profile::V1_2025;
        let mut builder = FileBuilder::new(profile, links_max);
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
