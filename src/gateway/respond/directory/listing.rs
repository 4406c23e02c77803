//! The page that lists a directory: no script, legible in light and dark, and with the links that
//! other gateways' pages have.

use std::fmt::Write;

use crate::gateway::resolve::Named;
use crate::gateway::{escape, page};
use crate::ipld::path::ContentPath;
use crate::ipld::unixfs::directory::Entry;

use super::Page;

/// Stands in the entity tag: to be changed whenever the page looks different.
pub(super) const VERSION: &str = "2";

/// Longest name that is linked by name; what has a longer one is linked by its CID.
pub(super) const NAME_BYTES_MAX: usize = 1024;
/// How much of a longer name is shown, in characters.
const LONG_NAME_CHARS: usize = 200;

/// Bytes of markup around one entry, roughly.
const ENTRY_BYTES: usize = 320;

/// Writes the page.
pub(super) fn render(path: &ContentPath, named: &Named, listed: &Page) -> String {
    let base = base(path, named);
    let mut out = String::with_capacity(4096 + listed.entries.len() * (ENTRY_BYTES + base.len()));
    page::begin(&mut out, |out| title(out, path, named));
    out.push_str("<h1>Index of <span>");
    breadcrumbs(&mut out, path, named);
    out.push_str("</span></h1>\n<table>\n<caption>CID: <code translate=\"no\">");
    escape::html(&mut out, &String::from_utf8_lossy(&named.text));
    out.push_str("</code></caption>\n<thead><tr><th scope=\"col\">Name</th>");
    out.push_str("<th scope=\"col\">CID</th><th scope=\"col\">Size</th></tr></thead>\n<tbody>\n");
    if !path.segments.is_empty() {
        out.push_str("<tr><td><a href=\"");
        out.push_str(&base);
        out.push_str("..\">..</a> <span class=\"soft\">the folder above</span></td><td></td><td></td></tr>\n");
    }
    let mut escaped = String::new();
    for entry in &listed.entries {
        row(&mut out, &mut escaped, &base, entry);
    }
    out.push_str("</tbody>\n</table>\n");
    pages(&mut out, listed);
    page::end(&mut out);
    out
}

fn root_text(named: &Named) -> &str {
    let roots = named.roots.to_str().unwrap_or_default();
    roots.split_once(',').map_or(roots, |(root, _)| root)
}

/// The directory's own URL path, with a slash at the end.
fn base(path: &ContentPath, named: &Named) -> String {
    let mut base = format!("/ipfs/{}/", root_text(named));
    for segment in &path.segments {
        escape::segment(&mut base, segment.as_bytes());
        base.push('/');
    }
    base
}

fn title(out: &mut String, path: &ContentPath, named: &Named) {
    out.push_str("/ipfs/");
    out.push_str(root_text(named));
    for segment in &path.segments {
        out.push('/');
        escape::html(out, segment);
    }
}

fn breadcrumbs(out: &mut String, path: &ContentPath, named: &Named) {
    let root = root_text(named);
    let mut href = format!("/ipfs/{root}");
    let _ = write!(out, "/ipfs/<a href=\"{href}\">{root}</a>");
    for segment in &path.segments {
        href.push('/');
        escape::segment(&mut href, segment.as_bytes());
        let _ = write!(out, "/<a href=\"{href}\">");
        escape::html(out, segment);
        out.push_str("</a>");
    }
}

fn row(out: &mut String, escaped: &mut String, base: &str, entry: &Entry) {
    escaped.clear();
    let cid = entry.cid.to_string();
    out.push_str("<tr><td><a href=\"");
    if entry.name.len() > NAME_BYTES_MAX {
        let _ = write!(out, "/ipfs/{cid}\">");
        let shown: String = entry.name_lossy().chars().take(LONG_NAME_CHARS).collect();
        escape::html(out, &shown);
        out.push('…');
    } else {
        escape::segment(escaped, &entry.name);
        out.push_str(base);
        out.push_str(escaped);
        out.push_str("\">");
        escape::html(out, &entry.name_lossy());
    }
    out.push_str("</a></td><td><a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/");
    out.push_str(&cid);
    // Escaped twice, as in the pages of other gateways.
    out.push_str("?filename=");
    escape::segment(out, escaped.as_bytes());
    out.push_str("\">");
    short(out, &cid);
    out.push_str("</a></td><td>");
    if let Some(size) = entry.tsize {
        human(out, size);
    }
    out.push_str("</td></tr>\n");
}

/// The two ends of a CID.
fn short(out: &mut String, cid: &str) {
    match (cid.get(..4), cid.len().checked_sub(4).and_then(|at| cid.get(at..))) {
        (Some(start), Some(end)) if cid.len() > 12 => {
            out.push_str(start);
            out.push('…');
            out.push_str(end);
        }
        _ => out.push_str(cid),
    }
}

/// A size for people.
fn human(out: &mut String, bytes: u64) {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        let _ = write!(out, "{bytes} B");
        return;
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let _ = write!(out, "{value:.1} {unit}");
}

/// Links to the pages before and after this one, where there are any.
fn pages(out: &mut String, page: &Page) {
    if page.number == 0 && !page.more {
        return;
    }
    out.push_str("<nav aria-label=\"Pages\">");
    if page.number > 0 {
        let _ = write!(out, "<a rel=\"prev\" href=\"?page={}\">Previous</a> ", page.number);
    }
    let _ = write!(out, "Page {}", page.number + 1);
    if page.more {
        let _ = write!(out, " <a rel=\"next\" href=\"?page={}\">Next</a>", page.number + 2);
    }
    out.push_str("</nav>\n");
}
