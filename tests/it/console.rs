//! The console page: open to this machine's browser, closed to every other page.

use estuary::http::auth::PAGE_TOKEN;
use http::Method;

use super::api::{assert_refused, form, form_type, held, key, page_token, post_by_page, with};
use super::harness::{Answer, Estuary, request};

#[tokio::test]
async fn the_page_loads_nothing_but_itself_and_cannot_be_framed() {
    let node = Estuary::start().await;
    let page = node.ask_api(request(Method::GET, "/")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    for (header, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(header), Some(value), "{header}");
    }
    let text = page.text();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("{{"));
    for (path, kind) in [("/console.css", "text/css"), ("/console.js", "text/javascript")] {
        assert!(text.contains(&path[1..]), "{path}");
        let part = node.ask_api(request(Method::GET, path)).await;
        assert!(part.header("content-type").unwrap().starts_with(kind), "{path}");
        assert!(!part.text().contains("https://"), "{path}");
    }
    assert!(page.header("set-cookie").is_none());
    assert_eq!(page_token(&node).await.len(), 64);
}

#[tokio::test]
async fn the_page_uploads_without_a_key_and_sees_what_it_uploaded() {
    let node = Estuary::start().await;
    let origin = format!("http://{}", node.api());
    let answer = post_by_page(&node, &[("origin", &origin)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = page_token(&node).await;
    let headers = [(PAGE_TOKEN, token.as_str())];
    let stats = node.ask_api(with(Method::GET, "/content/stats?limit=20", &headers, "")).await;
    assert_eq!(stats.json()[0]["cid"], answer.json()["cid"]);
    // Keys are none of its business: whoever has the page for a moment should not keep a key.
    let keys = node.ask_api(with(Method::POST, "/user/api-keys", &headers, "")).await;
    assert_refused(&keys, 401, "API key", "a key by the page");
}

#[tokio::test]
async fn other_pages_other_names_and_old_tokens_are_refused() {
    let node = Estuary::start().await;
    let port = node.api().port();
    let before = held(&node).await;
    for host in ["evil.example", &format!("evil.example:{port}"), "localhost", "127.0.0.1:1"] {
        let page = node.ask_api(with(Method::GET, "/", &[("host", host)], "")).await;
        assert_eq!(page.status, 403, "{host}");
        assert!(!page.text().contains("estuary-page-token"), "{host}");
        assert_refused(&post_by_page(&node, &[("host", host)]).await, 403, "another name", host);
    }
    for origin in ["http://evil.example", "null", &format!("https://127.0.0.1:{port}")] {
        let answer = post_by_page(&node, &[("origin", origin)]).await;
        assert_refused(&answer, 403, "other sites", origin);
        assert!(no_cors(&answer), "{origin}");
    }
    let kind = form_type();
    let old = "0".repeat(64);
    for (token, status) in [(None, 401), (Some(""), 403), (Some(old.as_str()), 403)] {
        let mut headers = vec![("content-type", kind.as_str())];
        headers.extend(token.map(|token| (PAGE_TOKEN, token)));
        let body = form(&[("f", b"x")]);
        let answer = node.ask_api(with(Method::POST, "/content/add", &headers, body)).await;
        assert_refused(&answer, status, "", &format!("{token:?}"));
    }
    assert_eq!(held(&node).await, before);
    // A node that was started anew has a new token.
    let token = page_token(&node).await;
    let node = node.restart().await;
    assert_ne!(page_token(&node).await, token);
}

#[tokio::test]
async fn other_sites_may_use_a_key_of_theirs_and_nothing_else() {
    let node = Estuary::start().await;
    let key = format!("Bearer {}", key(&node, "user").await);
    let origin = ("origin", "https://app.example");
    let preflight = |asked| {
        let method = ("access-control-request-method", "POST");
        let headers = [origin, method, ("access-control-request-headers", asked)];
        with(Method::OPTIONS, "/content/add", &headers, "")
    };
    for asked in ["", "content-type", PAGE_TOKEN] {
        let answer = node.ask_api(preflight(asked)).await;
        assert!(no_cors(&answer), "{asked}");
    }
    let answer = node.ask_api(preflight("Authorization, content-type")).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert!(!answer.header("access-control-allow-headers").unwrap().contains("token"));
    assert!(answer.header("access-control-allow-credentials").is_none());

    let headers = [origin, ("authorization", key.as_str())];
    let answer = node.ask_api(with(Method::GET, "/content/list", &headers, "")).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    // A key of no matter what kind does not make the page, and the token in it, readable.
    for key in [key.as_str(), "Bearer x"] {
        let headers = [origin, ("authorization", key)];
        let page = node.ask_api(with(Method::GET, "/", &headers, "")).await;
        assert_eq!(page.status, 403);
        assert!(!page.text().contains("estuary-page-token"), "{}", page.text());
    }
    for path in ["/", "/content/list", "/health"] {
        let answer = node.ask_api(with(Method::GET, path, &[origin], "")).await;
        assert!(no_cors(&answer), "{path}");
    }
}

#[tokio::test]
async fn the_page_is_not_for_those_behind_a_proxy() {
    let node = Estuary::start().await;
    // What nginx sends to a listener that it was told to pass everything on to.
    let mut by_default = request(Method::GET, "/");
    *by_default.version_mut() = http::Version::HTTP_10;
    let named = with(Method::GET, "/", &[("x-forwarded-for", "203.0.113.9")], "");
    for asked in [by_default, named] {
        let page = node.ask_api(asked).await;
        assert_eq!(page.status, 403);
        assert!(!page.text().contains("estuary-page-token"), "{}", page.text());
    }
    let headers = [("x-forwarded-for", "203.0.113.9")];
    assert_refused(&post_by_page(&node, &headers).await, 403, "proxy", "an upload");
    let list = node.ask_api(with(Method::GET, "/content/list", &headers, "")).await;
    assert_refused(&list, 401, "API key", "neither key nor token");
}

fn no_cors(answer: &Answer) -> bool {
    answer.headers.keys().all(|name| !name.as_str().starts_with("access-control"))
}
