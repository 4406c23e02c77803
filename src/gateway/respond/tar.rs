//! TARs of files and folders (path gateway specification, `format=tar`).

mod header;
mod walk;

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header as name};

use crate::block::{Block, Cid, codec};
use crate::gateway::body::Body;
use crate::gateway::error::Error;
use crate::gateway::headers;
use crate::gateway::read_ahead::ReadAhead;
use crate::gateway::request::{ContentRequest, Format};
use crate::gateway::resolve::Named;
use crate::ipld::AtHand;
use crate::ipld::unixfs::Node;
use crate::retrieval::Session;

use super::Responder;
use super::gathered::Gathered;

use walk::{Fault, Limits, Step, TarWalk};

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Name(name) => Self::OutsideArchive(name),
            Fault::Content(error) => Self::Content(error),
        }
    }
}

/// The entity tag of a TAR. It is weak, as elsewhere, though the bytes are the same always.
pub(super) fn etag(named: &Named) -> HeaderValue {
    let strong = headers::etag(&named.text, ".x-tar");
    HeaderValue::try_from([b"W/", strong.as_bytes()].concat()).unwrap_or(strong)
}

/// Only files, folders and links become a TAR.
pub(super) fn check(cid: &Cid) -> Result<(), Error> {
    match cid.codec() {
        codec::RAW | codec::DAG_PB => Ok(()),
        _ => Err(Error::NotAcceptable { cid: Box::new(*cid), format: "tar" }),
    }
}

/// Streams the tree below a block. What can be told from this block is told by the status, and so
/// is what becomes of the first frame, of HEAD too.
pub(super) async fn tar(
    responder: Responder<'_>,
    session: &Session,
    named: &Named,
    block: &Block,
) -> Result<Response<Body>, Error> {
    let top = String::from_utf8_lossy(&named.text);
    let walk = TarWalk::new(Node::decode(block)?, &top, Limits::default())?;
    let headers = tar_headers(responder.request, named);
    let ahead = ReadAhead::new(responder.retriever.clone(), session.clone());
    let mut body = TarBody { walk, ahead, out: Gathered::default(), first: None };
    body.first = poll_fn(|cx| body.poll_next(cx)).await?;
    let body = match responder.request.wants.head {
        true => Body::empty(),
        false => Body::tar(body, responder.streams.clone()),
    };
    Ok(headers::response(StatusCode::OK, headers, body))
}

pub(super) fn tar_headers(request: &ContentRequest, named: &Named) -> http::HeaderMap {
    let mut headers = headers::content(request, named, etag(named), headers::Kind::Content);
    headers.insert(name::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(name::ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers::put_nosniff(&mut headers);
    let own_name = format!("{}.{}", String::from_utf8_lossy(&named.text), Format::Tar.name());
    let file_name = request.wants.filename.as_deref().unwrap_or(&own_name);
    if let Some(value) = headers::disposition(true, file_name) {
        headers.insert(name::CONTENT_DISPOSITION, value);
    }
    headers
}

/// The bytes of a TAR, entry by entry.
#[derive(Debug)]
pub(in crate::gateway) struct TarBody {
    walk: TarWalk,
    ahead: ReadAhead,
    out: Gathered,
    /// What was read before the head was sent.
    first: Option<Bytes>,
}

impl TarBody {
    /// The next bytes; `None` after the last.
    pub(in crate::gateway) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        loop {
            if let Some(frame) = self.out.full() {
                return Poll::Ready(Ok(Some(frame)));
            }
            match self.walk.step()? {
                Step::Need(cid) => {
                    let upcoming = |n, at_hand: AtHand<'_>| self.walk.ahead(n, at_hand);
                    match self.ahead.poll_block(cx, &cid, upcoming) {
                        Poll::Ready(block) => self.walk.supply(&block?)?,
                        // While there is a wait, what is ready goes out.
                        Poll::Pending => {
                            let ready = self.out.rest();
                            return ready.map_or(Poll::Pending, |rest| Poll::Ready(Ok(Some(rest))));
                        }
                    }
                }
                Step::Data(data) => self.out.put(data),
                Step::Done => return Poll::Ready(Ok(self.out.rest())),
            }
        }
    }
}
