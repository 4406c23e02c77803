//! What no compiler and no clippy says about this repository: who may use whom, what must agree
//! with what. Each check is a pure function from texts to sentences, and has a test beside it that
//! shows it red.

#![allow(clippy::unwrap_used, reason = "these are all tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Who may use whom, as ARCHITECTURE.md shows it: a room may use lower storeys only. Storey 7 is
/// read left to right.
const STOREYS: &str = "\
7  main → cli → app → config
6  http
5  gateway   upload
4  retrieval
3  cache   blockstore   bitswap   http_source   routing   accounts
2  p2p   traffic
1  db   ipld   denylist   provider   network
0  block   metrics   task
";
/// The highest storey that fakes may know.
const TESTING_STOREY_MAX: u32 = 4;
/// Longest file, in lines.
const FILE_LINES_MAX: usize = 700;

/// Oldest versions without known holes, by crate; several where several series are kept. RustSec
/// does not know all of these.
const FLOORS: &[(&str, &[&str])] = &[
    ("bytes", &["1.11.1"]),
    ("crossbeam-channel", &["0.5.15"]),
    ("curve25519-dalek", &["4.1.3"]),
    ("ed25519-dalek", &["2.0.0"]),
    ("h2", &["0.4.16"]),
    ("hickory-proto", &["0.26.1"]),
    ("hyper", &["1.0.0"]),
    ("idna", &["1.0.0"]),
    ("libp2p", &["0.57.0"]),
    ("libp2p-quic", &["0.13.1"]),
    ("libp2p-yamux", &["0.48.0"]),
    ("lru", &["0.18.2"]),
    ("quinn-proto", &["0.11.15"]),
    ("rand", &["0.8.6", "0.9.3", "0.10.1"]),
    ("redb", &["4.5.0"]),
    ("ring", &["0.17.12"]),
    ("rustls", &["0.23.18"]),
    ("rustls-webpki", &["0.103.13"]),
    ("slab", &["0.4.11"]),
    ("snow", &["0.9.5"]),
    ("time", &["0.3.47"]),
    ("tracing-subscriber", &["0.3.20"]),
    ("yamux", &["0.13.10"]),
];
/// Crates that must not come in, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("core2", "it is yanked"),
    ("libp2p-gossipsub", "it is not needed and had four advisories"),
    ("libp2p-rendezvous", "it is not needed and registers without bound"),
    ("libsecp256k1", "it is unmaintained; k256 takes its place"),
    ("openssl-sys", "TLS is rustls alone"),
    ("tar", "archives are never unpacked"),
];

/// A file of the repository: its path from the top, and its text.
type Text = (String, String);

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file below `folder`, in order.
fn files(folder: &str) -> Vec<Text> {
    let mut found = Vec::new();
    let mut left = vec![top().join(folder)];
    while let Some(path) = left.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let skipped = ["target", ".git", "node_modules", "__pycache__", "corpus", "artifacts"];
        if skipped.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            let from_top = path.strip_prefix(top()).unwrap().to_string_lossy().into_owned();
            found.push((from_top.trim_start_matches("./").to_owned(), text));
        }
    }
    found.sort();
    found
}

fn rust_files() -> Vec<Text> {
    let folders = ["src", "tests", "benches", "examples", "fuzz"];
    let there = folders.into_iter().filter(|folder| top().join(folder).is_dir());
    let is_rust = |file: &Text| Path::new(&file.0).extension().is_some_and(|end| end == "rs");
    there.flat_map(files).filter(is_rust).collect()
}

fn hold(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Line by line, without what comments and texts of the code say.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(number, line)| {
        let line = line.split("//").next().unwrap_or_default();
        (!line.trim().is_empty()).then_some((number + 1, line))
    })
}

// --- Storeys ---------------------------------------------------------------------------------

