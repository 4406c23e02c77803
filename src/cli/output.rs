//! What goes to standard output, for people or for programs, and the progress bar beside it.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Error;

/// Writes results, a line each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    /// Results as JSON or as text for people.
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are for programs.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Writes one result.
    pub(super) fn result(self, json: &impl Serialize, text: impl Display) -> Result<(), Error> {
        let mut line = if self.json {
            serde_json::to_string(json).map_err(io::Error::from)?
        } else {
            text.to_string()
        };
        line.push('\n');
        self.bytes(line.as_bytes())
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }
}

/// A progress bar on standard error; none where that is not a terminal.
pub(super) fn progress(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
    let template = match bytes {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}",
        None => "{spinner} {bytes} {bytes_per_sec} {wide_msg}",
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| {
        ProgressStyle::default_bar() // the templates above are well-formed
    }))
}

/// Bytes for people.
pub(super) fn human(bytes: u64) -> impl Display {
    indicatif::HumanBytes(bytes)
}

/// A name of unknown origin, made harmless for a terminal.
pub(super) fn printable(name: &str) -> String {
    // What turns the direction of writing would let a name look like another.
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: char| if c.is_control() || turns(c) { '\u{fffd}' } else { c };
    name.chars().map(plain).collect()
}
