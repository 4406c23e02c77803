//! Denylists: what must neither leave nor come in, in the compact denylist format of the IPFS
//! specifications, read from files and read again when they change. Allowlists are written in the
//! same form.
//!
//! **Invariant:** what a list blocks is blocked from the moment it is read, whatever is cached; a
//! list that cannot be read stays in force as it was, and is told of.

mod files;
mod header;
mod index;
mod keys;
pub mod line;
mod list;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::block::{Blocked, Cid, IDENTITY};

pub use list::{List, Unusable};

use files::{Files, Named};
use index::{Kinds, Mark};
use keys::Question;
use line::Verdict;

/// The section of denylists in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files, and directories of files `*.deny`, whose lists block content; a later list wins over
    /// those before it.
    pub paths: Vec<PathBuf>,
    /// How often it is looked whether lists changed, in milliseconds; at most 10,000.
    pub reload_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { paths: Vec::new(), reload_ms: 2_000 }
    }
}

crate::metrics! {
    /// What lists hold, and what they blocked.
    pub struct Metrics {
        /// Times that something was blocked, by the list and by what was asked for: a block, a path or a name.
        blocked: counter_vec("estuary_denylist_blocked_total", "list", "kind"),
        /// Rules of each list.
        rules: gauge_vec("estuary_denylist_rules", "list"),
        /// Lines of each list that make no sense and are passed over.
        bad_lines: gauge_vec("estuary_denylist_bad_lines", "list"),
        /// 1 where a list or a directory of lists cannot be read, and what it said before still holds.
        stale: gauge_vec("estuary_denylist_stale", "list"),
        /// Lists that were read again, by whether they were taken.
        reloads: counter_vec("estuary_denylist_reloads_total", "outcome"),
    }
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the list {} cannot be used: {reason}", path.display())]
pub struct Error {
    /// The list, or the directory of lists.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Unusable,
}

/// Says what must not leave and must not come in. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Denylist(Option<Arc<Shared>>);

/// Says what may be answered where not everything may. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Allowlist(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    in_use: RwLock<Arc<InUse>>,
    files: Mutex<Option<Files>>,
    every: Duration,
    metrics: Metrics,
}

/// The lists that are in use.
#[derive(Debug)]
struct InUse {
    lists: Vec<Named>,
    /// What all of them together need.
    kinds: Kinds,
}

impl InUse {
    fn new(lists: Vec<Named>) -> Self {
        let mut kinds = Kinds::default();
        lists.iter().for_each(|named| kinds.merge(&named.list.index.kinds));
        Self { lists, kinds }
    }

    /// The last line of all that says something of this.
    fn find(&self, question: &Question<'_>) -> Option<(&Named, Mark)> {
        let mut later = self.lists.iter().rev();
        later.find_map(|named| Some((named, named.list.index.find(question)?)))
    }
}

/// Which line says that something is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its list.
    pub list: Arc<str>,
    /// Its number, from 1.
    pub line: u32,
    /// What is said.
    pub verdict: Verdict,
}

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// A block, or a CID by itself.
    Block(&'a Cid),
    /// A path below a CID, in names.
    Path(&'a Cid, &'a [String]),
    /// A name as it stands in a path, and names below it.
    Name(&'a str, &'a [String]),
}

impl Asked<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Block(_) => "block",
            Self::Path(..) => "path",
            Self::Name(..) => "name",
        }
    }

    fn path(&self) -> Cow<'_, str> {
        match self {
            Self::Block(_) | Self::Path(_, []) | Self::Name(_, []) => Cow::Borrowed(""),
            Self::Path(_, [one]) | Self::Name(_, [one]) => Cow::Borrowed(one),
            Self::Path(_, segments) | Self::Name(_, segments) => segments.join("/").into(),
        }
    }

    /// The question with this path; `None` for a name that is none.
    fn question<'a>(&self, path: Cow<'a, str>, kinds: &Kinds) -> Option<Question<'a>> {
        match self {
            Self::Block(cid) | Self::Path(cid, _) => Some(Question::content(cid, path, kinds)),
            Self::Name(name, _) => Some(Question::name(&line::named(name)?, path, kinds)),
        }
    }
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block(cid) => write!(f, "/ipfs/{cid}"),
            Self::Path(cid, _) => write!(f, "/ipfs/{cid}/{}", self.path()),
            Self::Name(name, _) => write!(f, "/ipns/{name}/{}", self.path()),
        }
    }
}

