//! `_redirects`: what a site says about paths that do not exist (Web Redirects File specification).
//! Only where a site has an origin of its own: elsewhere its rules would send visitors of others.

mod rules;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::block::FetchError;
use crate::ipld::Error as IpldError;
use crate::ipld::path::Below;
use crate::ipld::unixfs::read::Step;
use crate::ipld::unixfs::{FileReader, Kind, Node};
use crate::metrics::{IntCounter, IntCounterVec};
use crate::retrieval::Session;

use super::body::Body;
use super::error::Error;
use super::headers;
use super::request::{ContentRequest, Format};
use super::resolve::{check_listed, check_text, resolve};
use super::respond::Responder;

pub use rules::{Answer, FILE_BYTES_MAX, Fault, Found, RULES_MAX, Rules, TARGET_BYTES_MAX};

use rules::with_query;

/// The file's name, below the root of the site.
const FILE_NAME: &str = "_redirects";
/// Most blocks that the file may have.
const FILE_BLOCKS_MAX: usize = 256;

/// What became of the paths that do not exist, counted.
#[derive(Debug, Clone)]
pub(super) struct Outcomes {
    redirected: IntCounter,
    rewritten: IntCounter,
    page: IntCounter,
    no_rule: IntCounter,
    faulty: IntCounter,
}

impl Outcomes {
    pub(super) fn new(outcomes: &IntCounterVec) -> Self {
        let of = |outcome| outcomes.with_label_values(&[outcome]);
        Self {
            redirected: of("redirected"),
            rewritten: of("rewritten"),
            page: of("page"),
            no_rule: of("no_rule"),
            faulty: of("faulty"),
        }
    }
}

/// Whether the rules of a site have a say in this failure.
pub(super) fn apply(request: &ContentRequest, error: &Error) -> bool {
    request.site.is_isolated()
        && request.wants.format == Format::Default
        && matches!(error, Error::Path { error: IpldError::NoLink { .. }, .. })
}

/// Answers a request for a path that does not exist by the rules of its site, or with the error
/// where these have none for it.
pub(super) async fn answer(
    responder: Responder<'_>,
    not_there: Error,
    outcomes: &Outcomes,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    let session = responder.session();
    let found = match file(responder, &session).await {
        Ok(None) => return Err(not_there),
        Ok(Some(file)) => Rules::parse(&file)
            .and_then(|rules| rules.find(request.asked()))
            .map_err(Error::Redirects),
        Err(error) => Err(error),
    };
    let found = found.inspect_err(|_| outcomes.faulty.inc())?;
    let Some(Found { answer, target }) = found else {
        outcomes.no_rule.inc();
        return Err(not_there);
    };
    match answer {
        Answer::Redirect(status) => {
            outcomes.redirected.inc();
            redirect(request, status, &target)
        }
        Answer::Rewrite => {
            outcomes.rewritten.inc();
            let request = at(responder, &target)?;
            Responder { request: &request, ..responder }.respond().await
        }
        Answer::Page(status) => {
            outcomes.page.inc();
            page(responder, status, &target).await
        }
    }
}

/// The request for another path of the same site, which must be one that is answered.
fn at(responder: Responder<'_>, target: &str) -> Result<ContentRequest, Error> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    // A rule may have escapes that cannot be read.
    let below = Below::parse(path).map_err(|reason| Error::Redirects(Fault::Target(reason)))?;
    let request = responder.request.at_path(below.segments);
    check_text(responder.retriever.denylist(), &request)?;
    check_listed(responder.allowlist, &request)?;
    Ok(request)
}

/// The site's own page for what is not there. It is whole, whatever part the client has or wants.
async fn page(
    responder: Responder<'_>,
    status: u16,
    target: &str,
) -> Result<Response<Body>, Error> {
    let mut request = at(responder, target)?;
    // It has no URL where anyone could be sent for a slash.
    request.path.trailing_slash = true;
    let wants = &mut request.wants;
    (wants.range, wants.if_range) = (None, None);
    (wants.if_none_match, wants.if_modified_since) = (None, None);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
    match (Responder { request: &request, ..responder }).respond().await {
        Ok(mut response) => {
            *response.status_mut() = status;
            Ok(response)
        }
        // Without the page, there is the status.
        Err(Error::Path { path, error }) => Err(Error::NoPage { status, path, error }),
        Err(error) => Err(error),
    }
}

fn redirect(request: &ContentRequest, status: u16, target: &str) -> Result<Response<Body>, Error> {
    let location = with_query(target, request.wants.query.as_deref());
    let location =
        HeaderValue::try_from(location).map_err(|_| Error::Redirects(Fault::TargetTooLong))?;
    let mut headers = HeaderMap::with_capacity(8);
    headers::put_cors(&mut headers);
    headers.insert(header::LOCATION, location);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    // It holds as long as the path does not exist, which is as long as the content.
    if let Some(value) = headers::cache_control(request, headers::Kind::Content) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    Ok(headers::response(status, headers, Body::empty()))
}

/// The site's file, if it has one.
async fn file(responder: Responder<'_>, session: &Session) -> Result<Option<Vec<u8>>, Error> {
    let path = responder.request.at_path(vec![FILE_NAME.to_owned()]).path;
    let terminus = match resolve(responder.retriever, session, &path).await {
        Ok(named) => named.terminus,
        Err(Error::Path { error: IpldError::NoLink { .. }, .. }) => return Ok(None),
        Err(error) => return Err(unread(responder.request, error)),
    };
    let fault = |fault| Err(Error::Redirects(fault));
    let retriever = responder.retriever;
    let get = async |cid| {
        let block = retriever.block(&cid, session).await;
        block.map_err(|error| unread(responder.request, error.into()))
    };
    let file = match Node::decode(&get(terminus).await?).map(|node| node.kind) {
        Ok(Kind::File(file)) => file,
        _ => return fault(Fault::NotAFile),
    };
    if file.size > FILE_BYTES_MAX as u64 {
        return fault(Fault::TooLarge);
    }
    let mut text = Vec::with_capacity(file.size as usize);
    let mut reader = FileReader::of(file, None);
    let mut blocks = 0;
    loop {
        match reader.step() {
            Step::Data(data) => text.extend_from_slice(&data),
            Step::Need(_) if blocks == FILE_BLOCKS_MAX => return fault(Fault::NotAFile),
            Step::Need(cid) => {
                blocks += 1;
                reader.supply(&get(cid).await?).map_err(|_| Error::Redirects(Fault::NotAFile))?;
            }
            Step::Done => return Ok(Some(text)),
        }
    }
}

/// Why the file was not read: a fault of the site, unless another try may help or only what is here
/// was asked for.
fn unread(request: &ContentRequest, error: Error) -> Error {
    match error {
        Error::Fetch(FetchError::NotFound(cid)) if request.wants.local_only => {
            Error::NotCached(cid)
        }
        Error::Fetch(FetchError::NotFound(_) | FetchError::Corrupt(_)) | Error::Path { .. } => {
            Error::Redirects(Fault::Unread)
        }
        other => other,
    }
}
