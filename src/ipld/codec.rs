//! What each codec may contain: links, values, and the rules of well-formedness.

use cid::Version;

use crate::block::{Block, Cid, Mh, SHA2_256, codec};

use super::{Error, dag_cbor, dag_json, dag_pb};

/// Longest text of a CID: 36 bytes in base 2, and longer digests in denser bases. Some bases take
/// quadratic time, so this comes before decoding.
const CID_TEXT_BYTES_MAX: usize = 512;
/// How deep arrays and maps may nest inside one block.
pub const DEPTH_MAX: usize = 128;

/// Where a path leads inside one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// To a link, after the first `consumed` segments.
    Link {
        /// The link.
        cid: Cid,
        /// How many segments led to it; the rest go on in the linked block.
        consumed: usize,
    },
    /// All segments were used up and lead to a value that is not a link.
    Value,
    /// The segment with this index names nothing.
    Missing(usize),
}

/// Follows path segments inside a DAG-CBOR or DAG-JSON block up to the first link. Blocks of other
/// codecs have nothing inside: their first segment is missing.
pub fn resolve<S: AsRef<str>>(block: &Block, segments: &[S]) -> Result<Resolved, Error> {
    match block.cid().codec() {
        codec::DAG_CBOR => dag_cbor::resolve(block.data(), segments),
        codec::DAG_JSON => dag_json::resolve(block.data(), segments),
        _ if segments.is_empty() => Ok(Resolved::Value),
        _ => Ok(Resolved::Missing(0)),
    }
}

/// Checks that a block of one of the CBOR and JSON codecs is well-formed; other codecs pass.
pub fn validate(codec: u64, data: &[u8]) -> Result<(), Error> {
    match codec {
        codec::DAG_CBOR => dag_cbor::validate(data),
        codec::DAG_JSON => dag_json::validate(data),
        codec::CBOR => dag_cbor::validate_plain(data),
        codec::JSON => dag_json::validate_plain(data),
        _ => Ok(()),
    }
}

/// Calls `found` with each link of the block, in order.
pub fn for_each_link(block: &Block, found: &mut dyn FnMut(Cid)) -> Result<(), Error> {
    match block.cid().codec() {
        codec::RAW | codec::JSON | codec::CBOR | codec::LIBP2P_KEY => Ok(()),
        codec::DAG_CBOR => dag_cbor::for_each_link(block.data(), found),
        codec::DAG_JSON => dag_json::for_each_link(block.data(), found),
        codec::DAG_PB => {
            dag_pb::PbView::decode(block.data())?.links.iter().for_each(|link| found(link.cid));
            Ok(())
        }
        other => Err(Error::UnknownCodec(other)),
    }
}

/// Reads the CID that these bytes are.
pub(crate) fn read_cid_whole(bytes: &[u8]) -> Result<Cid, Error> {
    match read_cid(bytes)? {
        (cid, []) => Ok(cid),
        _ => Err(Error::Malformed { format: "CID", reason: "bytes follow it" }),
    }
}

/// Reads the CID that these bytes begin with; gives what follows it, too.
pub(crate) fn read_cid(bytes: &[u8]) -> Result<(Cid, &[u8]), Error> {
    // Nearly all: version 1, a codec of one byte, SHA2-256. Walks read a CID many times.
    if let [1, codec @ 0..=0x7f, 0x12, 0x20, rest @ ..] = bytes
        && let Some((digest, rest)) = rest.split_at_checked(32)
        && let Ok(hash) = Mh::wrap(SHA2_256, digest)
    {
        return Ok((Cid::new_v1(u64::from(*codec), hash), rest));
    }
    let mut rest = bytes;
    match Cid::read_bytes(&mut rest) {
        Ok(cid) => Ok((cid, rest)),
        Err(_) => Err(Error::Malformed { format: "CID", reason: "its bytes cannot be read" }),
    }
}

/// A path segment as the index of an array: decimal, without a sign or leading zeros.
pub(super) fn array_index(segment: &str) -> Option<u64> {
    let plain = segment == "0" || segment.starts_with(|c: char| matches!(c, '1'..='9'));
    segment.parse().ok().filter(|_| plain)
}

/// Reads a CID in its text form: version 0, or version 1 in any multibase.
pub(super) fn read_cid_text(text: &str) -> Result<Cid, Error> {
    let malformed = |reason| Error::Malformed { format: "CID", reason };
    if text.is_empty() {
        return Err(malformed("it is missing"));
    }
    if text.len() > CID_TEXT_BYTES_MAX {
        return Err(malformed("it is too long"));
    }
    if text.contains('/') {
        return Err(malformed("it holds a slash"));
    }
    let cid = match parse_base32(text) {
        Some(cid) => cid?,
        None => Cid::try_from(text)
            .map_err(|_| malformed("neither base58 (version 0) nor a multibase can be read"))?,
    };
    let v0_text = text.len() == 46 && text.starts_with("Qm");
    if (cid.version() == Version::V0) != v0_text {
        return Err(malformed("version 0 is written in plain base58 only"));
    }
    Ok(cid)
}

/// The form that most requests use, lower-case base32, without allocating. `None` where the text
/// is in another form.
fn parse_base32(text: &str) -> Option<Result<Cid, Error>> {
    let digits = text.strip_prefix('b')?.as_bytes();
    let mut bytes = [0; 65];
    if digits.len() * 5 > bytes.len() * 8 {
        return None;
    }
    // Eight digits are five bytes.
    for (digits, bytes) in digits.chunks(8).zip(bytes.chunks_exact_mut(5)) {
        let mut bits = 0_u64;
        for digit in digits {
            let value = match digit {
                b'a'..=b'z' => digit - b'a',
                b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        bits <<= 5 * (8 - digits.len());
        bytes.copy_from_slice(bits.to_be_bytes().get(3..)?);
    }
    // What is left over must be padding: fewer bits than a digit has, all zero.
    let (whole, rest) = bytes.split_at_checked(digits.len() * 5 / 8)?;
    let padding = digits.len() * 5 % 8 < 5 && rest.iter().all(|byte| *byte == 0);
    padding.then(|| read_cid_whole(whole))
}
