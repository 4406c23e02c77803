//! `find`: who provides content, as they are found.

use http::Method;
use serde::{Deserialize, Serialize};

use super::Error;
use super::client::{Lines, Node, escaped, pieces};
use super::output::{Output, printable};

/// A line of the node's answer: a provider, or a router that failed.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    protocols: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    router: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    after_ms: u64,
}

pub(super) async fn find(node: &Node, path: &str, out: Output) -> Result<(), Error> {
    if !node.runs() {
        return Err(Error::NoNode(node.data_dir().to_owned()));
    }
    let cid = path.trim_start_matches("ipfs://").trim_start_matches("/ipfs/");
    let answer = node.ask(Method::GET, &format!("/find/{}", escaped(cid))).await?;
    let mut lines = Lines::new(pieces(answer.into_body()));
    let mut found = false;
    while let Some(line) = lines.next::<Line>().await? {
        found |= line.error.is_none();
        out.result(&line, text(&line))?;
    }
    if found { Ok(()) } else { Err(Error::Found(format!("nobody provides {}", printable(cid)))) }
}

fn text(line: &Line) -> String {
    if let (Some(router), Some(error)) = (&line.router, &line.error) {
        return printable(&format!("the router {router} gave no answer: {error}"));
    }
    let peer = line.peer.as_deref().unwrap_or("(no identity)");
    let by = line.found_by.as_deref().unwrap_or_default();
    let protocols = line.protocols.join(",");
    let head = format!("{peer}  {protocols}  {by}  {} ms", line.after_ms);
    let addresses = line.addresses.iter().map(|address| format!("\n  {address}"));
    let whole = std::iter::once(head).chain(addresses).collect::<String>();
    whole.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}
