//! The file under the engine: what happens when the disk is full, and when it fails.
//!
//! **Invariant:** after a write or sync that failed for good, nothing more reaches the file, so what
//! is in it is the last durable commit. The engine is not told: its readers go on, and the writer
//! asks [`Backend::failure`] before it acknowledges anything.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use super::reserve::Reserve;

/// The calls a database makes on its file; the seam at which tests record and fail them.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Length of the file, in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `out` from `offset` on.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data`.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts the file, or lengthens it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&self) -> io::Result<()>;
    /// Lets others open the file.
    fn unlock(&self) -> io::Result<()>;
}

impl Disk for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn unlock(&self) -> io::Result<()> {
        File::unlock(self)
    }
}

/// A disk with a reserve, which fails once and for all.
#[derive(Debug)]
pub(super) struct Backend {
    disk: Box<dyn Disk>,
    reserve: Reserve,
    failure: OnceLock<Arc<str>>,
}

impl Backend {
    pub(super) fn new(disk: Box<dyn Disk>, reserve: Reserve) -> Self {
        Self { disk, reserve, failure: OnceLock::new() }
    }

    /// Why nothing is written any more.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.failure.get().cloned()
    }

    /// Writes nothing more, for this reason; the first one stays.
    pub(super) fn fail(&self, reason: impl fmt::Display) {
        self.failure.get_or_init(|| {
            tracing::error!(%reason, "the database is read-only from now on: check the disk, then restart");
            reason.to_string().into()
        });
    }

    pub(super) fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Length of the file, in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    /// A write: with the reserve's space once the disk is full, and not at all after a failure.
    fn change(&self, change: impl Fn(&dyn Disk) -> io::Result<()>) {
        if self.failure.get().is_some() {
            return;
        }
        let outcome = match change(&*self.disk) {
            Err(error) if is_full(&error) && self.reserve.give_up() => change(&*self.disk),
            outcome => outcome,
        };
        if let Err(error) = outcome {
            self.fail(error);
        }
    }
}

/// Whether an error says that there is no space.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The backend as the engine sees it.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<Backend>);

impl ::redb::StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.disk.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change(|disk| disk.set_len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // The kernel forgets what it could not write: a sync that failed is never tried again.
        if self.0.failure.get().is_none()
            && let Err(error) = self.0.disk.sync()
        {
            self.0.fail(error);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.change(|disk| disk.write_at(offset, data));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.0.disk.unlock()
    }
}
