//! Uploads: what goes in comes back, and what is not whole or makes no sense leaves nothing.

mod tables;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::api::{
    BOUNDARY, ask, assert_refused, car, form, form_type, held, key, node_of, part, post, post_car,
    raw, with,
};
use super::harness::{Estuary, PATIENCE, bytes, request, send};
use tables::{bad_cars, bad_forms};

#[tokio::test]
async fn files_of_any_size_come_back_as_they_were() {
    let node = Estuary::start().await;
    let key = key(&node, "upload").await;
    let chunk = 256 << 10;
    for length in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk + 77, (3 << 20) + 5] {
        let data = bytes(length);
        for profile in ["", "?profile=unixfs-v0-2015", "?chunker=size-1024"] {
            let path = format!("/content/add{profile}");
            let answer = post(&node, &path, &key, form(&[("f.bin", &data)])).await;
            assert_eq!(answer.status, StatusCode::OK, "{length} {profile}: {}", answer.text());
            let cid = answer.json()["cid"].as_str().unwrap().to_owned();
            let back = node.get(&format!("/ipfs/{cid}")).await;
            assert!(back.body[..] == data[..], "{length} {profile}");
            assert_eq!(cid.starts_with("Qm"), profile.contains("v0"));
        }
    }
    assert!(node.stop().await);
}

#[tokio::test]
async fn the_answer_and_the_records_are_the_originals() {
    let node = Estuary::start().await;
    let key = key(&node, "user").await;
    let mut body = part("filename", None, "a name".as_bytes());
    body.extend_from_slice(&form(&[("hello.txt", b"hello")]));
    let answer = post(&node, "/put", &key, body).await;
    let cid = answer.json()["cid"].clone();
    let url = format!("{}/ipfs/{}", node.info().gateway_url, cid.as_str().unwrap());
    let expected = json!({
        "cid": cid,
        "retrieval_url": url,
        "estuary_retrieval_url": url,
        "estuaryId": 1,
        "providers": [],
    });
    assert_eq!(answer.json(), expected);
    post(&node, "/content/add", &key, form(&[("second", b"2")])).await;

    let stats = ask(&node, Method::GET, "/content/stats?limit=1&offset=1", &key).await.json();
    assert_eq!(stats.as_array().unwrap().len(), 1);
    let row = &stats[0];
    assert_eq!((&row["id"], &row["name"], &row["size"]), (&json!(1), &json!("a name"), &json!(5)));
    let list = ask(&node, Method::GET, "/content/list", &key).await.json();
    assert_eq!((&list[0]["name"], &list[1]["cid"]), (&json!("second"), &cid));
    let contents = ask(&node, Method::GET, "/content/contents", &key).await.json();
    assert_eq!(contents[1]["pinningStatus"], "pinned");
    let one = ask(&node, Method::GET, "/content/1", &key).await.json();
    assert_eq!((&one["cid"], &one["type"], &one["active"]), (&cid, &json!(1), &json!(true)));
    let by_cid = format!("/content/by-cid/{}", cid.as_str().unwrap());
    let by_cid = ask(&node, Method::GET, &by_cid, &key).await.json();
    assert_eq!(by_cid[0]["content"]["id"], 1);
    for missing in ["/content/7", "/content/99999999999"] {
        let answer = ask(&node, Method::GET, missing, &key).await;
        assert_refused(&answer, 404, "no content", missing);
    }
    let answer = ask(&node, Method::GET, "/content/abc", &key).await;
    assert_refused(&answer, 400, "number", "no number");

    // What was acknowledged is there after the node was started again.
    let node = node.restart().await;
    let list = ask(&node, Method::GET, "/content/list", &key).await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(node.get(&format!("/ipfs/{}", cid.as_str().unwrap())).await.body, "hello");
}

#[tokio::test]
async fn several_files_are_a_folder_whatever_their_order() {
    let node = Estuary::start().await;
    let key = key(&node, "user").await;
    let files: [(&str, &[u8]); 3] = [("site/a", b"A"), ("site/deep/er/b", b"B"), ("site/c", b"C")];
    let mut cids = Vec::new();
    for turn in 0..3 {
        let mut files = files;
        files.rotate_left(turn);
        let answer = post(&node, "/content/add", &key, form(&files)).await.json();
        cids.push(answer["cid"].as_str().unwrap().to_owned());
    }
    cids.dedup();
    let [cid] = cids.as_slice() else { panic!("{cids:?}") };
    // All was in one folder, so that folder is what was uploaded.
    assert_eq!(node.get(&format!("/ipfs/{cid}/deep/er/b")).await.body, "B");
    let stats = ask(&node, Method::GET, "/content/stats", &key).await.json();
    assert_eq!((&stats[0]["name"], &stats[0]["size"]), (&json!("site"), &json!(3)));

    let answer =
        post(&node, "/content/add", &key, form(&[("x", b"1"), ("y/z", b"2")])).await.json();
    let cid = answer["cid"].as_str().unwrap();
    assert_eq!(node.get(&format!("/ipfs/{cid}/y/z")).await.body, "2");
}

