use proptest::prelude::*;

use super::*;
use crate::block::Cid;
use crate::metrics::Registry;
use crate::routing::NameMap;

const CID: &str = "bafybeif7a7gdklt6hodwdrmwmxnhksctcuav6lfxlcyfz4khzl3qfmvcgu";
const KEY: &str = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
const FIXED: &str = "site.example:/ipfs/bafkqaaa";

struct World {
    hosts: Hosts,
    names: Names,
}

fn world() -> World {
    let config = Config {
        subdomain_hosts: patterns(&["localhost", "gateway.example", "*.wild.example"]),
        trustless_hosts: patterns(&["trustless.example"]),
        dnslink_hosts: patterns(&["*.allowed.example"]),
        ..Config::default()
    };
    let proxies = ["192.0.2.0/24".parse().unwrap()];
    let metrics = routing::Metrics::register(&Registry::new()).unwrap();
    let fixed = [FIXED, "in.allowed.example:/ipfs/bafkqaaa"];
    let parts = routing::Parts { fixed: NameMap::parse(fixed).unwrap(), ..Default::default() };
    World { hosts: Hosts::new(&config, proxies.into()), names: Names::new(parts, metrics) }
}

/// The same content by version 0 of its CID.
fn cid_v0() -> String {
    Cid::new_v0(*parse_cid(CID).unwrap().hash()).unwrap().to_string()
}

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = http::Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

impl World {
    fn place_of(&self, request: &Request, peer: Peer) -> Result<Placed, Error> {
        let placed = self.hosts.place(&self.names, request, peer, |_, _| Ok(Instant::now()));
        futures_util::FutureExt::now_or_never(placed).unwrap()
    }

    fn place(&self, host: &str, path: &str) -> Result<Placed, Error> {
        self.place_of(&request(path, &[("host", host)]), Peer::default())
    }

    /// Where a request is sent.
    fn sent(&self, host: &str, path: &str) -> String {
        match self.place(host, path) {
            Ok(Placed::Elsewhere(url)) => url,
            other => panic!("{host} {path}: {other:?}"),
        }
    }

