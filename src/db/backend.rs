//! The file under the engine: what happens when the disk is full, and when it fails.
//!
//! **Invariant:** after a write or sync that failed for good, nothing more reaches the file, so what
//! is in it is the last durable commit. The engine is not told, for it would refuse its readers as
//! well: what it still writes goes to a layer in memory, and the writer asks for the failure
//! before it acknowledges anything.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;

use super::limbo::Limbo;
use super::reserve::Reserve;
use crate::block::StoreError;

/// The calls a database makes on its file; the seam at which tests record and fail them.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Length of the file, in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `out` from `offset` on.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data`.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts the file, or lengthens it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn size(&self) -> io::Result<u64> {
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
}

/// What stands for a page that cannot be read: no page of the engine's begins with it, so it stops
/// there. Told of the error, it would refuse all other pages as well.
const UNREADABLE: u8 = 0xff;

/// A disk with a reserve, which fails once and for all.
#[derive(Debug)]
pub(super) struct Backend {
    disk: Box<dyn Disk>,
    /// Whether the engine is open, and what it reads are pages.
    serving: AtomicBool,
    /// Who writes.
    writer: OnceLock<ThreadId>,
    reserve: Arc<Reserve>,
    failure: OnceLock<Failure>,
    limbo: Limbo,
    retired: AtomicBool,
}

/// Why nothing is written any more.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The reserve was not enough. What the file holds is good, and can be opened anew.
    Full,
    /// What the disk holds is not known before a restart.
    Broken(Arc<str>),
}

impl Backend {
    pub(super) fn new(disk: Box<dyn Disk>, reserve: Arc<Reserve>) -> Self {
        let (serving, writer, failure, limbo, retired) = Default::default();
        Self { disk, serving, writer, reserve, failure, limbo, retired }
    }

    /// Why nothing is written any more.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// The failure, as whoever wants to write is told.
    pub(super) fn error(&self) -> Option<StoreError> {
        self.failure().map(|failure| match failure {
            Failure::Full => StoreError::Full { available_bytes: self.reserve.available_bytes() },
            Failure::Broken(reason) => StoreError::ReadOnly(Arc::clone(reason)),
        })
    }

    /// The engine is open: from now on a page that cannot be read is its readers' trouble only.
    pub(super) fn serve(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// This thread is the one that writes.
    pub(super) fn write_here(&self) {
        self.writer.get_or_init(|| std::thread::current().id());
    }

    /// Writes nothing more, for this reason, unless there was one before.
    pub(super) fn fail(&self, reason: impl fmt::Display) {
        self.failure.get_or_init(|| {
            tracing::error!(%reason, "the database is read-only: check the disk, then restart");
            Failure::Broken(reason.to_string().into())
        });
    }

    /// Reads nothing more either: another backend has the file.
    pub(super) fn retire(&self) {
        self.fail("it was opened anew");
        self.retired.store(true, Ordering::Release);
    }

    pub(super) fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Length of the file, in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        self.disk.size()
    }

    /// Cuts off what a commit that failed added to the file.
    pub(super) fn cut(&self, len: u64) -> io::Result<()> {
        if self.disk.size()? > len { self.disk.set_len(len) } else { Ok(()) }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let outcome = match self.failure() {
            None => self.disk.read_at(offset, out),
            Some(_) => self.limbo.read(&*self.disk, offset, out),
        };
        if let Err(error) = outcome {
            if !self.serving.load(Ordering::Acquire) {
                return Err(error);
            }
            // Nothing may be committed that was made from such a page.
            if self.writer.get() == Some(&std::thread::current().id()) {
                self.fail(format_args!("a page of the database cannot be read: {error}"));
            }
            tracing::error!(%error, offset, "a page of the database cannot be read");
            out.fill(UNREADABLE);
        }
        // Asked after reading: what was read may be a page that was used anew meanwhile.
        if self.retired.load(Ordering::Acquire) {
            return Err(io::Error::other("the disk was full, and the database was opened anew"));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.change(|disk| disk.write_at(offset, data)) {
            return Ok(());
        }
        self.limbo.write(&*self.disk, offset, data)
    }

    /// A change of the file: with the reserve's space once the disk is full, and not at all after a
    /// failure. Whether it was made.
    fn change(&self, change: impl Fn(&dyn Disk) -> io::Result<()>) -> bool {
        if self.failure().is_some() {
            return false;
        }
        let outcome = match change(&*self.disk) {
            Err(error) if is_full(&error) && self.reserve.give_up() => change(&*self.disk),
            outcome => outcome,
        };
        match outcome {
            Ok(()) => return true,
            Err(error) if is_full(&error) => {
                self.failure.get_or_init(|| Failure::Full);
            }
            Err(error) => self.fail(error),
        }
        false
    }

    fn sync(&self) {
        // The kernel forgets what it could not write: a sync that failed is never tried again,
        // whatever it failed with.
        if self.failure().is_none()
            && let Err(error) = self.disk.sync()
        {
            self.fail(error);
        }
    }
}

/// Whether an error says that there is no space.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The backend as the engine sees it. Whoever opened the file has locked it.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<Backend>);

impl ::redb::StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change(|disk| disk.set_len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
