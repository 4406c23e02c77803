//! The header of a list: YAML, of which what lists use is read.

use super::line::{Verdict, with_hint};

/// Longest header, in bytes.
pub(super) const HEADER_BYTES_MAX: usize = 1 << 20;
/// The line that ends it.
const END: &[u8] = b"---";

/// What the header says of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// What blocked content is answered with.
    pub(super) status: Verdict,
}

impl Default for Header {
    fn default() -> Self {
        Self { status: Verdict::Gone }
    }
}

/// Where the header ends and the lines begin, if the list has one that ends within this start of it.
pub(super) fn end(start: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(length) = memchr::memchr(b'\n', start.get(from..)?) {
        let line = start.get(from..from + length)?.trim_ascii_end();
        if line == END {
            return Some((from, from + length + 1));
        }
        from += length + 1;
    }
    (start.get(from..)?.trim_ascii_end() == END && start.len() < HEADER_BYTES_MAX)
        .then_some((from, start.len()))
}

/// Reads a header. Fields that are not known are passed over, whatever is in them.
pub(super) fn parse(text: &[u8]) -> Result<Header, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "its header is not UTF-8")?;
    let mut header = Header::default();
    let mut field = "";
    for line in text.lines() {
        let said = line.trim();
        if said.is_empty() || said.starts_with('#') {
            continue;
        }
        let inner = line.starts_with([' ', '\t']) || said == "-" || said.starts_with("- ");
        if inner {
            // What is indented belongs to the field before it.
            match said.split_once(':') {
                Some(hint) if field == "hints" => hinted(&mut header, hint),
                _ if field.is_empty() => return Err("its header begins within a field"),
                _ => {}
            }
            continue;
        }
        let malformed = "its header is not YAML: a line is no `field: value`";
        let (name, value) = said.split_once(':').ok_or(malformed)?;
        if !value.is_empty() && !value.starts_with([' ', '\t']) {
            return Err(malformed);
        }
        field = name.trim_end();
        let value = scalar(value);
        match field {
            "version" if !matches!(value, "" | "1") => {
                return Err("it is of a version that is not known here; 1 is");
            }
            "hints" => {
                let inside = value.trim_start_matches('{').trim_end_matches('}');
                let pairs = inside.split(',').filter_map(|pair| pair.split_once(':'));
                pairs.for_each(|hint| hinted(&mut header, hint));
            }
            _ => {}
        }
    }
    Ok(header)
}

fn hinted(header: &mut Header, (name, value): (&str, &str)) {
    header.status = with_hint(header.status, (scalar(name), scalar(value)));
}

/// A value without its quotes and without a comment behind it.
fn scalar(value: &str) -> &str {
    let value = value.split_once(" #").map_or(value, |(value, _)| value).trim();
    value.trim_matches(['"', '\''])
}