/// Where a room is: its storey, and its place in it from the left where that counts.
fn storeys() -> BTreeMap<&'static str, (u32, usize)> {
    let mut rooms = BTreeMap::new();
    for line in STOREYS.lines() {
        let (storey, names) = line.split_once(' ').unwrap();
        let ordered = names.contains('→');
        for (place, name) in names.split(['→', ' ']).filter(|name| !name.is_empty()).enumerate() {
            rooms.insert(name, (storey.parse().unwrap(), if ordered { place } else { 0 }));
        }
    }
    rooms
}

fn wrong_uses((path, text): &Text) -> Vec<String> {
    let rooms = storeys();
    let own = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
    if own == "lib" {
        return Vec::new();
    }
    let testing = (TESTING_STOREY_MAX + 1, 0);
    let Some(&here) = rooms.get(own).or((own == "testing").then_some(&testing)) else {
        return vec![format!(
            "{path}: the room `{own}` has no storey: give it one in tests/tidy.rs and ARCHITECTURE.md"
        )];
    };
    let in_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    let test_module = text.lines().position(|line| line.trim() == "#[cfg(test)]");
    let mut problems = Vec::new();
    for (number, line) in code(text) {
        for used in names_behind(line, if own == "main" { "estuary::" } else { "crate::" }) {
            let is_test = in_tests || test_module.is_some_and(|start| number > start);
            if used == own || (used == "testing" && (is_test || own == "testing")) {
                continue;
            }
            let allowed = match rooms.get(used) {
                Some(&there) => there.0 < here.0 || (there.0 == here.0 && there.1 > here.1),
                None if used == "testing" => false,
                // A macro, or an item of the crate's root.
                None => true,
            };
            if !allowed {
                let (here, there) = (here.0, rooms.get(used).map_or(99, |there| there.0));
                problems.push(format!("{path}:{number}: `{own}` (storey {here}) must not use `{used}` (storey {there}): a room may use lower storeys only"));
            }
        }
    }
    problems
}

