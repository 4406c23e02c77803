//! Blocks on their way to the store, some at a time.

use super::Error;
use super::pool::Memory;
use crate::block::Block;
use crate::blockstore::Writing;
use crate::denylist::Denylist;

/// Bytes handed to the store at once.
const BATCH_BYTES: usize = 4 << 20;
/// Blocks handed to the store at once.
const BATCH_BLOCKS: usize = 4096;

/// Gathers blocks and hands them to the store.
#[derive(Debug)]
pub(super) struct Batch {
    writing: Writing,
    denylist: Denylist,
    blocks: Vec<Block>,
    bytes: usize,
    memory: Memory,
}

impl Batch {
    pub(super) fn new(writing: Writing, denylist: Denylist) -> Self {
        Self { writing, denylist, blocks: Vec::new(), bytes: 0, memory: Memory::none() }
    }

    /// Adds blocks, none of which may be blocked; hands all over once they are many. The memory is
    /// given back when they are written.
    pub(super) async fn add(
        &mut self,
        blocks: impl IntoIterator<Item = Block>,
        memory: Memory,
    ) -> Result<(), Error> {
        for block in blocks {
            self.denylist.check_block(block.cid())?;
            self.bytes += block.data().len();
            self.blocks.push(block);
        }
        self.memory.merge(memory);
        if self.bytes >= BATCH_BYTES || self.blocks.len() >= BATCH_BLOCKS {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands over what was gathered if it holds memory that others may wait for: to be called before
    /// a wait. Small things stay, until they are many.
    pub(super) async fn yield_memory(&mut self) -> Result<(), Error> {
        if self.memory.is_held() { self.flush().await } else { Ok(()) }
    }

    /// Hands over what was gathered.
    async fn flush(&mut self) -> Result<(), Error> {
        let _memory = std::mem::replace(&mut self.memory, Memory::none());
        self.bytes = 0;
        if !self.blocks.is_empty() {
            self.writing.put(std::mem::take(&mut self.blocks)).await?;
        }
        Ok(())
    }

    /// Hands over what is left.
    pub(super) async fn finish(mut self) -> Result<Writing, Error> {
        self.flush().await?;
        Ok(self.writing)
    }
}
