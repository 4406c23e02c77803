//! Names, and what one of them says: pure text in, types out.

use std::fmt;
use std::str::FromStr;

use libp2p_identity::PublicKey;
use multibase::Base;

use crate::block::{Cid, IDENTITY, Mh, SHA2_256, codec};
use crate::ipld::path::parse_cid;

use super::Error;

/// Longest name that is looked at, in bytes: no key takes as much in any base.
const NAME_BYTES_MAX: usize = 512;
/// Longest domain, in bytes: with `_dnslink.` before it, it is still one (RFC 1035 section 2.3.4).
const DOMAIN_BYTES_MAX: usize = 253 - "_dnslink.".len();
/// Longest label of a domain, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Longest public key that stands in its name as it is, in bytes (libp2p peer id specification);
/// of others the hash does.
const KEY_INLINE_BYTES_MAX: usize = 42;
/// Most names below the root that a value has.
pub(super) const SEGMENTS_MAX: usize = 256;
/// Of a faulty name, how much an error repeats.
const NAME_SHOWN_CHARS_MAX: usize = 128;

/// A mutable name: `/ipns/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// The multihash of a public key: what its records say is signed by it.
    Key(Key),
    /// A domain: what it stands for is in its DNS (DNSLink).
    Domain(Domain),
}

/// A public key's multihash. It is shown as a CID of version 1 in base36.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Mh);

/// A domain of two labels or more: lower case, without a dot at its end, its labels letters, digits,
/// hyphens and underscores. Names in other scripts are in their ASCII form (`xn--…`), and are
/// compared in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Domain(Box<str>);

impl Name {
    /// Reads a name as it stands in a path, decoded: a key in any text form (`k51…`, `bafz…`,
    /// `12D3…`, `Qm…`, a dag-pb CID of it), or a domain.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let name = if text.contains('.') {
            Domain::parse(text).map(Self::Domain)
        } else {
            Key::parse(text).map(Self::Key)
        };
        name.map_err(|reason| malformed(text, reason))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl Key {
    /// The key of this multihash: of the key itself where it is short, else of its SHA2-256.
    fn new(hash: Mh) -> Result<Self, &'static str> {
        match (hash.code(), hash.digest().len()) {
            (IDENTITY, 1..=KEY_INLINE_BYTES_MAX) | (SHA2_256, 32) => Ok(Self(hash)),
            (IDENTITY | SHA2_256, _) => Err("its hash has a length that no key's has"),
            _ => Err("its hash is of a kind that no key's is"),
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        const NEITHER: &str =
            "it is neither a key (k51…, bafz…, 12D3…, Qm…) nor a domain with a dot";
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.len() > NAME_BYTES_MAX {
            return Err("it is too long");
        }
        // A multihash in plain base58, as peer ids are written; an identity begins with a zero.
        if text.starts_with("Qm") || text.starts_with('1') {
            let bytes = Base::Base58Btc.decode(text).map_err(|_| NEITHER)?;
            return Self::new(Mh::from_bytes(&bytes).map_err(|_| NEITHER)?);
        }
        let cid = Cid::try_from(text).map_err(|_| NEITHER)?;
        match cid.codec() {
            // As some wrote keys before they had a codec.
            codec::LIBP2P_KEY | codec::DAG_PB => Self::new(*cid.hash()),
            _ => Err("it is the CID of content, not of a key: content is at /ipfs/{cid}"),
        }
    }

    /// The name of a public key; none where it is of no kind that names have.
    #[must_use]
    pub fn of(key: &PublicKey) -> Option<Self> {
        Self::from_hash_bytes(&key.to_peer_id().to_bytes())
    }

    /// The key whose multihash has these bytes.
    pub(super) fn from_hash_bytes(bytes: &[u8]) -> Option<Self> {
        Self::new(Mh::from_bytes(bytes).ok()?).ok()
    }

    /// Its CID.
    #[must_use]
    pub fn cid(&self) -> Cid {
        Cid::new_v1(codec::LIBP2P_KEY, self.0)
    }

    /// The multihash of the public key.
    #[must_use]
    pub fn hash(&self) -> &Mh {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&multibase::encode(Base::Base36Lower, self.cid().to_bytes()))
    }
}

impl Domain {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > DOMAIN_BYTES_MAX {
            return Err("a domain of so many letters cannot be looked up");
        }
        let mut labels = 0;
        for label in text.split('.') {
            labels += 1;
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return Err("a label of a domain has from 1 to 63 letters");
            }
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if !label.bytes().all(plain) {
                return Err("a domain has letters, digits and hyphens; others in their xn-- form");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err("a label of a domain neither begins nor ends with a hyphen");
            }
        }
        if labels < 2 {
            return Err("a domain has a dot in it");
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("it is an address, and those have no DNSLink");
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The domain, without a dot at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn malformed(text: &str, reason: &'static str) -> Error {
    let shown = match text.char_indices().nth(NAME_SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    };
    Error::Malformed { name: shown.into(), reason }
}

/// What a name stands for, by what it says itself: content, or another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What the path starts from.
    pub root: Root,
    /// The names below it.
    pub segments: Vec<String>,
}

/// What a [`Value`] starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `/ipfs/{cid}`.
    Cid(Cid),
    /// `/ipns/{name}`.
    Name(Name),
}

