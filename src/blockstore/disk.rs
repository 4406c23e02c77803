//! What the segment files are done with, and the seam where tests watch it and let it fail.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags};

use crate::block::StoreError;

/// Slices that one system call takes (Linux: `UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// Something that is about to be done to the directory of the segments. Files go by number.
#[derive(Debug)]
pub enum FileOp<'a> {
    /// A file is made.
    Create(u32),
    /// These bytes, one slice after the other, are written at this offset.
    Write(u32, u64, &'a [IoSlice<'a>]),
    /// A file is synced.
    Sync(u32),
    /// The directory is synced, and so which files it has.
    SyncDirectory,
    /// A file is cut to this many bytes.
    Cut(u32, u64),
    /// A file is taken away.
    Remove(u32),
}

/// The world outside: the real one lets everything happen, those of tests watch and intervene.
pub trait Outside: Send + Sync + fmt::Debug {
    /// Called before something is done; an error is taken for the system's.
    fn before(&self, _: &FileOp<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Bytes that the disk still takes, where it is smaller than the real one.
    fn room_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Seconds since 1970.
    fn now_unix(&self) -> u64 {
        crate::task::now_unix()
    }
}

/// The world as it is.
#[derive(Debug)]
pub(super) struct RealWorld;

impl Outside for RealWorld {}

/// The directory of the segment files.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    directory: PathBuf,
    outside: Arc<dyn Outside>,
}

impl Disk {
    /// Makes the directory where it is missing.
    pub(super) fn open(directory: &Path, outside: Arc<dyn Outside>) -> io::Result<Self> {
        if !directory.exists() {
            std::fs::create_dir_all(directory)?;
            if let Some(parent) = directory.parent().filter(|parent| parent.is_dir()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self { directory: directory.to_path_buf(), outside })
    }

    pub(super) fn now_unix(&self) -> u64 {
        self.outside.now_unix()
    }

    pub(super) fn path(&self, id: u32) -> PathBuf {
        self.directory.join(file_name(id))
    }

    /// The numbers of the segment files there are.
    pub(super) fn list(&self) -> io::Result<Vec<u32>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
            ids.extend(id.filter(|id| *file_name(*id) == *name));
        }
        Ok(ids)
    }

    pub(super) fn create(&self, id: u32) -> io::Result<File> {
        self.outside.before(&FileOp::Create(id))?;
        File::options().read(true).write(true).create_new(true).open(self.path(id))
    }

    pub(super) fn open_file(&self, id: u32) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path(id))
    }

    /// Writes all slices at `offset`. After an error the file may hold some of them.
    pub(super) fn write(
        &self,
        id: u32,
        file: &File,
        offset: u64,
        slices: &mut [IoSlice<'_>],
    ) -> io::Result<()> {
        self.outside.before(&FileOp::Write(id, offset, slices))?;
        let (mut offset, mut left) = (offset, slices);
        while !left.is_empty() {
            let batch = left.len().min(SLICES_MAX);
            match rustix::io::pwritev(file, &left[..batch], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn sync(&self, id: u32, file: &File) -> io::Result<()> {
        self.outside.before(&FileOp::Sync(id))?;
        Ok(rustix::fs::fdatasync(file)?)
    }

    pub(super) fn sync_directory(&self) -> io::Result<()> {
        self.outside.before(&FileOp::SyncDirectory)?;
        File::open(&self.directory)?.sync_all()
    }

    pub(super) fn cut(&self, id: u32, file: &File, bytes: u64) -> io::Result<()> {
        self.outside.before(&FileOp::Cut(id, bytes))?;
        file.set_len(bytes)
    }

    pub(super) fn remove(&self, id: u32) -> io::Result<()> {
        self.outside.before(&FileOp::Remove(id))?;
        std::fs::remove_file(self.path(id))
    }

    /// Bytes that an unprivileged writer finds free.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let there = rustix::fs::statvfs(&self.directory)?;
        Ok(there.f_bavail.saturating_mul(there.f_frsize).min(self.outside.room_bytes()))
    }
}

/// Fills `buffer` from `offset` on if that takes no waiting for the disk. False when it does, or
/// when the file system cannot tell.
pub(super) fn read_at_once(file: &File, into: &mut [IoSliceMut<'_>], offset: u64) -> bool {
    let length = into.iter().map(|part| part.len()).sum();
    rustix::io::preadv2(file, into, offset, ReadWriteFlags::NOWAIT) == Ok(length)
}

/// What an I/O error means to whoever asked.
pub(super) fn store_error(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full { available_bytes: 0 }
        }
        _ => StoreError::Io(error.to_string().into()),
    }
}

fn file_name(id: u32) -> String {
    format!("{id:08}.seg")
}
