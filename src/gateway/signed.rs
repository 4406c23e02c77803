//! Signed URLs: who has one may read what it names until it expires.
//!
//! A signature is an HMAC-SHA256 over what is asked for and until when. It covers one path with all
//! other parameters, or everything below a directory; then it is also given as a cookie, so that
//! the parts of a page come by its relative links. Pure: the time is handed in.

mod keys;

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, Response, header};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::escape;
use super::hostname::label;
use super::site::Site;
use crate::block::Cid;
use crate::ipld::path::parse_cid;
use crate::routing::Name;

pub use keys::{BadKey, SigningKeys};

/// The cookie that carries a signature of a directory.
const COOKIE: &str = "estuary-signed";
/// Cookies of that name that are looked at: a browser sends one for each directory above.
const COOKIES_MAX: usize = 8;
/// What every signed text begins with, so that a signature is for nothing else.
const PURPOSE: &str = "estuary signed URL 1";

/// Whether URLs must be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signed {
    /// Everybody may read.
    #[default]
    Off,
    /// Only what is signed may be read.
    Required,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has no signature.
    #[error("this gateway answers signed URLs only, and this one is not signed")]
    Unsigned,
    /// It has one for something else, or none of ours.
    #[error("the URL's signature is not for this: a signed URL is to be used as it was given")]
    Invalid,
    /// It had one.
    #[error("the signed URL has expired: ask for a new one where this one came from")]
    Expired,
}

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// The key that signs.
    pub key: &'a str,
    /// None: for one path. Else for all below the directory that is so many names below the root.
    pub depth: Option<usize>,
}

/// A signature that was good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    expires: u64,
    /// The query without the signature.
    pub(super) query: Option<String>,
    /// Where the signature is for a directory: the part of the query that says so, and the cookie.
    directory: Option<Directory>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Directory {
    query: String,
    cookie: String,
    depth: usize,
}

/// Checks signatures. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Signatures(Arc<SigningKeys>);

impl Signatures {
    /// A check by these keys; none where nothing need be signed.
    pub(super) fn new(signed: Signed, keys: &SigningKeys) -> Option<Self> {
        (signed == Signed::Required).then(|| Self(Arc::new(keys.clone())))
    }