#[tokio::test]
async fn the_same_content_gets_another_record_unless_that_is_unwanted() {
    let node = Estuary::start().await;
    let (one, other) = (key(&node, "user").await, key(&node, "user").await);
    let body = || form(&[("f", b"same")]);
    for id in 1..=2 {
        assert_eq!(post(&node, "/content/add", &one, body()).await.json()["estuaryId"], id);
    }
    let refused = post(&node, "/content/add?ignore-dupes=true", &one, body()).await;
    assert_refused(&refused, 409, "as 1", "a duplicate");
    // What another account has is no duplicate, and nobody learns that it is there.
    let answer = post(&node, "/content/add?ignore-dupes=true", &other, body()).await.json();
    assert_eq!(answer["estuaryId"], 3);
    assert_eq!(held(&node).await[2..], [1, 3]);
    let pin = format!("/pins/{}", answer["cid"].as_str().unwrap());
    let unpinned = node.ask_operator(request(Method::DELETE, &pin)).await;
    assert_eq!(unpinned.status, StatusCode::OK, "{}", unpinned.text());
    assert_eq!(held(&node).await[2..], [0, 0]);
}

#[tokio::test]
async fn a_form_that_makes_no_sense_is_named_and_leaves_nothing() {
    let node = Estuary::start().await;
    let key = format!("Bearer {}", key(&node, "upload").await);
    let before = held(&node).await;
    for (status, why, what, kind, body) in bad_forms() {
        let headers = [("authorization", key.as_str()), ("content-type", kind.as_str())];
        let answer = node.ask_api(with(Method::POST, "/content/add", &headers, body)).await;
        assert_refused(&answer, status, why, what);
        assert_eq!(held(&node).await, before, "{what}");
    }
    for query in ["profile=x", "chunker=rabin", "chunker=size-1023", "ignore-dupes=7", "coluuid=x"]
    {
        let path = format!("/content/add?{query}");
        let kind = form_type();
        let headers = [("authorization", key.as_str()), ("content-type", kind.as_str())];
        let answer = node.ask_api(with(Method::POST, &path, &headers, form(&[("f", b"1")]))).await;
        assert_refused(&answer, 400, "", query);
    }
    for encoding in ["gzip", "zstd", "identity, gzip"] {
        for path in ["/content/add", "/content/add-car"] {
            let kind = form_type();
            let headers = [
                ("authorization", key.as_str()),
                ("content-type", kind.as_str()),
                ("content-encoding", encoding),
            ];
            let answer =
                node.ask_api(with(Method::POST, path, &headers, form(&[("f", b"1")]))).await;
            assert_refused(&answer, 415, "Content-Encoding", encoding);
        }
    }
    assert_eq!(held(&node).await, before);
}

#[tokio::test]
async fn a_car_that_is_not_one_whole_dag_is_named_and_leaves_nothing() {
    let node = Estuary::start().await;
    let key = key(&node, "upload").await;
    let before = held(&node).await;
    for (why, what, car) in bad_cars() {
        let answer = post_car(&node, &key, car).await;
        assert_refused(&answer, 400, why, what);
        assert_eq!(held(&node).await, before, "{what}");
    }
}

#[tokio::test]
async fn a_car_cut_anywhere_leaves_nothing_and_the_whole_is_taken() {
    let node = Estuary::start().await;
    let key = key(&node, "upload").await;
    let leaf = raw("a leaf of some bytes");
    let root = node_of(&[&leaf]);
    let whole = car(&[*root.cid()], &[root.clone(), leaf]);
    let before = held(&node).await;
    for length in 0..whole.len() {
        let answer = post_car(&node, &key, whole[..length].to_vec()).await;
        assert_refused(&answer, 400, "", &format!("{length} bytes"));
    }
    assert_eq!(held(&node).await, before);
    let answer = post_car(&node, &key, whole).await;
    assert_eq!(answer.json()["cid"], root.cid().to_string(), "{}", answer.text());
    assert_eq!(held(&node).await[2..], [1, 1]);
}

