//! Sites with an origin of their own, and what they say about paths that they do not have.

use super::*;
use crate::routing::Name;

/// A gateway with hosts of all kinds; these names stand for this.
pub(super) fn hosted(fixed: &[&str]) -> World {
    let mut world = world();
    name(&mut world, fixed);
    world
}

pub(super) fn name(world: &mut World, fixed: &[&str]) {
    let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let config = Config {
        subdomain_hosts: patterns(&["localhost", "gateway.example"]),
        trustless_hosts: patterns(&["trustless.example"]),
        ..Config::default()
    };
    world.gateway.hosts = Hosts::new(&config, Vec::new().into());
    world.gateway.parts.names = names_of(&Registry::new(), fixed);
}

impl World {
    async fn at(&self, host: &str, path: &str) -> Answer {
        self.ask(Method::GET, path, &[("host", host)]).await
    }

    /// A site with these files.
    fn site(&self, files: &[(&'static str, &'static str)]) -> Cid {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, self.raw(*text))).collect();
        self.store.add_directory(files).unwrap()
    }
}

/// A host for a root at the gateway.
pub(super) fn host_of(cid: &Cid) -> String {
    format!("{cid}.ipfs.gateway.example")
}

const IMMUTABLE: &str = "public, max-age=29030400, immutable";

#[tokio::test]
async fn a_directory_is_redirected_within_its_own_site() {
    let mut world = world();
    let inner = world.site(&[("a", "x")]);
    let evil = world.store.add_directory([("evil.example", inner), ("ą b", inner)]).unwrap();
    name(&mut world, &[&format!("site.example:/ipfs/{evil}")]);
    for host in [host_of(&evil), "site.example".to_owned()] {
        for (path, location) in [
            ("/evil.example", "/evil.example/"),
            ("//evil.example", "/evil.example/"),
            ("///evil.example?a=//b", "/evil.example/?a=//b"),
            ("/%C4%85%20b", "/%C4%85%20b/"),
            ("/%c4%85%20b", "/%C4%85%20b/"),
        ] {
            let answer = world.at(&host, path).await;
            assert_eq!((answer.status, answer.header("location")), (301, location), "{host}{path}");
        }
        let backslash = world.at(&host, "/\\evil.example").await;
        assert_eq!((backslash.status, backslash.header("location")), (404, ""));
    }
    let by_path = world.at("127.0.0.1:8080", &format!("/ipfs/{evil}//evil.example")).await;
    assert_eq!(by_path.header("location"), format!("/ipfs/{evil}//evil.example/"));
}

#[tokio::test]
async fn a_listing_links_to_its_own_site_and_to_the_gateway() {
    let mut world = world();
    let file = world.raw("x");
    let inner = world.store.add_directory([("file-źł.txt", file)]).unwrap();
    let root = world.store.add_directory([("ą", inner)]).unwrap();
    let above = world.store.add_directory([("given", root)]).unwrap();
    name(&mut world, &[&format!("site.example:/ipfs/{above}/given")]);
    let check = |page: &Answer, wanted: &[String], not: &[&str]| {
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(page.header("etag").starts_with("\"DirIndex-"));
        for wanted in wanted {
            assert!(page.text().contains(wanted.as_str()), "{wanted}\n{}", page.text());
        }
        for not in not {
            assert!(!page.text().contains(not), "{not}\n{}", page.text());
        }
    };
    let name_cell = "<a href=\"/%C4%85/file-%C5%BA%C5%82.txt\">file-źł.txt</a>".to_owned();
    let back = "<a href=\"/%C4%85/..\">..</a>".to_owned();

    let host = format!("{root}.ipfs.gateway.example:8080");
    let page = world.at(&host, "/%C4%85/").await;
    let gateway = "//gateway.example:8080/ipfs";
    let crumbs = format!(
        "/ipfs/<a href=\"{gateway}/{root}\">{root}</a>/<a href=\"{gateway}/{root}/%C4%85\">ą</a>"
    );
    let hash = format!(
        "<a class=\"ipfs-hash\" translate=\"no\" href=\"{gateway}/{file}?filename=file-%25C5%25BA%25C5%2582.txt\">"
    );
    check(&page, &[name_cell.clone(), back.clone(), crumbs, hash], &["cid.ipfs.tech"]);
    assert_eq!(page.header("x-ipfs-path"), format!("/ipfs/{root}/%C4%85/"));
    check(&world.at(&host, "/").await, &[], &["\">..</a>"]);

    let page = world.at("site.example", "/%C4%85/").await;
    let site = "//site.example";
    let crumbs =
        format!("/ipns/<a href=\"{site}/\">site.example</a>/<a href=\"{site}/%C4%85\">ą</a>");
    let hash = format!(
        "<a class=\"ipfs-hash\" translate=\"no\" href=\"https://cid.ipfs.tech/#{file}\" target=\"_blank\" rel=\"noreferrer noopener\">"
    );
    check(&page, &[name_cell, back, crumbs, hash], &["given", "filename="]);
    assert_eq!(page.header("x-ipfs-path"), "/ipns/site.example/%C4%85/");
    check(&world.at("site.example", "/").await, &[], &["\">..</a>"]);

    // By path, a name is shown as what was asked for.
    let page = world.at("127.0.0.1", "/ipns/site.example/%C4%85/").await;
    let crumbs = "/ipns/<a href=\"/ipns/site.example\">site.example</a>/<a href=\"/ipns/site.example/%C4%85\">ą</a>";
    let cell = "<a href=\"/ipns/site.example/%C4%85/file-%C5%BA%C5%82.txt\">";
    check(&page, &[crumbs.to_owned(), cell.to_owned()], &["given"]);
}