    /// Checks a request for a content path, percent-encoded.
    pub(super) fn check(
        &self,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Grant, Refused> {
        let asked = Parameters::read(query.unwrap_or_default())?;
        let query = (!asked.others.is_empty()).then(|| asked.others.join("&"));
        if let Some((terms, signature)) = asked.signed()? {
            self.verify(path, &asked.others, terms, signature, now)?;
            let directory = terms.depth.map(|depth| Directory {
                query: parameters(terms, signature),
                cookie: format!("{depth}.{}.{}.{signature}", terms.expires, terms.key),
                depth,
            });
            return Ok(Grant { expires: terms.expires, query, directory });
        }
        let mut refused = Refused::Unsigned;
        for cookie in cookies(headers) {
            let Some((terms, signature)) = from_cookie(cookie) else { continue };
            match self.verify(path, &[], terms, signature, now) {
                Ok(()) => return Ok(Grant { expires: terms.expires, query, directory: None }),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn verify(
        &self,
        path: &str,
        others: &[&str],
        terms: Terms<'_>,
        signature: &str,
        now: u64,
    ) -> Result<(), Refused> {
        let key = self.0.get(terms.key).ok_or(Refused::Invalid)?;
        let text = text(path, others, terms).ok_or(Refused::Invalid)?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes());
        let signature = signature.map_err(|_| Refused::Invalid)?;
        // In constant time.
        hmac::verify(key, text.as_bytes(), &signature).map_err(|_| Refused::Invalid)?;
        if now < terms.expires { Ok(()) } else { Err(Refused::Expired) }
    }
}

impl Grant {
    /// Sees that no cache keeps the answer longer than the signature holds or for anybody else, and
    /// that what a directory's page refers to can be had.
    pub(super) fn bind(
        &self,
        response: &mut Response<Body>,
        (site, original): (&Site, &str),
        secure: bool,
        now: u64,
    ) {
        let left = self.expires.saturating_sub(now);
        let headers = response.headers_mut();
        let lasts = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
        let value = match lasts {
            Some(lasts) if lasts.contains("no-store") => None,
            Some(lasts) => max_age(lasts).map(|own| format!("private, max-age={}", own.min(left))),
            None => None,
        };
        let stored = lasts.is_some_and(|lasts| lasts.contains("no-store"));
        let value = value.unwrap_or_else(|| "private, no-cache".to_owned());
        if !stored && let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(header::CACHE_CONTROL, value);
        }
        let Some(directory) = &self.directory else { return };
        if let Some(path) = cookie_path(site, original, directory.depth) {
            let secure = if secure { "; Secure" } else { "" };
            let cookie = format!(
                "{COOKIE}={}; Path={path}; Max-Age={left}; HttpOnly; SameSite=Lax{secure}",
                directory.cookie
            );
            if let Ok(cookie) = HeaderValue::try_from(cookie) {
                headers.append(header::SET_COOKIE, cookie);
            }
        }
        // A directory without its slash is elsewhere, and below the signed one still. A rule of a
        // site may lead to another one, whom the signature is no business of.
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let is_here = |to: &&str| to.starts_with('/') && !to.starts_with("//");
        if let Some(location) = location.filter(is_here) {
            let (to, fragment) = location.split_at(location.find('#').unwrap_or(location.len()));
            let and = if to.contains('?') { '&' } else { '?' };
            let location = format!("{to}{and}{}{fragment}", directory.query);
            if let Ok(location) = HeaderValue::try_from(location) {
                headers.insert(header::LOCATION, location);
            }
        }
    }
}

/// The query that makes a URL of a content path a signed one. `None` where the key is not known, or
/// the path is not below such a directory.
#[must_use]
pub fn sign(
    keys: &SigningKeys,
    path: &str,
    query: Option<&str>,
    terms: Terms<'_>,
) -> Option<String> {
    let query = query.filter(|query| !query.is_empty());
    let others: Vec<_> = query.iter().flat_map(|query| query.split('&')).collect();
    let text = text(path, &others, terms)?;
    let signature = hmac::sign(keys.get(terms.key)?, text.as_bytes());
    let signature = BASE64URL_NOPAD.encode(signature.as_ref());
    let own = parameters(terms, &signature);
    Some(query.map_or_else(|| own.clone(), |query| format!("{query}&{own}")))
}

fn parameters(terms: Terms<'_>, signature: &str) -> String {
    let Terms { expires, key, depth } = terms;
    let depth = depth.map(|depth| format!("depth={depth}&")).unwrap_or_default();
    format!("{depth}expires={expires}&key={key}&signature={signature}")
}

/// What is signed. No part of it can hold a line end, so it is read in one way only.
fn text(path: &str, others: &[&str], terms: Terms<'_>) -> Option<String> {
    let path = canonical(path);
    let (scope, path, others) = match terms.depth {
        None => {
            let mut others = others.to_vec();
            others.sort_unstable();
            ("path", path.as_str(), others.join("&"))
        }
        Some(depth) => ("below", directory(&path, depth)?, String::new()),
    };
    let Terms { expires, key, .. } = terms;
    Some(format!("{PURPOSE}\nread\n{scope}\n{path}\n{others}\n{expires}\n{key}"))
}

/// The path of a URL as clients send it after all redirects: its root as `canonical` has it, and
/// escaped.
#[must_use]
pub fn sent_path(path: &str) -> String {
    let mut sent = String::with_capacity(path.len());
    escape::uri(&mut sent, &canonical(path));
    sent
}

/// A query as clients send it.
#[must_use]
pub fn sent_query(query: &str) -> String {
    let mut sent = String::with_capacity(query.len());
    escape::query(&mut sent, query.as_bytes());
    sent
}

/// The path, with its root in the form that redirects lead to, so that a signature holds after
/// them. What is below stays as it is written.
fn canonical(path: &str) -> String {
    let read = || {
        let (namespace, rest) = path.split_at_checked("/ipfs/".len())?;
        let (root, below) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let root = match namespace {
            "/ipfs/" => canonical_cid(root)?,
            "/ipns/" => canonical_name(root)?,
            _ => return None,
        };
        Some(format!("{namespace}{root}{below}"))
    };
    read().unwrap_or_else(|| path.to_owned())
}

fn canonical_cid(root: &str) -> Option<String> {
    let cid = parse_cid(root).ok().filter(|_| is_exact(root))?;
    let label = label::of_cid(&cid).ok();
    Some(label.unwrap_or_else(|| Cid::new_v1(cid.codec(), *cid.hash()).to_string()))
}

fn canonical_name(root: &str) -> Option<String> {
    let name = Name::parse(root).ok()?;
    (matches!(name, Name::Domain(_)) || is_exact(root)).then(|| name.to_string())
}

/// Whether a CID or key is written just as its base has it: decoders pass over upper and lower
/// case, which other readers of a path tell apart.
fn is_exact(root: &str) -> bool {
    // Base58 has one way to write a multihash.
    let is_plain = root.starts_with("Qm") || root.starts_with('1');
    is_plain
        || multibase::decode(root).is_ok_and(|(base, bytes)| multibase::encode(base, bytes) == root)
}

/// The path up to the slash behind the directory that is so many names below the root.
fn directory(path: &str, depth: usize) -> Option<&str> {
    // `/ipfs/{root}/` has three slashes.
    let (at, _) = path.match_indices('/').nth(depth.checked_add(2)?)?;
    path.get(..=at)
}

/// The path of a URL below which a browser is to send the cookie.
fn cookie_path<'a>(site: &Site, original: &'a str, depth: usize) -> Option<&'a str> {
    let below = directory(original, depth)?;
    let shown = site.url_path(original);
    let hidden = original.strip_suffix(shown)?.len();
    let path = below.get(hidden..)?;
    (path.starts_with('/') && !path.contains(';')).then_some(path)
}

