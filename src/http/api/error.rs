//! What goes wrong on the API, as statuses and as the one form every error has:
//! `{"error":{"code":400,"reason":"ERR_…","details":"…"}}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::accounts;
use crate::block::{Blocked, FetchError, StoreError};
use crate::blockstore::PinError;
use crate::db;
use crate::http::auth::Refused;
use crate::ipld::Error as IpldError;
use crate::routing;
use crate::upload;

/// When to come back, in seconds, where that is soon.
const RETRY_SOON_S: u32 = 2;
/// When to come back after too many wrong keys, in seconds.
const RETRY_KEYS_S: u32 = 60;

/// An error as a client sees it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    reason: &'static str,
    details: String,
    retry_after_s: Option<u32>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        reason: &'static str,
        details: impl Into<String>,
    ) -> Self {
        Self { status, reason, details: details.into(), retry_after_s: None }
    }

    /// The request makes no sense.
    pub(super) fn input(details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ERR_INVALID_INPUT", details)
    }

    /// What was asked for is not there, or is another's.
    pub(super) fn not_found(details: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ERR_RECORD_NOT_FOUND", details)
    }

    /// No key, where one is needed.
    pub(super) fn no_key() -> Self {
        let details = "this needs an API key: send `Authorization: Bearer EST…ARY`";
        Self::new(StatusCode::UNAUTHORIZED, "ERR_AUTH_MISSING", details)
    }

    /// A key that is none.
    pub(super) fn bad_key(details: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "ERR_INVALID_TOKEN", details)
    }

    /// A key that may not do this.
    pub(super) fn forbidden(details: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "ERR_NOT_AUTHORIZED", details)
    }

    /// Too many wrong keys from one address.
    pub(super) fn attempts() -> Self {
        let details = "too many wrong keys from this address; try again in a minute";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "ERR_TOO_MANY_ATTEMPTS", details);
        Self { retry_after_s: Some(RETRY_KEYS_S), ..error }
    }

    /// Something of ours failed: what, is for the log and not for the public.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request to the API failed");
        let details = "the node failed to do this; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ERR_INTERNAL", details)
    }

    /// Whether who asks is not known.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    fn soon(status: StatusCode, reason: &'static str, details: impl Into<String>) -> Self {
        Self { retry_after_s: Some(RETRY_SOON_S), ..Self::new(status, reason, details) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.status.as_u16();
        let error = json!({ "code": code, "reason": self.reason, "details": self.details });
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<upload::Error> for ApiError {
    fn from(error: upload::Error) -> Self {
        use upload::Error as E;

        match error {
            E::Busy => Self::soon(
                StatusCode::SERVICE_UNAVAILABLE,
                "ERR_TOO_MANY_UPLOADS",
                error.to_string(),
            ),
            E::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "ERR_CONTENT_SIZE_OVER_LIMIT",
                error.to_string(),
            ),
            E::Before(_) => {
                Self::new(StatusCode::CONFLICT, "ERR_CONTENT_EXISTS", error.to_string())
            }
            E::Nothing
            | E::Name(_)
            | E::Content(_)
            | E::Missing(_)
            | E::NotUnderRoot { .. }
            | E::Body(_) => Self::input(error.to_string()),
            E::Blocked(blocked) => blocked.into(),
            E::Store(error) => error.into(),
            E::Db(error) => error.into(),
            E::GivenUp => StoreError::Closed.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = match &error {
            StoreError::Full { .. } => {
                return Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "ERR_DISK_FULL",
                    "the node's disk is full; nothing was kept",
                );
            }
            StoreError::Closed => "the node is stopping",
            StoreError::ReadOnly(_) => "the node takes nothing new until it is started again",
            StoreError::Io(_) => return Self::internal(error),
        };
        if !matches!(error, StoreError::Closed) {
            tracing::error!(%error, "a request to the API failed");
        }
        Self::soon(StatusCode::SERVICE_UNAVAILABLE, "ERR_UNAVAILABLE", text)
    }
}