impl Denylist {
    /// Reads the lists of a configuration. One that cannot be read at all is an error.
    pub fn open(config: &Config, metrics: Metrics) -> Result<Self, Error> {
        let every = Duration::from_millis(config.reload_ms);
        Shared::open(config.paths.clone(), "deny", every, metrics).map(Self)
    }

    /// Reads lists again whenever they change, until it is to stop.
    pub fn watch(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        watch(self.0.clone(), stop)
    }

    /// Whether nothing can be blocked, for no list is configured.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// Whether these bytes may pass, whatever the version, codec and base of the CID.
    pub fn check_block(&self, cid: &Cid) -> Result<(), Blocked> {
        match &self.0 {
            None => Ok(()),
            Some(shared) => shared.check(Asked::Block(cid)),
        }
    }

    /// As [`Self::check_block`], where nothing is refused yet and so nothing is counted.
    #[must_use]
    pub fn would_block(&self, cid: &Cid) -> bool {
        let blocks = |found: Found| found.verdict != Verdict::Allowed;
        self.find(Asked::Block(cid)).is_some_and(blocks)
    }

    /// Whether a path below a CID may be answered: by its text, not by what it leads to.
    pub fn check_path(&self, root: &Cid, segments: &[String]) -> Result<(), Blocked> {
        match &self.0 {
            None => Ok(()),
            Some(shared) => shared.check(Asked::Path(root, segments)),
        }
    }

    /// Whether a name, or a path below one, may be looked up.
    pub fn check_name(&self, name: &str, segments: &[String]) -> Result<(), Blocked> {
        match &self.0 {
            None => Ok(()),
            Some(shared) => shared.check(Asked::Name(name, segments)),
        }
    }

    /// The line that decides on this, if one does.
    #[must_use]
    pub fn find(&self, asked: Asked<'_>) -> Option<Found> {
        self.0.as_ref()?.find(asked)
    }
}

impl Allowlist {
    /// Reads the lists of what may be answered; with none, everything may. One that cannot be read
    /// at all is an error.
    pub fn open(paths: Vec<PathBuf>, reload_ms: u64, metrics: Metrics) -> Result<Self, Error> {
        let every = Duration::from_millis(reload_ms);
        Shared::open(paths, "allow", every, metrics).map(Self)
    }

    /// Reads lists again whenever they change, until it is to stop.
    pub fn watch(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        watch(self.0.clone(), stop)
    }

    /// Whether everything may be answered, for no list is configured.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a path below a CID may be answered: it or its root is listed, or it begins as a
    /// listed path does. The empty identity CID always may, for health checks ask for it.
    #[must_use]
    pub fn admits_path(&self, root: &Cid, segments: &[String]) -> bool {
        let probe = root.hash().code() == IDENTITY && root.hash().size() == 0;
        probe || self.admits(Asked::Path(root, segments))
    }

    /// The same for a name, and so for whatever it stands for.
    #[must_use]
    pub fn admits_name(&self, name: &str, segments: &[String]) -> bool {
        self.admits(Asked::Name(name, segments))
    }

    fn admits(&self, asked: Asked<'_>) -> bool {
        let Some(shared) = &self.0 else { return true };
        let in_use = shared.in_use();
        let path = asked.question(asked.path(), &in_use.kinds);
        let root = asked.question(Cow::Borrowed(""), &in_use.kinds);
        let (Some(path), Some(root)) = (path, root) else { return false };
        let found = in_use.find(&path.or_subject(root));
        found.is_some_and(|(_, mark)| mark.verdict() != Verdict::Allowed)
    }
}

