use proptest::prelude::*;

use super::*;

fn names(path: &str) -> Vec<String> {
    path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn find(file: &str, path: &str) -> Option<(Answer, String)> {
    let found = Rules::parse(file.as_bytes()).unwrap().find(&names(path)).unwrap();
    found.map(|found| (found.answer, found.target))
}

const EXAMPLES: &str = "\
/redirect-one /one.html
/301-redirect-one /one.html 301
/302-redirect-two /two.html 302
/200-index /index.html 200

# a comment
/posts/:year/:month/:day/:title /articles/:year/:month/:day/:title 301
/splat/* /redirected-splat/:splat 301
/not-found/* /404.html 404
/gone/* /410.html 410
/unavail/* /451.html 451
/* /index.html 200
";

#[test]
fn the_first_rule_that_matches_counts() {
    let check = |path: &str, answer: Answer, target: &str| {
        for file in [EXAMPLES.to_owned(), EXAMPLES.replace('\n', "\r\n")] {
            assert_eq!(find(&file, path), Some((answer, target.to_owned())), "{path}");
        }
    };
    check("/redirect-one", Answer::Redirect(301), "/one.html");
    check("/302-redirect-two", Answer::Redirect(302), "/two.html");
    check("/200-index", Answer::Rewrite, "/index.html");
    check("/posts/2022/01/02/a b", Answer::Redirect(301), "/articles/2022/01/02/a%20b");
    check("/posts/2022/01/02", Answer::Rewrite, "/index.html");
    check("/splat/a/b/c", Answer::Redirect(301), "/redirected-splat/a/b/c");
    check("/splat", Answer::Rewrite, "/index.html");
    check("/not-found/x", Answer::Page(404), "/404.html");
    check("/gone/x", Answer::Page(410), "/410.html");
    check("/unavail/x", Answer::Page(451), "/451.html");
    check("/anything/else", Answer::Rewrite, "/index.html");
    assert_eq!(find(EXAMPLES, "/"), None);
}

#[test]
fn placeholders_are_filled_in_wherever_they_stand() {
    let check = |rule: &str, path: &str, target: &str| {
        assert_eq!(find(rule, path).unwrap().1, target, "{rule} {path}");
    };
    check("/s/:q /find?q=:q&x=:y#:q", "/s/a&b", "/find?q=a%26b&x=:y#a%26b");
    check("/:a/:ab /:ab-:a.html", "/1/2", "/2-1.html");
    check("/:my-name /x/:my-name", "/v", "/x/v");
    check("/go/:h https://:h.example:8080/:h", "/go/a", "https://a.example:8080/a");
    check("/a%20b /c", "/a b", "/c");
    check("/ü /ü%c3%bc", "/ü", "/%C3%BC%C3%BC");
    check("/a/b/ /c", "/a/b", "/c");
}

#[test]
fn a_path_never_becomes_another_site_by_what_is_filled_in() {
    let check = |rule: &str, path: &[&str], target: &str| {
        let path: Vec<_> = path.iter().map(|name| (*name).to_owned()).collect();
        let found = Rules::parse(rule.as_bytes()).unwrap().find(&path).unwrap().unwrap();
        assert_eq!(found.target, target, "{rule} {path:?}");
    };
    check("/go/* /:splat/page 302", &["go", ""], "/page");
    check("/go/:h/* /:splat/:h 302", &["go", "evil.example", ""], "/evil.example");
    check("/go/* /:splat", &["go", "/evil.example"], "/%2Fevil.example");
    check("/go/* /:splat", &["go", "\\evil.example"], "/%5Cevil.example");
    check("/go/* /:splat", &["go", "a\r\nSet-Cookie: b"], "/a%0D%0ASet-Cookie:%20b");
    check("/go/:a /:a\\x", &["go", "b"], "/b%5Cx");
}

#[test]
fn faults_are_told_with_their_line() {
    let check = |line: &str, says: &str| {
        let file = format!("# comment\n\n{line}\n/a /b\n");
        let fault = Rules::parse(file.as_bytes()).unwrap_err();
        assert!(matches!(fault, Fault::Line { line: 3, .. }), "{line}: {fault:?}");
        assert!(fault.to_string().contains(says), "{line}: {fault}");
    };
    check("/a", "from to");
    check("/a /b 301 x", "nothing behind");
    check("a /b", "begin with /");
    check("https://x.example/ /b", "begin with /");
    check("/a /b 301!", "forced");
    check("/a /b 200!", "forced");
    for status in ["300", "304", "305", "400", "403", "500", "99999999999", "+301", "abc"] {
        check(&format!("/a /b {status}"), "unsupported status");
    }
    check("/a*b /c", "asterisk");
    check("/*/b /c", "asterisk");
    check("/a/b* /c", "asterisk");
    check("/a/** /c", "asterisk");
    check("/:a/:a /b", "duplicate placeholder");
    check("/:splat/* /b", "duplicate placeholder");
    check("/:/b /b", "has a name");
    check("/a b", "begins with /");
    check("/a javascript:alert(1)", "begins with /");
    check("/a https://evil.example/ 200", "only a redirect");
    check("/a //evil.example/ 200", "only a redirect");
    check("/a /\\evil.example/ 200", "only a redirect");
    check("/a //evil.example/ 404", "only a redirect");
    check("/%ff /b", "UTF-8");
    let many: String = (0..33).map(|n| format!("/:p{n}")).collect();
    check(&format!("{many} /b"), "32");
    assert_eq!(Rules::parse(b"/a \xff"), Err(Fault::NotText));
}

