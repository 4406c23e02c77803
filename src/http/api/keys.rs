//! `/user/api-keys` and `/viewer`: a key looks after the keys of its account.

use axum::Json;
use axum::extract::{Path, State as From};
use serde::Deserialize;
use serde_json::{Value, json};

use super::State;
use super::body::Query;
use super::content::rfc3339;
use super::error::ApiError;
use super::who::{Keyholder, Uploader, Who};
use crate::accounts::{KeyRow, NewKey, Scope};

/// How long a key lasts unless asked otherwise, in seconds: 30 days.
const LASTS_S: u64 = 30 * 24 * 3600;
/// What the original says of a key that does not end.
const NEVER: &str = "2123-01-01T00:00:00Z";

/// `GET /user/api-keys`.
pub(super) async fn list(
    Keyholder(who): Keyholder,
    From(state): From<State>,
) -> Result<Json<Value>, ApiError> {
    let keys = state.parts.accounts.list(all_if_admin(&who))?;
    Ok(Json(keys.iter().map(|(key, _)| model(key, "")).collect()))
}

/// What a new key is to be.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    expiry: String,
    #[serde(default)]
    perms: String,
    #[serde(default)]
    label: String,
}

/// `POST /user/api-keys`.
pub(super) async fn create(
    Keyholder(who): Keyholder,
    From(state): From<State>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let scope = match asked.perms.as_str() {
        "" | "all" => Scope::User,
        "admin" if who.scope == Scope::Admin => Scope::Admin,
        "admin" => return Err(ApiError::forbidden("only an admin key makes admin keys")),
        other => other.parse()?,
    };
    let lasts_s = match asked.expiry.as_str() {
        "" => Some(LASTS_S),
        "false" => None,
        text => Some(duration_s(text).ok_or_else(|| {
            ApiError::input("expiry is a duration such as 720h, 90m or 1h30m, or `false` for never")
        })?),
    };
    let new = NewKey { scope, account: Some(who.account), label: asked.label, lasts_s };
    let (secret, key) = state.parts.accounts.create(new).await?;
    Ok(Json(model(&key, secret.reveal())))
}

/// `DELETE /user/api-keys/{key}`: named by its text, its hash or its id.
pub(super) async fn revoke(
    Keyholder(who): Keyholder,
    From(state): From<State>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let of = all_if_admin(&who).map(|account| (account, who.scope));
    let key = state.parts.accounts.revoke(&name, of).await?;
    Ok(Json(model(&key, "")))
}

/// `GET /viewer`: what the node says of whoever asks.
pub(super) async fn viewer(Uploader(who): Uploader, From(state): From<State>) -> Json<Value> {
    let key = who.key.as_ref();
    Json(json!({
        "username": key.map_or("console", |key| &key.label),
        "perms": match who.scope {
            Scope::Upload => 1,
            Scope::User => 2,
            Scope::Admin => 10,
        },
        "id": who.account,
        "auth_expiry": expiry(key.and_then(|key| key.expires)),
        "settings": {
            "replication": 0,
            "verified": false,
            "dealDuration": 0,
            "fileStagingThreshold": 0,
            "contentAddingDisabled": false,
            "dealMakingDisabled": true,
            "uploadEndpoints": [format!("{}/content/add", state.parts.node.api_url)],
            "flags": 0,
        },
    }))
}

fn all_if_admin(who: &Who) -> Option<u64> {
    (who.scope != Scope::Admin).then_some(who.account)
}

/// A key as the original's model has it; `token` is known when it is made and never again.
fn model(key: &KeyRow, token: &str) -> Value {
    json!({
        "token": token,
        "tokenHash": key.hash,
        "id": key.id(),
        "label": key.label,
        "perms": key.scope.name(),
        "expiry": expiry(key.expires),
        "isSession": false,
    })
}

fn expiry(expires: Option<u64>) -> String {
    expires.map_or_else(|| NEVER.to_owned(), rfc3339)
}

/// A duration in the form the original took (Go's): hours, minutes and seconds.
fn duration_s(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let (unit, behind) = behind.split_at_checked(1)?;
        let seconds = match unit {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds)?)?;
        rest = behind;
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_original_wrote_them() {
        for (text, seconds) in [("720h", 2_592_000), ("1h30m", 5400), ("90s", 90)] {
            assert_eq!(duration_s(text), Some(seconds), "{text}");
        }
        for text in ["", "0s", "h", "1", "1d", "-1h", "1h-", "99999999999999999999h", "ü"] {
            assert_eq!(duration_s(text), None, "{text}");
        }
    }
}
