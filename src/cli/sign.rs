//! `sign`: URLs that may be read until they expire. It needs no node, only the configuration.

use serde_json::json;

use super::Error;
use super::args::Sign;
use super::output::Output;
use crate::config::Config;
use crate::gateway::hostname::label::from_inlined;
use crate::gateway::signed::{self, SigningKeys, Terms};
use crate::ipld::path;
use crate::routing::Name;
use crate::task::now_unix;

pub(super) fn sign(config: &Config, asked: &Sign, out: Output) -> Result<(), Error> {
    let keys = &config.gateway.signing_keys;
    let key = key(keys, asked.key.as_deref())?;
    let base = config.gateway.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let url = Url::read(&asked.url, base)?;
    check(&url.path)?;
    let depth = asked.prefix.then(|| depth(&url.path)).transpose()?;
    let expires = now_unix().saturating_add(seconds(&asked.expires)?);
    let terms = Terms { expires, key, depth };
    let query = signed::sign(keys, &url.path, url.query.as_deref(), terms)
        .ok_or_else(|| Error::Usage("this cannot be signed".into()))?;
    let signed = format!("{}?{query}", url.shown);
    out.result(&json!({ "url": signed, "expires": expires, "key": key }), &signed)
}

/// The key that is asked for, or the only one.
fn key<'a>(keys: &'a SigningKeys, asked: Option<&str>) -> Result<&'a str, Error> {
    let ids: Vec<_> = keys.ids().collect();
    match (ids.as_slice(), asked) {
        ([], _) => {
            Err(Error::Config("there is no key to sign with: set gateway.signing_keys".into()))
        }
        ([only], None) => Ok(only),
        (ids, None) => {
            Err(Error::Usage(format!("say which key is to sign: --key {}", ids.join(" or "))))
        }
        (ids, Some(asked)) => {
            let found = ids.iter().find(|id| **id == asked).copied();
            found.ok_or_else(|| {
                Error::Usage(format!("there is no key {asked:?}, only {}", ids.join(", ")))
            })
        }
    }
}

/// What is to be signed.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    /// The URL without its query.
    shown: String,
    /// The content path that it means.
    path: String,
    query: Option<String>,
}

impl Url {
    /// Reads a content path, or the URL of one on a path gateway or a subdomain gateway, and writes
    /// it as clients send it after all redirects.
    fn read(text: &str, base: &str) -> Result<Self, Error> {
        let text = text.split_once('#').map_or(text, |(url, _)| url);
        let (shown, query) = match text.split_once('?') {
            Some((shown, query)) => (shown, Some(signed::sent_query(query))),
            None => (text, None),
        };
        let Some((scheme, rest)) = shown.split_once("://") else {
            let path = signed::sent_path(shown);
            return Ok(Self { shown: format!("{base}{path}"), path, query });
        };
        let (host, below) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        for namespace in ["ipfs", "ipns"] {
            let Some((label, gateway)) = host.split_once(&format!(".{namespace}.")) else {
                continue;
            };
            let path =
                signed::sent_path(&format!("/{namespace}/{}{below}", root(label, namespace)));
            let mut parts = path.splitn(4, '/').skip(2);
            let root = parts.next().filter(|root| !root.contains('.')).unwrap_or(label);
            let below = parts.next().unwrap_or_default();
            let shown = format!("{scheme}://{root}.{namespace}.{gateway}/{below}");
            return Ok(Self { shown, path, query });
        }
        if !below.starts_with("/ipfs/") && !below.starts_with("/ipns/") {
            let why = "of a domain's own URLs give the path, such as /ipns/example.org/page";
            return Err(Error::Usage(why.into()));
        }
        let path = signed::sent_path(below);
        Ok(Self { shown: format!("{scheme}://{host}{path}"), path, query })
    }
}

/// The root that a label of a host stands for: a domain may be inlined.
fn root(label: &str, namespace: &str) -> String {
    let is_inlined = namespace == "ipns" && !label.contains('.') && Name::parse(label).is_err();
    if is_inlined { from_inlined(label) } else { label.to_owned() }
}

/// Refuses what clients take for steps, and so never send.
fn check(path: &str) -> Result<(), Error> {
    path::split(path).map_err(|error| Error::Usage(error.to_string()))?;
    let is_step = |name: &str| {
        let name = percent_encoding::percent_decode_str(name).collect::<Vec<_>>();
        matches!(name.as_slice(), b"." | b"..")
    };
    match path.split('/').any(is_step) {
        true => {
            Err(Error::Usage("clients take . and .. in a path for steps: leave them out".into()))
        }
        false => Ok(()),
    }
}

