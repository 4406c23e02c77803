//! Why a command failed, what to do about it, and the exit code that says so.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http::StatusCode;

use super::output::printable;

/// A failure.
pub(super) const FAILURE: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// No node runs, or one runs and the store is needed alone.
pub(super) const NODE: u8 = 3;
/// The configuration is wrong.
pub(super) const CONFIG: u8 = 64;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option or argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No node runs on this data directory.
    #[error("no node runs on {}; start one with `estuary serve`", .0.display())]
    NoNode(PathBuf),
    /// A node runs, and the command needs the store alone.
    #[error("a node runs on {}; stop it first, since {command} needs the store alone", dir.display())]
    NodeRuns {
        /// Its data directory.
        dir: PathBuf,
        /// What was asked.
        command: &'static str,
    },
    /// Another process has the store open and does not answer.
    #[error("{0}")]
    InUse(String),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The node said no.
    #[error("{message}")]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// The node's answer broke off or made no sense.
    #[error("the node's answer broke off: {0}; see its log")]
    Answer(String),
    /// The store could not be opened.
    #[error("{0}")]
    Store(String),
    /// A name of the content must not become a path here.
    #[error("the name {0:?} is not safe to write to disk")]
    Name(String),
    /// Something is in the way of what is to be written.
    #[error("{} is there already and is something else; move it away or choose another -o", .0.display())]
    InTheWay(PathBuf),
    /// A check found something wrong.
    #[error("{0}")]
    Found(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A read was asked for where nothing was ever stored.
    #[error("there is no store in {}; `estuary add` or `estuary serve` makes one", .0.display())]
    NoStore(PathBuf),
    /// Standard input or output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::NoNode(_) | Self::NodeRuns { .. } | Self::InUse(_) => NODE,
            Self::Config(_) => CONFIG,
            _ => FAILURE,
        }
    }
}

/// Says what went wrong, if anything did, and what the process ends with. Whoever closed our
/// standard output has read enough: that is no failure.
#[must_use]
pub fn exit(outcome: &Result<(), Error>) -> ExitCode {
    use std::io::Write;

    let error = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(error) => error,
    };
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "estuary: {}", told(error));
    ExitCode::from(error.code())
}

/// What an error says, for a terminal: names in it may come from content of unknown origin.
fn told(error: &Error) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_in_an_error_speaks_to_the_terminal() {
        let error = Error::InTheWay("out/\u{1b}]0;owned\u{7}\u{202e}\r".into());
        let text = told(&error);
        assert!(text.starts_with("out/") && text.contains("]0;owned"), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']), "{text:?}");
        assert_eq!(told(&Error::Config("a\n b".into())), "a\n b");
    }
}
