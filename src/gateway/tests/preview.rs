//! The page of a node that is data.

use super::made::{cbor_links, put};
use super::*;

const BROWSER: (&str, &str) =
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");

#[tokio::test]
async fn a_node_is_shown_as_a_page_where_a_browser_asks() {
    let world = world();
    let inner = put(&world, codec::DAG_JSON, r#"{"hello": "w<or>ld"}"#);
    let root = cbor_links(&world, &[("link", inner)]);
    let uri = format!("/ipfs/{root}");
    let redirect = world.ask(Method::GET, &format!("{uri}?a=b"), &[BROWSER]).await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (301, format!("{uri}/?a=b").as_str())
    );
    assert_eq!(redirect.header("vary"), "Accept");

    let slashed = format!("{uri}/");
    let page = world.ask(Method::GET, &slashed, &[BROWSER]).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("etag"), format!("\"DagIndex-1_CID-{root}\""));
    let listing = "public, max-age=604800, stale-while-revalidate=2678400";
    assert_eq!(page.header("cache-control"), listing);
    assert_eq!(
        (page.header("content-disposition"), page.header("vary")),
        ("", "Accept, Accept-Encoding")
    );
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.text().contains("</html>") && page.text().contains("lang=\"en\""));
    assert!(page.text().contains(&format!("href=\"./link\"><code>{inner}</code>")));
    let head = world.ask(Method::HEAD, &slashed, &[BROWSER]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(stable(head.headers), stable(page.headers.clone()));
    let below = world.ask(Method::GET, &format!("{uri}/link/"), &[BROWSER]).await;
    assert!(below.text().contains("\"w&lt;or&gt;ld\"") && below.text().contains("href=\"../\""));
    assert_eq!(below.header("x-ipfs-roots"), format!("{root},{inner}"));

    // A validator holds for its own representation only.
    let tag = page.header("etag");
    let bytes_tag = format!("\"{root}.dag-cbor\"");
    for (held, html, status) in
        [(tag, true, 304), (&bytes_tag, true, 200), (tag, false, 200), (&bytes_tag, false, 304)]
    {
        let accept = if html { BROWSER } else { ("accept", "*/*") };
        let headers = [accept, ("if-none-match", held)];
        assert_eq!(
            world.ask(Method::GET, &slashed, &headers).await.status,
            status,
            "{held} {html}"
        );
    }
    // Whoever asks for the bytes gets them.
    for (query, accept) in [
        ("", "*/*"),
        ("?download=true", BROWSER.1),
        ("?format=dag-cbor", BROWSER.1),
        ("?format=cbor", BROWSER.1),
        ("?format=raw", BROWSER.1),
    ] {
        let answer =
            world.ask(Method::GET, &format!("{slashed}{query}"), &[("accept", accept)]).await;
        assert_eq!(answer.status, 200, "{query}");
        assert!(answer.header("content-type").starts_with("application/"), "{query}");
        assert!(answer.header("content-disposition").starts_with("attachment"), "{query}");
    }
}

#[tokio::test]
async fn whatever_a_node_holds_its_page_is_text_and_short() {
    let world = world();
    let leaf = world.raw("x");
    let link = format!("{{\"/\":\"{leaf}\"}}");
    let evil = format!(
        r#"{{"<script>":1,"javascript:alert(1)":{link},"..":{link},"":{link},".":{link},"a/b?c#d\"'":{link},"l":[{link}]}}"#
    );
    let cid = put(&world, codec::DAG_JSON, evil);
    let page = world.ask(Method::GET, &format!("/ipfs/{cid}/"), &[BROWSER]).await;
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("<script"));
    let hrefs: Vec<&str> =
        page.text().split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(hrefs.iter().all(|href| href.starts_with("./") || href.starts_with('?')), "{hrefs:?}");
    assert!(!hrefs.iter().any(|href| href.contains("..") || *href == "./."), "{hrefs:?}");
    assert!(hrefs.contains(&"./l/0") && hrefs.contains(&"./a%2Fb%3Fc%23d%22%27"), "{hrefs:?}");
    let followed = world.get(&format!("/ipfs/{cid}/a%2Fb%3Fc%23d%22%27")).await;
    assert_eq!((followed.status, followed.text()), (200, "x"));

    let wide = format!("[{}1]", "1,".repeat(200_000));
    let long = format!("\"{}\"", "x".repeat(600_000));
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    for data in [wide, long, deep] {
        let cid = put(&world, codec::DAG_JSON, data);
        let page = world.ask(Method::GET, &format!("/ipfs/{cid}/"), &[BROWSER]).await;
        assert_eq!(page.status, 200);
        assert!(page.body.len() < 200_000, "{}", page.body.len());
    }
    let broken = put(&world, codec::DAG_CBOR, vec![0x81; 1000]);
    assert_eq!(world.ask(Method::GET, &format!("/ipfs/{broken}/"), &[BROWSER]).await.status, 422);
}