#[tokio::test]
async fn a_car_may_lean_on_what_is_here_and_repeat_itself() {
    let node = Estuary::start().await;
    let key = key(&node, "user").await;
    let (leaf, other) = (raw("here already"), raw("new"));
    let inner = node_of(&[&leaf]);
    let root = node_of(&[&inner, &other]);
    let first = post_car(&node, &key, car(&[*inner.cid()], &[inner.clone(), leaf.clone()])).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    let blocks = [other.clone(), root.clone(), other.clone(), other];
    let answer = post_car(&node, &key, car(&[*root.cid()], &blocks)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    // The first pin goes, and what the second one leans on stays.
    let pin = format!("/pins/{}", inner.cid());
    assert_eq!(node.ask_operator(request(Method::DELETE, &pin)).await.status, StatusCode::OK);
    let gc = node.ask_operator(request(Method::POST, "/gc?all=true")).await;
    assert_eq!(gc.status, StatusCode::OK, "{}", gc.text());
    let back = node.get(&format!("/ipfs/{}?format=raw", leaf.cid())).await;
    assert_eq!(back.body, "here already");
}

#[tokio::test]
async fn an_import_keeps_all_blocks_and_pins_the_whole_roots() {
    let node = Estuary::start().await;
    let (leaf, gone) = (raw("leaf"), raw("gone"));
    let (whole, broken) = (node_of(&[&leaf]), node_of(&[&leaf, &gone]));
    let roots = [*whole.cid(), *broken.cid()];
    let car_bytes = car(&roots, &[whole.clone(), broken.clone(), leaf, raw("stray")]);
    let import = with(Method::POST, "/import", &[], car_bytes);
    let found = node.ask_operator(import).await.json();
    let expected = json!({
        "roots": [whole.cid().to_string(), broken.cid().to_string()],
        "blocks": 4,
        "bytes": found["bytes"],
        "incomplete": [{ "root": broken.cid().to_string(), "missing": gone.cid().to_string() }],
    });
    assert_eq!(found, expected);
    let [blocks, _, pins, records] = held(&node).await;
    assert_eq!((blocks, pins, records), (4, 1, 1));

    let import = with(Method::POST, "/import?pin=false", &[], car(&[], &[raw("rootless")]));
    let found = node.ask_operator(import).await.json();
    assert_eq!((&found["roots"], &found["blocks"]), (&json!([]), &json!(1)));
    assert_eq!(held(&node).await[2], 1);
    let many = car(&vec![*whole.cid(); 33], &[whole]);
    let answer = node.ask_operator(with(Method::POST, "/import", &[], many)).await;
    assert_refused(&answer, 400, "number of roots", "33 roots");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_and_while_it_comes() {
    let node = Estuary::start_with(|config| config.upload.bytes_max = 100_000).await;
    let key = key(&node, "upload").await;
    let before = held(&node).await;
    let large = form(&[("f", &bytes(200_000))]);
    let answer = post(&node, "/content/add", &key, large.clone()).await;
    assert_refused(&answer, 413, "100000 bytes", "a declared length");
    let bearer = format!("Bearer {key}");
    // The same block, again and again: what is received counts, not what is new.
    let bomb: Vec<_> = (0..100).map(|_| raw(&"b".repeat(2000))).collect();
    let bomb = car(&[*bomb[0].cid()], &bomb);
    for (path, body) in [("/content/add", large), ("/content/add-car", bomb)] {
        let pieces: Vec<_> = body.chunks(10_000).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request = Request::post(path)
            .header("authorization", &bearer)
            .header("content-type", form_type())
            .body(body)
            .unwrap();
        let answer = node.ask_api(request).await;
        assert_refused(&answer, 413, "100000 bytes", path);
    }
    assert_eq!(held(&node).await, before);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_acknowledged() {
    let node = Estuary::start().await;
    let key = key(&node, "upload").await;
    let before = held(&node).await;
    let body = form(&[("f", &bytes(40_000))]);
    for percent in (1..100).step_by(7) {
        let sent = body.len() * percent / 100;
        let head = format!(
            "POST /content/add HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
             content-type: {}\r\ncontent-length: {}\r\n\r\n",
            form_type(),
            body.len()
        );
        let mut stream = TcpStream::connect(node.api()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..sent]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the connection stays open");
        assert!(!answer.starts_with("HTTP/1.1 200"), "{percent}: {answer}");
    }
    assert_eq!(held(&node).await, before);
}

#[tokio::test]
async fn a_client_that_asks_first_hears_before_it_sends() {
    let node = Estuary::start().await;
    let key = key(&node, "upload").await;
    let body = form(&[("f", b"hello")]);
    for (key, expected) in [(key.as_str(), "HTTP/1.1 100 "), ("none", "HTTP/1.1 401 ")] {
        let head = format!(
            "POST /content/add HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
             content-type: {}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            form_type(),
            body.len()
        );
        let mut stream = TcpStream::connect(node.api()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = [0; 13];
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut first));
        read.await.expect("no answer").unwrap();
        assert_eq!(std::str::from_utf8(&first).unwrap(), expected);
        if expected.contains("100") {
            stream.write_all(&body).await.unwrap();
            let mut rest = vec![0; 64];
            let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut rest));
            read.await.expect("no answer").unwrap();
            assert!(String::from_utf8_lossy(&rest).contains("200 OK"));
        }
    }
}

