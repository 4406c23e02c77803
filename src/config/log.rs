//! The log: events as lines on standard error.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// The log's section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How events look.
    pub format: Format,
    /// What is logged: error, warn, info, debug or trace, or filters by module.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Human, level: "info".into() }
    }
}

/// How events look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As text.
    Human,
    /// As an object of JSON each.
    Json,
}

impl Log {
    /// Why the level is none, if it is none.
    pub(super) fn check(&self) -> Result<(), String> {
        EnvFilter::try_new(&self.level).map(drop).map_err(|error| error.to_string())
    }

    /// Begins to log, for the whole process; to be done once.
    pub fn install(&self) {
        // It was checked when it was read.
        let filter = EnvFilter::try_new(&self.level).unwrap_or_default();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(|| Lines)
            .log_internal_errors(false);
        // Who set a subscriber before has more to say in this.
        let _ = match self.format {
            Format::Human => builder.with_ansi(false).try_init(),
            Format::Json => builder.json().flatten_event(true).try_init(),
        };
    }
}

/// Standard error, where each event is a line whatever is in it: names and paths come from anyone,
/// and must not forge lines or speak to a terminal.
struct Lines;

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = escaped(text.trim_end_matches('\n'));
        line.push('\n');
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    for char in text.chars() {
        // Separators of lines and paragraphs, and what turns the direction of writing.
        let speaks = matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || speaks {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_an_event_begins_a_line_or_speaks_to_a_terminal() {
        let text = "path=/a\nERROR forged\r\u{1b}[2J\u{85}\u{202e}\u{7f} ż";
        let line = escaped(text);
        assert!(!line.chars().any(|char| char.is_control() || char == '\u{202e}'), "{line:?}");
        assert!(line.contains(r"\nERROR") && line.ends_with('ż'), "{line}");
    }

    #[test]
    fn a_level_may_be_a_filter() {
        let check = |level: &str| Log { level: level.into(), ..Log::default() }.check().is_ok();
        assert!(check("warn") && check("info,estuary::http=debug"));
        assert!(!check("info,estuary=loud"));
    }
}
