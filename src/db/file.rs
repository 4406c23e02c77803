//! How a database comes to be, and how the file of one is opened.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backend::{Backend, Disk};
use super::redb::Engine;
use super::reserve::Reserve;
use super::{Error, META, SCHEMA, SCHEMA_KEY};
use crate::block::StoreError;

/// What the engine's files begin with.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// Memory for a file that is only being made, in bytes.
const MAKING_CACHE_BYTES: u64 = 8 << 20;

/// The file of a database, open and locked, and how to open the engine on it.
pub(super) struct Opener {
    path: PathBuf,
    file: File,
    cache_bytes_max: u64,
    disk: DiskOf,
    reserve: Arc<Reserve>,
}

/// Makes the disk of an open file; tests put theirs between.
pub(super) type DiskOf = Box<dyn Fn(File) -> Box<dyn Disk> + Send>;

impl Opener {
    /// Opens the file at `path` for this process alone, without changing it.
    pub(super) fn new(
        path: &Path,
        cache_bytes_max: u64,
        reserve_bytes: u64,
        disk: DiskOf,
    ) -> Result<Self, Error> {
        let told = |error| named(path, error);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(told)?;
        lock(&file, path)?;
        let mut magic = [0; MAGIC.len()];
        match file.read_exact_at(&mut magic, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(damaged(path, "too short for a database"));
            }
            Err(error) => return Err(told(error)),
            Ok(()) if magic != MAGIC => return Err(damaged(path, "no database of estuary")),
            Ok(()) => {}
        }
        let reserve = Arc::new(Reserve::new(beside(path, "reserve"), reserve_bytes));
        Ok(Self { path: path.to_owned(), file, cache_bytes_max, disk, reserve })
    }

    /// The engine, with what the file holds: the last durable commit.
    pub(super) fn engine(&self) -> Result<Engine, Error> {
        // The copy shares the lock, which therefore outlasts an engine that gives way to another.
        let file = self.file.try_clone().map_err(|error| named(&self.path, error))?;
        let backend = Backend::new((self.disk)(file), Arc::clone(&self.reserve));
        let engine = Engine::open(Arc::new(backend), self.cache_bytes_max);
        let engine = engine.map_err(|error| match error {
            Error::Damaged(reason) => damaged(&self.path, &reason),
            error => error,
        })?;
        self.check_schema(&engine)?;
        Ok(engine)
    }

    /// Checks that the database is one of ours, of a schema we know.
    fn check_schema(&self, engine: &Engine) -> Result<(), Error> {
        let foreign = || damaged(&self.path, "no database of estuary");
        let view = engine.view().map_err(|_| foreign())?;
        let found = view.get(META.0, SCHEMA_KEY)?.ok_or_else(foreign)?;
        let found = u32::from_le_bytes(found.try_into().map_err(|_| foreign())?);
        if found > SCHEMA { Err(Error::Newer { found, known: SCHEMA }) } else { Ok(()) }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        // Snapshots that are still held share the lock, but cannot read any more.
        let _ = self.file.unlock();
    }
}

/// Makes a database at `path`, whole or not at all. `fill` writes what shall be in it.
pub(super) fn make(
    path: &Path,
    fill: impl FnOnce(&mut Engine) -> Result<(), Error>,
) -> Result<(), Error> {
    let told = |error| named(path, error);
    let unfinished = beside(path, "new");
    // What a crash left of an earlier attempt.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(told(error)),
        _ => {}
    }
    let made = write_new(&unfinished, fill).and_then(|()| {
        std::fs::rename(&unfinished, path).map_err(told)?;
        // Its entry in the directory is durable as well.
        File::open(dir(path)).and_then(|dir| dir.sync_all()).map_err(told)
    });
    if made.is_err() {
        // The error that is told is the first one.
        let _ = std::fs::remove_file(&unfinished);
    }
    made
}

fn write_new(
    path: &Path,
    fill: impl FnOnce(&mut Engine) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| named(path, error))?;
    lock(&file, path)?;
    let disk: Box<dyn Disk> = Box::new(file);
    // No reserve is made for it: it may as well fail.
    let backend = Arc::new(Backend::new(disk, Arc::new(Reserve::new(beside(path, "reserve"), 0))));
    let mut engine = Engine::open(backend, MAKING_CACHE_BYTES)?;
    engine.transact(|writing| writing.put(META.0, SCHEMA_KEY, &SCHEMA.to_le_bytes()))?;
    fill(&mut engine)?;
    engine.close()
}

/// The file beside `path` whose name has this further ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn damaged(path: &Path, reason: &str) -> Error {
    Error::Damaged(format!("{}: {reason}", path.display()).into())
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::InUse),
        Err(TryLockError::Error(error)) => Err(named(path, error)),
    }
}

/// The directory that `path` is in.
pub(super) fn dir(path: &Path) -> &Path {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or_else(|| Path::new("."))
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(super) fn named(path: &Path, error: io::Error) -> Error {
    StoreError::Io(format!("{}: {error}", path.display()).into()).into()
}
