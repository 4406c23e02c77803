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

/// Opens the file at `path` for this process alone, without changing it.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let told = |error| named(path, error);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(told)?;
    lock(&file, path)?;
    let mut magic = [0; MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            let reason = format!("{} is too short for a database", path.display());
            Err(Error::Damaged(reason.into()))
        }
        Err(error) => Err(told(error)),
        Ok(()) if magic != MAGIC => {
            let reason = format!("{} is no database of estuary", path.display());
            Err(Error::Damaged(reason.into()))
        }
        Ok(()) => Ok(file),
    }
}

/// Makes a database at `path`, whole or not at all. `fill` writes what shall be in it.
pub(super) fn make(
    path: &Path,
    fill: impl FnOnce(&Engine) -> Result<(), Error>,
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
        sync_dir(path).map_err(told)
    });
    if made.is_err() {
        // The error that is told is the first one.
        let _ = std::fs::remove_file(&unfinished);
    }
    made
}

fn write_new(path: &Path, fill: impl FnOnce(&Engine) -> Result<(), Error>) -> Result<(), Error> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| named(path, error))?;
    lock(&file, path)?;
    let disk: Box<dyn Disk> = Box::new(file);
    let backend = Arc::new(Backend::new(disk, Reserve::none(path)));
    let engine = Engine::open(backend, MAKING_CACHE_BYTES)?;
    engine.transact(|writing| writing.put(META.0, SCHEMA_KEY, &SCHEMA.to_le_bytes()))?;
    fill(&engine)?;
    engine.close()
}

/// Checks that an open database is one of ours, of a schema we know.
pub(super) fn check_schema(engine: &Engine, path: &Path) -> Result<(), Error> {
    let foreign = || {
        let reason = format!("{} is no database of estuary", path.display());
        Error::Damaged(reason.into())
    };
    let view = engine.view().map_err(|_| foreign())?;
    let found = view.get(META.0, SCHEMA_KEY)?.ok_or_else(foreign)?;
    let found = u32::from_le_bytes(found.try_into().map_err(|_| foreign())?);
    if found > SCHEMA { Err(Error::Newer { found, known: SCHEMA }) } else { Ok(()) }
}

/// The file beside `path` whose name has this further ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::InUse),
        Err(TryLockError::Error(error)) => Err(named(path, error)),
    }
}

/// Makes the entry of `path` in its directory durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(super) fn named(path: &Path, error: io::Error) -> Error {
    StoreError::Io(format!("{}: {error}", path.display()).into()).into()
}
