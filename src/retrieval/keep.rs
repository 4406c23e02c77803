//! Fetched blocks on their way to disk, behind the back of whoever waits for them.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, mpsc};

use crate::block::{Block, Blockstore};
use crate::metrics::IntCounter;
use crate::task::Tasks;

/// Bytes of blocks that were handed on and are not written yet.
const UNWRITTEN_BYTES_MAX: usize = 32 << 20;
/// What a block counts at least, in bytes.
const BLOCK_COST_MIN: usize = 1 << 10;
/// Most blocks written in one go.
const AT_ONCE_MAX: usize = 256;

/// Writes what was fetched.
pub(super) struct Keeper {
    store: Arc<dyn Blockstore>,
    tasks: Tasks,
    not_kept: IntCounter,
    room: Arc<Semaphore>,
    queue: OnceLock<mpsc::UnboundedSender<Block>>,
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn Blockstore>, tasks: Tasks, not_kept: IntCounter) -> Self {
        let room = Arc::new(Semaphore::new(UNWRITTEN_BYTES_MAX));
        Self { store, tasks, not_kept, room, queue: OnceLock::new() }
    }

    /// Takes a block to be written. Waits only while the disk lags far behind.
    pub(super) async fn keep(&self, block: Block) {
        if let Ok(room) = self.room.acquire_many(cost(&block)).await {
            room.forget();
            // The writer ends with the node; what comes later is not kept.
            if self.queue.get_or_init(|| self.begin()).send(block).is_err() {
                self.not_kept.inc();
            }
        }
    }

    fn begin(&self) -> mpsc::UnboundedSender<Block> {
        // Bounded by the bytes in it.
        let (sender, mut queue) = mpsc::unbounded_channel();
        let (store, room) = (Arc::clone(&self.store), Arc::clone(&self.room));
        let (not_kept, stop) = (self.not_kept.clone(), self.tasks.stop_token());
        self.tasks.spawn(async move {
            let mut blocks = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    count = queue.recv_many(&mut blocks, AT_ONCE_MAX) => if count == 0 { return },
                    () = stop.cancelled() => return,
                }
                let count = blocks.len() as u64;
                let freed: usize = blocks.iter().map(|block| cost(block) as usize).sum();
                // That the disk is full must not keep them from whoever asked.
                if let Err(error) = store.put_many(std::mem::take(&mut blocks)).await {
                    not_kept.inc_by(count);
                    tracing::debug!(%error, "fetched blocks were not kept on disk");
                }
                room.add_permits(freed);
            }
        });
        sender
    }

    /// Whether all that was taken is written.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.room.available_permits() == UNWRITTEN_BYTES_MAX
    }
}

fn cost(block: &Block) -> u32 {
    let cost = block.data().len().max(BLOCK_COST_MIN);
    u32::try_from(cost).unwrap_or(u32::MAX)
}
