//! Choosing the representation of content.

mod block;
pub(super) mod car;
mod directory;
pub(super) mod file;
mod gathered;
pub(super) mod ipns_record;
pub(super) mod multipart;
mod preview;
pub(super) mod tar;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::block::{Block, Cid, FetchError, codec};
use crate::denylist::Allowlist;
use crate::ipld::unixfs::{Kind, Node};
use crate::retrieval::{Retriever, Session};

use super::body::Body;
use super::error::Error;
use super::headers;
use super::metrics::Streams;
use super::request::{ContentRequest, Format};
use super::resolve::{Named, resolve};
use super::timing;

/// One request, and what it takes to answer it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Responder<'a> {
    pub(super) retriever: &'a Retriever,
    pub(super) streams: &'a Streams,
    pub(super) allowlist: &'a Allowlist,
    pub(super) request: &'a ContentRequest,
    pub(super) listing_entries_max: usize,
    pub(super) range_bytes_max: u64,
}

type Outcome = Result<Response<Body>, Error>;

impl<'a> Responder<'a> {
    /// Answers without any waiting, where that can be: what the client has already, and blocks in
    /// memory that are the whole content.
    pub(super) fn at_once(self) -> Option<Outcome> {
        let request = self.request;
        if let Format::Car(params) = request.wants.format {
            // Where something may be blocked, what the path leads to must be known first.
            let known = request.path.segments.is_empty() || self.retriever.denylist().is_off();
            return known.then(|| car::not_modified(request, &params))?.map(Ok);
        }
        let named = Named::at_root(&request.path)?;
        if let Some(response) = self.not_modified_unread(&named) {
            return Some(Ok(response));
        }
        let leaf = named.terminus.codec() == codec::RAW && request.wants.format == Format::Default;
        if !leaf && request.wants.format != Format::Raw {
            return None;
        }
        let block = self.retriever.at_hand(&named.terminus)?;
        Some(if leaf {
            file::whole(self, &named, &block)
        } else {
            block::raw(self, &named, &block)
        })
    }

    /// Answers, with whatever it takes.
    pub(super) async fn respond(self) -> Outcome {
        let session = self.session();
        let outcome = match self.content(&session).await {
            Err(Error::Fetch(FetchError::NotFound(cid))) if self.request.wants.local_only => {
                Err(Error::NotCached(cid))
            }
            outcome => outcome,
        };
        outcome.map(|response| timing::found(response, session.trace()))
    }

    /// The session of the request.
    pub(super) fn session(&self) -> Session {
        let session = self.retriever.session().below(&self.request.path.root);
        if self.request.wants.local_only { session.local_only() } else { session }
    }

    async fn content(self, session: &Session) -> Outcome {
        if let Format::Car(params) = self.request.wants.format {
            return car::car(self, session, params).await;
        }
        let path = &self.request.path;
        let named = match Named::at_root(path) {
            Some(named) => named,
            None => {
                let named = resolve(self.retriever, session, path).await?;
                session.trace().walked();
                if let Some(response) = self.not_modified_unread(&named) {
                    return Ok(response);
                }
                named
            }
        };
        let format = self.request.wants.format;
        match format {
            Format::Tar => tar::check(&named.terminus)?,
            // It is of a name, not of what that leads to, and was answered before.
            Format::IpnsRecord => return Err(Error::RecordOfContent),
            Format::Codec(wanted) => block::check_codec(&named.terminus, wanted)?,
            Format::Default | Format::Raw | Format::Car(_) => {}
        }
        let block = self.retriever.block(&named.terminus, session).await?;
        match (format, is_unixfs(&named.terminus)) {
            (Format::Raw, _) => block::raw(self, &named, &block),
            (Format::Tar, _) => tar::tar(self, session, &named, &block).await,
            (_, false) if preview::is_wanted(self.request, &named.terminus) => {
                preview::preview(self.request, &named, &block)
            }
            (_, false) => block::codec(self, &named, &block),
            (_, true) => self.unixfs(session, &named, &block).await,
        }
    }

