//! `name`: the records of names that a node holds, and what names stand for.

use std::io::Read;
use std::path::{Path, PathBuf};

use axum::body::Body;
use http::Method;
use serde_json::Value;

use super::args::Name;
use super::client::{Node, escaped, read_whole, request};
use super::output::{Output, printable};
use super::{Error, absolute};
use crate::routing::RECORD_BYTES_MAX;

/// Records asked for at once.
const PAGE_RECORDS: usize = 100;

pub(super) async fn name(node: &Node, command: Name, out: Output) -> Result<(), Error> {
    match command {
        Name::Put { name, file } => {
            let asked = request(Method::PUT, &uri("names", &name), Body::from(read(&file)?))?;
            let kept: Value = node.json_of(asked).await?;
            out.result(&kept, format!("put {} as {}", text(&kept, "value"), text(&kept, "name")))
        }
        Name::Get { name, output } => get(node, &name, output, out).await,
        Name::Ls => list(node, out).await,
        Name::Rm { name } => {
            let gone: Value = node.json(Method::DELETE, &uri("names", &name), None).await?;
            out.result(&gone, format!("removed {}", text(&gone, "name")))
        }
        Name::Resolve { name } => {
            let found: Value = node.json(Method::GET, &uri("resolve", &name), None).await?;
            out.result(&found, text(&found, "path"))
        }
    }
}

fn uri(route: &str, name: &str) -> String {
    let name = name.strip_prefix("ipns://").or(name.strip_prefix("/ipns/")).unwrap_or(name);
    format!("/{route}/{}", escaped(name.trim_end_matches('/')))
}

/// The record in a file, or on standard input; one that is too long is not read whole.
fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::file(file, error);
    let most = RECORD_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        let file = std::fs::File::open(file).map_err(failed)?;
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}

async fn get(node: &Node, name: &str, file: Option<PathBuf>, out: Output) -> Result<(), Error> {
    let record = read_whole(node.ask(Method::GET, &uri("names", name)).await?).await?;
    match file.filter(|file| file.as_os_str() != "-") {
        None => out.bytes(&record),
        Some(file) => {
            std::fs::write(&file, &record).map_err(|error| Error::file(&file, error))?;
            let (path, bytes) = (absolute(&file)?, record.len());
            out.result(&serde_json::json!({ "path": path, "bytes": bytes }), path.display())
        }
    }
}

async fn list(node: &Node, out: Output) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let uri = format!("/names?limit={PAGE_RECORDS}&after={}", escaped(&after));
        let records: Vec<Value> = node.json(Method::GET, &uri, None).await?;
        for record in &records {
            let (name, value) = (text(record, "name"), printable(&text(record, "value")));
            let sequence = record.get("sequence").and_then(Value::as_u64).unwrap_or(0);
            let line = format!("{name}  {sequence}  {}  {value}", text(record, "expires"));
            out.result(record, line)?;
            after = name;
        }
        if records.len() < PAGE_RECORDS {
            return Ok(());
        }
    }
}

fn text(value: &Value, field: &str) -> String {
    printable(value.get(field).and_then(Value::as_str).unwrap_or_default())
}
