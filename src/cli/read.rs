//! `cat`, `ls` and `export`: content from a node to standard output or a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use http::{Method, Response, StatusCode, header};
use serde::{Deserialize, Serialize};

use axum::body::Body;

use super::args::Cat;
use super::client::{Lines, Node, content_uri, pieces, request};
use super::output::{self, Output, printable};
use super::{Error, absolute};

/// What content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    /// Not UnixFS, or not held, so not known.
    Unknown,
}

/// A line of a listing, and the answer to what a path names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    pub(super) name: String,
    pub(super) cid: String,
    pub(super) kind: Kind,
    /// Bytes of a file; what a directory's link states of all below it.
    pub(super) size: Option<u64>,
    /// Where a symlink points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
}

/// What a path names.
pub(super) async fn stat(node: &Node, path: &str) -> Result<Entry, Error> {
    let uri = content_uri(path).replacen("/ipfs/", "/stat/", 1);
    node.json(Method::GET, &uri, None).await
}

/// The entries of a directory, as they come.
pub(super) async fn entries(
    node: &Node,
    path: &str,
) -> Result<Lines<impl futures_util::Stream<Item = Result<bytes::Bytes, Error>> + Unpin>, Error> {
    let uri = content_uri(path).replacen("/ipfs/", "/ls/", 1);
    Ok(Lines::new(pieces(node.ask(Method::GET, &uri).await?.into_body())))
}

/// Lists a directory.
pub(super) async fn ls(node: &Node, path: &str, out: Output) -> Result<(), Error> {
    let mut lines = entries(node, path).await?;
    while let Some(entry) = lines.next::<Entry>().await? {
        let size = entry.size.map_or_else(|| "-".into(), |size| size.to_string());
        let slash = if entry.kind == Kind::Directory { "/" } else { "" };
        let name = printable(&entry.name);
        out.result(&entry, format!("{}  {size:>12}  {name}{slash}", entry.cid))?;
    }
    Ok(())
}

/// The bytes of a file from `from` on; the caller sees to it that it is one.
pub(super) async fn file_bytes(
    node: &Node,
    cid: &str,
    from: u64,
    last: Option<u64>,
) -> Result<Response<Body>, Error> {
    let mut asked = request(Method::GET, &content_uri(cid), Body::empty())?;
    if from > 0 || last.is_some() {
        let last = last.map_or_else(String::new, |last| last.to_string());
        let range = format!("bytes={from}-{last}");
        let range = range.parse().map_err(|_| Error::Usage(range))?;
        asked.headers_mut().insert(header::RANGE, range);
        let answer = node.send(asked).await?;
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            return Err(Error::Answer("it is not the range that was asked for".into()));
        }
        return Ok(answer);
    }
    node.send(asked).await
}

/// Writes a file, or a part of it, to standard output.
pub(super) async fn cat(node: &Node, options: &Cat, out: Output) -> Result<(), Error> {
    let entry = stat(node, &options.path).await?;
    let size = match (entry.kind, entry.size) {
        (Kind::File, Some(size)) => size,
        (Kind::Directory, _) => {
            return Err(Error::Usage(format!(
                "{} is a directory; try `ls` or `get`",
                options.path
            )));
        }
        _ => return Err(Error::Usage(format!("{} is not a file", options.path))),
    };
    let end = options.length.map_or(size, |length| options.offset.saturating_add(length).min(size));
    if options.offset >= end {
        return Ok(()); // nothing lies there, as for `tail -c +N`
    }
    let last = (end < size).then(|| end - 1);
    let answer = file_bytes(node, &entry.cid, options.offset, last).await?;
    let mut body = pieces(answer.into_body());
    let mut written = 0;
    while let Some(piece) = body.next().await {
        let piece = piece?;
        written += piece.len() as u64;
        out.bytes(&piece)?;
    }
    whole(written, end - options.offset)
}

/// That a body held as many bytes as it should.
pub(super) fn whole(got: u64, wanted: u64) -> Result<(), Error> {
    if got == wanted {
        return Ok(());
    }
    Err(Error::Answer(format!("{got} of {wanted} bytes came")))
}

/// Writes the DAG as a CAR, to a file that appears when it is whole, or to standard output.
pub(super) async fn export(
    node: &Node,
    path: &str,
    file: Option<PathBuf>,
    out: Output,
) -> Result<(), Error> {
    let uri = format!("{}?format=car&dag-scope=all", content_uri(path));
    let answer = node.ask(Method::GET, &uri).await?;
    let Some(file) = file.filter(|file| file.as_os_str() != "-") else {
        let mut body = pieces(answer.into_body());
        while let Some(piece) = body.next().await {
            out.bytes(&piece?)?;
        }
        return Ok(());
    };
    let mut begun = file.clone().into_os_string();
    begun.push(".part");
    let begun = PathBuf::from(begun);
    let outcome = write_all(answer, &begun).await;
    let renamed = match &outcome {
        Ok(_) => std::fs::rename(&begun, &file).map_err(|error| Error::file(&file, error)),
        Err(_) => std::fs::remove_file(&begun).map_err(|error| Error::file(&begun, error)),
    };
    let bytes = outcome?;
    renamed?;
    let path = absolute(&file)?;
    out.result(&serde_json::json!({ "path": path, "bytes": bytes }), path.display())
}

async fn write_all(answer: Response<Body>, path: &Path) -> Result<u64, Error> {
    let failed = |error| Error::file(path, error);
    let mut file = File::create(path).map_err(failed)?;
    let bar = output::progress(None);
    let mut body = pieces(answer.into_body());
    let mut bytes = 0;
    while let Some(piece) = body.next().await {
        let piece = piece?;
        file.write_all(&piece).map_err(failed)?;
        bytes += piece.len() as u64;
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    file.sync_all().map_err(failed)?;
    Ok(bytes)
}
