//! `get`: a file or folder from a node to disk.
//!
//! Names come from content of unknown origin, so nothing is ever written outside the target: names
//! that are paths are refused, every step is taken from an open directory without following
//! links, and links are made only where they point inside.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use indicatif::ProgressBar;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::args::Get;
use super::client::{Node, pieces};
use super::output::{self, Output};
use super::read::{Entry, Kind, entries, file_bytes, stat, whole};
use super::{Error, absolute};

/// How much of the end of a partial file is compared before it is continued, in bytes.
const OVERLAP_BYTES: u64 = 64 << 10;
/// Deepest folder that is written.
const DEPTH_MAX: usize = 64;

/// Writes what the path names.
pub(super) async fn get(node: &Node, options: &Get, out: Output) -> Result<(), Error> {
    let entry = stat(node, &options.path).await?;
    let last = options.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let target = match &options.output {
        Some(path) if path.is_dir() && entry.kind != Kind::Directory => path.join(safe(last)?),
        Some(path) => path.clone(),
        None => PathBuf::from(safe(last)?),
    };
    let bar = output::progress(entry.size);
    let writing = Writing { node, bar: &bar };
    let (parent, name) = place(&target)?;
    let outcome = match entry.kind {
        Kind::Directory => {
            // The target is the operator's own choice, so a link that stands there is followed.
            make_directory(&parent, &name, &target)?;
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&parent, &name, flags, Mode::empty());
            let top = opened.map_err(|error| failed(&target, error))?;
            writing.folder(entry.cid.clone(), top, target.clone(), 0).await
        }
        Kind::File => writing.file(&entry, &parent, &name, &target).await,
        Kind::Symlink | Kind::Unknown => {
            Err(Error::Usage(format!("{} is neither a file nor a directory", options.path)))
        }
    };
    bar.finish_and_clear();
    outcome?;
    let path = absolute(&target)?;
    let json = serde_json::json!({ "path": path, "cid": entry.cid, "size": entry.size });
    out.result(&json, target.display())
}

/// The open directory a target lies in, and its name there.
fn place(target: &Path) -> Result<(OwnedFd, String), Error> {
    let whole = absolute(target)?;
    let name = whole.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let (Some(parent), Some(name)) = (whole.parent(), name) else {
        return Err(Error::Usage(format!("{} cannot be written to", target.display())));
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, parent, flags, Mode::empty());
    Ok((opened.map_err(|error| failed(parent, error))?, name))
}

fn failed(path: &Path, error: Errno) -> Error {
    match error {
        // What stands there is a link, or no directory.
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR => Error::InTheWay(path.to_owned()),
        error => Error::file(path, error.into()),
    }
}

fn make_directory(parent: &OwnedFd, name: &str, path: &Path) -> Result<(), Error> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(failed(path, error)),
    }
}

/// The name, if it is one and not a path.
fn safe(name: &str) -> Result<&str, Error> {
    let bad = matches!(name, "" | "." | "..") || name.contains(['/', '\0']);
    if bad { Err(Error::Name(name.into())) } else { Ok(name) }
}

/// Whether a link in a folder `depth` below the top points inside it, whatever other such links
/// are there: it goes up first, not above the top, and then down only.
fn points_inside(target: &str, depth: usize) -> bool {
    let names: Vec<_> = target.split('/').collect();
    let ups = names.iter().take_while(|name| **name == "..").count();
    let down = |name: &&str| !matches!(*name, "" | "." | "..");
    ups <= depth && names[ups..].iter().all(down) && !target.contains('\0')
}

struct Writing<'a> {
    node: &'a Node,
    bar: &'a ProgressBar,
}

impl Writing<'_> {
    fn folder(
        &self,
        cid: String,
        here: OwnedFd,
        path: PathBuf,
        depth: usize,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if depth > DEPTH_MAX {
                let deep = io::Error::other("folders are more than 64 deep");
                return Err(Error::file(&path, deep));
            }
            let mut lines = entries(self.node, &cid).await?;
            while let Some(entry) = lines.next::<Entry>().await? {
                let name = safe(&entry.name)?;
                let path = path.join(name);
                match entry.kind {
                    Kind::File => self.file(&entry, &here, name, &path).await?,
                    Kind::Symlink => link(&entry, &here, &path, depth)?,
                    Kind::Directory => {
                        make_directory(&here, name, &path)?;
                        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let below = rustix::fs::openat(&here, name, flags, Mode::empty())
                            .map_err(|error| failed(&path, error))?;
                        self.folder(entry.cid.clone(), below, path, depth + 1).await?;
                    }
                    Kind::Unknown => {
                        let what = format!("{} is not held, or is no file", entry.cid);
                        return Err(Error::file(&path, io::Error::other(what)));
                    }
                }
            }
            Ok(())
        })
    }

    /// Writes a file, or goes on with one that is partly there.
    async fn file(
        &self,
        entry: &Entry,
        here: &OwnedFd,
        name: &str,
        path: &Path,
    ) -> Result<(), Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A pipe that stands there must not hold us up.
        let opened =
            rustix::fs::openat(here, name, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o666));
        let mut file = File::from(opened.map_err(|error| failed(path, error))?);
        let broken = |error| Error::file(path, error);
        let there = file.metadata().map_err(broken)?;
        let size = entry.size.unwrap_or(0);
        if !there.is_file() || there.len() > size {
            return Err(Error::InTheWay(path.to_owned()));
        }
        self.bar.set_message(output::printable(name));
        let overlap = there.len().min(OVERLAP_BYTES);
        let from = there.len() - overlap;
        self.bar.inc(from);
        if from == size {
            return Ok(());
        }
        let mut known = vec![0; usize::try_from(overlap).unwrap_or(0)];
        file.seek(SeekFrom::Start(from)).map_err(broken)?;
        file.read_exact(&mut known).map_err(broken)?;
        let answer = file_bytes(self.node, &entry.cid, from, None).await?;
        let mut body = pieces(answer.into_body());
        let mut known = known.as_slice();
        let mut got = from;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            let same = piece.len().min(known.len());
            if piece[..same] != known[..same] {
                return Err(Error::InTheWay(path.to_owned()));
            }
            known = &known[same..];
            file.write_all(&piece[same..]).map_err(broken)?;
            got += piece.len() as u64;
            self.bar.inc(piece.len() as u64);
        }
        whole(got, size)
    }
}

fn link(entry: &Entry, here: &OwnedFd, path: &Path, depth: usize) -> Result<(), Error> {
    let target = entry.target.as_deref().unwrap_or_default();
    if target.is_empty() || !points_inside(target, depth) {
        return Err(Error::Name(format!("{} -> {target}", entry.name)));
    }
    match rustix::fs::symlinkat(target, here, entry.name.as_str()) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => match rustix::fs::readlinkat(here, entry.name.as_str(), Vec::new()) {
            Ok(there) if there.as_bytes() == target.as_bytes() => Ok(()),
            _ => Err(Error::InTheWay(path.to_owned())),
        },
        Err(error) => Err(failed(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", "../x", "a\0b"] {
            assert!(safe(name).is_err(), "{name:?}");
        }
        for name in ["a", "...", ".git", "-rf", "ü", "a\\b"] {
            assert!(safe(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn links_that_leave_the_target_are_refused() {
        for (target, depth) in [("..", 0), ("/etc", 3), ("../../x", 1), ("a/../..", 1), ("a//b", 1)]
        {
            assert!(!points_inside(target, depth), "{target}");
        }
        for (target, depth) in [("a", 0), ("a/b", 0), ("..", 1), ("../../x/y", 2)] {
            assert!(points_inside(target, depth), "{target}");
        }
    }
}
