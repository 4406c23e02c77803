//! `POST /add` and `POST /import`: files and CARs from the operator's own disk.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::framing::{Entries, Entry};
use crate::http::api::Parts;
use crate::http::api::body::{Query, pieces, refuse};
use crate::http::api::error::ApiError;
use crate::ipld::unixfs::import::{Chunker, Profile};
use crate::upload::{Content, Error, Options, Record, Upload};

#[derive(Debug, Deserialize)]
pub(super) struct AddAsked {
    #[serde(default)]
    profile: Profile,
    chunker: Option<String>,
    #[serde(default)]
    name: String,
}

/// Adds what the body holds, entry by entry; answers one line.
pub(super) async fn add(
    State(parts): State<Parts>,
    Query(asked): Query<AddAsked>,
    body: Body,
) -> Response {
    let mut body = pieces(body);
    let outcome = async {
        let chunker = asked.chunker.as_deref().map(str::parse::<Chunker>).transpose()?;
        let options = Options { profile: asked.profile, chunker };
        let record = Record { name: asked.name, ..Record::default() };
        let content = add_entries(&parts.upload, Entries::new(&mut body), options, record).await?;
        Ok(json!({ "cid": content.cid.to_string(), "size": content.size, "id": content.id }))
    };
    answer(outcome.await, body)
}

async fn add_entries<S: Stream<Item = std::io::Result<Bytes>> + Unpin>(
    upload: &Upload,
    mut entries: Entries<S>,
    options: Options,
    record: Record,
) -> Result<Content, Error> {
    let mut adding = upload.begin(options).await?;
    while let Some(entry) = entries.next().await.map_err(Error::Body)? {
        match entry {
            Entry::File(path) => {
                adding.file(&path)?;
                while let Some(bytes) = entries.data().await.map_err(Error::Body)? {
                    adding.write(bytes).await?;
                }
                adding.end_file().await?;
            }
            Entry::Folder(path) => adding.folder(&path)?,
            Entry::Link(path, target) => adding.link(&path, &target).await?,
        }
    }
    adding.finish(record).await
}

#[derive(Debug, Deserialize)]
pub(super) struct ImportAsked {
    pin: Option<bool>,
}

/// Imports the CAR in the body; answers one line.
pub(super) async fn import(
    State(parts): State<Parts>,
    Query(asked): Query<ImportAsked>,
    body: Body,
) -> Response {
    let mut body = pieces(body);
    let outcome = parts.upload.import(&mut body, asked.pin.unwrap_or(true)).await;
    answer(outcome.map_err(ApiError::from), body)
}

fn answer<S>(outcome: Result<impl Serialize, ApiError>, rest: S) -> Response
where
    S: Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
{
    let line = outcome.and_then(|found| serde_json::to_string(&found).map_err(ApiError::internal));
    match line {
        Ok(line) => ([(header::CONTENT_TYPE, "application/x-ndjson")], line + "\n").into_response(),
        Err(error) => refuse(error, rest),
    }
}
