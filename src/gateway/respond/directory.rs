//! Directories: their `index.html`, or a page that lists them.

mod listing;

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::gateway::body::Body;
use crate::gateway::error::Error;
use crate::gateway::escape;
use crate::gateway::read_ahead::ReadAhead;
use crate::gateway::request::{ContentRequest, with_query};
use crate::gateway::resolve::{Named, check_text, resolve};
use crate::gateway::{headers, page};
use crate::ipld::AtHand;
use crate::ipld::unixfs::directory::{Entry, ListStep, Lister, Lookup, LookupStep};
use crate::ipld::unixfs::{File, Kind, Mtime, Node};
use crate::retrieval::Session;

use super::file::Served;
use super::{Responder, redirect};

/// The name of a directory's own page.
const INDEX: &str = "index.html";

/// Serves a directory: with a slash at the end of its path, since links in its pages are relative.
pub(super) async fn directory(
    responder: Responder<'_>,
    session: &Session,
    named: &Named,
    node: Node,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    if !request.path.trailing_slash && !request.wants.slash_optional {
        return to_slash(request);
    }
    let index = index(responder, session, &node).await?;
    if let Some(response) = responder.not_modified(named) {
        return Ok(response);
    }
    if let Some((file, mtime)) = index {
        let served = Served { file, mtime, name: Some(INDEX), named };
        return super::file::file(responder, session, served).await;
    }
    let page = page(responder, session, node).await?;
    Ok(listing_response(request, named, &page))
}

/// The entity tag of a page of the listing.
pub(super) fn etag(named: &Named, page: usize) -> HeaderValue {
    let looks = format!("DirIndex-{}_CID-", listing::VERSION);
    let page = if page == 0 { String::new() } else { format!(".page-{}", page + 1) };
    headers::quoted(&[looks.as_bytes(), &named.text, page.as_bytes()])
}

/// Sends to the path with a slash at its end; escapes as RFC 3986 writes them. Whoever accepts
/// another format is not sent.
pub(super) fn to_slash(request: &ContentRequest) -> Result<Response<Body>, Error> {
    let mut path = String::new();
    escape::uri(&mut path, request.site.url_path(&request.path.original));
    path.push('/');
    let mut response = redirect(&with_query(&path, request.wants.query.as_deref()))?;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// The directory's own page, if it has one.
async fn index(
    responder: Responder<'_>,
    session: &Session,
    node: &Node,
) -> Result<Option<(File, Option<Mtime>)>, Error> {
    let mut lookup = Lookup::of(node, INDEX)?;
    let entry = loop {
        match lookup.step() {
            LookupStep::Need(cid) => {
                lookup.supply(&responder.retriever.block(&cid, session).await?)?;
            }
            LookupStep::Found(entry) => break entry,
            LookupStep::NotFound => return Ok(None),
        }
    };
    check_index(responder, session).await?;
    let block = responder.retriever.block(&entry.cid, session).await?;
    match Node::decode(&block) {
        Ok(Node { kind: Kind::File(file), metadata }) => Ok(Some((file, metadata.mtime))),
        _ => Err(Error::Index),
    }
}

/// Whether the directory's own page may be answered at the path that it has.
async fn check_index(responder: Responder<'_>, session: &Session) -> Result<(), Error> {
    let denylist = responder.retriever.denylist();
    if denylist.is_off() {
        return Ok(());
    }
    let mut segments = responder.request.asked().to_vec();
    segments.push(INDEX.to_owned());
    let request = responder.request.at_path(segments);
    check_text(denylist, &request)?;
    // Whatever is met on the way, too.
    resolve(responder.retriever, session, &request.path).await.map(drop)
}

/// One page of a directory.
struct Page {
    number: usize,
    entries: Vec<Entry>,
    /// Whether entries follow it.
    more: bool,
}

async fn page(responder: Responder<'_>, session: &Session, node: Node) -> Result<Page, Error> {
    let (number, entries_max) = (responder.request.wants.page, responder.listing_entries_max);
    let mut lister = Lister::of(node)?.skip(number.saturating_mul(entries_max));
    let mut ahead = ReadAhead::new(responder.retriever.clone(), session.clone());
    let mut page = Page { number, entries: Vec::new(), more: false };
    loop {
        match lister.step()? {
            ListStep::Need(cid) => {
                let upcoming = |n, at_hand: AtHand<'_>| lister.ahead(n, at_hand);
                let block = poll_fn(|cx| ahead.poll_block(cx, &cid, upcoming)).await?;
                lister.supply(&block)?;
                // Shards in memory come without a wait, and there may be thousands.
                tokio::task::consume_budget().await;
            }
            ListStep::Entry(_) if page.entries.len() == entries_max => {
                page.more = true;
                break;
            }
            ListStep::Entry(entry) => page.entries.push(without_its_block(&entry)),
            ListStep::Done => break,
        }
    }
    // A sharded directory comes in the order of hashes.
    page.entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(page)
}

/// A copy of the entry that keeps no block in memory, its name no longer than can be told to be
/// too long.
fn without_its_block(entry: &Entry) -> Entry {
    let kept = entry.name.len().min(listing::NAME_BYTES_MAX + 1);
    let name = Bytes::copy_from_slice(entry.name.get(..kept).unwrap_or_default());
    Entry { name, cid: entry.cid, tsize: entry.tsize }
}

fn listing_response(request: &ContentRequest, named: &Named, page: &Page) -> Response<Body> {
    let html = listing::render(request, named, page);
    let etag = etag(named, page.number);
    let mut headers = headers::content(request, named, etag, headers::Kind::Page);
    headers.insert(header::CONTENT_TYPE, page::MEDIA_TYPE);
    headers.insert(header::CONTENT_SECURITY_POLICY, page::POLICY);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(html.len()));
    headers::put_nosniff(&mut headers);
    let body = if request.wants.head { Body::empty() } else { Body::full(html) };
    headers::response(StatusCode::OK, headers, body)
}
