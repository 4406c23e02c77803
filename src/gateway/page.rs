//! What the pages that we make ourselves have in common: one look, in light and dark, on narrow
//! screens and wide ones, without any script.

use http::HeaderValue;

/// A page needs its own style and nothing else.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// The media type of pages.
pub(super) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b2a32;--soft:#4d606a;--line:#dbe3e7;--back:#fff;--band:#f3f7f9;--link:#0a5a87}\
@media(prefers-color-scheme:dark){:root{--ink:#e4ecef;--soft:#a3b5be;--line:#2d3b43;--back:#11191d;--band:#19242a;--link:#82c8f2}}\
*{box-sizing:border-box}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:0}\
main{max-width:60rem;margin:0 auto;padding:2rem 1rem}\
h1{font-size:1.25rem;line-height:1.35;margin:0 0 1rem;overflow-wrap:anywhere}h1 span{font-weight:400}h2{font-size:1rem;margin:1.5rem 0 .5rem}ul{padding-left:1.25rem}\
a{color:var(--link)}a:focus-visible{outline:2px solid;outline-offset:2px}\
code{font:.875em/1.5 ui-monospace,monospace;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}\
caption{text-align:left;color:var(--soft);padding-bottom:1rem;overflow-wrap:anywhere}\
th{font-weight:600;color:var(--soft)}\
th,td{text-align:left;padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}\
tbody tr:hover{background:var(--band)}\
th:last-child,td:last-child{text-align:right;white-space:nowrap;padding-right:0}\
td:nth-child(2){font:.875em ui-monospace,monospace;white-space:nowrap}\
nav{margin:1rem 0}\
.status,.soft{color:var(--soft);margin:0 0 .5rem}\
.detail{background:var(--band);border-left:3px solid var(--line);padding:.75rem 1rem;margin:1.25rem 0}\
dl{margin:0 0 1rem}dt{color:var(--soft)}dd{margin:0 0 .5rem;overflow-wrap:anywhere}\
.tree ul{list-style:none;margin:0;padding-left:1.25rem;border-left:1px solid var(--line)}\
.tree>ul{padding-left:0;border-left:0}.tree li{padding:.1rem 0;overflow-wrap:anywhere}\
.tree .key{color:var(--soft)}\
@media(max-width:36rem){main{padding:1rem .75rem}th:nth-child(2),td:nth-child(2){display:none}}";

/// Writes the head of a page, up to the beginning of what it says. The title is written by the
/// caller, escaped.
pub(super) fn begin(out: &mut String, title: impl FnOnce(&mut String)) {
    out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    out.push_str("<title>");
    title(out);
    out.push_str("</title>\n<style>");
    out.push_str(STYLE);
    out.push_str("</style>\n</head>\n<body>\n<main>\n");
}

/// Writes the end of a page.
pub(super) fn end(out: &mut String) {
    out.push_str("</main>\n</body>\n</html>\n");
}
