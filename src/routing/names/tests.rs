use super::*;
use crate::metrics::Registry;

fn names(fixed: &[String]) -> Names {
    let fixed = NameMap::parse(fixed).unwrap();
    Names::new(Parts { fixed }, Metrics::register(&Registry::new()).unwrap())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn resolve(names: &Names, name: &str) -> Result<Resolved, Error> {
    names.resolve(&Name::parse(name).unwrap(), soon()).await
}

/// `a1.test` to `a2.test` and so on, and the last to content.
fn chain(length: usize) -> Vec<String> {
    let link = |n: usize| match n {
        n if n == length => format!("a{n}.test:/ipfs/bafkqaaa/d{n}"),
        n => format!("a{n}.test:/ipns/A{}.TEST./d{n}", n + 1),
    };
    (1..=length).map(link).collect()
}

#[tokio::test]
async fn a_name_leads_through_names_and_the_paths_add_up() {
    let resolved = resolve(&names(&chain(3)), "a1.test").await.unwrap();
    assert_eq!(resolved.root.to_string(), "bafkqaaa");
    assert_eq!(resolved.segments, ["d3", "d2", "d1"]);
    assert_eq!(resolved.ttl, None);
}

#[tokio::test]
async fn thirty_two_names_are_followed_and_no_more() {
    assert!(resolve(&names(&chain(32)), "a1.test").await.is_ok());
    let error = resolve(&names(&chain(33)), "a1.test").await.unwrap_err();
    assert!(matches!(&error, Error::Recursion(name) if &**name == "a1.test"), "{error:?}");
}

#[tokio::test]
async fn loops_of_names_end() {
    let looping = ["a.test:/ipns/b.test", "b.test:/ipns/a.test", "c.test:/ipns/c.test/x"];
    let names = names(&looping.map(str::to_owned));
    for name in ["a.test", "c.test"] {
        let error = resolve(&names, name).await.unwrap_err();
        assert!(matches!(error, Error::Recursion(_)), "{name}: {error:?}");
    }
    let counted = names.metrics.resolutions.with_label_values(&["dnslink", "recursion"]);
    assert_eq!(counted.get(), 2);
}

#[tokio::test]
async fn what_leads_nowhere_is_not_found() {
    let names = names(&["a.test:/ipns/b.test".to_owned()]);
    assert!(matches!(resolve(&names, "a.test").await, Err(Error::NotFound(_))));
    let key = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
    assert!(matches!(resolve(&names, key).await, Err(Error::NoRecord(_))));
}

#[tokio::test]
async fn a_domain_has_a_dnslink_even_where_that_leads_nowhere() {
    let names = names(&["a.test:/ipns/b.test".to_owned()]);
    let check = async |domain: &str, want: bool| {
        assert_eq!(names.has_dnslink(domain, soon()).await.unwrap(), want, "{domain}");
    };
    check("a.test", true).await;
    check("A.test.", true).await;
    check("b.test", false).await;
    check("127.0.0.1", false).await;
    check("not a domain", false).await;
    check("k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r", false).await;
}
