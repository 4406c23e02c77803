//! The data directory: one process at a time has it, and answers on one socket.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;
use xxhash_rust::xxh3::xxh3_128;

use super::Error;

/// Longest path of a unix socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Connections to the socket that wait to be accepted.
const SOCKET_BACKLOG: i32 = 128;

/// A data directory, held by this process until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Locked; the lock goes with the last handle to the file, so that of a killed process too.
    _lock: File,
}

impl DataDir {
    /// Takes the directory at `path`, which is made where there is none.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::DataDir { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join("lock")).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(failed)?;
                return Err(Error::InUse { pid: holder.trim().into(), path: path.to_owned() });
            }
            Err(error) => return Err(failed(error.into())),
        }
        lock.set_len(0).map_err(failed)?;
        lock.rewind().map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        sync_name(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database's file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// The file of the node's identity.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.path.join(IDENTITY)
    }

    /// The directory of segment files.
    #[must_use]
    pub fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }

    /// Listens on the socket, which only this user may open.
    pub(super) fn listen(&self) -> Result<Socket, Error> {
        let path = socket_path(&self.path);
        let failed = |source: io::Error| Error::Socket { path: path.clone(), source };
        if !path.starts_with(&self.path) {
            own_directory(&path).map_err(failed)?;
        }
        // We have the lock, so whoever made a socket that is there is gone.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = bind(&path).map_err(failed)?;
        Ok(Socket { listener, file: SocketFile(path) })
    }
}

/// Makes the directory's own name durable: what is synced in it later is worth nothing without.
fn sync_name(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    match path.parent().map(File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        // Who may not read it did not make the directory in it either.
        Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Some(Err(error)) => Err(error),
        None => Ok(()),
    }
}

/// A socket that listens, and its file.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// The file of a socket; removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already; the next to take the directory would otherwise.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds with the permissions set first, so that there is no moment at which others may connect.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let owner = Mode::RUSR | Mode::WUSR;
    rustix::fs::fchmod(&socket, owner)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(owner.bits()))?;
    rustix::net::listen(&socket, SOCKET_BACKLOG)?;
    UnixListener::from_std(socket.into())
}

const IDENTITY: &str = "identity.key";
const DATABASE: &str = "db.redb";

/// Whether something was ever stored in the data directory at `path`.
#[must_use]
pub fn has_store(path: &Path) -> bool {
    path.join(DATABASE).exists()
}

/// The socket of the node on the data directory at `dir`: in it, or where its path would be too
/// long, in a directory of this user's among the temporary ones.
#[must_use]
pub fn socket_path(dir: &Path) -> PathBuf {
    let path = dir.join("node.sock");
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return path;
    }
    // Node and client may come by different links, or with different environments.
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = xxh3_128(dir.as_os_str().as_encoded_bytes());
    let user = rustix::process::getuid().as_raw();
    PathBuf::from(format!("/tmp/estuary-{user}/{name:032x}.sock"))
}

/// Sees to it that the directory of `path` is there and is this user's alone.
fn own_directory(path: &Path) -> io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let made = std::fs::symlink_metadata(dir)?;
    let user = rustix::process::getuid().as_raw();
    if made.is_dir() && made.uid() == user && made.mode().trailing_zeros() >= 6 {
        return Ok(());
    }
    let text = format!("{} must be a directory of this user's alone", dir.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn one_process_at_a_time_has_a_directory_and_others_hear_which() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::take(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let Err(Error::InUse { pid, .. }) = DataDir::take(&path) else { panic!("taken twice") };
        assert_eq!(pid, std::process::id().to_string());
        drop(first);
        DataDir::take(&path).unwrap();
    }

    #[tokio::test]
    async fn the_socket_is_the_users_alone_wherever_it_is() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["short".to_owned(), "long".repeat(40)] {
            let dir = DataDir::take(&parent.path().join(name)).unwrap();
            let path = socket_path(dir.path());
            // What a killed process leaves.
            drop(std::os::unix::net::UnixListener::bind(&path));
            let socket = dir.listen().unwrap();
            assert!(path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
            assert_eq!(mode(&path), 0o600);
            assert_eq!(mode(path.parent().unwrap()), 0o700);
            assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
            drop(socket);
            assert!(!path.exists());
        }
    }
}
