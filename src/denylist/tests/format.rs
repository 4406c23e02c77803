//! How lists are written, and what becomes of what is written badly.

use proptest::prelude::*;

use super::*;
use crate::denylist::line::{Reach, Rule, Subject};

/// The rules' domains that a list blocks, and the numbers of the lines that were passed over.
fn read(text: &[u8]) -> Result<(usize, Vec<u32>), String> {
    let mut bad = Vec::new();
    let list = List::read(text, |line, _| bad.push(line)).map_err(|error| error.to_string())?;
    assert_eq!(list.bad_lines(), bad.len() as u64);
    Ok((list.index.len(), bad))
}

#[test]
fn line_ends_marks_comments_and_blanks_are_as_editors_leave_them() {
    let check = |text: &[u8], want: (usize, Vec<u32>)| {
        assert_eq!(read(text), Ok(want), "{:?}", String::from_utf8_lossy(text));
    };
    check(b"", (0, vec![]));
    check(b"/ipns/a.example\n", (1, vec![]));
    check(b"/ipns/a.example", (1, vec![]));
    check(b"/ipns/a.example\r\n\r\n# x\r\n/ipns/b.example\r\n", (2, vec![]));
    check(b"\xef\xbb\xbf/ipns/a.example\n", (1, vec![]));
    check(b"\xef\xbb\xbfversion: 1\r\n---\r\n/ipns/a.example\r\n", (1, vec![]));
    check(b"---\n/ipns/a.example\n", (1, vec![]));
    check(b"---", (0, vec![]));
    check(b"version: 1\n---", (0, vec![]));
    check(b"  /ipns/a.example   hint=1\n", (1, vec![]));
}

#[test]
fn a_bad_line_is_passed_over_and_told_by_its_number() {
    let check = |text: &str, want: (usize, Vec<u32>)| assert_eq!(read(text.as_bytes()), Ok(want));
    check("/ipfs/nonsense\n/ipns/a.example\n", (1, vec![1]));
    check("version: 1\n---\n/ipns/a.example\n\n/path\n//zz\n", (1, vec![5, 6]));
    // Cut off in the middle of a line.
    check("/ipns/a.example\n/ipfs/bafybeihvvulpp4evxj7x7ar", (1, vec![2]));
    check("/ipns/a.example/%ff\n", (0, vec![1]));
    check("!\n/ipns/\n/ipfs/\n//\n", (0, vec![1, 2, 3, 4]));
    // SHA1 and a digest of another length than it says.
    check("//5drNu81uhrFLRiS4bxWgAkpydaLUPW\n", (0, vec![1]));
    assert_eq!(read(b"/ipns/a.example\n/ipns/b.\xff\n").unwrap(), (1, vec![2]));
    assert_eq!(read(b"\0\0\0\n/ipns/a.example\n").unwrap(), (1, vec![1]));
}

#[test]
fn long_lines_and_long_headers_are_bounded() {
    let mut text = b"/ipns/a.example/".to_vec();
    text.resize(3 << 20, b'a');
    text.extend_from_slice(b"\n/ipns/b.example\n");
    assert_eq!(read(&text), Ok((1, vec![1])));
    // A header that does not end in time is none, so its lines are lines.
    let mut text = b"version: 1\n".to_vec();
    text.extend(std::iter::repeat_n(b"# more\n", 200_000).flatten());
    text.extend_from_slice(b"---\n/ipns/a.example\n");
    assert_eq!(read(&text), Ok((1, vec![1, 200_002])));
}

#[test]
fn a_list_that_cannot_be_understood_is_an_error() {
    let check = |text: &str, want: &str| {
        let told = read(text.as_bytes()).unwrap_err();
        assert!(told.contains(want), "{text:?}: {told}");
    };
    check("version: 2\n---\n", "of a version that is not known");
    check("/ipns/a.example\n---\n", "not YAML");
    check("just words\n---\n", "not YAML");
    check("  version: 1\n---\n", "begins within");
    // Fields that nobody knows are no reason.
    let header = "\
        # about\nname: \"x: y\"\ndescription: >\n  many\n  lines: of text\nauthor: me@example\n\
        tags:\n- a\n- b\nhints:\n  other: 1\nextra: {a: [1, 2]}\n---\n/ipns/a.example\n";
    assert_eq!(read(header.as_bytes()), Ok((1, vec![])));
}

#[test]
fn rules_are_read_as_they_are_meant() {
    let check = |text: &str, reach: Reach, verdict: Verdict| {
        let rule = line::parse(text, Verdict::Gone).unwrap().unwrap();
        let subject = Subject::Domain("a.example".into());
        assert_eq!(rule, Rule { subject, reach, verdict }, "{text}");
    };
    check("/ipns/a.example", Reach::Exactly(String::new()), Verdict::Gone);
    check("/ipns/a.example/", Reach::Exactly(String::new()), Verdict::Gone);
    check("/ipns/a.example/*", Reach::Below(String::new()), Verdict::Gone);
    check("/ipns/a.example/b/c/", Reach::Exactly("b/c".into()), Verdict::Gone);
    check("/ipns/a.example/b/*", Reach::Below("b".into()), Verdict::Gone);
    check("-/ipns/a.example/b*", Reach::Below("b".into()), Verdict::Allowed);
    check("/ipns/A-example x", Reach::Exactly(String::new()), Verdict::Gone);
    assert_eq!(line::parse("# /ipns/a.example", Verdict::Gone), Ok(None));
}

proptest! {
    #[test]
    fn whatever_a_list_holds_it_is_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        lines in "([!+-]?(/ipfs/|/ipns/|//|/)?[a-zA-Z0-9/%*.:=\\-]{0,60}[ \n]){0,10}",
    ) {
        for text in [&bytes, lines.as_bytes()] {
            let mut told = 0;
            if let Ok(list) = List::read(text, |_, _| told += 1) {
                prop_assert_eq!(list.bad_lines(), told);
            }
        }
    }
}
