//! The page that tells a person what went wrong, in plain words, and offers what may help.
//!
//! Pure: whoever has an error says what it is; everything is escaped here, and long texts are cut.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode, header};

use super::{escape, page};

/// How much of a text is shown, in characters.
const TEXT_CHARS_MAX: usize = 600;

/// Something that may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// A sentence.
    Say(Cow<'static, str>),
    /// A link: where it leads, and what it says. An empty one leads to the same page again.
    Go(String, Cow<'static, str>),
    /// Something to be copied whole, and what it is.
    Copy(Cow<'static, str>, String),
}

/// Whether a page is wanted: `Accept` names HTML, as that of browsers does. What says `*/*` alone
/// is a program, and gets a line of text.
#[must_use]
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|range| {
                let name = range.split(';').next().unwrap_or_default();
                name.trim().eq_ignore_ascii_case("text/html")
            })
        })
    })
}

/// Says what a page is, and that it needs its own style only.
pub fn put_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, page::MEDIA_TYPE);
    headers.insert(header::CONTENT_SECURITY_POLICY, page::POLICY);
}

/// The page: its status in plain words, the text that says what exactly is wrong, and advice.
#[must_use]
pub fn render(status: StatusCode, text: &str, advice: &[Advice]) -> String {
    let (title, meaning) = words(status);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut out = String::with_capacity(4096);
    page::begin(&mut out, |out| {
        out.push_str(title);
        out.push_str(" (");
        out.push_str(status.as_str());
        out.push(')');
    });
    for part in ["<p class=\"status\">", status.as_str(), " ", reason, "</p>\n<h1>", title] {
        out.push_str(part);
    }
    out.push_str("</h1>\n");
    if !meaning.is_empty() {
        for part in ["<p>", meaning, "</p>\n"] {
            out.push_str(part);
        }
    }
    out.push_str("<p class=\"detail\"><code>");
    escape::html(&mut out, &plain(text));
    out.push_str("</code></p>\n");
    if !advice.is_empty() {
        out.push_str("<h2>What may help</h2>\n<ul>\n");
        advice.iter().for_each(|advice| item(&mut out, advice));
        out.push_str("</ul>\n");
    }
    page::end(&mut out);
    out
}

fn item(out: &mut String, advice: &Advice) {
    out.push_str("<li>");
    match advice {
        Advice::Say(text) => escape::html(out, text),
        Advice::Go(to, text) => {
            out.push_str("<a href=\"");
            escape::html(out, to);
            out.push_str("\">");
            escape::html(out, &plain(text));
            out.push_str("</a>");
        }
        Advice::Copy(label, text) => {
            escape::html(out, label);
            out.push_str(": <code translate=\"no\">");
            escape::html(out, text);
            out.push_str("</code>");
        }
    }
    out.push_str("</li>\n");
}

/// A text on one line, cut where it is very long, without what could reorder or hide it.
pub(super) fn plain(text: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown: String =
        text.chars().take(TEXT_CHARS_MAX).map(|c| if hides(c) { ' ' } else { c }).collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// What a status means to a person: a title, and a sentence or two.
fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        400 => (
            "This address cannot be read",
            "Something in the link makes no sense here. Check that it was copied whole.",
        ),
        401 | 403 => ("Not allowed", "This needs a permission that came not with the request."),
        404 => (
            "Nothing was found here",
            "Nobody who was asked has this content, or the path leads nowhere in it.",
        ),
        405 => ("Content here is read only", ""),
        406 => (
            "Not available in this form",
            "The content is there, but is not of the kind that was asked for.",
        ),
        410 => ("This content is not served here", ""),
        412 => (
            "Not as it was asked for",
            "The request made a condition, such as that this be on the gateway already, or be as it was.",
        ),
        414 => ("The address is too long", ""),
        416 => ("Beyond the end", "The part that was asked for lies outside of the content."),
        421 => ("Another name is wanted", "This address is reached by another host name."),
        422 => (
            "This content cannot be shown",
            "Its blocks arrived as they were made, but they do not follow their own format.",
        ),
        429 => ("Too many requests", "Please wait for a moment."),
        451 => ("Unavailable for legal reasons", ""),
        500 => ("The gateway failed", "That is not your fault. Its operator finds why in the log."),
        501 => ("Not served", "This is understood, but cannot be had here in this way."),
        502 => (
            "The content could not be fetched",
            "Whoever has it could not be reached, or gave something else.",
        ),
        503 => ("The gateway is busy", "Please wait for a moment."),
        504 => (
            "The content did not come in time",
            "Whoever has it may be offline or slow. It often helps to try again.",
        ),
        _ => ("The request failed", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped_and_cut() {
        let evil = format!("<script>\u{202e}\n\"'&{}", "x".repeat(5000));
        let advice = [
            Advice::Go("\"><script>".into(), "<b>".into()),
            Advice::Copy("<i>".into(), "<u>".into()),
            Advice::Say("<s>".into()),
        ];
        let page = render(StatusCode::NOT_FOUND, &evil, &advice);
        for tag in ["<script", "<b>", "<i>", "<u>", "<s>", "\u{202e}", "href=\"\""] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page.len() < 8000);
        assert!(page.contains("404 Not Found") && page.contains("lang=\"en\""));
    }

    #[test]
    fn browsers_want_a_page_and_programs_do_not() {
        let check = |accept: Option<&str>, want| {
            let headers = accept.map(|value| (header::ACCEPT, value.parse().unwrap()));
            assert_eq!(is_wanted(&headers.into_iter().collect()), want, "{accept:?}");
        };
        check(Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), true);
        check(Some("TEXT/HTML ; q=0.5"), true);
        check(Some("*/*"), false);
        check(Some("application/json"), false);
        check(None, false);
    }
}
