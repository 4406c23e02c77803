//! The console: one page for a person at this machine, to drop files on.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};

use super::auth::{Asked, Page, Peer, Refused};

const HTML: &str = include_str!("console/page.html");
const STYLE: &str = include_str!("console/page.css");
const SCRIPT: &str = include_str!("console/page.js");

/// Where the page's token goes.
const TOKEN: &str = "{{token}}";

/// The page loads its own style and script and speaks to its own listener, and that is all.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page's routes.
pub(super) fn routes(page: Arc<Page>) -> Router {
    Router::new()
        .route("/", get(html))
        .route("/console.css", get(style))
        .route("/console.js", get(script))
        .with_state(page)
}

async fn html(
    State(page): State<Arc<Page>>,
    peer: Option<Extension<Peer>>,
    version: Version,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let allowed = match peer {
        Some(Extension(peer)) => {
            page.may_load(&Asked { peer, version, uri: &uri, headers: &headers })
        }
        None => Err(Refused::Peer),
    };
    match allowed {
        Ok(()) => answer("text/html; charset=utf-8", HTML.replace(TOKEN, page.token())),
        Err(refused) => {
            let text = format!("{refused}\n");
            (StatusCode::FORBIDDEN, answer("text/plain; charset=utf-8", text)).into_response()
        }
    }
}

async fn style() -> Response {
    answer("text/css; charset=utf-8", STYLE.to_owned())
}

async fn script() -> Response {
    answer("text/javascript; charset=utf-8", SCRIPT.to_owned())
}

fn answer(kind: &'static str, body: String) -> Response {
    const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // The token changes when the node starts again.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), SAME_ORIGIN);
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), SAME_ORIGIN);
    response
}
