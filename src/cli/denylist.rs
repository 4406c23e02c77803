//! `denylist check`: what the configured lists say of something. It needs no node, only the
//! configuration.

use serde_json::json;

use super::Error;
use super::output::{Output, printable};
use crate::config::Config;
use crate::denylist::line::Verdict;
use crate::denylist::{Asked, Denylist, Metrics};
use crate::ipld::path::{self, Below, Root};
use crate::metrics::Registry;

pub(super) fn check(config: &Config, path: &str, out: Output) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Config(error.to_string());
    let metrics = Metrics::register(&Registry::new()).map_err(|error| failed(&error))?;
    let lists = Denylist::open(&config.denylist, metrics).map_err(|error| failed(&error))?;
    let full = content_path(path);
    let (root, Below { segments, .. }) =
        path::split(&full).map_err(|error| Error::Usage(error.to_string()))?;
    let found = match &root {
        // A path is not had either where its root's block is blocked.
        Root::Cid(cid) => match lists.find(Asked::Path(cid, &segments)) {
            Some(found) if found.verdict != Verdict::Allowed => Some(found),
            found => lists.find(Asked::Block(cid)).or(found),
        },
        Root::Name(name) => lists.find(Asked::Name(name, &segments)),
        Root::Other => None,
    };
    let status = match found.as_ref().map(|found| found.verdict) {
        Some(Verdict::Gone) => Some(410),
        Some(Verdict::Legal) => Some(451),
        Some(Verdict::Allowed) | None => None,
    };
    let said = json!({
        "path": full,
        "blocked": status.is_some(),
        "status": status,
        "list": found.as_ref().map(|found| &*found.list),
        "line": found.as_ref().map(|found| found.line),
    });
    let by = found.map(|found| format!(" by line {} of {}", found.line, found.list));
    let by = by.unwrap_or_default();
    let text = match status {
        Some(status) => format!("blocked ({status}){by}: {}", printable(&full)),
        None => format!("not blocked{by}: {}", printable(&full)),
    };
    out.result(&said, text)
}

/// A path as it is, or else what is more likely meant: a CID or a name.
fn content_path(text: &str) -> String {
    if text.starts_with('/') {
        return text.to_owned();
    }
    let root = text.split('/').next().unwrap_or_default();
    let namespace = if path::parse_cid(root).is_ok() { "ipfs" } else { "ipns" };
    format!("/{namespace}/{text}")
}
