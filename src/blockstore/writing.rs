//! A DAG on its way to disk.
//!
//! Blocks are appended as they come. Every so many of them a durable step syncs the segments and
//! commits index rows, each counted on by this writing's manifest, so that memory stays bounded.
//! The last step makes the pin in the same transaction: that alone is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::block::{Block, Cid, StoreError};
use crate::db::{self, Transaction};

use super::batch::{Batch, Count};
use super::index::Edit;
use super::manifest::{self, Loose};
use super::pins::{self, PinRow};
use super::{Inner, Pin, blocking};

/// A DAG that is being written. Dropped before it is pinned or kept, it leaves nothing behind that
/// anyone can see, and its space is collected.
#[derive(Debug)]
pub struct Writing {
    inner: Arc<Inner>,
    batch: Batch,
    manifest: u64,
    /// Rows of the manifest so far.
    rows: u32,
    blocks: u64,
    bytes: u64,
    /// Set when nobody waits any more: steps that are on their way then do nothing.
    abandoned: Arc<AtomicBool>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// A `put` failed or was given up: blocks are missing, so nothing may be promised.
    Broken,
    Done,
}

impl Writing {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            batch: Batch::new(inner),
            manifest: inner.begin_writing(),
            rows: 0,
            blocks: 0,
            bytes: 0,
            abandoned: Arc::default(),
            state: State::Whole,
        }
    }

    /// Appends blocks; those that the store has already are not written again. Waits while the disk
    /// lags behind. Durable only when the DAG is pinned or kept. After an error it cannot be.
    pub async fn put(&mut self, mut blocks: Vec<Block>) -> Result<(), StoreError> {
        self.check()?;
        self.state = State::Broken;
        while !blocks.is_empty() {
            let rest = blocks.split_off(blocks.len().min(self.inner.sizes.batch_blocks_max));
            let put = std::mem::replace(&mut blocks, rest);
            let mut batch = self.batch.take();
            let (batch, outcome) = blocking(move || {
                let outcome = batch.add(&put);
                (batch, outcome)
            })
            .await?;
            self.batch = batch;
            outcome?;
            if self.batch.len() >= self.inner.sizes.batch_blocks_max {
                self.step().await?;
            }
            self.inner.segments.keep_pace().await?;
        }
        self.state = State::Whole;
        Ok(())
    }

    /// Makes all that was written so far durable and readable. It is counted on by this writing, so
    /// nothing of it is collected before the end.
    pub async fn settle(&mut self) -> Result<(), StoreError> {
        self.check()?;
        self.state = State::Broken;
        self.step().await?;
        self.state = State::Whole;
        Ok(())
    }

    /// Pins all that was written under `root`, durable when it returns. `also` writes other rooms'
    /// records into the same transaction. A pin that is there already stays as it is.
    pub async fn pin<T: Send + 'static>(
        mut self,
        root: Cid,
        also: impl FnOnce(&mut Transaction<'_>) -> Result<T, db::Error> + Send + 'static,
    ) -> Result<(Pin, T), StoreError> {
        self.check()?;
        let batch = self.batch.take();
        batch.sync().await?;
        self.count(&batch);
        let mut pin = PinRow {
            manifest: self.manifest,
            blocks: self.blocks,
            bytes: self.bytes,
            created: self.inner.segments.disk().now_unix(),
        };
        let (rows, abandoned) = (self.rows, Arc::clone(&self.abandoned));
        let batch = Arc::new(batch);
        let counted = Arc::clone(&batch);
        let job = move |tx: &mut Transaction<'_>| {
            commit(tx, &counted, Count::Pinned, (pin.manifest, rows), &abandoned)?;
            match pins::find_in(tx, &root)? {
                None => {
                    tx.remove(manifest::LOOSE, &manifest::key(pin.manifest))?;
                    pins::put(tx, &root, &pin)?;
                }
                Some(there) => {
                    manifest::set_loose(tx, pin.manifest, Loose::Released)?;
                    pin = there;
                }
            }
            Ok::<_, db::Error>((pin, also(tx)?))
        };
        let (row, also) = self.inner.db.write(job).await?;
        if row.manifest == self.manifest {
            self.state = State::Done;
        }
        batch.committed();
        drop(batch);
        Ok((row.pin(root), also))
    }

    /// Keeps all that was written as cached blocks, durable when it returns.
    pub async fn keep(mut self) -> Result<(), StoreError> {
        self.check()?;
        let batch = self.batch.take();
        batch.sync().await?;
        let (manifest, rows) = (self.manifest, self.rows);
        let abandoned = Arc::clone(&self.abandoned);
        let batch = Arc::new(batch);
        let counted = Arc::clone(&batch);
        let job = move |tx: &mut Transaction<'_>| {
            commit(tx, &counted, Count::Cached, (manifest, rows), &abandoned)?;
            // What earlier steps counted on is cached when the counts are given back.
            if rows > 0 { manifest::set_loose(tx, manifest, Loose::Released) } else { Ok(()) }
        };
        self.inner.db.write(job).await?;
        batch.committed();
        drop(batch);
        if rows > 0 {
            self.inner.release(manifest).await?;
        }
        self.state = State::Done;
        Ok(())
    }

    /// Makes what is in the batch durable, counted on by a manifest that no pin owns yet.
    async fn step(&mut self) -> Result<(), StoreError> {
        let batch = self.batch.take();
        batch.sync().await?;
        self.count(&batch);
        let (manifest, rows) = (self.manifest, self.rows);
        let abandoned = Arc::clone(&self.abandoned);
        let batch = Arc::new(batch);
        let counted = Arc::clone(&batch);
        // From here on there may be rows to release, even if nobody waits for the answer.
        self.rows = rows.max(1);
        let job = move |tx: &mut Transaction<'_>| {
            let rows = commit(tx, &counted, Count::Pinned, (manifest, rows), &abandoned)?;
            manifest::set_loose(tx, manifest, Loose::Open)?;
            Ok::<_, db::Error>(rows)
        };
        self.rows = self.inner.db.write(job).await?;
        batch.committed();
        drop(batch);
        Ok(())
    }

    fn count(&mut self, batch: &Batch) {
        self.blocks += batch.len() as u64;
        self.bytes += batch.bytes();
    }

    fn check(&self) -> Result<(), StoreError> {
        self.inner.check()?;
        match self.state {
            State::Whole => Ok(()),
            State::Broken | State::Done => {
                Err(StoreError::Io("an earlier write of this DAG did not succeed".into()))
            }
        }
    }
}

/// Commits a batch; gives the manifest's number of rows. `at` is the manifest and how many it had.
fn commit(
    tx: &mut Transaction<'_>,
    batch: &Batch,
    count: Count,
    (manifest, rows): (u64, u32),
    abandoned: &AtomicBool,
) -> Result<u32, db::Error> {
    if abandoned.load(Ordering::SeqCst) {
        return Err(StoreError::Closed.into());
    }
    let mut edit = Edit::begin(tx)?;
    edit.totals.next_manifest = edit.totals.next_manifest.max(manifest + 1);
    let counted = batch.apply(&mut edit, count)?;
    edit.finish()?;
    match count {
        Count::Pinned => manifest::extend(tx, manifest, rows, &counted),
        Count::Cached => Ok(rows),
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::SeqCst);
        self.inner.end_writing(self.manifest, self.state == State::Done);
    }
}
