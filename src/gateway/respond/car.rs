//! CARs: the blocks of a path and of what it leads to (trustless gateway specification).

mod part;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use xxhash_rust::xxh3::Xxh3Default;

use crate::block::{Block, Cid};
use crate::gateway::body::Body;
use crate::gateway::error::Error;
use crate::gateway::headers;
use crate::gateway::read_ahead::ReadAhead;
use crate::gateway::request::{CarParams, ContentRequest};
use crate::gateway::resolve::{self, Named};
use crate::ipld::car;
use crate::ipld::car::walk::{CarRequest, CarWalk};
use crate::ipld::path::ContentPath;
use crate::ipld::walk::{Limits, Step};
use crate::ipld::{AtHand, Error as IpldError};
use crate::retrieval::Session;

use super::Responder;
use super::gathered::Gathered;

/// Bytes of the blocks of a path, which are held until its end is known: the header, which is sent
/// before them, names it.
const PATH_BLOCKS_BYTES_MAX: usize = 32 << 20;

/// 304, where the client has this very CAR: its bytes follow from the request alone.
pub(super) fn not_modified(request: &ContentRequest, params: &CarParams) -> Option<Response<Body>> {
    let held = request.wants.if_none_match.as_ref()?;
    let etag = etag(&request.path, params);
    headers::matches(held, &etag).then(|| {
        let mut headers = car_headers(request, params, etag, &Named::unresolved(&request.path));
        if !request.path.segments.is_empty() {
            // What the names lead to was not looked up.
            headers.remove(headers::X_IPFS_ROOTS);
        }
        headers::response(StatusCode::NOT_MODIFIED, headers, Body::empty())
    })
}

/// Walks the path and reads the first block of what it leads to, so that what is not there is
/// said by the status; then streams.
pub(super) async fn car(
    responder: Responder<'_>,
    session: &Session,
    params: CarParams,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    let begun = CarBody::begin(responder, session, params).await;
    let body = begun.map_err(|error| match error {
        Error::Content(error) => resolve::failed(&request.path, error),
        other => other,
    })?;
    session.trace().walked();
    let denylist = responder.retriever.denylist();
    resolve::check_ways(denylist, body.walk.ways())?;
    if !denylist.is_off()
        && let Some(response) = not_modified(request, &params)
    {
        return Ok(response);
    }
    let named = Named::unresolved(&request.path).with_roots(body.walk.roots());
    let mut headers = car_headers(request, &params, etag(&request.path, &params), &named);
    if let Some(part) = part::part(responder, session, params, &mut headers).await? {
        let body = Body::car(part, responder.streams.clone());
        return Ok(headers::response(StatusCode::PARTIAL_CONTENT, headers, body));
    }
    let body =
        if request.wants.head { Body::empty() } else { Body::car(body, responder.streams.clone()) };
    Ok(headers::response(StatusCode::OK, headers, body))
}

fn walk(path: &ContentPath, params: &CarParams) -> CarWalk {
    let wanted = CarRequest {
        segments: path.segments.clone(),
        scope: params.scope,
        bytes: params.bytes,
        duplicates: params.duplicates,
    };
    CarWalk::new(path.root, wanted, Limits::default())
}

/// Strong: the bytes are the same whenever path and parameters are.
fn etag(path: &ContentPath, params: &CarParams) -> HeaderValue {
    let mut hash = Xxh3Default::new();
    for segment in &path.segments {
        hash.update(segment.as_bytes());
        hash.update(b"/");
    }
    let bytes = params.bytes.map(|bytes| (bytes.from, bytes.to));
    hash.update(format!("{:?} {bytes:?} {}", params.scope, params.duplicates).as_bytes());
    let suffix = format!(".car.{:016x}", hash.digest());
    headers::quoted(&[path.root.to_string().as_bytes(), suffix.as_bytes()])
}