impl Value {
    /// Reads `/ipfs/{cid}[/path]` or `/ipns/{name}[/path]` as records and DNSLinks have it: nothing
    /// in it is percent-encoded. What is wrong is told as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let in_cids = text.strip_prefix("/ipfs/");
        let Some(rest) = in_cids.or_else(|| text.strip_prefix("/ipns/")) else {
            return Err("it is neither /ipfs/{cid} nor /ipns/{name}");
        };
        let (root, below) = rest.split_once('/').unwrap_or((rest, ""));
        let root = if in_cids.is_some() {
            Root::Cid(parse_cid(root).map_err(|_| "what follows /ipfs/ is not a CID")?)
        } else {
            Root::Name(Name::parse(root).map_err(|_| "what follows /ipns/ is not a name")?)
        };
        let segments = below.split('/').filter(|segment| !segment.is_empty());
        let segments: Vec<_> = segments.take(SEGMENTS_MAX + 1).map(str::to_owned).collect();
        if segments.len() > SEGMENTS_MAX {
            return Err("it has more than 256 segments");
        }
        Ok(Self { root, segments })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Cid(cid) => write!(f, "/ipfs/{cid}")?,
            Root::Name(name) => write!(f, "/ipns/{name}")?,
        }
        self.segments.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";

    #[test]
    fn a_key_is_one_name_in_every_text_form() {
        let key = Name::parse(KEY).unwrap();
        let Name::Key(inner) = &key else { panic!("{key:?}") };
        assert_eq!(key.to_string(), KEY);
        let bytes = inner.cid().to_bytes();
        let peer_id = Base::Base58Btc.encode(inner.hash().to_bytes());
        assert!(peer_id.starts_with("12D3"), "{peer_id}");
        let as_dag_pb = Cid::new_v1(codec::DAG_PB, *inner.hash()).to_string();
        let forms = [
            multibase::encode(Base::Base32Lower, &bytes),
            multibase::encode(Base::Base36Upper, &bytes),
            multibase::encode(Base::Base58Btc, &bytes),
            multibase::encode(Base::Base16Lower, &bytes),
            peer_id,
            as_dag_pb,
        ];
        for form in forms {
            assert_eq!(Name::parse(&form).unwrap(), key, "{form}");
        }
        let rsa = Name::parse("QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3").unwrap();
        assert!(matches!(&rsa, Name::Key(key) if key.hash().code() == SHA2_256));
        assert_eq!(Name::parse(&rsa.to_string()).unwrap(), rsa);
    }

    #[test]
    fn domains_are_compared_in_lower_case_and_without_their_last_dot() {
        let check = |text: &str, want: &str| {
            assert_eq!(Name::parse(text).unwrap().to_string(), want, "{text}");
        };
        check("Docs.IPFS.tech", "docs.ipfs.tech");
        check("docs.ipfs.tech.", "docs.ipfs.tech");
        check("xn--caf-dma.example", "xn--caf-dma.example");
        check("XN--CAF-DMA.example", "xn--caf-dma.example");
        check("_a.b--c.d0", "_a.b--c.d0");
    }

    #[test]
    fn punycode_that_decodes_to_ascii_is_not_the_plain_name() {
        let plain = Name::parse("example.org").unwrap();
        for text in ["xn--example-.org", "xn--example.org", "xn--xample-9of.org"] {
            assert_ne!(Name::parse(text).ok(), Some(plain.clone()), "{text}");
        }
        // A letter that only looks like one is no letter of a domain.
        assert!(Name::parse("ex\u{430}mple.org").is_err());
        assert!(Name::parse("example\u{3002}org").is_err());
    }

    #[test]
    fn what_is_neither_key_nor_domain_is_refused_with_a_reason() {
        let check = |text: &str, want: &str| match Name::parse(text) {
            Err(Error::Malformed { reason, .. }) => assert!(reason.contains(want), "{reason}"),
            other => panic!("{text}: {other:?}"),
        };
        check("", "empty");
        check("localhost", "neither");
        check("com.", "dot");
        check("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "content");
        check("Qm", "neither");
        check("12D3KooW", "neither");
        check("k51qzi5uqu5d", "neither");
        check("127.0.0.1", "address");
        check("1.2.3.4.", "address");
        check("a..b", "label");
        check(".a.b", "label");
        check("a.-b", "hyphen");
        check("a b.c", "letters");
        check("[::1].x", "letters");
        check("a.b:80", "letters");
        check("a\0.b", "letters");
        check(&format!("{}.b", "a".repeat(64)), "63");
        check(&"a.".repeat(200), "so many");
        check(&"k".repeat(10_000), "too long");
        check(&format!("z{}", "1".repeat(300)), "neither");
    }

    #[test]
    fn values_are_paths_and_nothing_in_them_is_decoded() {
        let check = |text: &str| {
            let value = Value::parse(text).unwrap();
            assert_eq!(value.to_string(), text);
            value
        };
        let value = check("/ipfs/bafkqaaa/a%20b/ż");
        assert_eq!(value.segments, ["a%20b", "ż"]);
        check("/ipns/example.org/a");
        check(&format!("/ipns/{KEY}"));
        assert!(Value::parse("/ipfs/bafkqaaa//a/").unwrap().segments == ["a"]);
        for text in
            ["", "/ipfs/", "/ipns/", "ipfs/bafkqaaa", "bafkqaaa", "/ipld/bafkqaaa", "/ipfs/x"]
        {
            assert!(Value::parse(text).is_err(), "{text}");
        }
        assert!(Value::parse(&format!("/ipfs/bafkqaaa{}", "/a".repeat(257))).is_err());
    }
}