/// The names that follow `prefix` in a line, those in braces too.
fn names_behind<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |text: &'a str| text.split(|c| !is_name(c)).next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        // `$crate::` is a path in a macro; `my_crate::` is something else.
        if line[..at].ends_with(is_name) {
            continue;
        }
        let behind = &line[at + prefix.len()..];
        match behind.strip_prefix('{') {
            Some(group) => found.extend(group.split(',').map(|part| name(part.trim()))),
            None => found.push(name(behind)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn rooms_use_lower_storeys_only() {
    hold(&files("src").iter().flat_map(wrong_uses).collect::<Vec<_>>());
    let map = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    assert!(map.contains(STOREYS), "ARCHITECTURE.md shows other storeys than tests/tidy.rs");
    let lib = fs::read_to_string(top().join("src/lib.rs")).unwrap();
    for (name, _) in storeys().iter().filter(|(name, _)| **name != "main") {
        assert!(lib.contains(&format!("pub mod {name};")), "`{name}` has a storey and no room");
    }
}

#[test]
fn wrong_uses_are_found() {
    let check = |path: &str, text: &str, expected: usize| {
        let found = wrong_uses(&(path.into(), text.into()));
        assert_eq!(found.len(), expected, "{path}: {text}: {found:?}");
    };
    check("src/ipld/walk.rs", "use crate::block::Block; // crate::http", 0);
    check("src/ipld.rs", "use crate::{block::Cid, db};", 1);
    check("src/cache.rs", "use crate::blockstore::Store;", 1);
    check("src/gateway/respond/car.rs", "let x = crate::http::stack();", 1);
    check("src/app.rs", "use crate::config::Config; use crate::http::serve;", 0);
    check("src/config.rs", "use crate::app::App;", 1);
    check("src/main.rs", "use estuary::cli;", 0);
    check("src/cli/add.rs", "use crate::app;", 0);
    check("src/attic.rs", "", 1);
    check("src/testing.rs", "use crate::retrieval::Retriever;", 0);
    check("src/testing.rs", "use crate::gateway::Gateway;", 1);
    check("src/db.rs", "use crate::testing::Clock;", 1);
    check("src/db.rs", "\n#[cfg(test)]\nmod tests { use crate::testing::Clock; }", 0);
}

// --- Files -----------------------------------------------------------------------------------

fn badly_named((path, text): &Text) -> Vec<String> {
    let lines = text.lines().count();
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut problems = Vec::new();
    if matches!(name, "mod.rs" | "utils.rs" | "util.rs" | "helpers.rs" | "common.rs") {
        problems.push(format!("{path}: a file is named by its idea"));
    }
    if lines > FILE_LINES_MAX {
        problems.push(format!("{path}: {lines} lines; split it by idea below {FILE_LINES_MAX}"));
    }
    problems
}

#[test]
fn files_are_named_by_their_idea_and_short() {
    hold(&rust_files().iter().flat_map(badly_named).collect::<Vec<_>>());
}

#[test]
fn bad_names_and_long_files_are_found() {
    for path in ["src/db/mod.rs", "src/utils.rs"] {
        assert_eq!(badly_named(&(path.into(), String::new())).len(), 1, "{path}");
    }
    assert_eq!(badly_named(&("src/a.rs".into(), "x\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
    assert_eq!(badly_named(&("src/a.rs".into(), "x\n".repeat(FILE_LINES_MAX))).len(), 0);
}

/// What would make the repository depend on, or speak of, the place where it was written.
fn strange_words((path, text): &Text) -> Vec<String> {
    let beside = concat!("../", "shared");
    let scripts = [".ci/", "tests/peers/", "tests/evidence/"];
    let mut words = vec![concat!("/", "work", "/"), concat!("/", "root", "/")];
    if !scripts.iter().any(|start| path.starts_with(start)) {
        words.push(beside);
    }
    let found = words.into_iter().filter(|word| text.contains(*word));
    found
        .map(|word| format!("{path}: speaks of `{word}`, a place outside the repository"))
        .collect()
}

#[test]
fn the_repository_speaks_of_estuary_alone() {
    let ours = |file: &Text| !file.0.ends_with(".lock");
    hold(&files(".").iter().filter(|f| ours(f)).flat_map(strange_words).collect::<Vec<_>>());
}

#[test]
fn strange_words_are_found() {
    let text = concat!("see ../", "shared/x and /", "root", "/y").to_owned();
    assert_eq!(strange_words(&("docs/a.md".into(), text.clone())).len(), 2);
    assert_eq!(strange_words(&("tests/peers/a.sh".into(), text)).len(), 1);
}

// --- Metrics ---------------------------------------------------------------------------------

/// A metric as a `metrics!` table declares it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    name: String,
    kind: String,
    labels: Vec<String>,
    help: String,
}

/// The rows of the `metrics!` tables in a file.
fn metrics_in(text: &str) -> Vec<Metric> {
    let mut found = Vec::new();
    let mut help = "";
    for line in text.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("///") {
            help = said.trim();
            continue;
        }
        let declared = line.split_once(": ").and_then(|(_, kind)| kind.split_once("(\"estuary_"));
        if let Some((kind, _)) = declared.filter(|(kind, _)| !kind.contains(' ')) {
            let mut texts = line.split('"').skip(1).step_by(2).map(str::to_owned);
            found.push(Metric {
                name: texts.next().unwrap_or_default(),
                kind: kind.trim_end_matches("_vec").to_owned(),
                labels: texts.collect(),
                help: help.to_owned(),
            });
        }
    }
    found
}

fn all_metrics() -> Vec<Metric> {
    let mut all: Vec<_> = files("src").iter().flat_map(|file| metrics_in(&file.1)).collect();
    all.sort();
    all
}

/// docs/metrics.md, from the tables in the source.
fn metrics_page(metrics: &[Metric]) -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat `/metrics` on the admin listener shows, by room. Written by `UPDATE=1 cargo test --test tidy`\n\
         from the tables in the source; a histogram has `_bucket`, `_sum` and `_count`. Labels take a few fixed\n\
         values, never a CID, a key or an address.\n",
    );
    let mut room = "";
    for metric in metrics {
        let own = metric.name.split('_').nth(1).unwrap_or_default();
        if own != room {
            room = own;
            page += &format!(
                "\n## {room}\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n"
            );
        }
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, Metric { name, kind, help, .. }) = (labels.join(", "), metric);
        page += &format!("| `{name}` | {kind} | {labels} | {help} |\n");
    }
    page
}

