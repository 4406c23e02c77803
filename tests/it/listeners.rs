//! Three listeners and a socket, each with its own.

use http::{Method, StatusCode};

use crate::harness::{Estuary, get, request, send};

#[tokio::test]
async fn the_gateway_serves_what_the_store_holds() {
    let estuary = Estuary::start().await;
    let cid = estuary.add_block(&b"hello"[..]).await;
    let answer = estuary.get(&format!("/ipfs/{cid}")).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    assert_eq!(estuary.get(&format!("/ipfs/{absent}")).await.status, StatusCode::NOT_FOUND);
    let estuary = estuary.restart().await;
    assert_eq!(estuary.get(&format!("/ipfs/{cid}")).await.body, answer.body);
    assert!(estuary.stop().await);
}

#[tokio::test]
async fn the_public_side_has_neither_metrics_nor_keys() {
    let estuary = Estuary::start().await;
    for path in ["/metrics", "/livez", "/readyz", "/content/add", "/user/api-keys", "/"] {
        assert_eq!(estuary.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(estuary.admin(), path).await.status, StatusCode::OK, "{path}");
        assert_eq!(get(estuary.api(), path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let posted = send(estuary.admin(), request(Method::POST, "/metrics")).await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    estuary.stop().await;
}
