//! `add` and `import`: bytes to a node, in one streaming request each.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::Method;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::args::{Add, Import};
use super::client::{Lines, Node, escaped, pieces, request};
use super::output::{self, Output};
use super::{Error, absolute};
use crate::http::api::operator::framing::{self, Entry};

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;
/// Pieces of at most so many bytes are copied together with what stands around them.
const GATHERED_BYTES_MAX: usize = 64 << 10;
/// Pieces read ahead of the socket.
const AHEAD: usize = 4;
/// Deepest folder that is added.
const DEPTH_MAX: usize = 64;

/// A line of `add`.
#[derive(Debug, Serialize, Deserialize)]
struct Added {
    #[serde(default)]
    path: String,
    cid: String,
    size: u64,
}

/// What an import found.
#[derive(Debug, Serialize, Deserialize)]
struct Imported {
    roots: Vec<String>,
    blocks: u64,
    bytes: u64,
    /// Roots of which a block is missing, and the first that is.
    #[serde(default)]
    incomplete: Vec<Incomplete>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Incomplete {
    root: String,
    missing: Option<String>,
}

/// Adds each path and prints a line for it.
pub(super) async fn add(node: &Node, options: &Add, out: Output) -> Result<(), Error> {
    let stdin = [PathBuf::from("-")];
    let paths = if options.paths.is_empty() { &stdin } else { options.paths.as_slice() };
    for path in paths {
        let total = if is_stdin(path) { None } else { Some(bytes_below(path, 0)?) };
        let bar = output::progress(total);
        let sent = send_path(path, bar.clone());
        let mut uri = format!("/add?profile={}", escaped(&options.profile));
        uri += &format!("&name={}", escaped(options.name.as_deref().unwrap_or(&name_of(path)?)));
        if let Some(chunker) = &options.chunker {
            uri += &format!("&chunker={}", escaped(chunker));
        }
        let answer = upload(node, &uri, sent).await;
        bar.finish_and_clear();
        let mut lines = Lines::new(pieces(answer?.into_body()));
        let last = || Error::Answer("it names nothing".into());
        let mut added: Added = lines.next().await?.ok_or_else(last)?;
        added.path = path.to_string_lossy().into_owned();
        let text = format!("{}  {}", added.cid, output::printable(&added.path));
        out.result(&added, text)?;
    }
    Ok(())
}

/// Imports CAR files and prints what was in each.
pub(super) async fn import(node: &Node, options: &Import, out: Output) -> Result<(), Error> {
    let stdin = [PathBuf::from("-")];
    let paths = if options.paths.is_empty() { &stdin } else { options.paths.as_slice() };
    for path in paths {
        let total = std::fs::metadata(path).ok().map(|found| found.len());
        let bar = output::progress(total);
        let sent = Sent::start({
            let (path, bar) = (path.clone(), bar.clone());
            move |to| to.plain(&path, &bar)
        });
        let uri = format!("/import?pin={}", !options.no_pin);
        let answer = upload(node, &uri, sent).await;
        bar.finish_and_clear();
        let mut lines = Lines::new(pieces(answer?.into_body()));
        let last = || Error::Answer("it names nothing".into());
        let found: Imported = lines.next().await?.ok_or_else(last)?;
        for root in &found.incomplete {
            let missing = root.missing.as_deref().unwrap_or("a block");
            tell(&format!("{} is not whole, so not pinned: {missing} is missing", root.root));
        }
        let count = format!("{} blocks, {}", found.blocks, output::human(found.bytes));
        out.result(&found, format!("{}  ({count})", found.roots.join("\n")))?;
    }
    Ok(())
}

fn tell(line: &str) {
    use io::Write;
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "estuary: {line}");
}

