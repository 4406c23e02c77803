//! Lists as files that come, change and go while they are in use.

use std::fs;
use std::path::Path;

use super::*;

fn open(paths: &[&Path]) -> Result<(Denylist, Metrics), Error> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let metrics = metrics();
    let config = Config { paths, ..Config::default() };
    Ok((Denylist::open(&config, metrics.clone())?, metrics))
}

/// Looks until what is written has settled.
fn look(denylist: &Denylist) {
    let shared = denylist.0.as_ref().unwrap();
    // And once more, for what was found must stay so.
    (0..3).for_each(|_| shared.look());
}

fn blocks(denylist: &Denylist, domain: &str) -> bool {
    denylist.check_name(domain, &[]).is_err()
}

fn stale(metrics: &Metrics, list: &str) -> i64 {
    metrics.stale.with_label_values(&[list]).get()
}

#[test]
fn lines_that_are_added_or_removed_count_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.deny");
    fs::write(&path, "/ipns/a.example\n").unwrap();
    let (list, metrics) = open(&[&path]).unwrap();
    assert!(blocks(&list, "a.example") && !blocks(&list, "b.example"));
    fs::write(&path, "/ipns/a.example\n/ipns/b.example\nnonsense\n").unwrap();
    // Not while it may still be written, but at the next look.
    list.0.as_ref().unwrap().look();
    assert!(!blocks(&list, "b.example"));
    list.0.as_ref().unwrap().look();
    assert!(blocks(&list, "a.example") && blocks(&list, "b.example"));
    assert_eq!(metrics.rules.with_label_values(&["own"]).get(), 2);
    assert_eq!(metrics.bad_lines.with_label_values(&["own"]).get(), 1);
    fs::write(&path, "/ipns/b.example\n").unwrap();
    look(&list);
    assert!(!blocks(&list, "a.example") && blocks(&list, "b.example"));
}

#[test]
fn a_swapped_file_counts_even_with_the_size_and_time_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (path, new) = (dir.path().join("own.deny"), dir.path().join("new"));
    fs::write(&path, "/ipns/a.example\n").unwrap();
    let (list, _) = open(&[&path]).unwrap();
    fs::write(&new, "/ipns/b.example\n").unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::File::options().append(true).open(&new).unwrap().set_modified(time).unwrap();
    fs::rename(&new, &path).unwrap();
    look(&list);
    assert!(!blocks(&list, "a.example") && blocks(&list, "b.example"));
}

#[test]
fn what_cannot_be_read_stays_in_force_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.deny");
    let good = "/ipns/a.example\n";
    fs::write(&path, good).unwrap();
    let (list, metrics) = open(&[&path]).unwrap();
    for bad in ["", "no header\n---\n", "version: 9\n---\n"] {
        fs::write(&path, bad).unwrap();
        look(&list);
        assert!(blocks(&list, "a.example"), "{bad:?}");
        assert_eq!(stale(&metrics, "own"), 1, "{bad:?}");
        fs::write(&path, good).unwrap();
        look(&list);
        assert_eq!(stale(&metrics, "own"), 0, "after {bad:?}");
    }
    fs::remove_file(&path).unwrap();
    look(&list);
    assert!(blocks(&list, "a.example"));
    assert_eq!(stale(&metrics, "own"), 1);
    fs::write(&path, "# withdrawn\n").unwrap();
    look(&list);
    assert!(!blocks(&list, "a.example"));
    assert_eq!(stale(&metrics, "own"), 0);
}

#[test]
fn a_file_that_is_written_without_a_pause_is_read_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.deny");
    let mut text = String::from("/ipns/a.example\n");
    fs::write(&path, &text).unwrap();
    let (list, _) = open(&[&path]).unwrap();
    for line in 0..6 {
        text += &format!("/ipns/{line}.example\n");
        fs::write(&path, &text).unwrap();
        list.0.as_ref().unwrap().look();
    }
    assert!(blocks(&list, "0.example"));
}

#[test]
fn at_the_start_a_list_that_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.deny");
    let told = open(&[&missing]).unwrap_err().to_string();
    assert!(told.contains("missing.deny cannot be used: No such file"), "{told}");
    fs::write(&missing, "version: 2\n---\n").unwrap();
    assert!(open(&[&missing]).is_err());
    // One in a directory as well.
    assert!(open(&[dir.path()]).is_err());
}

#[test]
fn a_directory_holds_lists_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("b.deny", "!/ipns/a.example\n");
    write("a.deny", "/ipns/a.example\n/ipns/b.example\n");
    write("notes.txt", "/ipns/c.example\n");
    let (list, metrics) = open(&[dir.path()]).unwrap();
    assert!(!blocks(&list, "a.example") && blocks(&list, "b.example"));
    assert!(!blocks(&list, "c.example"));
    write("c.deny", "/ipns/c.example\n");
    fs::remove_file(dir.path().join("b.deny")).unwrap();
    look(&list);
    assert!(blocks(&list, "a.example") && blocks(&list, "c.example"));
    // That all are gone is more likely a mishap than meant.
    let name = dir.path().file_stem().unwrap().to_str().unwrap().to_owned();
    for name in ["a.deny", "c.deny"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    look(&list);
    assert!(blocks(&list, "a.example") && blocks(&list, "c.example"));
    assert_eq!(stale(&metrics, &name), 1);
}

#[test]
fn more_lists_than_there_may_be_change_nothing_and_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let write = |n: u32| {
        let text = format!("/ipns/{n}.example\n");
        fs::write(dir.path().join(format!("{n:02}.deny")), text).unwrap();
    };
    (1..65).for_each(write);
    let (list, metrics) = open(&[dir.path()]).unwrap();
    let name = dir.path().file_stem().unwrap().to_str().unwrap().to_owned();
    write(0);
    look(&list);
    assert_eq!(stale(&metrics, &name), 1);
    assert!(blocks(&list, "1.example") && blocks(&list, "64.example"));
    fs::remove_file(dir.path().join("01.deny")).unwrap();
    look(&list);
    assert_eq!(stale(&metrics, &name), 0);
    assert!(blocks(&list, "0.example") && !blocks(&list, "1.example"));
    assert!(open(&[dir.path(), dir.path()]).is_err());
}

#[test]
fn where_nothing_is_configured_nothing_is_asked() {
    let (list, _) = open(&[]).unwrap();
    assert!(list.is_off());
    assert!(!blocks(&list, "a.example"));
}