#[tokio::test]
async fn the_namespaces_are_not_mounted_on_a_site() {
    let world = hosted(&[]);
    let hello = world.raw("hello");
    let inner = world.store.add_directory([("file.txt", hello)]).unwrap();
    let root = world.store.add_directory([("ipfs", inner)]).unwrap();
    let other = world.at(&host_of(&root), &format!("/ipfs/{hello}")).await;
    assert_eq!((other.status, other.header("cache-control")), (404, "no-store"));
    assert_eq!(world.at(&host_of(&hello), &format!("/ipfs/{hello}/")).await.status, 404);
    assert_eq!(world.at(&host_of(&root), "/ipfs/file.txt").await.text(), "hello");
    let protocols = "/.well-known/libp2p/protocols";
    assert_eq!(world.at(&host_of(&root), protocols).await.status, 404);
    for host in ["127.0.0.1:8080", "gateway.example"] {
        let answer = world.at(host, protocols).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.text(), "{\"/ipfs/gateway\":{\"path\":\"/\"}}\n");
    }
}

#[tokio::test]
async fn a_uri_handler_is_the_gateway_s_and_the_parameter_a_page_s_own() {
    let world = hosted(&[]);
    let page = world.site(&[("index.html", "page")]);
    let uri = format!("ipfs://{page}/a");
    let check = |answer: Answer, location: String| {
        assert_eq!((answer.status, answer.header("location")), (301, location.as_str()));
    };
    for host in ["127.0.0.1", "gateway.example"] {
        check(world.at(host, &format!("/ipfs/?uri={uri}")).await, format!("/ipfs/{page}/a"));
    }
    check(
        world.at(&host_of(&page), &format!("/ipfs/?uri={uri}")).await,
        format!("//gateway.example/ipfs/{page}/a"),
    );
    for own in [format!("/?uri={uri}"), "/?uri=http://evil.example/".to_owned()] {
        let answer = world.at(&host_of(&page), &own).await;
        assert_eq!((answer.status, answer.text()), (200, "page"), "{own}");
    }
    for bad in ["http://evil.example/", "//evil.example", "ipfs:////evil.example"] {
        let answer = world.at("gateway.example", &format!("/ipfs/?uri={bad}")).await;
        assert_eq!((answer.status, answer.header("location")), (400, ""), "{bad}");
    }
}