impl From<db::Error> for ApiError {
    fn from(error: db::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<accounts::Error> for ApiError {
    fn from(error: accounts::Error) -> Self {
        use accounts::Error as E;

        match error {
            E::Scope | E::Label => Self::input(error.to_string()),
            E::TooMany => Self::new(StatusCode::CONFLICT, "ERR_TOO_MANY_KEYS", error.to_string()),
            E::Above => Self::forbidden(error.to_string()),
            E::Unknown => Self::not_found(error.to_string()),
            E::Expired => {
                Self::new(StatusCode::UNAUTHORIZED, "ERR_TOKEN_EXPIRED", error.to_string())
            }
            E::Random(_) => Self::internal(error),
            E::Db(error) => error.into(),
        }
    }
}

impl From<routing::Error> for ApiError {
    fn from(error: routing::Error) -> Self {
        use routing::Error as E;

        match error {
            E::Malformed { .. }
            | E::NotAKey(_)
            | E::Invalid { .. }
            | E::Expired(_)
            | E::TooLong(_)
            | E::Recursion(_) => Self::input(error.to_string()),
            E::NotFound(_) | E::NoRecord(_) | E::NotAtHand(_) => Self::not_found(error.to_string()),
            E::Older { .. } => Self::new(StatusCode::CONFLICT, "ERR_OLDER", error.to_string()),
            E::TooMany => {
                Self::new(StatusCode::CONFLICT, "ERR_TOO_MANY_RECORDS", error.to_string())
            }
            E::Timeout(_) => {
                Self::soon(StatusCode::GATEWAY_TIMEOUT, "ERR_TIMEOUT", error.to_string())
            }
            E::Unavailable { .. } => {
                Self::soon(StatusCode::BAD_GATEWAY, "ERR_UNAVAILABLE", error.to_string())
            }
            E::NoRecords | E::Signing(_) | E::Rule { .. } | E::Resolver(_) => Self::internal(error),
            E::Db(error) => error.into(),
        }
    }
}

impl From<PinError> for ApiError {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Missing(_) => {
                Self::new(StatusCode::CONFLICT, "ERR_CONTENT_INCOMPLETE", error.to_string())
            }
            PinError::Blocked(blocked) => blocked.into(),
            PinError::Dag(error) => error.into(),
            PinError::Store(error) => error.into(),
        }
    }
}

impl From<IpldError> for ApiError {
    fn from(error: IpldError) -> Self {
        match error {
            IpldError::NoLink { .. } => {
                Self::new(StatusCode::NOT_FOUND, "ERR_CONTENT_NOT_FOUND", error.to_string())
            }
            _ => Self::input(error.to_string()),
        }
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotFound(_) => {
                Self::new(StatusCode::NOT_FOUND, "ERR_CONTENT_NOT_FOUND", error.to_string())
            }
            FetchError::Blocked(blocked) => blocked.into(),
            FetchError::Timeout(..) => {
                Self::soon(StatusCode::GATEWAY_TIMEOUT, "ERR_TIMEOUT", error.to_string())
            }
            FetchError::Missing(missing) if missing.timed_out => {
                Self::soon(StatusCode::GATEWAY_TIMEOUT, "ERR_TIMEOUT", missing.to_string())
            }
            FetchError::Unavailable(_) | FetchError::Corrupt(_) | FetchError::Missing(_) => {
                Self::soon(StatusCode::BAD_GATEWAY, "ERR_UNAVAILABLE", error.to_string())
            }
            FetchError::Store(error) => error.into(),
        }
    }
}

impl From<Blocked> for ApiError {
    fn from(blocked: Blocked) -> Self {
        let status = match blocked {
            Blocked::Gone => StatusCode::GONE,
            Blocked::Legal => StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
        };
        Self::new(status, "ERR_CONTENT_BLOCKED", blocked.to_string())
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::forbidden(refused.to_string())
    }
}