/// Names like `estuary_…` in a board or an alert rule that no room declares.
fn unknown_metrics((path, text): &Text, metrics: &[Metric]) -> Vec<String> {
    let mut known = BTreeSet::new();
    for metric in metrics {
        known.insert(metric.name.clone());
        if metric.kind == "histogram" {
            known.extend(["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)));
        }
    }
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: BTreeSet<_> = words.filter(|word| word.starts_with("estuary_")).collect();
    let unknown = named.into_iter().filter(|name| !known.contains(*name));
    unknown.map(|name| format!("{path}: no room declares `{name}`")).collect()
}

#[test]
fn docs_metrics_md_is_current() {
    let page = metrics_page(&all_metrics());
    let path = top().join("docs/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/metrics.md is old: run `UPDATE=1 cargo test --test tidy`");
}

#[test]
fn boards_and_alerts_name_metrics_that_exist() {
    let metrics = all_metrics();
    let boards = files("grafana");
    assert!(boards.iter().any(|board| board.1.contains("estuary_")), "there is no board");
    hold(&boards.iter().flat_map(|board| unknown_metrics(board, &metrics)).collect::<Vec<_>>());
}

/// Alerts that docs/operations.md does not say what to do about.
fn unexplained(rules: &str, page: &str) -> Vec<String> {
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let missing = names.filter(|name| !page.contains(&format!("\n### {name}\n")));
    missing.map(|name| format!("docs/operations.md does not say what to do about {name}")).collect()
}

#[test]
fn every_alert_says_what_to_do() {
    let read = |path: &str| fs::read_to_string(top().join(path)).unwrap();
    hold(&unexplained(&read("grafana/alerts.yml"), &read("docs/operations.md")));
    assert_eq!(unexplained("  - alert: A\n  - alert: B\n", "\n### A\n").len(), 1);
}

#[test]
fn metrics_are_read_from_their_tables() {
    let text = "/// Blocks.\nblocks: counter_vec(\"estuary_a_blocks_total\", \"source\"),\n\
                /// Time.\nseconds: histogram(\"estuary_a_seconds\"),\n";
    let found = metrics_in(text);
    let names: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.kind.as_str())).collect();
    assert_eq!(names, [("estuary_a_blocks_total", "counter"), ("estuary_a_seconds", "histogram")]);
    assert_eq!(
        (found[0].labels.as_slice(), found[0].help.as_str()),
        (&["source".into()][..], "Blocks.")
    );
    let check = |expr: &str, unknown: usize| {
        let found = unknown_metrics(&("grafana/x.json".into(), expr.into()), &found);
        assert_eq!(found.len(), unknown, "{expr}: {found:?}");
    };
    check("rate(estuary_a_blocks_total[5m]) / estuary_a_seconds_bucket", 0);
    check("estuary_a_block_total", 1);
    check("estuary_a_blocks_total_sum", 1);
}

// --- Routes ----------------------------------------------------------------------------------

/// Paths of routes that a file declares: `.route("/path", …)`.
fn routes_in(text: &str) -> Vec<String> {
    let declared = text.split(".route(").skip(1);
    let path =
        |behind: &str| behind.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned);
    declared.filter_map(path).collect()
}

/// A path with its placeholders made alike: `/keys/{}`.
fn alike(path: &str) -> String {
    let mut depth = 0;
    path.chars()
        .filter(|c| {
            let inside = depth > 0 && *c != '}';
            depth += usize::from(*c == '{');
            depth -= usize::from(*c == '}' && depth > 0);
            !inside
        })
        .collect()
}