#[tokio::test]
async fn service_workers_rule_over_their_own_origin_only() {
    let mut world = world();
    let root = world.site(&[("index.html", "page"), ("sw.js", "worker")]);
    name(&mut world, &[&format!("site.example:/ipfs/{root}")]);
    let ask = async |host: &str, path: &str| {
        let headers = [("host", host), ("service-worker", "script")];
        world.ask(Method::GET, path, &headers).await.status
    };
    for host in ["127.0.0.1", "gateway.example", "evil.example"] {
        for path in [format!("/ipfs/{root}"), "/ipns/site.example".to_owned()] {
            assert_eq!(ask(host, &path).await, 400, "{host}{path}");
        }
    }
    for host in [host_of(&root), "site-example.ipns.gateway.example".into(), "site.example".into()]
    {
        assert_eq!(ask(&host, "/").await, 200, "{host}");
        assert_eq!(ask(&host, "/sw.js").await, 200, "{host}");
    }
}

#[tokio::test]
async fn a_trustless_host_serves_only_what_can_be_verified() {
    let key = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
    let world = hosted(&["site.example:/ipfs/bafkqaaa", &format!("{key}:/ipfs/bafkqaaa")]);
    let file = world.raw("x");
    let root = world.store.add_directory([("a", file)]).unwrap();
    let check = async |path: String, status: u16| {
        let answer = world.at("trustless.example", &path).await;
        assert_eq!(answer.status, status, "{path}: {}", String::from_utf8_lossy(&answer.body));
    };
    check(format!("/ipfs/{file}?format=raw"), 200).await;
    check(format!("/ipfs/{root}?format=car"), 200).await;
    check(format!("/ipfs/{root}/a?format=car"), 200).await;
    check(format!("/ipns/{key}?format=car"), 200).await;
    check(format!("/ipfs/{file}"), 406).await;
    check(format!("/ipfs/{root}/"), 406).await;
    check(format!("/ipfs/{root}/a?format=raw"), 406).await;
    for format in ["tar", "json", "cbor", "dag-json", "dag-cbor"] {
        check(format!("/ipfs/{file}?format={format}"), 406).await;
    }
    check("/ipns/site.example?format=car".to_owned(), 406).await;
    assert!(Name::parse(key).is_ok());
}

#[tokio::test]
async fn a_site_of_a_name_holds_as_long_as_the_name() {
    let mut world = world();
    let root = world.site(&[("a", "x"), ("_redirects", "/old /a 302\n/* /a 200\n")]);
    name(&mut world, &[&format!("site.example:/ipfs/{root}")]);
    for host in ["site.example", "site-example.ipns.localhost", "site.example.ipns.localhost"] {
        for path in ["/a", "/old", "/other"] {
            let answer = world.at(host, path).await;
            assert!(answer.status < 400, "{host}{path}: {}", answer.status);
            assert!(!answer.header("cache-control").contains("immutable"), "{host}{path}");
        }
        let named = world.at(host, "/a").await;
        assert_eq!(named.header("x-ipfs-path"), "/ipns/site.example/a");
    }
    // A domain that has none is named as it is meant.
    let none = world.at("no--such-example.ipns.localhost", "/").await;
    assert!(none.status >= 400 && none.text().contains("no-such.example"), "{}", none.text());
}

