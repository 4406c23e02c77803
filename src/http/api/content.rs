//! `/content/…`: uploads, and what was uploaded.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State as From};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::State;
use super::body::{Query, check_encoding, declared_bytes, pieces, refuse};
use super::error::ApiError;
use super::multipart::{self, Multipart};
use super::who::{Uploader, User};
use crate::ipld::path::parse_cid;
use crate::ipld::unixfs::import::{Chunker, Profile};
use crate::upload::{Content, Kind, Options, Record, Upload};

/// Longest text field of a form, in bytes.
const FIELD_BYTES_MAX: usize = 64 << 10;
/// Parts of a form that are no files.
const FIELDS_MAX: usize = 64;
/// Smallest chunks that can be asked for, in bytes: each is a block, and has its cost.
const CHUNK_BYTES_MIN: usize = 1 << 10;
/// Rows in one answer, unless fewer are asked for.
const ROWS_MAX: usize = 500;
/// What a part without a file name is called in a folder.
const NAMELESS: &str = "data";

/// Parameters of an upload. The original's others (`replication`, `lazy-provide`, `overwrite`) mean
/// nothing here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(rename = "ignore-dupes", default)]
    ignore_dupes: bool,
    filename: Option<String>,
    #[serde(default)]
    profile: Profile,
    #[serde(default, deserialize_with = "chunker")]
    chunker: Option<Chunker>,
    coluuid: Option<String>,
}

fn chunker<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Chunker>, D::Error> {
    use serde::de::Error;

    let chunker: Chunker = String::deserialize(from)?.parse().map_err(Error::custom)?;
    if chunker.bytes_max() < CHUNK_BYTES_MIN {
        return Err(Error::custom("chunks are of at least 1024 bytes here"));
    }
    Ok(Some(chunker))
}

/// `POST /content/add`: a form with the file in `data`; several are a folder.
pub(super) async fn add(
    Uploader(who): Uploader,
    From(state): From<State>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
    body: Body,
) -> Response {
    let mut body = pieces(body);
    let outcome = async {
        check(&headers, &asked, &state.parts.upload)?;
        let boundary = multipart::boundary(&headers).map_err(ApiError::input)?;
        let options = Options { profile: asked.profile, chunker: asked.chunker };
        let form = Multipart::new(&mut body, &boundary);
        add_form(&state.parts.upload, form, options, record(who.account, asked)).await
    };
    match outcome.await {
        Ok(content) => Json(added(&state, &content)).into_response(),
        Err(error) => refuse(error, body),
    }
}

/// `POST /content/add-car`: a CAR of one root, whole.
pub(super) async fn add_car(
    Uploader(who): Uploader,
    From(state): From<State>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
    body: Body,
) -> Response {
    let mut body = pieces(body);
    let outcome = async {
        check(&headers, &asked, &state.parts.upload)?;
        let record = record(who.account, asked);
        Ok(state.parts.upload.add_car(&mut body, record).await?)
    };
    match outcome.await {
        Ok(content) => Json(added(&state, &content)).into_response(),
        Err(error) => refuse(error, body),
    }
}

fn check(headers: &HeaderMap, asked: &Asked, upload: &Upload) -> Result<(), ApiError> {
    check_encoding(headers)?;
    if asked.coluuid.is_some() {
        return Err(ApiError::input("there are no collections here: leave coluuid out"));
    }
    match declared_bytes(headers) {
        Some(bytes) if bytes > upload.bytes_max() => {
            Err(crate::upload::Error::TooLarge { limit: upload.bytes_max() }.into())
        }
        _ => Ok(()),
    }
}

fn record(owner: u64, asked: Asked) -> Record {
    let Asked { filename, ignore_dupes, .. } = asked;
    Record { name: filename.unwrap_or_default(), owner, ignore_dupes }
}

async fn add_form<S: Stream<Item = std::io::Result<Bytes>> + Unpin>(
    upload: &Upload,
    mut form: Multipart<S>,
    options: Options,
    mut record: Record,
) -> Result<Content, ApiError> {
    let broken = |error: std::io::Error| ApiError::input(format!("the form: {error}"));
    let mut adding = upload.begin(options).await?;
    let mut fields = 0;
    while let Some(part) = form.next().await.map_err(broken)? {
        if part.name == "data" {
            let path = part.filename.filter(|name| !name.is_empty());
            adding.file(path.as_deref().unwrap_or(NAMELESS))?;
            while let Some(bytes) = form.data().await.map_err(broken)? {
                adding.write(bytes).await?;
            }
            adding.end_file().await?;
            continue;
        }
        fields += 1;
        if fields > FIELDS_MAX {
            return Err(ApiError::input("the form has more than 64 fields beside its files"));
        }
        let mut text = Vec::new();
        while let Some(bytes) = form.data().await.map_err(broken)? {
            text.extend_from_slice(&bytes);
            if text.len() > FIELD_BYTES_MAX {
                return Err(ApiError::input("a field of the form is over 65536 bytes"));
            }
        }
        if part.name == "filename" {
            let text = String::from_utf8(text);
            record.name = text.map_err(|_| ApiError::input("filename is not UTF-8"))?;
        }
    }
    // One file is itself, and one folder is itself; only several things need a folder around them.
    let name = adding.unwrap_only_entry();
    if record.name.is_empty() {
        record.name = name.unwrap_or_default().into();
    }
    Ok(adding.finish(record).await?)
}