fn max_age(cache_control: &str) -> Option<u64> {
    let mut parts = cache_control.split(',').map(str::trim);
    parts.find_map(|part| part.strip_prefix("max-age=")?.parse().ok())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| name.trim() == COOKIE).map(|(_, value)| value.trim()).take(COOKIES_MAX)
}

fn from_cookie(value: &str) -> Option<(Terms<'_>, &str)> {
    let mut parts = value.split('.');
    let depth = number(parts.next()?)?;
    let (expires, key, signature) = (number(parts.next()?)?, parts.next()?, parts.next()?);
    let depth = Some(usize::try_from(depth).ok()?);
    parts.next().is_none().then_some((Terms { expires, key, depth }, signature))
}

/// A number as we write it.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// The parameters of a request: those of a signature, each at most once, and the others.
#[derive(Debug, Default)]
struct Parameters<'a> {
    expires: Option<&'a str>,
    key: Option<&'a str>,
    depth: Option<&'a str>,
    signature: Option<&'a str>,
    others: Vec<&'a str>,
}

impl<'a> Parameters<'a> {
    fn read(query: &'a str) -> Result<Self, Refused> {
        let mut read = Self::default();
        for pair in query.split('&').filter(|_| !query.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let own = match name {
                "expires" => &mut read.expires,
                "key" => &mut read.key,
                "depth" => &mut read.depth,
                "signature" => &mut read.signature,
                _ => {
                    read.others.push(pair);
                    continue;
                }
            };
            if own.replace(value).is_some() {
                return Err(Refused::Invalid);
            }
        }
        Ok(read)
    }

    /// The terms and the signature; none where there is no part of one.
    fn signed(&self) -> Result<Option<(Terms<'a>, &'a str)>, Refused> {
        let Self { expires, key, depth, signature, .. } = *self;
        if [expires, key, depth, signature].iter().all(Option::is_none) {
            return Ok(None);
        }
        let expires = expires.and_then(number).ok_or(Refused::Invalid)?;
        let depth = depth.map(|depth| number(depth).ok_or(Refused::Invalid)).transpose()?;
        let depth = depth.map(|depth| usize::try_from(depth).unwrap_or(usize::MAX));
        let (key, signature) = key.zip(signature).ok_or(Refused::Invalid)?;
        Ok(Some((Terms { expires, key, depth }, signature)))
    }
}

#[cfg(test)]
mod tests;
