//! API keys: what each scope may do, whose things it sees, and how it ends.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::api::{ask, assert_refused, form, form_type, held, key, made_key, post, with};
use super::harness::{Estuary, Process, program, request, send};

/// Every route that needs a key, and the least scope it needs.
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/content/add", "upload"),
    ("POST", "/content/add-car", "upload"),
    ("POST", "/put", "upload"),
    ("GET", "/viewer", "upload"),
    ("GET", "/content/list", "user"),
    ("GET", "/content/contents", "user"),
    ("GET", "/content/stats", "user"),
    ("GET", "/content/1", "user"),
    ("GET", "/content/by-cid/bafkqaaa", "user"),
    ("GET", "/names/a.example", "user"),
    ("PUT", "/names/a.example", "user"),
    ("GET", "/user/api-keys", "user"),
    ("POST", "/user/api-keys", "user"),
    ("DELETE", "/user/api-keys/0000000000000000", "user"),
];

#[tokio::test]
async fn each_route_takes_the_keys_of_its_scope_and_no_others() {
    let node = Estuary::start().await;
    let expired = made_key(&node, json!({ "scope": "admin", "days": 0 })).await;
    let revoked = key(&node, "admin").await;
    let gone = node.ask_operator(request(Method::DELETE, &format!("/keys/{revoked}"))).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
    let (upload, user) = (key(&node, "upload").await, key(&node, "user").await);
    for (method, path, scope) in ROUTES {
        let method: Method = method.parse().unwrap();
        let what = format!("{method} {path}");
        assert_refused(&node.ask_api(request(method.clone(), path)).await, 401, "API key", &what);
        let refused = ask(&node, method.clone(), path, &upload).await;
        if *scope == "user" {
            assert_refused(&refused, 403, "scope user", &what);
        } else {
            assert!(!matches!(refused.status.as_u16(), 401 | 403), "{what}");
        }
        let taken = ask(&node, method, path, &user).await;
        assert!(!matches!(taken.status.as_u16(), 401 | 403), "{what}: {}", taken.text());
    }
    for (key, why) in [(&expired, "expired"), (&revoked, "no such API key")] {
        let answer = ask(&node, Method::GET, "/content/list", key).await;
        assert_refused(&answer, 401, why, why);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_fails_at_the_next_request_of_an_open_connection() {
    let node = Estuary::start().await;
    let key = key(&node, "user").await;
    let stream = TcpStream::connect(node.api()).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let tasks = estuary::task::Tasks::new();
    tasks.spawn(connection);
    let bearer = format!("Bearer {key}");
    let mut statuses = Vec::new();
    for turn in 0..2 {
        if turn == 1 {
            let gone = node.ask_operator(request(Method::DELETE, &format!("/keys/{key}"))).await;
            assert_eq!(gone.status, StatusCode::OK);
        }
        let headers = [("host", "x"), ("authorization", bearer.as_str())];
        let asked = with(Method::GET, "/viewer", &headers, "");
        let answer = sender.send_request(asked).await.unwrap();
        statuses.push(answer.status().as_u16());
        answer.into_body().collect().await.unwrap();
    }
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test]
async fn accounts_neither_see_nor_touch_each_others_things() {
    let node = Estuary::start().await;
    let (one, other, admin) =
        (key(&node, "user").await, key(&node, "user").await, key(&node, "admin").await);
    let added = post(&node, "/content/add", &one, form(&[("f", b"mine")])).await.json();
    let by_cid = format!("/content/by-cid/{}", added["cid"].as_str().unwrap());
    for (key, status, count) in [(&one, 200, 1), (&other, 404, 0), (&admin, 200, 1)] {
        assert_eq!(ask(&node, Method::GET, "/content/1", key).await.status, status);
        for path in ["/content/list", "/content/stats", by_cid.as_str()] {
            let rows = ask(&node, Method::GET, path, key).await.json();
            assert_eq!(rows.as_array().unwrap().len(), count, "{path}");
        }
    }
    // A key of the same account sees the same; it is made by a key, and cannot do more than that.
    let made = ask(&node, Method::POST, "/user/api-keys?label=two&expiry=1h", &one).await.json();
    let second = made["token"].as_str().unwrap().to_owned();
    assert_eq!(ask(&node, Method::GET, "/content/1", &second).await.status, 200);
    let admins = ask(&node, Method::POST, "/user/api-keys?perms=admin", &one).await;
    assert_refused(&admins, 403, "admin", "an admin key");
    let hash = made["tokenHash"].as_str().unwrap().to_owned();
    let theirs = ask(&node, Method::DELETE, &format!("/user/api-keys/{hash}"), &other).await;
    assert_refused(&theirs, 404, "no such key", "another account's key");
    let listed = ask(&node, Method::GET, "/user/api-keys", &one).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(listed.as_array().unwrap().iter().all(|key| key["token"] == ""));
    let gone = ask(&node, Method::DELETE, &format!("/user/api-keys/{hash}"), &one).await;
    assert_eq!(gone.status, 200);
    assert_eq!(ask(&node, Method::GET, "/viewer", &second).await.status, 401);
}

#[tokio::test]
async fn a_key_ends_no_key_of_a_higher_scope() {
    let node = Estuary::start().await;
    let admin = key(&node, "admin").await;
    // What an admin key makes belongs to its account.
    let made = ask(&node, Method::POST, "/user/api-keys?perms=user", &admin).await.json();
    let user = made["token"].as_str().unwrap();
    let listed = ask(&node, Method::GET, "/user/api-keys", &admin).await.json();
    let is_admin = |key: &&Value| key["perms"] == "admin";
    let id = listed.as_array().unwrap().iter().find(is_admin).unwrap()["id"].clone();
    for name in [admin.as_str(), id.as_str().unwrap()] {
        let ended = ask(&node, Method::DELETE, &format!("/user/api-keys/{name}"), user).await;
        assert_refused(&ended, 403, "higher scope", "an admin key by a user key");
    }
    assert_eq!(ask(&node, Method::GET, "/viewer", &admin).await.status, 200);
    let own = format!("/user/api-keys/{user}");
    assert_eq!(ask(&node, Method::DELETE, &own, user).await.status, 200);
}

#[tokio::test]
async fn keys_are_described_as_the_original_does() {
    let node = Estuary::start().await;
    let user = key(&node, "user").await;
    let never = ask(&node, Method::POST, "/user/api-keys?expiry=false&perms=upload", &user).await;
    let made = never.json();
    for field in ["token", "tokenHash", "label", "expiry"] {
        assert!(made[field].is_string(), "{field}");
    }
    assert_eq!((&made["isSession"], &made["perms"]), (&json!(false), &json!("upload")));
    for (query, why) in [("expiry=x", "duration"), ("perms=x", "scope")] {
        let path = format!("/user/api-keys?{query}");
        assert_refused(&ask(&node, Method::POST, &path, &user).await, 400, why, query);
    }
    let label = format!("/user/api-keys?label={}", "l".repeat(256));
    assert_refused(&ask(&node, Method::POST, &label, &user).await, 400, "255", "a long label");
    let viewer = ask(&node, Method::GET, "/viewer", &user).await.json();
    assert_eq!(
        (&viewer["perms"], &viewer["settings"]["dealMakingDisabled"]),
        (&json!(2), &json!(true))
    );
    let endpoint = viewer["settings"]["uploadEndpoints"][0].as_str().unwrap();
    assert_eq!(endpoint, format!("{}/content/add", node.info().api_url));
}

#[tokio::test]
async fn a_key_is_taken_from_the_header_alone() {
    let node = Estuary::start().await;
    let key = key(&node, "admin").await;
    for query in [format!("token={key}"), key.clone(), format!("a=b&x=Bearer%20{key}")] {
        let answer = node.ask_api(request(Method::GET, &format!("/viewer?{query}"))).await;
        assert_refused(&answer, 400, "must not stand in a URL", &query);
        let also = ask(&node, Method::GET, &format!("/viewer?{query}"), &key).await;
        assert_refused(&also, 400, "must not stand in a URL", &query);
    }
    for wrong in ["", "Basic eDp5", "Bearer", "Bearer ", &key, "Bearer ESTARY"] {
        let headers = [("authorization", wrong)];
        let answer = node.ask_api(with(Method::GET, "/viewer", &headers, "")).await;
        assert!(matches!(answer.status.as_u16(), 401 | 429), "{wrong}");
    }
    let bearer = format!("Bearer {key}");
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    let answer = node.ask_api(with(Method::GET, "/viewer", &twice, "")).await;
    assert_refused(&answer, 401, "once", "two headers");
}

#[tokio::test]
async fn wrong_keys_are_soon_refused_and_right_ones_never() {
    let node = Estuary::start().await;
    let good = key(&node, "user").await;
    let wrong = "EST00000000-0000-4000-8000-000000000000ARY";
    for _ in 0..10 {
        assert_eq!(ask(&node, Method::GET, "/viewer", wrong).await.status, 401);
    }
    let answer = ask(&node, Method::GET, "/viewer", wrong).await;
    assert_refused(&answer, 429, "too many wrong keys", "an eleventh try");
    assert_eq!(answer.header("retry-after"), Some("60"));
    // Strangers behind the same proxy lock nobody out.
    assert_eq!(ask(&node, Method::GET, "/viewer", &good).await.status, 200);
    assert_eq!(node.ask_api(request(Method::GET, "/")).await.status, 200);
}

#[tokio::test]
async fn what_a_refused_upload_sent_is_not_kept() {
    let node = Estuary::start().await;
    let before = held(&node).await;
    let wrong = "EST00000000-0000-4000-8000-000000000000ARY";
    let answer = post(&node, "/content/add", wrong, form(&[("f", &[7; 100_000])])).await;
    assert_refused(&answer, 401, "no such API key", "a wrong key");
    assert_eq!(held(&node).await, before);
}

#[tokio::test]
async fn a_key_shows_up_nowhere_but_where_it_is_made() {
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let mut node = Process::spawn_with(home, |command| {
        command.env("ESTUARY_LOG__LEVEL", "trace");
    });
    let made = program(node.dir.path()).args(["key", "create", "--json"]).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let key = made["key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {key}");
    let kind = form_type();
    let headers = [("authorization", bearer.as_str()), ("content-type", kind.as_str())];
    let body = form(&[("f", b"x")]);
    let added = send(node.api, with(Method::POST, "/content/add", &headers, body)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let refused = send(node.api, with(Method::POST, "/content/add", &headers, "no form")).await;
    let listed = send(node.api, with(Method::GET, "/user/api-keys", &headers[..1], "")).await;
    let metrics = send(node.admin, request(Method::GET, "/metrics")).await;
    for answer in [added, refused, listed, metrics] {
        assert!(!answer.text().contains(&key) && !format!("{:?}", answer.headers).contains(&key));
    }
    // A key that is named by its text stands in a path, which a log has, and may go on to hold.
    let unended = request(Method::DELETE, &format!("/user/api-keys/{key}"));
    assert_eq!(send(node.api, unended).await.status, 401);
    let escaped = key.replace('-', "%2D");
    let twice = format!("/user/api-keys/{key}/{escaped}");
    assert_eq!(send(node.api, request(Method::DELETE, &twice)).await.status, 404);
    let ended = program(node.dir.path()).args(["key", "revoke", &key]).output().unwrap();
    assert!(ended.status.success());
    node.signal(rustix::process::Signal::TERM);
    assert!(node.wait().await.success());
    let said = node.said();
    assert!(said.contains("/user/api-keys/") && said.contains("method=DELETE"), "{said}");
    assert!(!said.contains(&key) && !said.contains(&escaped), "the log has it");
    let mut dirs = vec![node.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in dir.read_dir().unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
                assert!(!found, "{} has it", path.display());
            }
        }
    }
}
