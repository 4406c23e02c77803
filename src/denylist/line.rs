//! One line of a list: what it names, how far it reaches, and what it says of it.

use data_encoding::HEXLOWER_PERMISSIVE;
use multibase::Base;
use multihash_codetable::Code;
use percent_encoding::percent_decode_str;

use crate::block::{Cid, Mh, SHA2_256};

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is not blocked, whatever lines before this one say.
    Allowed,
    /// It is blocked: 410.
    Gone,
    /// It is blocked for legal reasons: 451.
    Legal,
}

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Content, by its multihash alone.
    Content(Mh),
    /// A name that is a key, by the key's multihash.
    Key(Mh),
    /// A name that is a domain, in lower case.
    Domain(String),
    /// Whatever hashes to this: the multihash in base58, with a path or without.
    Hashed(Mh),
    /// Whatever hashes to this: a CID in base32 or a domain, and a path behind a slash.
    HashedLegacy(Mh),
}

/// How far a rule reaches below its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// This path, decoded, alone. The empty one is the subject itself.
    Exactly(String),
    /// All paths that begin so. The empty one holds the subject itself and everything below.
    Below(String),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub subject: Subject,
    /// How far it reaches.
    pub reach: Reach,
    /// What it says.
    pub verdict: Verdict,
}

/// Reads a line without its end; `status` is what the list's header says of blocked content. `None`
/// for comments and empty lines. The error says what is wrong.
pub fn parse(line: &str, status: Verdict) -> Result<Option<Rule>, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let Some(rule) = words.next().filter(|rule| !rule.starts_with('#')) else { return Ok(None) };
    let status = words.filter_map(|hint| hint.split_once(['=', ':'])).fold(status, with_hint);
    // `-` and `+` are what older lists write for `!`.
    let (rule, verdict) = match rule.strip_prefix(['!', '+', '-']) {
        Some(rule) => (rule, Verdict::Allowed),
        None => (rule, status),
    };
    let (subject, reach) = if let Some(hash) = rule.strip_prefix("//") {
        (hashed(hash)?, Reach::Exactly(String::new()))
    } else if let Some(rest) = rule.strip_prefix("/ipfs/").or(rule.strip_prefix("/ipld/")) {
        let (cid, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hash = content(cid).ok_or("it names no CID and no multihash")?;
        (Subject::Content(hash), reach(path)?)
    } else if let Some(rest) = rule.strip_prefix("/ipns/") {
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        (named(name).ok_or("it names neither a key nor a domain")?, reach(path)?)
    } else {
        return Err("it begins with none of /ipfs/, /ipns/, //");
    };
    Ok(Some(Rule { subject, reach, verdict }))
}

/// What a hint makes of the status; hints that are unknown here change nothing.
pub(super) fn with_hint(status: Verdict, (name, value): (&str, &str)) -> Verdict {
    match (name.trim(), value.trim()) {
        ("gateway_status", "451") => Verdict::Legal,
        ("gateway_status", "410") => Verdict::Gone,
        _ => status,
    }
}

/// The multihash in a CID, or one in base58 by itself.
pub(super) fn content(text: &str) -> Option<Mh> {
    let cid = Cid::try_from(text).ok().map(|cid| *cid.hash());
    cid.or_else(|| multihash(&Base::Base58Btc.decode(text).ok()?))
}

/// A name: a key in any of its forms, or a domain, also with its dots written as dashes.
pub(super) fn named(name: &str) -> Option<Subject> {
    let name = percent_decode_str(name).decode_utf8().ok()?;
    if let Some(key) = content(&name) {
        return Some(Subject::Key(key));
    }
    let domain = name.trim_end_matches('.').to_ascii_lowercase();
    let domain = if domain.contains('.') { domain } else { with_dots(&domain) };
    (!domain.is_empty()).then_some(Subject::Domain(domain))
}

/// A domain as a DNS label writes it: `-` for a dot, `--` for a dash.
fn with_dots(label: &str) -> String {
    label.split("--").map(|part| part.replace('-', ".")).collect::<Vec<_>>().join("-")
}

fn multihash(bytes: &[u8]) -> Option<Mh> {
    Mh::from_bytes(bytes).ok()
}

/// A hash of what is blocked: of 64 hexadecimal digits in older lists, else a multihash in base58
/// or with a multibase prefix.
fn hashed(text: &str) -> Result<Subject, &'static str> {
    if text.len() == 64
        && let Ok(digest) = HEXLOWER_PERMISSIVE.decode(text.as_bytes())
    {
        let hash = Mh::wrap(SHA2_256, &digest).map_err(|_| "its hash is too long")?;
        return Ok(Subject::HashedLegacy(hash));
    }
    let bare = Base::Base58Btc.decode(text).ok().and_then(|bytes| multihash(&bytes));
    let based = || multibase::decode(text).ok().and_then(|(_, bytes)| multihash(&bytes));
    let hash = bare.or_else(based).ok_or("it is neither a multihash nor a SHA2-256 in hex")?;
    // With another function nothing that is asked for can be compared.
    Code::try_from(hash.code()).map_err(|_| "its hash function is not known here")?;
    Ok(Subject::Hashed(hash))
}

fn reach(path: &str) -> Result<Reach, &'static str> {
    let (path, below) = path.strip_suffix('*').map_or((path, false), |path| (path, true));
    let names = path.split('/').filter(|name| !name.is_empty());
    let mut decoded = String::with_capacity(path.len());
    for name in names {
        if !decoded.is_empty() {
            decoded.push('/');
        }
        let name = percent_decode_str(name).decode_utf8();
        decoded.push_str(&name.map_err(|_| "its path is not UTF-8 once decoded")?);
    }
    Ok(if below { Reach::Below(decoded) } else { Reach::Exactly(decoded) })
}
