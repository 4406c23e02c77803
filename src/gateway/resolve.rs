//! Where a content path leads.

use bytes::Bytes;
use http::HeaderValue;

use crate::block::Cid;
use crate::denylist::{Allowlist, Denylist};
use crate::ipld::Error as IpldError;
use crate::ipld::path::ContentPath;
use crate::ipld::walk::{PathWalk, Step};
use crate::retrieval::{Retriever, Session};

use super::error::Error;
use super::request::ContentRequest;

/// The end of a path, and what responses say of the way there.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// What the path leads to.
    pub(super) terminus: Cid,
    /// Its text.
    pub(super) text: Bytes,
    /// The path as it was asked for.
    pub(super) path: HeaderValue,
    /// The root and what each name led to.
    pub(super) roots: HeaderValue,
}

impl Named {
    /// A path that is a CID alone leads to it. `None` for a longer one.
    pub(super) fn at_root(path: &ContentPath) -> Option<Self> {
        path.segments.is_empty().then(|| Self::unresolved(path))
    }

    /// The root of a path, for what is said before or without walking it.
    pub(super) fn unresolved(path: &ContentPath) -> Self {
        let original = Bytes::copy_from_slice(path.original.as_bytes());
        let text = root_text(path, &original);
        Self { terminus: path.root, roots: value(text.clone()), path: value(original), text }
    }

    /// The same, with the root and what each name led to.
    pub(super) fn with_roots(self, roots: &[Cid]) -> Self {
        let mut all = Vec::with_capacity(64 * roots.len());
        all.extend_from_slice(self.roots.as_bytes());
        for root in roots.iter().skip(1) {
            all.push(b',');
            all.extend_from_slice(root.to_string().as_bytes());
        }
        Self { roots: value(all.into()), ..self }
    }
}

/// The text of the root's CID: as it stands in the path where that is its usual form.
fn root_text(path: &ContentPath, original: &Bytes) -> Bytes {
    let rest = original.strip_prefix(b"/ipfs/").unwrap_or_default();
    let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let given = rest.get(..length).unwrap_or_default();
    if matches!(given.first(), Some(b'b' | b'Q')) && !given.contains(&b'%') {
        let start = b"/ipfs/".len();
        original.slice(start..start + length)
    } else {
        path.root.to_string().into()
    }
}

fn value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Walks a path, block by block.
pub(super) async fn resolve(
    retriever: &Retriever,
    session: &Session,
    path: &ContentPath,
) -> Result<Named, Error> {
    let mut walk = PathWalk::new(path.root, path.segments.clone());
    loop {
        match walk.step().map_err(|error| failed(path, error))? {
            Step::Need(cid) => {
                let block = retriever.block(&cid, session).await?;
                walk.supply(block).map_err(|error| failed(path, error))?;
            }
            Step::Visit(_) => {}
            Step::Done => break,
        }
    }
    check_ways(retriever.denylist(), walk.ways())?;
    let named = Named::unresolved(path).with_roots(walk.roots());
    let terminus = walk.terminus().unwrap_or(path.root);
    Ok(Named { terminus, text: terminus.to_string().into(), ..named })
}

/// Whether all that was met on a path may be answered: a path that starts elsewhere leads to the
/// same content, and its end may be answered without a block.
pub(super) fn check_ways<'a>(
    denylist: &Denylist,
    ways: impl Iterator<Item = (&'a Cid, &'a [String])>,
) -> Result<(), Error> {
    if !denylist.is_off() {
        for (cid, rest) in ways {
            denylist.check_block(cid)?;
            denylist.check_path(cid, rest)?;
        }
    }
    Ok(())
}

/// Whether a request may be answered by the text of its path, from its root and from each name that
/// led there, and by the block that it starts from: what the client has already is answered without
/// a block.
pub(super) fn check_text(denylist: &Denylist, request: &ContentRequest) -> Result<(), Error> {
    if denylist.is_off() {
        return Ok(());
    }
    let ContentPath { root, segments, .. } = &request.path;
    denylist.check_path(root, segments)?;
    if !segments.is_empty() {
        denylist.check_block(root)?;
    }
    for (name, below) in request.names() {
        denylist.check_name(&name.to_string(), below)?;
    }
    Ok(())
}

/// Whether a request is one of those that are answered where not all are.
pub(super) fn check_listed(allowlist: &Allowlist, request: &ContentRequest) -> Result<(), Error> {
    let listed = allowlist.is_off()
        || match request.through.first() {
            Some((name, _)) => allowlist.admits_name(&name.to_string(), request.asked()),
            None => allowlist.admits_path(&request.path.root, &request.path.segments),
        };
    if listed { Ok(()) } else { Err(Error::NotListed) }
}

/// Tells a path that leads nowhere from blocks that cannot be read.
pub(super) fn failed(path: &ContentPath, error: IpldError) -> Error {
    Error::Path { path: path.original.as_str().into(), error }
}