/// A site with rules for what it does not have.
const RULES: &str = "\
/one /two.html
/found /two.html 302
/app/* /index.html 200
/gone/* /410.html 410
/legal/* /451.html 451
/lost/* /no-such-page.html 404
/out https://other.example/:x?a=1 307
/loop /loop2 200
/loop2 /index.html 200
/dir /sub 200
/* /404.html 404
";

fn redirecting(world: &World) -> Cid {
    let sub = world.site(&[("in-sub", "x")]);
    let file = |text: &'static str| world.raw(text);
    world
        .store
        .add_directory([
            ("_redirects", file(RULES)),
            ("index.html", file("<p>index")),
            ("two.html", file("<p>two")),
            ("404.html", file("<p>my 404")),
            ("410.html", file("<p>my 410")),
            ("451.html", file("<p>my 451")),
            ("one.txt", file("one")),
            ("sub", sub),
        ])
        .unwrap()
}

#[tokio::test]
async fn paths_that_a_site_does_not_have_follow_its_rules() {
    let world = hosted(&[]);
    let root = redirecting(&world);
    let host = host_of(&root);
    for (path, status, location) in [
        ("/one", 301, "/two.html"),
        ("/one?q=1", 301, "/two.html?q=1"),
        ("/found", 302, "/two.html"),
        ("/out?a=2&b=3", 307, "https://other.example/:x?a=2&b=3"),
    ] {
        let answer = world.at(&host, path).await;
        assert_eq!((answer.status, answer.header("location")), (status, location), "{path}");
        assert_eq!(answer.header("cache-control"), IMMUTABLE);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    for (path, status, text) in [
        ("/app/a/b", 200, "<p>index"),
        ("/gone/x", 410, "<p>my 410"),
        ("/legal/x", 451, "<p>my 451"),
        ("/anything", 404, "<p>my 404"),
        // What is there is served as it is.
        ("/one.txt", 200, "one"),
        ("/two.html", 200, "<p>two"),
    ] {
        let answer = world.at(&host, path).await;
        assert_eq!((answer.status, answer.text()), (status, text), "{path}");
        assert_eq!(answer.header("cache-control"), IMMUTABLE, "{path}");
        assert_eq!(answer.header("etag"), format!("\"{}\"", world.raw(text)), "{path}");
        assert_eq!(answer.header("x-ipfs-path"), format!("/ipfs/{root}{path}"));
        let head = world.ask(Method::HEAD, path, &[("host", &host)]).await;
        assert_eq!(
            (head.status, stable(head.headers)),
            (answer.status, stable(answer.headers)),
            "{path}"
        );
        assert!(head.body.is_empty());
    }
    // Links in a directory's pages are relative, wherever it is shown.
    let slashed = world.at(&host, "/dir").await;
    assert_eq!((slashed.status, slashed.header("location")), (301, "/dir/"));
    let listed = world.at(&host, "/dir/").await;
    assert!(listed.status == 200 && listed.text().contains("in-sub"), "{}", listed.text());
    // One rule is followed, and no second.
    let looped = world.at(&host, "/loop").await;
    assert_eq!((looped.status, looped.header("cache-control")), (404, "no-store"));
    let lost = world.at(&host, "/lost/x").await;
    assert_eq!((lost.status, lost.header("cache-control")), (404, "no-store"));
}

#[tokio::test]
async fn what_a_rule_leads_to_is_revalidated_by_its_own_tag() {
    let world = hosted(&[]);
    let root = redirecting(&world);
    let host = host_of(&root);
    let page = world.at(&host, "/app/x").await;
    let held = [("host", host.as_str()), ("if-none-match", page.header("etag"))];
    for method in [Method::GET, Method::HEAD] {
        let again = world.ask(method, "/app/y", &held).await;
        assert_eq!((again.status, again.header("cache-control")), (304, IMMUTABLE));
        assert_eq!(again.header("etag"), page.header("etag"));
    }
    let part = [("host", host.as_str()), ("range", "bytes=0-2")];
    let part = world.ask(Method::GET, "/app/x", &part).await;
    assert_eq!((part.status, part.text()), (206, "<p>"));
    // A page with another status is whole, whatever the client has or wants of it.
    let missing = world.at(&host, "/x").await;
    let held = [
        ("host", host.as_str()),
        ("if-none-match", missing.header("etag")),
        ("range", "bytes=0-2"),
    ];
    let again = world.ask(Method::GET, "/x", &held).await;
    assert_eq!((again.status, again.text()), (404, "<p>my 404"));
}

#[tokio::test]
async fn rules_count_where_a_site_has_its_own_origin_and_for_files() {
    let mut world = world();
    let root = redirecting(&world);
    name(&mut world, &[&format!("site.example:/ipfs/{root}")]);
    for path in [format!("/ipfs/{root}/app/x"), "/ipns/site.example/app/x".to_owned()] {
        let by_path = world.at("127.0.0.1:8080", &path).await;
        assert_eq!(by_path.status, 404, "{path}");
        assert!(!by_path.text().contains("index"), "{path}");
    }
    for query in ["?format=raw", "?format=car", "?format=json"] {
        let raw = world.at(&host_of(&root), &format!("/app/x{query}")).await;
        assert_eq!(raw.status, 404, "{query}");
    }
    assert_eq!(world.at("site.example", "/app/x").await.text(), "<p>index");
    // A root that is not here has no rules either.
    let elsewhere = Block::sha2_256(codec::DAG_PB, Bytes::from_static(b"\x0a\0")).unwrap();
    assert_eq!(world.at(&host_of(elsewhere.cid()), "/app/x").await.status, 404);
}

#[tokio::test]
async fn rules_stand_below_the_root_that_the_name_gives() {
    let mut world = world();
    let site = redirecting(&world);
    let above = world
        .store
        .add_directory([("given", site), ("_redirects", world.raw("/* https://wrong.example/"))])
        .unwrap();
    name(&mut world, &[&format!("site.example:/ipfs/{above}/given")]);
    assert_eq!(world.at("site.example", "/one").await.header("location"), "/two.html");
    assert_eq!(world.at("site.example", "/app/x").await.text(), "<p>index");
}

#[tokio::test]
async fn rules_that_cannot_be_read_are_the_site_s_fault_and_leave_its_files_alone() {
    let world = hosted(&[]);
    let check = async |rules: Cid, says: &str| {
        let found = world.raw("found");
        let root =
            world.store.add_directory([("_redirects", rules), ("found.html", found)]).unwrap();
        let answer = world.at(&host_of(&root), "/missing").await;
        assert_eq!((answer.status, answer.header("cache-control")), (500, "no-store"), "{says}");
        assert!(answer.text().contains("could not parse _redirects:"), "{}", answer.text());
        assert!(answer.text().contains(says), "{}", answer.text());
        let there = world.at(&host_of(&root), "/found.html").await;
        assert_eq!((there.status, there.text()), (200, "found"));
    };
    check(world.raw("/a /b 301!"), "forced").await;
    check(world.raw("/a https://evil.example/ 200"), "only a redirect").await;
    check(world.raw("/a /b 999"), "unsupported status").await;
    check(world.raw("/a /b\n".repeat(10_000)), "1000 rules").await;
    let large = vec![b'#'; (64 << 10) + 1];
    check(world.store.add_file(&large, 1 << 14).unwrap(), "redirects file size cannot exceed")
        .await;
    check(world.store.add_file(&large[..40_000], 100).unwrap(), "plain file").await;
    check(world.site(&[("a", "x")]), "plain file").await;
    check(world.raw("/missing /%ff 200"), "cannot be read").await;
    check(world.raw(format!("/:x {}", "/:x".repeat(3000))), "longer than").await;
    let gone = Block::sha2_256(codec::RAW, Bytes::from_static(b"/* /x")).unwrap();
    check(*gone.cid(), "cannot be had").await;
}

#[tokio::test]
async fn a_page_for_what_is_not_there_is_whole_whenever_the_client_got_it() {
    let world = hosted(&[]);
    let page = super::made::Made {
        kind: 2,
        data: Some(b"my 404".to_vec()),
        mtime: Some(1_000_000_000),
        ..Default::default()
    };
    let page = page.put(&world);
    let rules = world.raw("/* /404.html 404");
    let root = world.store.add_directory([("404.html", page), ("_redirects", rules)]).unwrap();
    let host = host_of(&root);
    let first = world.at(&host, "/x").await;
    assert_eq!((first.status, first.text()), (404, "my 404"));
    let since = [("host", host.as_str()), ("if-modified-since", first.header("last-modified"))];
    let again = world.ask(Method::GET, "/x", &since).await;
    assert_eq!((again.status, again.text()), (404, "my 404"));
}

#[tokio::test]
async fn a_uri_is_read_before_content_gets_its_own_origin() {
    let world = hosted(&[]);
    let leaf = world.raw("x");
    let node = world.site(&[("a", "x")]);
    for scheme in ["ipfs", "IPFS", "Ipfs"] {
        for host in ["127.0.0.1", "gateway.example"] {
            for path in [format!("/ipfs/{node}"), "/ipfs/".to_owned()] {
                let answer = world.at(host, &format!("{path}?uri={scheme}://{leaf}")).await;
                let location = format!("/ipfs/{leaf}");
                assert_eq!((answer.status, answer.header("location")), (301, location.as_str()));
            }
        }
    }
    let bad = world.at("gateway.example", &format!("/ipfs/{node}?uri=http://evil.example")).await;
    assert_eq!((bad.status, bad.header("location")), (400, ""));
    // To its own origin all the same, where the parameter is another.
    let other = world.at("gateway.example", &format!("/ipfs/{node}/a?uris=1")).await;
    assert_eq!(other.header("location"), format!("http://{}/a?uris=1", host_of(&node)));
}
