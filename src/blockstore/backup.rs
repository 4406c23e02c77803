//! A copy of everything, as of one moment, while the store goes on.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tokio::sync::OwnedMutexGuard;

use crate::block::StoreError;
use crate::db::Snapshot;

use super::disk::store_error;
use super::{Inner, Store, blocking, index};

/// The database's file in a data directory.
const DATABASE_NAME: &str = "db.redb";
/// The directory of the segments in a data directory.
const SEGMENTS_NAME: &str = "segments";
/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

impl Store {
    /// Copies store and database, as of one moment, into the new directory `dir`, which then is a
    /// data directory. Bytes are copied, never shared: damage to the store leaves the copy alone.
    pub async fn backup(&self, dir: PathBuf) -> Result<(), StoreError> {
        self.inner.flush().await?;
        // Segments of rows that the snapshot has stay until they are copied.
        let stay = std::sync::Arc::clone(&self.inner.removing).lock_owned().await;
        let inner = std::sync::Arc::clone(&self.inner);
        blocking(move || inner.copy_to(&dir, stay)).await?
    }
}

impl Inner {
    fn copy_to(&self, dir: &Path, _stay: OwnedMutexGuard<()>) -> Result<(), StoreError> {
        let snapshot = self.db.read()?;
        let made = make_empty(dir).map_err(|error| named(dir, &error))?;
        let copied = self.copy_all(&snapshot, dir);
        if copied.is_err() {
            // What is there is ours, and no backup.
            for name in [DATABASE_NAME, SEGMENTS_NAME] {
                let path = dir.join(name);
                std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)).ok();
            }
            if made {
                std::fs::remove_dir(dir).ok();
            }
        }
        copied
    }

    fn copy_all(&self, snapshot: &Snapshot, dir: &Path) -> Result<(), StoreError> {
        self.db.copy_to(snapshot, &dir.join(DATABASE_NAME))?;
        let segments = dir.join(SEGMENTS_NAME);
        std::fs::create_dir(&segments).map_err(|error| named(&segments, &error))?;
        for (id, row) in index::segments(snapshot)? {
            let from = self.segments.disk().path(id);
            let name = from.file_name().unwrap_or_default();
            let to = segments.join(name);
            copy(&from, &to, row.length.into()).map_err(|error| named(&to, &error))?;
        }
        for directory in [segments.as_path(), dir, dir.parent().unwrap_or(dir)] {
            // An empty parent is the working directory.
            let path = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            let synced = File::open(path).and_then(|directory| directory.sync_all());
            synced.map_err(|error| named(path, &error))?;
        }
        Ok(())
    }
}

/// Makes a directory, or takes one that is empty; says whether it was made.
fn make_empty(dir: &Path) -> io::Result<bool> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match std::fs::read_dir(dir)?.next() {
                None => Ok(false),
                Some(_) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            }
        }
        Err(error) => Err(error),
    }
}

/// Copies the first `bytes` of a file and syncs them. Not by `io::copy`, which may share them.
fn copy(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let mut from = File::open(from)?.take(bytes);
    let mut to = File::options().write(true).create_new(true).open(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => to.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.sync_all()
}

fn named(path: &Path, error: &io::Error) -> StoreError {
    match store_error(error) {
        StoreError::Io(reason) => StoreError::Io(format!("{}: {reason}", path.display()).into()),
        other => other,
    }
}
