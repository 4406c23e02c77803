//! What rules are found by: each thing that a rule can name has a key, and a request is worked out
//! into the keys of all rules that would hold it.
//!
//! A key is half of a BLAKE3 hash: 16 bytes, for which nobody finds a second thing of the same key.

use std::borrow::Cow;

use multibase::Base;
use multihash_codetable::{Code, MultihashDigest};

use super::index::Kinds;
use super::line::{Reach, Subject};
use crate::block::{Cid, Mh, SHA2_256, codec};

/// See above.
pub(super) type Key = [u8; 16];

const CONTENT: u8 = b'c';
const NAME: u8 = b'k';
const DOMAIN: u8 = b'd';
const HASHED: u8 = b'h';
const HASHED_LEGACY: u8 = b'l';

/// The subject alone, at whose prefixes are to be looked.
const PREFIX: u8 = b'^';
/// The subject and all below it.
const WHOLE: u8 = b'*';
/// The subject with one path.
const EXACT: u8 = b'=';

/// Codecs under which a hashed CID is looked for, besides the one that is asked for: lists hold the
/// CID that somebody reported, and its bytes are the same under the others.
const LEGACY_CODECS: [u64; 3] = [codec::DAG_PB, codec::RAW, codec::DAG_CBOR];

fn key(reach: u8, subject: &Subject, path: &str) -> Key {
    let (kind, hash, text) = match subject {
        Subject::Content(hash) => (CONTENT, Some(hash), ""),
        Subject::Key(hash) => (NAME, Some(hash), ""),
        Subject::Domain(domain) => (DOMAIN, None, domain.as_str()),
        Subject::Hashed(hash) => (HASHED, Some(hash), ""),
        Subject::HashedLegacy(hash) => (HASHED_LEGACY, Some(hash), ""),
    };
    let mut bytes = Vec::with_capacity(64 + text.len() + path.len());
    bytes.extend_from_slice(&[reach, kind]);
    if let Some(hash) = hash {
        bytes.extend_from_slice(&hash.code().to_be_bytes());
        bytes.push(hash.size());
        bytes.extend_from_slice(hash.digest());
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(path.as_bytes());
    let mut key = Key::default();
    let hash = blake3::hash(&bytes);
    key.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    key
}

/// The key of a rule that names one thing.
pub(super) fn key_of(subject: &Subject, reach: &Reach) -> Key {
    match reach {
        Reach::Exactly(path) => key(EXACT, subject, path),
        Reach::Below(_) => key(WHOLE, subject, ""),
    }
}

/// The key by which the rules are found that hold paths of a subject by how they begin.
pub(super) fn prefix_subject(subject: &Subject) -> Key {
    key(PREFIX, subject, "")
}

/// Something that is asked for, as the keys of all that holds it.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) keys: Vec<Key>,
    /// By which rules about prefixes are found; none where no list has any.
    pub(super) subject: Option<Key>,
    /// The path below the subject.
    pub(super) path: Cow<'a, str>,
}

impl<'a> Question<'a> {
    fn new(subject: &Subject, path: Cow<'a, str>, kinds: &Kinds) -> Self {
        let mut keys = Vec::with_capacity(8);
        keys.push(key(EXACT, subject, &path));
        if kinds.whole {
            keys.push(key(WHOLE, subject, ""));
        }
        let subject = kinds.prefixes.then(|| prefix_subject(subject));
        Self { keys, subject, path }
    }

    /// `/ipfs/{cid}/{path}`; with an empty path, also the block itself.
    pub(super) fn content(cid: &Cid, path: Cow<'a, str>, kinds: &Kinds) -> Self {
        let hash = *cid.hash();
        let mut question = Self::new(&Subject::Content(hash), path, kinds);
        if !kinds.functions.is_empty() {
            question.hashed(&base58(&hash), kinds);
        }
        if kinds.legacy {
            question.hashed_legacy(&base32(cid.codec(), &hash));
            for other in LEGACY_CODECS.into_iter().filter(|other| *other != cid.codec()) {
                question.hashed_legacy(&base32(other, &hash));
            }
        }
        question
    }

    /// `/ipns/{name}/{path}`.
    pub(super) fn name(subject: &Subject, path: Cow<'a, str>, kinds: &Kinds) -> Self {
        let mut question = Self::new(subject, path, kinds);
        let (modern, legacy) = match subject {
            Subject::Key(hash) => (base58(hash), base32(codec::LIBP2P_KEY, hash)),
            Subject::Domain(domain) => (format!("/ipns/{domain}"), domain.clone()),
            _ => return question,
        };
        question.hashed(&modern, kinds);
        if kinds.legacy {
            question.hashed_legacy(&legacy);
        }
        question
    }

    /// Also what is listed of the subject itself, whatever the path.
    pub(super) fn or_subject(mut self, other: Question<'_>) -> Self {
        self.keys.extend(other.keys);
        self
    }

    fn hashed(&mut self, text: &str, kinds: &Kinds) {
        let slash = if self.path.is_empty() { "" } else { "/" };
        let text = format!("{text}{slash}{}", self.path);
        for function in &kinds.functions {
            if let Some(hash) = hash(*function, &text) {
                self.keys.push(key(EXACT, &Subject::Hashed(hash), ""));
            }
        }
    }

    fn hashed_legacy(&mut self, text: &str) {
        if let Some(hash) = hash(SHA2_256, &format!("{text}/{}", self.path)) {
            self.keys.push(key(EXACT, &Subject::HashedLegacy(hash), ""));
        }
    }
}

fn hash(function: u64, text: &str) -> Option<Mh> {
    let hash = Code::try_from(function).ok()?.digest(text.as_bytes());
    Mh::wrap(function, hash.digest()).ok()
}

fn base58(hash: &Mh) -> String {
    Base::Base58Btc.encode(hash.to_bytes())
}

fn base32(codec: u64, hash: &Mh) -> String {
    Cid::new_v1(codec, *hash).to_string()
}