/// How many names the directory at the end of a path is below the root.
fn depth(path: &str) -> Result<usize, Error> {
    let slashes = path.matches('/').count();
    if !path.ends_with('/') || slashes < 3 {
        let why = "with --prefix the path is a directory's, with a slash at its end";
        return Err(Error::Usage(why.into()));
    }
    Ok(slashes - 3)
}

/// `90s`, `15m`, `1h`, `7d`.
fn seconds(text: &str) -> Result<u64, Error> {
    let unit = |unit| match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let read = || {
        let (number, name) = text.split_at_checked(text.len().checked_sub(1)?)?;
        number.parse::<u64>().ok()?.checked_mul(unit(name)?).filter(|seconds| *seconds > 0)
    };
    read().ok_or_else(|| {
        Error::Usage(format!("--expires {text:?} is none of 90s, 15m, 1h, 7d or the like"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_all_kinds_of_gateways_mean_content_paths() {
        let check = |text: &str, shown: &str, path: &str, query: Option<&str>| {
            let want =
                Url { shown: shown.into(), path: path.into(), query: query.map(str::to_owned) };
            assert_eq!(Url::read(text, "https://g.example").unwrap(), want, "{text}");
        };
        check("/ipfs/x/a", "https://g.example/ipfs/x/a", "/ipfs/x/a", None);
        check("http://h:1/ipfs/x?a=b#c", "http://h:1/ipfs/x", "/ipfs/x", Some("a=b"));
        check("https://x.ipfs.h/a", "https://x.ipfs.h/a", "/ipfs/x/a", None);
        check("https://x.ipfs.h", "https://x.ipfs.h/", "/ipfs/x/", None);
        check("https://h/ipns/n/", "https://h/ipns/n/", "/ipns/n/", None);
        check("/ipfs/x/a b%2f", "https://g.example/ipfs/x/a%20b%2F", "/ipfs/x/a%20b%2F", None);
        check(
            "http://h/ipfs/x/ż?a=b c",
            "http://h/ipfs/x/%C5%BC",
            "/ipfs/x/%C5%BC",
            Some("a=b%20c"),
        );
        let (v0, v1) = (
            "QmY7Yh4UquoXHLPFo2XbhXkhBvFoPwmQUSa92pxnxjQuPU",
            "bafybeierhgbz4zp2x2u67urqrgfnrnlukciupzenpqpipiz5nwtq7uxpx4",
        );
        check(
            &format!("/ipfs/{v0}/a"),
            &format!("https://g.example/ipfs/{v1}/a"),
            &format!("/ipfs/{v1}/a"),
            None,
        );
        let (peer_id, key) = (
            "12D3KooWGjMCwKnVfdyvVRwGQpDVLLEyYnkrFUJKRzPnBgHqJnEz",
            Name::parse("12D3KooWGjMCwKnVfdyvVRwGQpDVLLEyYnkrFUJKRzPnBgHqJnEz")
                .unwrap()
                .to_string(),
        );
        let path = format!("/ipns/{key}/");
        check(&format!("https://h/ipns/{peer_id}/"), &format!("https://h{path}"), &path, None);
        check(&format!("https://{key}.ipns.h"), &format!("https://{key}.ipns.h/"), &path, None);
        check("https://a--b-test.ipns.h/c", "https://a--b-test.ipns.h/c", "/ipns/a-b.test/c", None);
        check("https://a.test.ipns.h/c", "https://a.test.ipns.h/c", "/ipns/a.test/c", None);
        for step in ["/ipfs/bafkqaaa/../x", "/ipfs/bafkqaaa/%2E/x", "/ipfs/bafkqaaa/a/.."] {
            assert!(super::check(step).is_err(), "{step}");
        }
        assert!(Url::read("https://example.org/page", "").is_err());
    }

    #[test]
    fn times_and_depths() {
        for (text, want) in [("90s", Some(90)), ("1h", Some(3600)), ("7d", Some(604_800))] {
            assert_eq!(seconds(text).ok(), want);
        }
        for text in ["", "h", "1", "0s", "-1h", "1.5h", "1hour", "99999999999999999d", "1ü"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for (path, want) in [
            ("/ipfs/x/", Some(0)),
            ("/ipfs/x/a/b/", Some(2)),
            ("/ipfs/x", None),
            ("/ipfs/x/a", None),
        ] {
            assert_eq!(depth(path).ok(), want, "{path}");
        }
    }
}
