//! Space put aside for the day the disk is full, so that the commit under way can end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;

use super::file::dir;

/// Size of the reserve, in bytes.
pub(super) const RESERVE_BYTES: u64 = 16 << 20;
/// The reserve takes at most this part of a file system: one in so many bytes.
const RESERVE_SHARE: u64 = 32;
/// Bytes that must be free beside the reserve before it is made anew.
const MARGIN_BYTES: u64 = 4 << 20;

/// A file of allocated space beside the database.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: AtomicBool,
}

impl Reserve {
    /// A reserve of so many bytes at `path`, or fewer on a small file system; not yet made.
    pub(super) fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes, held: AtomicBool::new(false) }
    }

    /// Whether the space is there, made anew if the disk has room for it again.
    pub(super) fn ensure(&self) -> bool {
        if self.is_held() {
            return true;
        }
        let made = self.make().is_ok_and(|made| made);
        self.held.store(made, Ordering::Release);
        made
    }

    /// Whether the space is there.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Gives the space back to the file system. False when there was none.
    pub(super) fn give_up(&self) -> bool {
        let held = self.held.swap(false, Ordering::AcqRel);
        if held {
            tracing::warn!(
                "the disk is full: the database uses its reserve and refuses new writes"
            );
        }
        held && std::fs::remove_file(&self.path).is_ok()
    }

    /// Bytes free on the file system.
    pub(super) fn available_bytes(&self) -> u64 {
        rustix::fs::statvfs(dir(&self.path)).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
    }

    fn make(&self) -> io::Result<bool> {
        let stat = rustix::fs::statvfs(dir(&self.path))?;
        let bytes = self.bytes.min(stat.f_blocks * stat.f_frsize / RESERVE_SHARE);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        // One that an earlier run left is as good as new.
        let there = file.metadata()?.len() >= bytes;
        let room = stat.f_bavail * stat.f_frsize >= bytes + MARGIN_BYTES.min(bytes);
        if !there && !room {
            std::fs::remove_file(&self.path)?;
            return Ok(false);
        }
        let made = allocate(&mut file, bytes);
        if made.is_err() {
            std::fs::remove_file(&self.path)?;
        }
        made.map(|()| true)
    }
}

/// Allocates the first `bytes` of a file.
fn allocate(file: &mut File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; 1 << 20];
            let mut left = bytes;
            while left > 0 {
                let part = left.min(zeros.len() as u64);
                file.write_all(zeros.get(..usize::try_from(part).unwrap_or(0)).unwrap_or(&zeros))?;
                left -= part;
            }
        }
        outcome => outcome?,
    }
    file.sync_all()
}