fn car_headers(
    request: &ContentRequest,
    params: &CarParams,
    etag: HeaderValue,
    named: &Named,
) -> HeaderMap {
    let mut headers = headers::content(request, named, etag, headers::Kind::Content);
    // The client may have asked for any order: what it gets is depth first.
    let media_type = if params.duplicates {
        "application/vnd.ipld.car; version=1; order=dfs; dups=y"
    } else {
        "application/vnd.ipld.car; version=1; order=dfs; dups=n"
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // A range is served to whoever asks all the same: to take up a download that broke off.
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers::put_nosniff(&mut headers);
    // Below format=car, parameters of Accept still count.
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    let cid = String::from_utf8_lossy(&named.text);
    let name = match (&request.wants.filename, request.path.segments.last()) {
        (Some(name), _) => name.clone(),
        (None, Some(last)) => format!("{cid}_{last}.car"),
        (None, None) => format!("{cid}.car"),
    };
    if let Some(value) = headers::disposition(true, &name) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    headers
}

/// The bytes of a CAR, block by block.
#[derive(Debug)]
pub(in crate::gateway) struct CarBody {
    walk: CarWalk,
    ahead: ReadAhead,
    /// What is ready to be sent.
    out: Gathered,
    /// The blocks of the path, until the header that names its end can be written before them.
    path_blocks: Option<Vec<Block>>,
    /// Their bytes.
    path_bytes: usize,
    /// How much of it is still to be sent, where that is known.
    left: Option<u64>,
}

impl CarBody {
    /// A CAR, with its path and the first block behind that ready to be sent.
    async fn begin(
        responder: Responder<'_>,
        session: &Session,
        params: CarParams,
    ) -> Result<Self, Error> {
        let mut body = Self {
            walk: walk(&responder.request.path, &params),
            ahead: ReadAhead::new(responder.retriever.clone(), session.clone()),
            out: Gathered::default(),
            path_blocks: Some(Vec::new()),
            path_bytes: 0,
            left: None,
        };
        poll_fn(|cx| body.poll_begin(cx)).await?;
        Ok(body)
    }

    /// Bytes still to come, where that is known.
    pub(in crate::gateway) fn bytes_left(&self) -> Option<u64> {
        self.left
    }

    /// Goes on until the end of the path and the first block there are known.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.path_blocks.is_some() {
            let at_the_end = self.walk.terminus().is_some();
            match self.walk.step()? {
                Step::Need(cid) => ready!(self.poll_supply(cx, &cid))?,
                Step::Visit(block) => {
                    self.path_bytes += block.data().len();
                    if self.path_bytes > PATH_BLOCKS_BYTES_MAX {
                        let limit = PATH_BLOCKS_BYTES_MAX as u64;
                        let what = "the bytes of the path's blocks";
                        return Poll::Ready(Err(IpldError::Limit { what, limit }.into()));
                    }
                    if let Some(path_blocks) = &mut self.path_blocks {
                        path_blocks.push(block);
                    }
                    if at_the_end {
                        self.write_begin();
                    }
                }
                Step::Done => self.write_begin(),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the header and the blocks that were held back.
    fn write_begin(&mut self) {
        let roots: Vec<Cid> = self.walk.terminus().into_iter().collect();
        let blocks = self.path_blocks.take().unwrap_or_default();
        // These are few, and wait together for the head to be sent, so all of them are copied.
        let out = self.out.room(0);
        out.extend_from_slice(&car::header_v1(&roots));
        for block in &blocks {
            car::put_section_prefix(out, block);
            out.extend_from_slice(block.data());
        }
    }

    /// Adds a block to what is to be sent.
    fn write(&mut self, block: Block) {
        car::put_section_prefix(self.out.room(block.data().len()), &block);
        self.out.put(block.into_data());
    }

    fn poll_supply(&mut self, cx: &mut Context<'_>, cid: &Cid) -> Poll<Result<(), Error>> {
        let upcoming = |n, at_hand: AtHand<'_>| self.walk.ahead(n, at_hand);
        let block = ready!(self.ahead.poll_block(cx, cid, upcoming))?;
        Poll::Ready(self.walk.supply(block).map_err(Error::from))
    }

    /// The next bytes; `None` after the last.
    pub(in crate::gateway) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        if self.left == Some(0) {
            return Poll::Ready(Ok(None));
        }
        let next = ready!(self.poll_gathered(cx))?;
        Poll::Ready(match (&mut self.left, next) {
            (None, next) => Ok(next),
            (Some(left), Some(mut bytes)) => {
                bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= bytes.len() as u64;
                Ok(Some(bytes))
            }
            (Some(_), None) => Err(IpldError::Truncated("CAR").into()),
        })
    }

    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(frame) = self.out.full() {
                return Poll::Ready(Ok(Some(frame)));
            }
            match self.walk.step()? {
                Step::Need(cid) => match self.poll_supply(cx, &cid) {
                    Poll::Ready(supplied) => supplied?,
                    // While there is a wait, what is ready goes out.
                    Poll::Pending => {
                        let ready = self.out.rest();
                        return ready.map_or(Poll::Pending, |rest| Poll::Ready(Ok(Some(rest))));
                    }
                },
                Step::Visit(block) => self.write(block),
                Step::Done => return Poll::Ready(Ok(self.out.rest())),
            }
        }
    }
}
