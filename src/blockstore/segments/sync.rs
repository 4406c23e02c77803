//! Bytes on their way from the kernel to the disk: written back early, synced together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::block::StoreError;
use crate::blockstore::blocking;

use super::{Appended, Segments};

impl Segments {
    /// Returns when all these records are on disk. Those who wait share one sync.
    pub(in crate::blockstore) async fn sync(
        self: &Arc<Self>,
        appended: &Appended,
    ) -> Result<(), StoreError> {
        if self.covers(appended) {
            return self.check();
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.check()?;
        if self.covers(appended) {
            return Ok(());
        }
        let segments = Arc::clone(self);
        blocking(move || segments.sync_all(turn)).await??;
        if self.covers(appended) {
            Ok(())
        } else {
            Err(StoreError::Io("not all was synced".into()))
        }
    }

    /// Begins to write back when much is dirty, and waits when too much is.
    pub(in crate::blockstore) async fn keep_pace(self: &Arc<Self>) -> Result<(), StoreError> {
        let dirty = || self.dirty.load(Ordering::Relaxed);
        if dirty() < self.sizes.write_back_bytes {
            return Ok(());
        }
        let turn = Arc::clone(&self.turn);
        let turn = if dirty() < self.sizes.dirty_bytes_max {
            let Ok(turn) = turn.try_lock_owned() else { return Ok(()) };
            turn
        } else {
            turn.lock_owned().await
        };
        self.check()?;
        if dirty() < self.sizes.write_back_bytes {
            return Ok(());
        }
        let segments = Arc::clone(self);
        let sync = blocking(move || segments.sync_all(turn));
        if dirty() < self.sizes.dirty_bytes_max {
            drop(sync); // It goes on; a failure is remembered.
            return Ok(());
        }
        sync.await?
    }

    fn sync_all(&self, turn: OwnedMutexGuard<()>) -> Result<(), StoreError> {
        let _turn = turn;
        self.check()?;
        let started = Instant::now();
        let dirty: Vec<_> = self
            .read_slots()
            .iter()
            .filter(|(_, slot)| slot.synced < slot.end)
            .filter_map(|(id, slot)| Some((*id, Arc::clone(slot.file.as_ref()?), slot.end)))
            .collect();
        // After the files were listed: whichever is listed was made before.
        if self.directory_dirty.swap(false, Ordering::SeqCst) {
            self.disk.sync_directory().map_err(|error| self.fail(&error))?;
        }
        for (id, file, end) in dirty {
            self.disk.sync(id, &file).map_err(|error| self.fail(&error))?;
            if let Some(slot) = self.write_slots().get_mut(&id) {
                self.dirty.fetch_sub((end - slot.synced).into(), Ordering::Relaxed);
                slot.synced = end;
            }
        }
        self.metrics.syncs.inc();
        self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn fail(&self, error: &io::Error) -> StoreError {
        let reason = self.failed.get_or_init(|| {
            tracing::error!(%error, "a sync failed: the store is read-only until it is opened anew");
            error.to_string().into()
        });
        StoreError::ReadOnly(Arc::clone(reason))
    }

    fn covers(&self, appended: &Appended) -> bool {
        let slots = self.read_slots();
        appended
            .marks
            .iter()
            .all(|(id, (_, end))| slots.get(id).is_some_and(|slot| slot.synced >= *end))
    }
}