#[tokio::test]
async fn one_upload_too_many_is_told_to_come_back() {
    let node = Estuary::start_with(|config| config.upload.concurrent_max = 1).await;
    let key = key(&node, "upload").await;
    let (to, from) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let begun = Bytes::from(part("data", Some("slow"), b"begun"));
    to.send(Ok(Frame::data(begun))).await.unwrap();
    let frames = futures_util::stream::unfold(from, |mut from| async move {
        from.recv().await.map(|frame| (frame, from))
    });
    let slow = Request::post("/content/add")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", form_type())
        .body(StreamBody::new(Box::pin(frames)).boxed_unsync())
        .unwrap();
    let api = node.api();
    let tasks = estuary::task::Tasks::new();
    let slow = tasks.spawn(async move { send(api, slow).await });
    let under_way = async {
        while node.metric("estuary_upload_under_way_uploads").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, under_way).await.expect("the upload does not begin");
    let answer = post(&node, "/content/add", &key, form(&[("f", b"x")])).await;
    assert_refused(&answer, 503, "too many uploads", "a second upload");
    assert!(answer.header("retry-after").is_some());
    let rest = format!("\r\n--{BOUNDARY}--");
    to.send(Ok(Frame::data(rest.into()))).await.unwrap();
    drop(to);
    assert_eq!(slow.await.unwrap().status, StatusCode::OK);
    assert_eq!(post(&node, "/content/add", &key, form(&[("f", b"x")])).await.status, 200);
}

#[tokio::test]
async fn a_full_disk_takes_nothing_and_says_so_and_reads_go_on() {
    let node = Estuary::start().await;
    let key = key(&node, "user").await;
    let added = post(&node, "/content/add", &key, form(&[("f", b"before")])).await.json();
    let mut config = node.config.clone();
    config.blockstore.free_bytes_min = 1 << 60;
    let dir = std::sync::Arc::clone(&node.dir);
    node.stop().await;
    let node = Estuary::start_in(dir, config).await;
    let answer = post(&node, "/content/add", &key, form(&[("f", &bytes(3 << 20))])).await;
    assert_refused(&answer, 507, "disk is full", "a form");
    let leaf = raw("no room for this");
    let answer = post_car(&node, &key, car(&[*leaf.cid()], &[leaf])).await;
    assert_refused(&answer, 507, "disk is full", "a CAR");
    let path = format!("/ipfs/{}", added["cid"].as_str().unwrap());
    assert_eq!(node.get(&path).await.body, "before");
    assert_eq!(ask(&node, Method::GET, "/content/list", &key).await.json()[0]["id"], 1);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_said_in_the_apis_form() {
    let node = Estuary::start().await;
    let answer = node.ask_api(request(Method::GET, "/nothing/here")).await;
    assert_refused(&answer, 404, "no such path", "a path");
    let answer = node.ask_api(request(Method::GET, "/ipfs/bafkqaaa")).await;
    assert_refused(&answer, 404, "no such path", "content is the gateway's");
    let answer = node.ask_api(request(Method::PUT, "/content/add")).await;
    assert_refused(&answer, 405, "method", "a method");
    assert_eq!(answer.header("allow"), Some("POST"));
    let health = node.ask_api(request(Method::GET, "/health")).await;
    assert_eq!(health.json(), json!({ "status": "ok" }));
}