/// Sends a body; when the files it is read from fail, that is the error, not the node's complaint
/// about a body cut short.
async fn upload(node: &Node, uri: &str, sent: Sent) -> Result<http::Response<Body>, Error> {
    let Sent { body, mut outcome } = sent;
    let answer = node.send(request(Method::POST, uri, body)?).await;
    match (outcome.try_recv(), answer) {
        (Ok(error), _) => Err(error),
        (Err(_), answer) => answer,
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The name of the file or folder itself, also for `.` and `a/..`.
fn name_of(path: &Path) -> Result<String, Error> {
    if is_stdin(path) {
        return Ok(String::new());
    }
    let whole = match path.file_name() {
        Some(_) => absolute(path)?,
        None => path.canonicalize().map_err(|error| Error::file(path, error))?,
    };
    Ok(whole.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()))
}

/// Bytes of the files at and below `path`, for the progress bar; also finds early what is amiss.
fn bytes_below(path: &Path, depth: usize) -> Result<u64, Error> {
    let failed = |error| Error::file(path, error);
    // What a person names is followed; links found below are kept as links.
    let found = if depth == 0 { path.metadata() } else { path.symlink_metadata() };
    let found = found.map_err(failed)?;
    if !found.is_dir() {
        return Ok(if found.is_file() { found.len() } else { 0 });
    }
    if depth >= DEPTH_MAX {
        return Err(Error::file(path, io::Error::other("folders are more than 64 deep")));
    }
    let mut total = 0;
    for entry in path.read_dir().map_err(failed)? {
        total += bytes_below(&entry.map_err(failed)?.path(), depth + 1)?;
    }
    Ok(total)
}

fn send_path(path: &Path, bar: ProgressBar) -> Sent {
    let path = path.to_owned();
    Sent::start(move |to| {
        if is_stdin(&path) {
            to.file("", &path, &bar)?;
        } else {
            to.tree("", &path, 0, &bar)?;
        }
        to.put(framing::end())
    })
}

/// A body that a thread reads from files, and the error that cut it short, if one did.
struct Sent {
    body: Body,
    outcome: mpsc::Receiver<Error>,
}

impl Sent {
    fn start(read: impl FnOnce(&Sender) -> Result<(), Error> + Send + 'static) -> Self {
        let (to, mut from) = mpsc::channel(AHEAD);
        let (failed, outcome) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || {
            let to = Sender(to);
            if let Err(error) = read(&to) {
                // Where the node takes no more, its answer says why.
                if matches!(error, Error::Answer(_)) {
                    return;
                }
                // First the reason, then the cut, so that whoever sees the cut finds the reason.
                let _ = failed.try_send(error);
                let _ = to.0.blocking_send(Err(io::Error::other("the files could not be read")));
            }
        });
        let stream = futures_util::stream::poll_fn(move |cx| from.poll_recv(cx));
        Self { body: Body::from_stream(stream), outcome }
    }
}

struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Sender {
    /// Hands a piece over. That nobody takes it is no error here: the answer says why.
    fn put(&self, bytes: Bytes) -> Result<(), Error> {
        let closed = |_| Error::Answer("the node takes no more".into());
        self.0.blocking_send(Ok(bytes)).map_err(closed)
    }

    fn tree(&self, name: &str, path: &Path, depth: usize, bar: &ProgressBar) -> Result<(), Error> {
        let failed = |error| Error::file(path, error);
        let found = if depth == 0 { path.metadata() } else { path.symlink_metadata() };
        let kind = found.map_err(failed)?.file_type();
        if kind.is_file() {
            return self.file(name, path, bar);
        }
        if kind.is_symlink() {
            let target = path.read_link().map_err(failed)?;
            let target = utf8(path, target.as_os_str())?;
            return self.put(framing::entry(&Entry::Link(name.into(), target)));
        }
        if !kind.is_dir() {
            return Err(failed(io::Error::other("neither a file nor a folder nor a link")));
        }
        self.put(framing::entry(&Entry::Folder(name.into())))?;
        let mut below: Vec<_> =
            path.read_dir().and_then(Iterator::collect::<io::Result<_>>).map_err(failed)?;
        below.sort_by_key(std::fs::DirEntry::file_name);
        for entry in below {
            let own = utf8(&entry.path(), &entry.file_name())?;
            let name = if name.is_empty() { own } else { format!("{name}/{own}") };
            self.tree(&name, &entry.path(), depth + 1, bar)?;
        }
        Ok(())
    }

    /// Hands a file over; a small one all at once, for there may be many.
    fn file(&self, name: &str, path: &Path, bar: &ProgressBar) -> Result<(), Error> {
        let mut gathered = BytesMut::from(framing::entry(&Entry::File(name.into())));
        read_pieces(path, |piece| {
            bar.inc(piece.len() as u64);
            gathered
                .extend_from_slice(&framing::piece_head(u32::try_from(piece.len()).unwrap_or(0)));
            if piece.len() <= GATHERED_BYTES_MAX {
                gathered.extend_from_slice(&piece);
                return Ok(());
            }
            self.put(gathered.split().freeze())?;
            self.put(piece)
        })?;
        gathered.extend_from_slice(&framing::piece_head(0));
        self.put(gathered.freeze())
    }

    fn plain(&self, path: &Path, bar: &ProgressBar) -> Result<(), Error> {
        read_pieces(path, |piece| {
            bar.inc(piece.len() as u64);
            self.put(piece)
        })
    }
}

fn utf8(path: &Path, name: &std::ffi::OsStr) -> Result<String, Error> {
    let failed = || Error::file(path, io::Error::other("the name or target is not UTF-8"));
    name.to_str().map(str::to_owned).ok_or_else(failed)
}

/// Reads a file, or standard input, in large pieces that are filled whole where they can be.
fn read_pieces(path: &Path, mut each: impl FnMut(Bytes) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |error| Error::file(path, error);
    let mut source: Box<dyn Read> = if is_stdin(path) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let length = std::fs::metadata(path).map_or(READ_BYTES as u64, |found| found.len());
    loop {
        let room = usize::try_from(length.saturating_add(1)).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut piece = Vec::with_capacity(room);
        source.by_ref().take(READ_BYTES as u64).read_to_end(&mut piece).map_err(failed)?;
        if piece.is_empty() {
            return Ok(());
        }
        each(piece.into())?;
    }
}