    async fn unixfs(self, session: &Session, named: &Named, block: &Block) -> Outcome {
        let node = Node::decode(block)?;
        match node.kind {
            Kind::File(file) => {
                if let Some(response) = self.not_modified(named) {
                    return Ok(response);
                }
                let name = self.request.path.segments.last().map(String::as_str);
                let mtime = node.metadata.mtime;
                let file = file::Served { file, mtime, name, named };
                file::file(self, session, file).await
            }
            Kind::Symlink { target } => {
                let mtime = node.metadata.mtime;
                Ok(file::symlink(self.request, named, target, mtime))
            }
            Kind::Directory(_) | Kind::HamtShard(_)
                if self.request.wants.format != Format::Default =>
            {
                let cid = Box::new(named.terminus);
                Err(Error::NotAcceptable { cid, format: self.request.wants.format.name() })
            }
            Kind::Directory(_) | Kind::HamtShard(_) => {
                directory::directory(self, session, named, node).await
            }
        }
    }

    /// 304 before anything is read. Where something may be blocked, a directory is looked at first:
    /// its page may be.
    fn not_modified_unread(&self, named: &Named) -> Option<Response<Body>> {
        let may_be_directory =
            named.terminus.codec() == codec::DAG_PB && self.request.wants.format == Format::Default;
        let unread = !may_be_directory || self.retriever.denylist().is_off();
        unread.then(|| self.not_modified(named))?
    }

    /// 304, where the client names an entity tag that the content may have. All of them follow
    /// from CID and format, so nothing need be read.
    fn not_modified(&self, named: &Named) -> Option<Response<Body>> {
        let request = self.request;
        let held = request.wants.if_none_match.as_ref()?;
        let mut kind = headers::Kind::Content;
        let etag = match request.wants.format {
            Format::Default if preview::is_wanted(request, &named.terminus) => {
                kind = headers::Kind::Page;
                preview::etag(named)
            }
            Format::Tar => {
                tar::check(&named.terminus).ok()?;
                tar::etag(named)
            }
            Format::IpnsRecord => return None,
            Format::Codec(wanted) if block::check_codec(&named.terminus, wanted).is_err() => {
                return None;
            }
            format => block::etag(format, named),
        };
        if headers::matches(held, &etag) {
            return Some(not_modified(request, named, etag, kind));
        }
        if request.wants.format == Format::Default && named.terminus.codec() == codec::DAG_PB {
            let etag = directory::etag(named, request.wants.page);
            if headers::matches(held, &etag) {
                return Some(not_modified(request, named, etag, headers::Kind::Page));
            }
        }
        None
    }

    /// Whether the client has any representation that there may be (`If-None-Match: *`).
    pub(super) fn any_is_held(&self) -> bool {
        self.request.wants.if_none_match.as_ref().is_some_and(|held| held == "*")
    }
}

/// 304 instead, for whoever has any representation: that there is one is known only now.
pub(super) fn unless_held(response: Response<Body>) -> Response<Body> {
    if response.status().is_success() {
        headers::into_not_modified(response.into_parts().0.headers)
    } else {
        response
    }
}

fn is_unixfs(cid: &Cid) -> bool {
    matches!(cid.codec(), codec::RAW | codec::DAG_PB)
}

fn not_modified(
    request: &ContentRequest,
    named: &Named,
    etag: HeaderValue,
    kind: headers::Kind,
) -> Response<Body> {
    let headers = headers::not_modified(request, named, etag, kind);
    headers::response(StatusCode::NOT_MODIFIED, headers, Body::empty())
}

/// Says that what is meant is elsewhere on this gateway.
pub(super) fn redirect(location: &str) -> Outcome {
    redirect_with(StatusCode::MOVED_PERMANENTLY, location)
}

/// Says under which form of its name to ask for it.
pub(super) fn found(location: &str) -> Outcome {
    redirect_with(StatusCode::FOUND, location)
}

fn redirect_with(status: StatusCode, location: &str) -> Outcome {
    let location = HeaderValue::try_from(location)
        .map_err(|_| Error::BadParameter { name: "uri", reason: "it cannot stand in a header" })?;
    let mut headers = HeaderMap::with_capacity(8);
    headers::put_cors(&mut headers);
    headers.insert(header::LOCATION, location);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(headers::response(status, headers, Body::empty()))
}