/// The answer to an upload, as the original gives it.
fn added(state: &State, content: &Content) -> Value {
    let url = retrieval_url(state, content);
    json!({
        "cid": content.cid.to_string(),
        "retrieval_url": url,
        "estuary_retrieval_url": url,
        "estuaryId": content.id,
        "providers": [],
    })
}

fn retrieval_url(state: &State, content: &Content) -> String {
    format!("{}/ipfs/{}", state.parts.node.gateway_url, content.cid)
}

/// Which rows are wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    offset: Option<usize>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX)
    }
}

/// `GET /content/contents`: what was uploaded, the newest first.
pub(super) async fn contents(
    User(who): User,
    From(state): From<State>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, ApiError> {
    let contents = state.parts.upload.contents();
    let rows = contents.list(who.sees(), page.offset.unwrap_or(0), page.limit())?;
    let with_status = |content: &Content| {
        let mut row = model(content);
        if let Value::Object(fields) = &mut row {
            fields.insert("pinningStatus".into(), "pinned".into());
        }
        row
    };
    Ok(Json(rows.iter().map(with_status).collect()))
}

/// `GET /content/stats`: the same in short.
pub(super) async fn stats(
    User(who): User,
    From(state): From<State>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, ApiError> {
    let contents = state.parts.upload.contents();
    let rows = contents.list(who.sees(), page.offset.unwrap_or(0), page.limit())?;
    let stat = |content: &Content| {
        json!({
            "id": content.id,
            "cid": content.cid.to_string(),
            "name": content.name,
            "size": content.size,
            "createdAt": rfc3339(content.created),
            "bwUsed": 0,
            "totalRequests": 0,
            "offloaded": false,
            "aggregatedFiles": 0,
            "pinningStatus": "pinned",
            "retrieval_url": retrieval_url(&state, content),
        })
    };
    Ok(Json(rows.iter().map(stat).collect()))
}

/// `GET /content/list`: all that was uploaded, in one array that is sent as it is read.
pub(super) async fn list(User(who): User, From(state): From<State>) -> Response {
    let contents = state.parts.upload.contents();
    let whose = who.sees();
    // By number, for rows that come meanwhile would shift offsets.
    let pages = futures_util::stream::try_unfold(Some(u64::MAX), move |than| {
        let contents = contents.clone();
        async move {
            let Some(than) = than else { return Ok::<_, crate::db::Error>(None) };
            let rows = contents.older(whose, than, ROWS_MAX)?;
            let mut text = String::from(if than == u64::MAX { "[" } else { "" });
            for (index, content) in rows.iter().enumerate() {
                if than != u64::MAX || index > 0 {
                    text.push(',');
                }
                text.push_str(&model(content).to_string());
            }
            let next = rows.last().filter(|_| rows.len() == ROWS_MAX).map(|row| row.id);
            if next.is_none() {
                text.push(']');
            }
            Ok(Some((Bytes::from(text), next)))
        }
    });
    let kind = [(http::header::CONTENT_TYPE, "application/json")];
    (kind, Body::from_stream(pages.boxed())).into_response()
}

/// `GET /content/{id}`.
pub(super) async fn one(
    User(who): User,
    From(state): From<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = id.parse().map_err(|_| ApiError::input("a content is named by its number"))?;
    let content = state.parts.upload.contents().get(id, who.sees())?;
    let content = content.ok_or_else(|| ApiError::not_found(format!("no content {id}")))?;
    Ok(Json(model(&content)))
}

/// `GET /content/by-cid/{cid}`.
pub(super) async fn by_cid(
    User(who): User,
    From(state): From<State>,
    Path(cid): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let cid = parse_cid(&cid)?;
    let found = state.parts.upload.contents().by_cid(&cid, who.sees())?;
    let row = |content: &Content| json!({ "content": model(content), "deals": [] });
    Ok(Json(found.iter().map(row).collect()))
}

/// A content as the original's model has it.
fn model(content: &Content) -> Value {
    let created = rfc3339(content.created);
    json!({
        "id": content.id,
        "createdAt": created,
        "updatedAt": created,
        "cid": content.cid.to_string(),
        "name": content.name,
        "userId": content.owner,
        "description": "",
        "size": content.size,
        "type": match content.kind {
            Kind::Car => 0,
            Kind::File => 1,
            Kind::Directory => 2,
        },
        "active": true,
        "offloaded": false,
        "replication": 0,
        "aggregatedIn": 0,
        "aggregate": false,
        "pinning": false,
        "failed": false,
        "location": "local",
    })
}

/// A time as text.
pub(super) fn rfc3339(seconds: u64) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    let time =
        i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
