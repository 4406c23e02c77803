//! What keeps a node well: `status`, `pin`, `gc`, `fsck`, `scrub` and `backup`.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::args::Pin;
use super::client::{Node, escaped};
use super::output::{Output, human, printable};
use super::{Error, absolute};

/// Pins asked for at once.
const PAGE_PINS: usize = 1000;

pub(super) async fn status(node: &Node, out: Output) -> Result<(), Error> {
    if !node.runs() {
        return Err(Error::NoNode(node.data_dir().to_owned()));
    }
    let status: Value = node.json(Method::GET, "/status", None).await?;
    out.result(&status, table(&status))
}

pub(super) async fn pin(node: &Node, command: Pin, out: Output) -> Result<(), Error> {
    match command {
        Pin::Ls => list_pins(node, out).await,
        Pin::Add { cids } => {
            for cid in cids {
                let uri = format!("/pins/{}", escaped(&cid));
                let pin: Value = node.json(Method::PUT, &uri, None).await?;
                out.result(&pin, format!("pinned {}", printable(&cid)))?;
            }
            Ok(())
        }
        Pin::Rm { cids } => {
            for cid in cids {
                let uri = format!("/pins/{}", escaped(&cid));
                let pin: Value = node.json(Method::DELETE, &uri, None).await?;
                out.result(&pin, format!("unpinned {}", printable(&cid)))?;
            }
            Ok(())
        }
    }
}

async fn list_pins(node: &Node, out: Output) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let uri = format!("/pins?limit={PAGE_PINS}&after={}", escaped(&after));
        let pins: Vec<Value> = node.json(Method::GET, &uri, None).await?;
        for pin in &pins {
            let cid = pin.get("cid").and_then(Value::as_str).unwrap_or_default();
            let bytes = pin.get("bytes").and_then(Value::as_u64).unwrap_or(0);
            out.result(pin, format!("{cid}  {}", human(bytes)))?;
            cid.clone_into(&mut after);
        }
        if pins.len() < PAGE_PINS {
            return Ok(());
        }
    }
}

pub(super) async fn gc(node: &Node, all: bool, out: Output) -> Result<(), Error> {
    let report: Value = node.json(Method::POST, &format!("/gc?all={all}"), None).await?;
    out.result(&report, table(&report))
}

pub(super) async fn fsck(node: &Node, repair: bool, out: Output) -> Result<(), Error> {
    if repair && node.runs() {
        let dir = node.data_dir().to_owned();
        return Err(Error::NodeRuns { dir, command: "`fsck --repair`" });
    }
    let report: Value = node.json(Method::POST, &format!("/fsck?repair={repair}"), None).await?;
    out.result(&report, table(&report))?;
    sound(&report, "the store is damaged; stop the node and run `estuary fsck --repair`")
}

pub(super) async fn scrub(node: &Node, out: Output) -> Result<(), Error> {
    let report: Value = node.json(Method::POST, "/scrub", None).await?;
    out.result(&report, table(&report))?;
    sound(&report, "bad blocks were found; stop the node and run `estuary fsck --repair`")
}

/// A check that found something ends with a failure, so that scripts notice.
fn sound(report: &Value, advice: &str) -> Result<(), Error> {
    match report.get("ok").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        Some(false) => Err(Error::Found(advice.into())),
        None => Err(Error::Answer("it does not say whether all is well".into())),
    }
}

pub(super) async fn backup(node: &Node, dir: &Path, out: Output) -> Result<(), Error> {
    // The node may have another working directory.
    let dir = absolute(dir)?;
    let asked = json!({ "dir": dir });
    let report: Value = node.json(Method::POST, "/backup", Some(asked)).await?;
    out.result(&report, dir.display())
}

/// An object as lines of `name: value`, for people.
fn table(value: &Value) -> String {
    let mut lines = Vec::new();
    rows("", value, &mut lines);
    lines.join("\n")
}

fn rows(name: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                rows(&format!("{name}{dot}{field}"), value, lines);
            }
        }
        Value::String(text) => lines.push(format!("{name}: {}", printable(text))),
        value => lines.push(format!("{name}: {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_readable() {
        let report = json!({ "ok": true, "gateway": { "url": "http://x" } });
        assert_eq!(table(&report), "gateway.url: http://x\nok: true");
        assert!(sound(&report, "").is_ok());
        assert!(sound(&json!({ "ok": false }), "").is_err());
        assert!(sound(&json!({}), "").is_err());
    }
}