    /// What a request means.
    fn means(&self, host: &str, path: &str) -> (Site, String) {
        match self.place(host, path) {
            Ok(Placed::Here(place)) => (place.site, place.content_path),
            other => panic!("{host} {path}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn path_requests_to_subdomain_hosts_are_sent_to_the_root_s_own_origin() {
    let world = world();
    let check = |host: &str, path: &str, want: String| {
        assert_eq!(world.sent(host, path), want, "{host} {path}");
    };
    let at = |host: &str, rest: &str| format!("http://{CID}.ipfs.{host}{rest}");
    check("localhost:8080", &format!("/ipfs/{CID}"), at("localhost:8080", "/"));
    check("LOCALHOST.:8080", &format!("/ipfs/{CID}/"), at("localhost:8080", "/"));
    check(
        "gateway.example",
        &format!("/ipfs/{CID}/a//b/?x=%2f&y"),
        at("gateway.example", "/a//b/?x=%2f&y"),
    );
    check("a.wild.example", &format!("/ipfs/{CID}/a%2fb"), at("a.wild.example", "/a%2Fb"));
    check("localhost", &format!("/ipfs/{}/x", cid_v0()), at("localhost", "/x"));
    check("localhost", &format!("/ipfs/{CID}//evil.example"), at("localhost", "//evil.example"));
    check("localhost", &format!("/ipfs/{CID}/\\evil.example"), at("localhost", "/%5Cevil.example"));
    let upper = parse_cid(CID).unwrap().to_string_of_base(multibase::Base::Base32Upper).unwrap();
    check("localhost", &format!("/ipfs/{upper}"), at("localhost", "/"));

    check("localhost", &format!("/ipns/{KEY}/a"), format!("http://{KEY}.ipns.localhost/a"));
    let Name::Key(key) = Name::parse(KEY).unwrap() else { panic!() };
    let peer_id = multibase::Base::Base58Btc.encode(key.hash().to_bytes());
    for form in [peer_id, key.cid().to_string()] {
        check("localhost", &format!("/ipns/{form}"), format!("http://{KEY}.ipns.localhost/"));
    }
    let inlined = "http://en-wikipedia--on--ipfs-org.ipns.localhost/wiki/";
    check("localhost", "/ipns/en.wikipedia-on-ipfs.org/wiki/", inlined.into());
    check("localhost", "/ipns/EN.Wikipedia-on-IPFS.org./wiki/", inlined.into());
}

#[tokio::test]
async fn only_reads_of_content_are_sent_on() {
    let world = world();
    for path in ["/", "/ipfs", "/ipfs/", "/ipns/", "/ipfs/?uri=ipfs://x", "/x", "/ipfsx/a"] {
        let path_only = path.split('?').next().unwrap();
        assert_eq!(world.means("localhost", path), (Site::Path, path_only.to_owned()), "{path}");
    }
    let doubled = format!("/ipfs/ipfs/{CID}");
    assert_eq!(world.means("localhost", &doubled), (Site::Path, doubled.clone()));
    for method in [Method::OPTIONS, Method::POST] {
        let mut asked = request(&format!("/ipfs/{CID}"), &[("host", "localhost")]);
        *asked.method_mut() = method;
        assert!(matches!(world.place_of(&asked, Peer::default()), Ok(Placed::Here(_))));
    }
    let worker = [("host", "localhost"), ("service-worker", "script")];
    for path in [format!("/ipfs/{CID}"), format!("/ipns/{KEY}")] {
        let refused = world.place_of(&request(&path, &worker), Peer::default());
        assert!(matches!(refused, Err(Error::ServiceWorker)), "{path}");
    }
}

#[tokio::test]
async fn what_has_no_label_is_refused_by_path_and_by_host() {
    let world = world();
    let long = Cid::new_v1(0x55, crate::block::Mh::wrap(0, &[7; 64]).unwrap()).to_string();
    let check = |host: &str, path: &str, status: u16, says: &str| {
        let error = world.place(host, path).unwrap_err();
        assert_eq!(error.status(), status, "{host} {path}: {error}");
        assert!(error.to_string().contains(says), "{host} {path}: {error}");
    };
    let limit = "CID incompatible with DNS label length limit of 63";
    check("localhost", &format!("/ipfs/{long}/"), 400, limit);
    check(&format!("{long}.ipfs.localhost"), "/", 400, limit);
    check("localhost", "/ipfs/QmInvalidCID", 400, "invalid path \"/ipfs/QmInvalidCID\"");
    check("localhost", "/ipns/nonsense", 400, "nonsense");
    check("localhost", &format!("/ipns/{}.example", "a".repeat(60)), 400, "limit of 63");
    check("localhost", &format!("/ipfs/{CID}/%zz"), 400, "escape");
    check("localhost", &format!("/ipfs/{CID}/{}", "a".repeat(9000)), 414, "8192");
}

#[tokio::test]
async fn a_root_s_own_host_means_its_content_whatever_the_path_says() {
    let world = world();
    let at = |gateway: &str, url_path: &str| {
        Site::Subdomain(Origin { host: gateway.into(), url_path: url_path.into() })
    };
    let check = |host: &str, path: &str, site: Site, content: String| {
        assert_eq!(world.means(host, path), (site, content), "{host} {path}");
    };
    let host = format!("{CID}.ipfs.localhost:8080");
    check(&host, "/", at("localhost:8080", "/"), format!("/ipfs/{CID}/"));
    check(&host.to_uppercase(), "/", at("localhost:8080", "/"), format!("/ipfs/{CID}/"));
    let inner = format!("/ipfs/{CID}");
    check(&host, &inner, at("localhost:8080", &inner), format!("/ipfs/{CID}/ipfs/{CID}"));
    check(
        &host,
        "//evil.example",
        at("localhost:8080", "/evil.example"),
        format!("/ipfs/{CID}//evil.example"),
    );
    check(&host, "/\\evil", at("localhost:8080", "/%5Cevil"), format!("/ipfs/{CID}/\\evil"));
    check(
        &format!("{CID}.ipfs.a.wild.example"),
        "/x",
        at("a.wild.example", "/x"),
        format!("/ipfs/{CID}/x"),
    );
    check(&format!("{KEY}.ipns.localhost"), "/a", at("localhost", "/a"), format!("/ipns/{KEY}/a"));
    let named = |root: &str, name: &str| {
        check(
            &format!("{root}.ipns.localhost"),
            "/a",
            at("localhost", "/a"),
            format!("/ipns/{name}/a"),
        );
    };
    named("en-wikipedia--on--ipfs-org", "en.wikipedia-on-ipfs.org");
    named("EN-Wikipedia--on--ipfs-org", "en.wikipedia-on-ipfs.org");
    named("en.wikipedia-on-ipfs.org", "en.wikipedia-on-ipfs.org");
    named("xn----caf--dma-example", "xn--caf-dma.example");
    named("localhost", "localhost");
    named("127-0-0-1", "127.0.0.1");
    // What is no CID is said to be none.
    check("nonsense.ipfs.localhost", "/", at("localhost", "/"), "/ipfs/nonsense/".into());
    check(
        &format!("www.{CID}.ipfs.localhost"),
        "/",
        at("localhost", "/"),
        format!("/ipfs/www.{CID}/"),
    );
}

#[tokio::test]
async fn other_forms_of_a_root_are_sent_to_the_one_that_is_its_origin() {
    let world = world();
    let cid = parse_cid(CID).unwrap();
    for base in
        [multibase::Base::Base36Lower, multibase::Base::Base16Lower, multibase::Base::Base58Btc]
    {
        let host = format!("{}.ipfs.localhost:80", multibase::encode(base, cid.to_bytes()));
        assert_eq!(world.sent(&host, "/a?b"), format!("http://{CID}.ipfs.localhost:80/a?b"));
    }
    assert_eq!(
        world.sent(&format!("{}.ipfs.localhost", cid_v0()), "/"),
        format!("http://{CID}.ipfs.localhost/")
    );
    let Name::Key(key) = Name::parse(KEY).unwrap() else { panic!() };
    let as_dag_pb = Cid::new_v1(0x70, *key.hash());
    let in_base36 = multibase::encode(multibase::Base::Base36Lower, as_dag_pb.to_bytes());
    for form in
        [in_base36, key.cid().to_string(), multibase::Base::Base58Btc.encode(key.hash().to_bytes())]
    {
        let host = format!("{form}.ipns.localhost");
        assert_eq!(world.sent(&host, "/a"), format!("http://{KEY}.ipns.localhost/a"), "{host}");
    }
}

#[tokio::test]
async fn hosts_that_are_not_ours_are_path_gateways_and_never_sent_anywhere() {
    let world = world();
    let path = format!("/ipfs/{CID}/x");
    for host in [
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]:8080",
        "0x7f.1",
        "evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "gateway.example.evil",
        "wild.example",
        "a.b.wild.example",
        "localhost:evil",
        "localhost@evil.example",
        "localhost/evil",
        "evil.example:80\\localhost",
        "localhost..",
        "",
        "notallowed.example",
        "a.b.allowed.example",
        &format!("{CID}.ipfs.evil.example"),
        &format!("{CID}.ipfs.127.0.0.1"),
        &format!("{CID}.ipfs."),
        &format!("{CID}.ipfs"),
        ".ipfs.localhost",
    ] {
        assert_eq!(world.means(host, &path), (Site::Path, path.clone()), "{host}");
    }
    // Without a host, and with one that is no text.
    let mut asked = request(&path, &[]);
    assert!(matches!(world.place_of(&asked, Peer::default()), Ok(Placed::Here(_))));
    asked.headers_mut().insert("host", http::HeaderValue::from_bytes(b"local\xffhost").unwrap());
    assert!(matches!(world.place_of(&asked, Peer::default()), Ok(Placed::Here(_))));
}

#[tokio::test]
async fn dnslink_sites_are_served_for_domains_that_are_allowed() {
    let world = world();
    let site = |host: &str| Site::DnsLink(Origin { host: host.into(), url_path: "/ipfs/a".into() });
    let (found, path) = world.means("Site.Example.:8080", "/ipfs/a");
    assert_eq!((found, path.as_str()), (site("site.example:8080"), "/ipns/site.example/ipfs/a"));
    let (found, path) = world.means("in.allowed.example", "/ipfs/a");
    assert_eq!(
        (found, path.as_str()),
        (site("in.allowed.example"), "/ipns/in.allowed.example/ipfs/a")
    );
    // Allowed, and without a DNSLink: a path gateway like any other.
    assert_eq!(world.means("other.allowed.example", "/ipfs/a"), (Site::Path, "/ipfs/a".into()));
    // A plain name and one that only looks like it.
    let like = "xn--ste-qma.example";
    assert_eq!(world.means(like, "/ipfs/a"), (Site::Path, "/ipfs/a".into()));
}

#[tokio::test]
async fn the_word_of_a_proxy_counts_only_where_it_is_trusted() {
    let world = world();
    let path = format!("/ipfs/{CID}");
    let headers = [
        ("host", "evil.example"),
        ("x-forwarded-host", "gateway.example"),
        ("x-forwarded-proto", "https"),
    ];
    let asked = request(&path, &headers);
    let peer = |address: &str| Peer { address: Some(address.parse().unwrap()), secure: false };
    let trusted = world.place_of(&asked, peer("192.0.2.9")).unwrap();
    assert_eq!(trusted, Placed::Elsewhere(format!("https://{CID}.ipfs.gateway.example/")));
    for stranger in [peer("198.51.100.9"), peer("127.0.0.1"), Peer::default()] {
        let placed = world.place_of(&asked, stranger).unwrap();
        assert_eq!(placed, Placed::Here(Place { site: Site::Path, content_path: path.clone() }));
    }
    let direct = request(&path, &[("host", "localhost"), ("x-forwarded-proto", "https")]);
    let check = |peer: Peer, scheme: &str| {
        let want = format!("{scheme}://{CID}.ipfs.localhost/");
        assert_eq!(world.place_of(&direct, peer).unwrap(), Placed::Elsewhere(want));
    };
    check(peer("198.51.100.9"), "http");
    check(Peer { secure: true, ..peer("198.51.100.9") }, "https");
    check(peer("::ffff:192.0.2.9"), "https");
    // One of several may be what a stranger sent.
    for several in [
        &["evil.example, gateway.example"][..],
        &["gateway.example,"],
        &["evil.example", "gateway.example"],
    ] {
        let headers: Vec<_> = several.iter().map(|value| ("x-forwarded-host", *value)).collect();
        let several = request(&path, &[&headers[..], &[("host", "x")]].concat());
        let error = world.place_of(&several, peer("192.0.2.9")).unwrap_err();
        assert!(matches!(error, Error::ForwardedHosts) && error.status() == 400, "{error:?}");
        assert!(world.place_of(&several, peer("198.51.100.9")).is_ok());
    }
    // What a trusted proxy forwards from a stranger leads to our hosts, or nowhere.
    let poison = request(&path, &[("host", "localhost"), ("x-forwarded-host", "evil.example")]);
    let placed = world.place_of(&poison, peer("192.0.2.9")).unwrap();
    assert_eq!(placed, Placed::Here(Place { site: Site::Path, content_path: path }));
}

#[tokio::test]
async fn the_request_line_names_the_host_where_it_names_one() {
    let world = world();
    let asked = request(&format!("http://{CID}.ipfs.localhost:80/a"), &[("host", "other.example")]);
    let placed = world.place_of(&asked, Peer::default()).unwrap();
    let origin = Origin { host: "localhost:80".into(), url_path: "/a".into() };
    let content_path = format!("/ipfs/{CID}/a");
    assert_eq!(placed, Placed::Here(Place { site: Site::Subdomain(origin), content_path }));
    let bare = request(&format!("http://{CID}.ipfs.localhost"), &[]);
    let Placed::Here(place) = world.place_of(&bare, Peer::default()).unwrap() else { panic!() };
    assert_eq!(place.content_path, format!("/ipfs/{CID}/"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_redirect_never_leaves_the_hosts_of_the_configuration(
        host in "((f01550000|bafkqaaa|www|a-b|ipfs|[a-zA-Z0-9_@:/\\\\.-]{1,6})[.:@]){0,2}((ipfs|ipns|IPFS)\\.)?(localhost|gateway\\.example|a\\.wild\\.example|evil\\.example)[.:@/\\\\]{0,2}[0-9]{0,4}",
        path in "/(ipfs|ipns|ipfs/ipfs|)/?(bafkqaaa|QmY7Yh4UquoXHLPFo2XbhXkhBvFoPwmQUSa92pxnxjQuPU|a\\.example|//?)?(/[a-z@:.\\\\%0-9]{0,6}){0,3}",
        forwarded in "(localhost|evil\\.example|[a-z.:@/\\\\]{0,12})",
        trusted: bool,
    ) {
        let world = world();
        let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
        let mut request = request("/", &[("x-forwarded-host", &forwarded)]);
        *request.uri_mut() = uri;
        if let Ok(host) = http::HeaderValue::try_from(&host) {
            request.headers_mut().insert("host", host);
        }
        let address = if trusted { "192.0.2.1" } else { "198.51.100.1" };
        let peer = Peer { address: Some(address.parse().unwrap()), secure: trusted };
        match world.place_of(&request, peer) {
            Ok(Placed::Elsewhere(url)) => {
                let url: http::Uri = url.parse().unwrap();
                let authority = url.authority().unwrap();
                prop_assert!(!authority.as_str().contains('@'), "{url}");
                let ours = ["localhost", "gateway.example", "wild.example"];
                let name = authority.host();
                prop_assert!(
                    ours.iter().any(|ours| name.ends_with(&format!(".{ours}"))), "{url}"
                );
            }
            Ok(Placed::Here(place)) => {
                let path = place.site.url_path(&place.content_path);
                if place.site.is_isolated() {
                    prop_assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
                    prop_assert!(!path.contains('\\'), "{path}");
                }
            }
            Err(_) => {}
        }
    }
}