impl Shared {
    fn open(
        paths: Vec<PathBuf>,
        extension: &'static str,
        every: Duration,
        metrics: Metrics,
    ) -> Result<Option<Arc<Self>>, Error> {
        if paths.is_empty() {
            return Ok(None);
        }
        let files = Files::open(paths, extension, metrics.clone())?;
        let in_use = RwLock::new(Arc::new(InUse::new(files.lists())));
        Ok(Some(Arc::new(Self { in_use, files: Mutex::new(Some(files)), every, metrics })))
    }

    fn in_use(&self) -> Arc<InUse> {
        Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, asked: Asked<'_>) -> Option<Found> {
        let in_use = self.in_use();
        let question = asked.question(asked.path(), &in_use.kinds)?;
        let (named, mark) = in_use.find(&question)?;
        Some(Found { list: Arc::clone(&named.name), line: mark.line(), verdict: mark.verdict() })
    }

    fn check(&self, asked: Asked<'_>) -> Result<(), Blocked> {
        let Some(Found { list, line, verdict }) = self.find(asked) else { return Ok(()) };
        let blocked = match verdict {
            Verdict::Allowed => return Ok(()),
            Verdict::Gone => Blocked::Gone,
            Verdict::Legal => Blocked::Legal,
        };
        self.metrics.blocked.with_label_values(&[&*list, asked.kind()]).inc();
        tracing::info!(target: "estuary::denylist", %list, line, kind = asked.kind(),
            path = %asked, "blocked");
        Err(blocked)
    }

    /// Looks at the files once, and takes what changed. Slow: for a thread that may wait.
    fn look(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = files.as_mut() else { return };
        if files.look() {
            let in_use = Arc::new(InUse::new(files.lists()));
            *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = in_use;
        }
    }
}

async fn watch(shared: Option<Arc<Shared>>, stop: CancellationToken) {
    let Some(shared) = shared else { return };
    while stop.run_until_cancelled(tokio::time::sleep(shared.every)).await.is_some() {
        let looking = Arc::clone(&shared);
        if tokio::task::spawn_blocking(move || looking.look()).await.is_err() {
            tracing::error!(target: "estuary::denylist", "a look at the lists ended in a panic");
        }
    }
}

/// Lists that tests write as they go.
#[cfg(any(test, feature = "testing"))]
impl Denylist {
    /// Lists of these names and texts.
    pub fn of_texts(texts: &[(&str, &str)], metrics: Metrics) -> Result<Self, Unusable> {
        let shared = Shared {
            in_use: RwLock::new(Arc::new(InUse::new(Vec::new()))),
            files: Mutex::new(None),
            every: Duration::from_secs(1),
            metrics,
        };
        let denylist = Self(Some(Arc::new(shared)));
        denylist.replace(texts)?;
        Ok(denylist)
    }

    /// Puts others in their place, as a reload does.
    pub fn replace(&self, texts: &[(&str, &str)]) -> Result<(), Unusable> {
        let read = |(name, text): &(&str, &str)| {
            let list = Arc::new(List::read(text.as_bytes(), |_, _| {})?);
            Ok::<_, Unusable>(Named { name: (*name).into(), list })
        };
        let lists = texts.iter().map(read).collect::<Result<_, _>>()?;
        if let Some(shared) = &self.0 {
            let in_use = Arc::new(InUse::new(lists));
            *shared.in_use.write().unwrap_or_else(PoisonError::into_inner) = in_use;
        }
        Ok(())
    }

    /// What an allowlist of the same lists admits.
    #[must_use]
    pub fn as_allowlist(&self) -> Allowlist {
        Allowlist(self.0.clone())
    }
}

#[cfg(test)]
mod tests;
