//! `name`: the records of names that a node holds, and what names stand for.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use http::{Method, StatusCode};
use libp2p_identity::Keypair;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::args::Name;
use super::client::{Node, escaped, read_whole, request};
use super::output::{Output, printable};
use super::{Error, absolute};
use crate::routing::{self, Key, RECORD_BYTES_MAX, Record, Statement};
use crate::task::now_unix;

/// Records asked for at once.
const PAGE_RECORDS: usize = 100;

pub(super) async fn name(node: &Node, command: Name, out: Output) -> Result<(), Error> {
    match command {
        Name::Put { name, file } => {
            let asked = request(Method::PUT, &uri("names", &name), Body::from(read(&file)?))?;
            let kept: Value = node.json_of(asked).await?;
            let said = format!("put {} as {}", text(&kept, "value"), text(&kept, "name"));
            let taken = kept.get("taken").and_then(Value::as_u64).filter(|taken| *taken > 0);
            let taken = taken.map_or_else(String::new, |taken| format!("; {taken} took it"));
            out.result(&kept, said + &taken)
        }
        Name::Publish { path, key, lifetime, ttl } => {
            let asked = Publish { path, lifetime: span(&lifetime)?, ttl: span(&ttl)? };
            let said = match key {
                Some(key) => publish_by(node, asked, &key).await?,
                None => publish(node, asked).await?,
            };
            let name = text(&said, "name");
            let taken = said.get("taken").and_then(Value::as_u64).unwrap_or(0);
            let path = text(&said, "value");
            out.result(&said, format!("published {path} as {name}; {taken} took it"))
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

/// What is to be published.
struct Publish {
    path: String,
    lifetime: Duration,
    ttl: Duration,
}

/// By the node's own key.
async fn publish(node: &Node, asked: Publish) -> Result<Value, Error> {
    if !node.runs() {
        return Err(Error::NoNode(node.data_dir().to_owned()));
    }
    let (lifetime_s, ttl_s) = (asked.lifetime.as_secs(), asked.ttl.as_secs());
    let body = json!({ "path": asked.path, "lifetime_s": lifetime_s, "ttl_s": ttl_s });
    node.json(Method::POST, "/names", Some(body)).await
}

/// By a key in a file: the record is signed here, and the key goes nowhere.
async fn publish_by(node: &Node, asked: Publish, file: &Path) -> Result<Value, Error> {
    let wrong = |reason: String| Error::Usage(format!("{}: {reason}", file.display()));
    let keypair = Keypair::from_protobuf_encoding(&read(file)?)
        .map_err(|error| wrong(format!("it is no private key: {error}")))?;
    let key = Key::of(&keypair.public()).ok_or_else(|| wrong("it has no name".into()))?;
    let name = key.to_string();
    // Resolving has the node look for the newest record, so that ours becomes newer.
    let newest = match node.ask(Method::GET, &uri("resolve", &name)).await {
        Ok(_) => read_whole(node.ask(Method::GET, &uri("names", &name)).await?).await.map(Some)?,
        Err(Error::Refused { .. }) => match node.ask(Method::GET, &uri("names", &name)).await {
            Ok(held) => Some(read_whole(held).await?),
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => None,
            Err(error) => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let newest = newest.and_then(|bytes| Record::verify(&key, bytes).ok());
    let value = routing::Value::parse(&asked.path)
        .map_err(|reason| Error::Usage(format!("{}: {reason}", asked.path)))?;
    let statement = Statement {
        value,
        sequence: newest.map_or(0, |newest| newest.sequence().saturating_add(1)),
        ttl: asked.ttl,
        eol: OffsetDateTime::from_unix_timestamp(
            i64::try_from(now_unix() + asked.lifetime.as_secs()).unwrap_or(i64::MAX),
        )
        .map_err(|_| Error::Usage("--lifetime is too long".into()))?,
    };
    let record = statement.sign(&keypair).map_err(|error| wrong(error.to_string()))?;
    let uri = format!("{}?publish=true", uri("names", &name));
    let asked = request(Method::PUT, &uri, Body::from(record.bytes().clone()))?;
    node.json_of(asked).await
}

/// A time such as 90s, 15m, 1h or 7d.
fn span(text: &str) -> Result<Duration, Error> {
    let wrong = || Error::Usage(format!("{text:?} is no time such as 90s, 15m, 1h or 7d"));
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number = text.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok());
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(u64::from(number.ok_or_else(wrong)?) * seconds))
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
