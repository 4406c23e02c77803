//! The files that lists are in: which there are, and when they are read anew.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::list::{List, Unusable};
use super::{Error, Metrics};

/// Most lists: each is asked in turn.
const LISTS_MAX: usize = 64;
/// Bytes of a file that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Bad lines that are logged one by one when a list is read.
const BAD_LINES_LOGGED: u64 = 20;
/// Looks after which a file that is written without a pause is read all the same.
const LOOKS_PATIENCE: u32 = 5;

/// A list, and what it is called.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) list: Arc<List>,
}

/// What tells two versions of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: (file.dev(), file.ino()),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// A file that has a list, and the version of it that is in use.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    name: Arc<str>,
    list: Option<Arc<List>>,
    /// The version that was last read, whether it was of use or not.
    read: Option<Stamp>,
    /// A newer version, and at how many looks in a row there was one.
    newer: Option<(Stamp, u32)>,
}

/// All files that are configured, in their order.
#[derive(Debug)]
pub(super) struct Files {
    /// Files, and directories of them.
    paths: Vec<PathBuf>,
    /// How files end that count in directories.
    extension: &'static str,
    watched: Vec<Watched>,
    metrics: Metrics,
}

impl Files {
    /// Reads all lists. One that cannot be read is an error.
    pub(super) fn open(
        paths: Vec<PathBuf>,
        extension: &'static str,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let mut files = Self { paths, extension, watched: Vec::new(), metrics };
        for path in files.paths.clone() {
            let found = files.expand(&path);
            let found =
                found.map_err(|error| Error { path: path.clone(), reason: error.into() })?;
            files.watched.extend(found.into_iter().map(Watched::new));
        }
        if files.watched.len() > LISTS_MAX {
            let reason = Unusable::Malformed("there are more than 64 lists");
            let path = files.paths.first().cloned().unwrap_or_default();
            return Err(Error { path, reason });
        }
        for watched in &mut files.watched {
            watched.read(&files.metrics).map_err(|reason| {
                let path = watched.path.clone();
                Error { path, reason }
            })?;
        }
        Ok(files)
    }

    /// The lists that are in use, in their order.
    pub(super) fn lists(&self) -> Vec<Named> {
        let in_use = |watched: &Watched| {
            let list = watched.list.clone()?;
            Some(Named { name: Arc::clone(&watched.name), list })
        };
        self.watched.iter().filter_map(in_use).collect()
    }

    /// Looks which files are new, gone or changed, and reads what is to be read. Says whether the
    /// lists in use are others than before. What cannot be read stays in use as it was.
    pub(super) fn look(&mut self) -> bool {
        let mut changed = self.look_for_files();
        for watched in &mut self.watched {
            match watched.look(&self.metrics) {
                Ok(false) => {}
                Ok(true) => {
                    changed = true;
                    self.metrics.reloads.with_label_values(&["taken"]).inc();
                    tracing::info!(target: "estuary::denylist", list = %watched.name,
                        "a changed list was taken");
                }
                Err(error) => failed(&self.metrics, &watched.name, &watched.path, &error),
            }
        }
        changed
    }

    fn look_for_files(&mut self) -> bool {
        let mut wanted = Vec::new();
        for path in &self.paths {
            let own = |watched: &&Watched| watched.path.starts_with(path);
            let known = self.watched.iter().filter(own).map(|watched| watched.path.clone());
            let found = self.expand(path).and_then(|found| {
                let emptied = found.is_empty() && self.watched.iter().any(|old| own(&old));
                if emptied { Err(io::Error::other("all its lists are gone")) } else { Ok(found) }
            });
            match found {
                Ok(found) => {
                    set_stale(&self.metrics, &name_of(path), false);
                    wanted.extend(found);
                }
                Err(error) => {
                    failed(&self.metrics, &name_of(path), path, &error.into());
                    wanted.extend(known);
                }
            }
        }
        wanted.truncate(LISTS_MAX);
        let kept: BTreeSet<_> = wanted.iter().cloned().collect();
        let mut old: Vec<_> = self.watched.drain(..).collect();
        let mut changed = false;
        for gone in old.extract_if(.., |watched| !kept.contains(&watched.path)) {
            tracing::warn!(target: "estuary::denylist", list = %gone.name, "a list was withdrawn");
            set_stale(&self.metrics, &gone.name, false);
            self.metrics.rules.with_label_values(&[&gone.name]).set(0);
            changed = true;
        }
        for path in wanted {
            let at = old.iter().position(|watched| watched.path == path);
            self.watched.push(at.map_or_else(|| Watched::new(path), |at| old.swap_remove(at)));
        }
        changed
    }

    /// The files that a configured path stands for; those in a directory by their names.
    fn expand(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        if !fs::metadata(path).map(|found| found.is_dir()).or_else(|error| {
            // A file that is gone for a moment is missed when it is looked at.
            if error.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(error) }
        })? {
            return Ok(vec![path.to_owned()]);
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == self.extension) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        let name = name_of(&path).into();
        Self { path, name, list: None, read: None, newer: None }
    }

    /// Reads the file anew if it changed and is no longer being written. Says whether it was.
    fn look(&mut self, metrics: &Metrics) -> Result<bool, Unusable> {
        let stamp = Stamp::of(&fs::metadata(&self.path)?);
        if self.read == Some(stamp) {
            self.newer = None;
            return Ok(false);
        }
        let looks = self.newer.map_or(1, |(_, looks)| looks + 1);
        let settled = self.newer.is_some_and(|(seen, _)| seen == stamp);
        self.newer = Some((stamp, looks));
        if !settled && looks < LOOKS_PATIENCE {
            return Ok(false);
        }
        self.newer = None;
        self.read(metrics).map(|()| true)
    }

    fn read(&mut self, metrics: &Metrics) -> Result<(), Unusable> {
        let file = File::open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(Unusable::Malformed("it is not a file"));
        }
        // One that is of no use is read again when it changes.
        self.read = Some(Stamp::of(&found));
        if found.len() == 0 && self.list.is_some() {
            return Err(Unusable::Malformed("it is empty: to withdraw it, leave a comment in it"));
        }
        let (name, mut bad) = (Arc::clone(&self.name), 0);
        let outcome = List::read(BufReader::with_capacity(BUFFER_BYTES, file), |line, reason| {
            bad += 1;
            if bad <= BAD_LINES_LOGGED {
                tracing::warn!(target: "estuary::denylist", list = %name, line, reason,
                    "a line of a list was passed over");
            }
        });
        if let Err(Unusable::Io(_)) = &outcome {
            self.read = None;
        }
        let list = outcome?;
        if bad > BAD_LINES_LOGGED {
            tracing::warn!(target: "estuary::denylist", list = %name, lines = bad,
                "lines of a list were passed over");
        }
        let of_list = &[&*self.name];
        metrics.rules.with_label_values(of_list).set(list.index.len() as i64);
        metrics.bad_lines.with_label_values(of_list).set(list.bad_lines() as i64);
        set_stale(metrics, &self.name, false);
        self.list = Some(Arc::new(list));
        Ok(())
    }
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn set_stale(metrics: &Metrics, name: &str, stale: bool) {
    metrics.stale.with_label_values(&[name]).set(i64::from(stale));
}

fn failed(metrics: &Metrics, name: &str, path: &Path, error: &Unusable) {
    set_stale(metrics, name, true);
    metrics.reloads.with_label_values(&["failed"]).inc();
    tracing::error!(target: "estuary::denylist", path = %path.display(), %error,
        "a list cannot be read; what it said before still holds");
}
