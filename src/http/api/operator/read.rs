//! What a path names, what a directory holds, and content as the gateway serves it.

use std::future::poll_fn;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Uri, header};
use serde_json::{Value, json};

use crate::block::{Block, Cid, FetchError, codec};
use crate::gateway::{self, ReadAhead};
use crate::http::api::Parts;
use crate::http::api::error::ApiError;
use crate::ipld::AtHand;
use crate::ipld::path::ContentPath;
use crate::ipld::unixfs::directory::{Entry, ListStep, Lister};
use crate::ipld::unixfs::{Kind, Node};
use crate::ipld::walk::{PathWalk, Step};
use crate::retrieval::{Retriever, Session};

/// Entries of a listing that are looked at at once.
const AT_ONCE: usize = 16;
/// Lines sent at once.
const LINES_AT_ONCE: usize = 256;

/// `GET /ipfs/…`: the gateway.
pub(super) async fn content(State(parts): State<Parts>, request: Request) -> Response {
    let mut request = request.map(drop);
    // The socket's client has no host to name, and means the path.
    request.headers_mut().remove(header::HOST);
    parts.gateway.respond(request, gateway::Peer::default()).await.map(Body::new)
}

/// `GET /stat/…`: what the path names.
pub(super) async fn stat(State(parts): State<Parts>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let (block, _) = resolve(&parts.retriever, &uri, "/stat/").await?;
    Ok(Json(line("", block.cid(), describe(&block))))
}

/// `GET /ls/…`: a line for each entry, as they are found.
pub(super) async fn ls(State(parts): State<Parts>, uri: Uri) -> Result<Response, ApiError> {
    let (block, session) = resolve(&parts.retriever, &uri, "/ls/").await?;
    let lister = Lister::open(&block)?;
    let lines = entries(parts.retriever.clone(), session.clone(), lister)
        .map(move |entry| {
            let (retriever, session) = (parts.retriever.clone(), session.clone());
            async move { entry_line(&retriever, &session, &entry?).await }
        })
        .buffered(AT_ONCE)
        .ready_chunks(LINES_AT_ONCE)
        .map(|lines| {
            let lines: Vec<_> = lines.into_iter().collect::<Result<_, FetchError>>()?;
            Ok::<_, FetchError>(Bytes::from(lines.concat()))
        });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

async fn resolve(
    retriever: &Retriever,
    uri: &Uri,
    prefix: &str,
) -> Result<(Block, Session), ApiError> {
    let path = uri.path().strip_prefix(prefix).unwrap_or_default();
    let path = ContentPath::parse(&format!("/ipfs/{path}"))?;
    let session = retriever.session().below(&path.root);
    let mut walk = PathWalk::new(path.root, path.segments);
    loop {
        match walk.step()? {
            Step::Need(cid) => walk.supply(retriever.block(&cid, &session).await?)?,
            Step::Visit(_) => {}
            Step::Done => break,
        }
    }
    let terminus = walk.terminus().unwrap_or(path.root);
    let block = retriever.block(&terminus, &session).await?;
    Ok((block, session))
}

/// The entries of a directory; a sharded one's blocks are fetched on the way, and ahead.
fn entries(
    retriever: Retriever,
    session: Session,
    lister: Lister,
) -> impl Stream<Item = Result<Entry, FetchError>> + Send {
    let ahead = ReadAhead::new(retriever, session);
    futures_util::stream::try_unfold(
        (ahead, lister),
        |(mut ahead, mut lister): (ReadAhead, Lister)| async move {
            loop {
                match lister.step().map_err(unreadable)? {
                    ListStep::Need(cid) => {
                        let block = poll_fn(|cx| {
                            let upcoming = |n, at_hand: AtHand<'_>| lister.ahead(n, at_hand);
                            ahead.poll_block(cx, &cid, upcoming)
                        });
                        let block = block.await?;
                        lister.supply(&block).map_err(unreadable)?;
                    }
                    ListStep::Entry(entry) => return Ok(Some((entry, (ahead, lister)))),
                    ListStep::Done => return Ok(None),
                }
            }
        },
    )
}

/// The head was sent already: this cuts the listing off.
#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unreadable(error: crate::ipld::Error) -> FetchError {
    FetchError::Unavailable(error.to_string().into())
}

async fn entry_line(
    retriever: &Retriever,
    session: &Session,
    entry: &Entry,
) -> Result<String, FetchError> {
    let found = if entry.cid.codec() == codec::RAW && entry.tsize.is_some() {
        Described { kind: "file", size: entry.tsize, target: None }
    } else {
        match retriever.block(&entry.cid, session).await {
            Ok(block) => match describe(&block) {
                Described { kind: "directory", .. } => {
                    Described { kind: "directory", size: entry.tsize, target: None }
                }
                other => other,
            },
            Err(FetchError::NotFound(_) | FetchError::Missing(_) | FetchError::Blocked(_)) => {
                Described::unknown(entry.tsize)
            }
            Err(error) => return Err(error),
        }
    };
    Ok(line(&entry.name_lossy(), &entry.cid, found).to_string() + "\n")
}

/// What a block is, in the file system.
struct Described {
    kind: &'static str,
    size: Option<u64>,
    target: Option<String>,
}

impl Described {
    fn unknown(size: Option<u64>) -> Self {
        Self { kind: "unknown", size, target: None }
    }
}

fn describe(block: &Block) -> Described {
    match Node::decode(block).map(|node| node.kind) {
        Ok(Kind::File(file)) => Described { kind: "file", size: Some(file.size), target: None },
        Ok(Kind::Directory(links)) => {
            let sizes = links.iter().filter_map(|link| link.tsize);
            let size = sizes.fold(0, u64::saturating_add);
            Described { kind: "directory", size: Some(size), target: None }
        }
        Ok(Kind::HamtShard(shard)) => {
            let sizes = shard.links.iter().filter_map(|link| link.tsize);
            let size = sizes.fold(0, u64::saturating_add);
            Described { kind: "directory", size: Some(size), target: None }
        }
        Ok(Kind::Symlink { target }) => {
            let size = Some(target.len() as u64);
            let target = Some(String::from_utf8_lossy(&target).into_owned());
            Described { kind: "symlink", size, target }
        }
        Err(_) => Described::unknown(Some(block.data().len() as u64)),
    }
}

fn line(name: &str, cid: &Cid, found: Described) -> Value {
    let mut line = json!({
        "name": name,
        "cid": cid.to_string(),
        "kind": found.kind,
        "size": found.size,
    });
    if let (Value::Object(fields), Some(target)) = (&mut line, found.target) {
        fields.insert("target".into(), target.into());
    }
    line
}