/// Routes that the page does not show in code quotes, with any method before them. What the
/// console's page is made of needs no showing.
fn undocumented((path, text): &Text, page: &str) -> Vec<String> {
    let quoted: Vec<_> = page.split('`').skip(1).step_by(2).map(alike).collect();
    let shown: BTreeSet<_> = quoted.iter().flat_map(|quoted| quoted.split([' ', '?'])).collect();
    let is_asset = |route: &String| route.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let missing = routes_in(text)
        .into_iter()
        .filter(|route| !shown.contains(alike(route).as_str()) && !is_asset(route));
    missing.map(|route| format!("{path}: docs/http-api.md does not show `{route}`")).collect()
}

#[test]
fn every_route_is_documented() {
    let page = fs::read_to_string(top().join("docs/http-api.md")).unwrap_or_default();
    // The operator's socket is the command line's own affair.
    let in_code = |file: &&Text| {
        let skipped = ["/tests", "/operator"].iter().any(|part| file.0.contains(part));
        file.0.starts_with("src/http") && !skipped
    };
    let files = files("src");
    hold(&files.iter().filter(in_code).flat_map(|f| undocumented(f, &page)).collect::<Vec<_>>());
}

#[test]
fn undocumented_routes_are_found() {
    let code = "Router::new().route(\"/content/add\", post(add)).route(\n  \"/keys/{id}\", get(x))";
    let file = ("src/http/api.rs".to_owned(), code.to_owned());
    assert_eq!(undocumented(&file, "`POST /content/add?name=x` and `/keys/{text or id}`").len(), 0);
    assert_eq!(undocumented(&file, "`POST /content/add-car`").len(), 2);
}

// --- Dependencies ----------------------------------------------------------------------------

type Version = [u64; 3];

fn version(text: &str) -> Version {
    let plain = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = plain.split('.').map(|number| number.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// Versions with the same series take each other's fixes: `1.x`, or `0.5.x`.
fn series(of: Version) -> (u64, u64) {
    (of[0], if of[0] == 0 { of[1] } else { 0 })
}

fn locked(lock: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut name = "";
    for line in lock.lines() {
        let quoted = line.split('"').nth(1).unwrap_or_default();
        if line.starts_with("name = ") {
            name = quoted;
        } else if line.starts_with("version = \"") {
            found.push((name, quoted));
        }
    }
    found
}

fn weak_crates(lock: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, locked) in locked(lock) {
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            problems.push(format!("Cargo.lock: {name} must not come in: {why}"));
        }
        let Some((_, floors)) = FLOORS.iter().find(|(floored, _)| *floored == name) else {
            continue;
        };
        let have = version(locked);
        // A floor of its own series decides; a series without one must be newer than all floors.
        let of_series =
            floors.iter().map(|floor| version(floor)).find(|floor| series(*floor) == series(have));
        let floor =
            of_series.or(floors.iter().map(|floor| version(floor)).max()).unwrap_or_default();
        if have < floor {
            problems.push(format!(
                "Cargo.lock: {name} {locked} has known holes; see FLOORS in tests/tidy.rs"
            ));
        }
    }
    problems
}

#[test]
fn no_crate_is_older_than_its_floor() {
    hold(&weak_crates(&fs::read_to_string(top().join("Cargo.lock")).unwrap()));
}

#[test]
fn old_and_banned_crates_are_found() {
    let check = |name: &str, version: &str, problems: usize| {
        let lock = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        assert_eq!(weak_crates(&lock).len(), problems, "{name} {version}");
    };
    check("h2", "0.4.15", 1);
    check("h2", "0.4.16", 0);
    check("h2", "0.3.27", 1);
    check("h2", "0.5.0", 0);
    check("rand", "0.8.5", 1);
    check("rand", "0.8.6", 0);
    check("rand", "0.9.2", 1);
    check("rand", "0.10.1", 0);
    check("yamux", "0.12.1", 1);
    check("tar", "9.0.0", 1);
    check("serde", "0.1.0", 0);
}
