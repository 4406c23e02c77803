//! The configuration as its users meet it: the reference file, and a program that complains well.

use std::process::{Command, Output};

use estuary::config::Config;
use serde_json::Value;

use crate::harness::program;

/// Most keys there may be; a value that nobody asked to change is a constant.
const KEYS_MAX: usize = 80;

fn reference() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml")).unwrap()
}

/// All keys with their sections; those that are not set have no value.
fn keys(config: &Config) -> Vec<(String, Value)> {
    let Value::Object(sections) = serde_json::to_value(config).unwrap() else { panic!() };
    let mut keys = Vec::new();
    for (name, section) in sections {
        match section {
            Value::Object(section) => {
                keys.extend(
                    section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)),
                );
            }
            value => keys.push((name, value)),
        }
    }
    keys
}

#[test]
fn the_reference_holds_the_defaults() {
    let config: Config = toml::from_str(&reference()).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn the_reference_has_every_key_with_a_sentence() {
    let keys = keys(&Config::default());
    assert!(keys.len() < KEYS_MAX, "{} keys", keys.len());
    let text = reference();
    let mut section = String::new();
    let mut found = Vec::new();
    let mut before = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned() + ".";
        }
        let set = line.strip_prefix("# ").unwrap_or(line);
        if let Some((key, _)) = set.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            assert!(before.starts_with("# ") && before.ends_with('.'), "{section}{key}: {before}");
            found.push((format!("{section}{key}"), line.starts_with('#')));
        }
        before = line;
    }
    for (key, value) in keys {
        let at = found.iter().position(|(name, _)| *name == key);
        let (_, commented) =
            found.remove(at.unwrap_or_else(|| panic!("{key} is not in config.toml")));
        // What is unset by default stands there as a comment.
        assert_eq!(commented, value.is_null(), "{key}");
    }
    assert!(found.is_empty(), "no such keys: {found:?}");
    // And the comments are values that would do.
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(set) if set.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => set,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config: Config = toml::from_str(&all).unwrap();
    assert_eq!(config.gateway.listen, Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.gateway.url.as_deref(), Some("https://gateway.example"));
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
        let mut command = program(self.0.path());
        command.args(args);
        change(&mut command);
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(stdout.is_empty(), "results alone go to standard output: {stdout:?}");
        (status.code(), String::from_utf8(stderr).unwrap())
    }
}

#[test]
fn check_config_says_what_is_wrong_and_makes_nothing() {
    let home = Home::new();
    let (code, said) = home.run(&["check-config"], |_| {});
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is good"), "{said}");
    let (code, said) = home.run(&["check-config"], |command| {
        command.env("ESTUARY_HTTP__GRACE_MS", "soon");
    });
    assert_eq!(code, Some(64));
    let expected = r#"estuary: http.grace_ms = "soon" (ESTUARY_HTTP__GRACE_MS): "#;
    assert!(said.starts_with(expected), "{said}");
    let (code, said) = home.run(&["serve", "--config", "absent.toml"], |_| {});
    assert_eq!(code, Some(64));
    assert!(said.contains("absent.toml"), "{said}");
    assert_eq!(std::fs::read_dir(home.0.path()).unwrap().count(), 0);
}

#[test]
fn what_only_reads_makes_no_store() {
    let home = Home::new();
    let cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let (code, said) = home.run(&["status", "--json"], |_| {});
    assert_eq!(code, Some(3));
    assert!(said.contains("no node runs") && said.contains("estuary serve"), "{said}");
    let reads: [&[&str]; 6] =
        [&["cat", cid], &["ls", cid], &["pin", "ls"], &["fsck"], &["key", "ls"], &["gc"]];
    for args in reads {
        let (code, said) = home.run(args, |_| {});
        assert_eq!(code, Some(1), "{args:?}");
        assert!(said.contains("no store"), "{said}");
    }
    assert_eq!(std::fs::read_dir(home.0.path()).unwrap().count(), 0);
}
