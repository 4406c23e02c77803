//! Who is asking, as handlers see it: what a handler takes as its first argument says whom it lets
//! in.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts as Head;

use super::State;
use super::error::ApiError;
use crate::accounts::{self, OPERATOR, Scope, Secret};
use crate::http::auth::{Asked, PAGE_TOKEN, Peer, Refused};
use crate::upload::Whose;

/// Whoever may upload: a key of any scope, or the console page.
#[derive(Debug)]
pub(super) struct Uploader(pub(super) Who);

/// Whoever may see what was uploaded: a key of scope `user` or `admin`, or the console page.
#[derive(Debug)]
pub(super) struct User(pub(super) Who);

/// Whoever may see and change keys: a key of scope `user` or `admin`, never the page.
#[derive(Debug)]
pub(super) struct Keyholder(pub(super) Who);

/// Who it is.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) account: u64,
    pub(super) scope: Scope,
    /// The key they showed; none for the console page.
    pub(super) key: Option<accounts::KeyRow>,
}

impl Who {
    /// Whose uploads they may see.
    pub(super) fn sees(&self) -> Whose {
        match self.scope {
            Scope::Admin => Whose::All,
            Scope::Upload | Scope::User => Whose::Of(self.account),
        }
    }
}

impl FromRequestParts<State> for Uploader {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Head, state: &State) -> Result<Self, ApiError> {
        authenticate(head, state, Scope::Upload).map(Self)
    }
}

impl FromRequestParts<State> for User {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Head, state: &State) -> Result<Self, ApiError> {
        authenticate(head, state, Scope::User).map(Self)
    }
}

impl FromRequestParts<State> for Keyholder {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Head, state: &State) -> Result<Self, ApiError> {
        let who = authenticate(head, state, Scope::User)?;
        if who.key.is_none() {
            return Err(ApiError::no_key());
        }
        Ok(Self(who))
    }
}

/// Finds out who asks, and sees that they may do what takes `needed`.
fn authenticate(head: &Head, state: &State, needed: Scope) -> Result<Who, ApiError> {
    refuse_keys_in_query(head.uri.query().unwrap_or_default())?;
    let peer = head.extensions.get::<Peer>().copied();
    if !head.headers.contains_key(AUTHORIZATION) {
        return by_page(head, state, peer);
    }
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let checked = bearer(&head.headers).and_then(|secret| {
        state.parts.accounts.check(&secret).map_err(|error| match error {
            accounts::Error::Unknown => ApiError::bad_key("no such API key"),
            other => other.into(),
        })
    });
    let key = match checked {
        Ok(key) => key,
        Err(error) => {
            if !error.is_unauthorized() {
                return Err(error);
            }
            // Only now: who shows a right key is not locked out by strangers behind the same
            // proxy, and no number of tries finds one.
            if state.attempts.exhausted(address) {
                return Err(ApiError::attempts());
            }
            state.attempts.failed(address);
            return Err(error);
        }
    };
    if key.scope < needed {
        let details = format!("this needs a key of scope {}", needed.name());
        return Err(ApiError::forbidden(details));
    }
    Ok(Who { account: key.account, scope: key.scope, key: Some(key) })
}

fn by_page(head: &Head, state: &State, peer: Option<Peer>) -> Result<Who, ApiError> {
    let shown = head.headers.contains_key(PAGE_TOKEN);
    let refused = match peer {
        None => Refused::Peer,
        Some(peer) => {
            let (uri, headers) = (&head.uri, &head.headers);
            match state.page.may_act(&Asked { peer, version: head.version, uri, headers }) {
                Ok(()) => return Ok(Who { account: OPERATOR, scope: Scope::User, key: None }),
                Err(refused) => refused,
            }
        }
    };
    match refused {
        // Neither key nor token: what is missing is a key.
        Refused::Peer | Refused::Proxy | Refused::Token if !shown => Err(ApiError::no_key()),
        refused => Err(refused.into()),
    }
}

fn bearer(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let wrong = || ApiError::bad_key("Authorization must be `Bearer EST…ARY`, once");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(wrong()) };
    let (scheme, key) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(wrong());
    }
    Secret::parse(key.trim()).ok_or_else(wrong)
}

/// What stands in a URL ends up in logs and histories, so no key is taken from there.
fn refuse_keys_in_query(query: &str) -> Result<(), ApiError> {
    let is_key = |value: &str| {
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        let value = value.strip_prefix("Bearer ").unwrap_or(&value);
        Secret::parse(value.trim_start_matches("Bearer+")).is_some()
    };
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    for value in values {
        if is_key(value) {
            let details = "an API key must not stand in a URL: revoke this one, and send keys as \
                           `Authorization: Bearer EST…ARY`";
            return Err(ApiError::input(details));
        }
    }
    Ok(())
}
