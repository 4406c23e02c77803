//! One block, as it is: `format=raw`, and the codecs that are served by their bytes.

use http::{HeaderValue, Response, header};

use crate::block::{Block, Cid, codec};
use crate::gateway::body::Body;
use crate::gateway::error::Error;
use crate::gateway::headers;
use crate::gateway::request::{Codec, Format};
use crate::gateway::resolve::Named;

use super::{Responder, file};

/// The block's bytes, for whoever checks them against the CID.
pub(super) fn raw(
    responder: Responder<'_>,
    named: &Named,
    block: &Block,
) -> Result<Response<Body>, Error> {
    let media_type = HeaderValue::from_static("application/vnd.ipld.raw");
    bytes(responder, named, block, media_type, Some("bin"), true)
}

/// A block of one of the JSON and CBOR codecs, or of one that is not known here.
pub(super) fn codec(
    responder: Responder<'_>,
    named: &Named,
    block: &Block,
) -> Result<Response<Body>, Error> {
    let (media_type, extension, attachment) =
        match (block.cid().codec(), responder.request.wants.format) {
            (codec::JSON, _) | (codec::DAG_JSON, Format::Codec(Codec::Json)) => {
                ("application/json", Some("json"), false)
            }
            (codec::CBOR, _) | (codec::DAG_CBOR, Format::Codec(Codec::Cbor)) => {
                ("application/cbor", Some("cbor"), true)
            }
            (codec::DAG_JSON, _) => ("application/vnd.ipld.dag-json", Some("json"), false),
            (codec::DAG_CBOR, _) => ("application/vnd.ipld.dag-cbor", Some("cbor"), true),
            _ => {
                let cid = Box::new(*block.cid());
                return Err(Error::NotAcceptable { cid, format: "a file" });
            }
        };
    let media_type = HeaderValue::from_static(media_type);
    bytes(responder, named, block, media_type, extension, attachment)
}

fn bytes(
    responder: Responder<'_>,
    named: &Named,
    block: &Block,
    media_type: HeaderValue,
    extension: Option<&str>,
    attachment: bool,
) -> Result<Response<Body>, Error> {
    let request = responder.request;
    let etag = etag(request.wants.format, named);
    let mut headers = headers::content(request, named, etag, headers::Kind::Content);
    headers.insert(header::CONTENT_TYPE, media_type);
    headers::put_nosniff(&mut headers);
    let cid = String::from_utf8_lossy(&named.text);
    let own_name = extension.map(|extension| format!("{cid}.{extension}"));
    if let Some(name) = request.wants.filename.as_deref().or(own_name.as_deref())
        && let Some(value) = headers::disposition(attachment || request.wants.download, name)
    {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    file::at_hand(responder, headers, block.data())
}

/// The entity tag of a block or file; listings and CARs have their own.
pub(super) fn etag(format: Format, named: &Named) -> HeaderValue {
    let suffix = match (format, named.terminus.codec()) {
        (Format::Raw, _) => ".raw",
        (Format::Codec(Codec::DagJson), _) => ".dag-json",
        (Format::Codec(Codec::DagCbor), _) => ".dag-cbor",
        (Format::Codec(Codec::Json), _) => ".json",
        (Format::Codec(Codec::Cbor), _) => ".cbor",
        (_, codec::DAG_JSON) => ".dag-json",
        (_, codec::DAG_CBOR) => ".dag-cbor",
        (_, codec::JSON) => ".json",
        (_, codec::CBOR) => ".cbor",
        _ => "",
    };
    headers::etag(&named.text, suffix)
}

/// Whether content of this codec can be had as that one: the same codec, or the plain one that it is
/// a form of, for the bytes are the same. Nobody checked that plain JSON or CBOR is of the stricter
/// form. JSON and CBOR files are what they are.
pub(super) fn check_codec(cid: &Cid, wanted: Codec) -> Result<(), Error> {
    let (format, fits): (_, &[u64]) = match wanted {
        Codec::DagJson => ("dag-json", &[codec::DAG_JSON]),
        Codec::DagCbor => ("dag-cbor", &[codec::DAG_CBOR]),
        Codec::Json => ("json", &[codec::JSON, codec::DAG_JSON, codec::RAW, codec::DAG_PB]),
        Codec::Cbor => ("cbor", &[codec::CBOR, codec::DAG_CBOR, codec::RAW, codec::DAG_PB]),
    };
    if fits.contains(&cid.codec()) {
        Ok(())
    } else {
        Err(Error::NotAcceptable { cid: Box::new(*cid), format })
    }
}
