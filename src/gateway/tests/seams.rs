//! Representations on sites with an origin of their own.

use super::hosts::{host_of, hosted, name};
use super::made::cbor_links;
use super::*;

const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

#[tokio::test]
async fn every_representation_speaks_of_the_site_it_is_on() {
    let mut world = world();
    let file = world.store.add_file(&bytes(5000), 1000).unwrap();
    let inner = world.store.add_directory([("file", file)]).unwrap();
    let node = cbor_links(&world, &[("x", inner)]);
    let root = world.store.add_directory([("dir", inner), ("node", node)]).unwrap();
    name(&mut world, &[&format!("site.example:/ipfs/{root}")]);
    for (host, content) in [
        (host_of(&root), format!("/ipfs/{root}")),
        ("site.example".to_owned(), "/ipns/site.example".to_owned()),
        ("site-example.ipns.gateway.example".to_owned(), "/ipns/site.example".to_owned()),
    ] {
        let ask = async |path: &str, more: &[(&str, &str)]| {
            let headers = [&[("host", host.as_str())], more].concat();
            let answer = world.ask(Method::GET, path, &headers).await;
            let asked = path.split('?').next().unwrap();
            assert_eq!(answer.header("x-ipfs-path"), format!("{content}{asked}"), "{host}");
            assert!(answer.whole && answer.status < 300, "{host}{path} {}", answer.status);
            answer
        };
        let tar = ask("/dir?format=tar", &[]).await;
        assert_eq!(
            (tar.header("content-type"), &tar.body[..20]),
            ("application/x-tar", &inner.to_string().as_bytes()[..20])
        );
        let tar = ask("/dir?a=1", &[("accept", "application/x-tar")]).await;
        assert_eq!(tar.header("content-location"), "/dir?a=1&format=tar");
        let car = ask("/dir/file", &[("accept", "application/vnd.ipld.car; dups=y")]).await;
        assert_eq!(car.header("content-location"), "/dir/file?format=car&car-dups=y");
        let parts = ask("/dir/file", &[("range", "bytes=0-1,9-9")]).await;
        assert!(parts.header("content-type").starts_with("multipart/byteranges"));
        let page = ask("/node/", &[("accept", BROWSER)]).await;
        assert!(page.text().contains(&format!("href=\"./x\"><code>{inner}</code>")));
        let listing = ask("/dir/", &[]).await;
        assert!(listing.text().contains("<a href=\"/dir/file\">file</a>"), "{}", listing.text());
        // The links lead there.
        ask("/node/x/", &[]).await;
        ask("/dir/file", &[]).await;
    }
}

#[tokio::test]
async fn a_rule_leads_to_nothing_that_is_blocked() {
    let mut world = hosted(&[]);
    let secret = world.raw("secret");
    let rules = world.raw("/a /secret 200\n/b /dir/secret 200\n/* /secret 404\n");
    let dir = world.store.add_directory([("secret", secret)]).unwrap();
    let root = world
        .store
        .add_directory([("_redirects", rules), ("dir", dir), ("secret", secret)])
        .unwrap();
    let site = host_of(&root);
    let ask = async |world: &World, path: &str| {
        world.ask(Method::GET, path, &[("host", site.as_str())]).await.status
    };
    assert_eq!((ask(&world, "/a").await, ask(&world, "/b").await), (200, 200));
    assert_eq!(ask(&world, "/c").await, 404);
    let registry = Registry::new();
    let metrics = crate::denylist::Metrics::register(&registry).unwrap();
    let denylist = crate::denylist::Denylist::of_texts(&[], metrics).unwrap();
    let parts = world.gateway.parts.clone();
    world.gateway.parts =
        Parts { retriever: parts.retriever.guarded_by(denylist.clone()), ..parts };
    for line in [format!("/ipfs/{root}/secret"), format!("/ipfs/{secret}")] {
        denylist.replace(&[("own", &line)]).unwrap();
        assert_eq!(ask(&world, "/a").await, 410, "{line}");
        assert_eq!(ask(&world, "/c").await, 410, "{line}");
    }
    denylist.replace(&[("own", &format!("/ipfs/{root}/dir/secret"))]).unwrap();
    assert_eq!(ask(&world, "/b").await, 410);
}
