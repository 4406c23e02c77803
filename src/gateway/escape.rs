//! Text made safe for where it goes: URLs, HTML, header values.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode, utf8_percent_encode};

/// What Go's `url.PathEscape` escapes in a segment, so that links equal those of other gateways;
/// and `&`, which would begin a reference where the segment stands in HTML.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b';')
    .add(b',')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'\'')
    .add(b'!')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b'&');
/// What may not stand in a query as it is; escapes that are there already stay.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');
/// What may not stand in a URI as it is, and the backslash, which browsers take for a slash;
/// escapes that are there already stay.
const URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// Everything but the `attr-char` of RFC 8187.
const ATTRIBUTE: &AsciiSet = &SEGMENT.add(b'=').add(b':').add(b'@');

/// Appends a path segment, percent-encoded.
pub(super) fn segment(out: &mut String, text: &[u8]) {
    out.extend(percent_encode(text, SEGMENT));
}

/// Appends a query, keeping the escapes it has.
pub(super) fn query(out: &mut String, text: &[u8]) {
    out.extend(percent_encode(text, QUERY));
}

/// Appends a part of a URI, keeping the escapes it has, their hex digits in upper case.
pub(super) fn uri(out: &mut String, text: &str) {
    let encoded: Cow<'_, str> = utf8_percent_encode(text, URI).into();
    out.push_str(&upper_case_escapes(&encoded));
}

/// A path with one slash at its beginning: two would begin the name of a host.
pub(super) fn one_slash(path: &str) -> &str {
    let extra = path.bytes().take_while(|byte| *byte == b'/').count().saturating_sub(1);
    path.get(extra..).unwrap_or(path)
}

/// Appends the extended value of a header parameter (RFC 8187).
pub(super) fn attribute(out: &mut String, text: &[u8]) {
    out.extend(percent_encode(text, ATTRIBUTE));
}

/// The same text with the hex digits of its escapes in upper case.
fn upper_case_escapes(text: &str) -> String {
    let mut digits_left = 0;
    text.chars()
        .map(|c| match (c, digits_left) {
            ('%', _) => {
                digits_left = 2;
                c
            }
            (_, 0) => c,
            _ => {
                digits_left -= 1;
                c.to_ascii_uppercase()
            }
        })
        .collect()
}

/// Appends text for HTML, in content or in a quoted attribute.
pub(super) fn html(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>', '&', '"', '\'']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes().first() {
            Some(b'<') => "&lt;",
            Some(b'>') => "&gt;",
            Some(b'&') => "&amp;",
            Some(b'"') => "&#34;",
            _ => "&#39;",
        });
        rest = special.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    #[test]
    fn html_and_segments_are_escaped() {
        let mut out = String::new();
        super::html(&mut out, "a<b>&\"'ź");
        assert_eq!(out, "a&lt;b&gt;&amp;&#34;&#39;ź");
        out.clear();
        super::segment(&mut out, "ą b/c%".as_bytes());
        assert_eq!(out, "%C4%85%20b%2Fc%25");
    }
}