#[test]
fn other_sites_are_reached_by_redirects_only() {
    for (target, status) in [("https://other.example/x", 301), ("//other.example/x", 307)] {
        let found = find(&format!("/a {target} {status}"), "/a").unwrap();
        assert_eq!(found, (Answer::Redirect(status), target.to_owned()));
    }
}

#[test]
fn files_and_rules_are_bounded() {
    let rules = |count: usize| "/a /b\n".repeat(count);
    assert!(Rules::parse(rules(RULES_MAX).as_bytes()).is_ok());
    assert_eq!(Rules::parse(rules(10_000).as_bytes()), Err(Fault::TooMany));
    let comment = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
    assert!(Rules::parse(comment(FILE_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(Rules::parse(comment(FILE_BYTES_MAX + 1).as_bytes()), Err(Fault::TooLarge));
    // What placeholders stand for may be long, and stand there often.
    let rule = format!("/* /{}", ":splat".repeat(10_000));
    let long = vec!["a".repeat(8000)];
    assert_eq!(Rules::parse(rule.as_bytes()).unwrap().find(&long), Err(Fault::TargetTooLong));
}

#[test]
fn matching_looks_at_each_piece_of_a_rule_once() {
    let path = vec!["a".repeat(31); 256];
    let nearly = format!("/{}", path[..2].join("/"));
    for rule in ["/*/x".replace('*', &path[0]), format!("{nearly}/x/*"), "/:a/:b/:c/:d/x".into()] {
        let rules = Rules::parse(format!("{rule} /b\n").repeat(500).as_bytes()).unwrap();
        let mut looks = 0;
        assert_eq!(rules.find_counting(&path, &mut looks), Ok(None), "{rule}");
        assert!(looks <= 500 * rule.matches('/').count(), "{rule}: {looks}");
    }
}

#[test]
fn the_query_of_the_request_goes_along_and_wins() {
    let check = |target: &str, query: Option<&str>, want: &str| {
        assert_eq!(with_query(target, query), want, "{target} {query:?}");
    };
    check("/a", None, "/a");
    check("/a", Some(""), "/a");
    check("/a", Some("x=1&y"), "/a?x=1&y");
    check("/a", Some("x=%2f\"\u{e9}"), "/a?x=%2f%22%C3%A9");
    check("/a?x=0&z=2", Some("x=1"), "/a?z=2&x=1");
    check("/a?x=0#f", Some("y=1"), "/a?x=0&y=1#f");
    check("https://b.example/a?q=1", Some("q=2"), "https://b.example/a?q=2");
}

proptest! {
    #[test]
    fn no_file_makes_the_parser_or_the_matcher_panic(
        file in "([/:*a-c#? !\u{e9}\\\\%0-9]{0,12}[ \t]){0,4}(\r?\n|[/:*ab]{1,6} /[:a-z/\\\\]{0,12} (200|301|302|404)\n){0,6}",
        path in prop::collection::vec("[^/]{0,6}", 0..6),
    ) {
        if let Ok(rules) = Rules::parse(file.as_bytes())
            && let Ok(Some(found)) = rules.find(&path)
        {
            prop_assert!(http::HeaderValue::try_from(&found.target).is_ok(), "{}", found.target);
            let own = file.lines().all(|line| {
                line.split_whitespace().nth(1).is_none_or(is_path)
            });
            prop_assert!(!own || found.target.starts_with('/'));
            prop_assert!(!own || !found.target.starts_with("//"), "{}", found.target);
            prop_assert!(!found.target.contains('\\'));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(file in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Rules::parse(&file);
    }
}
