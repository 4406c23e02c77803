//! A page that shows a node of DAG-JSON or DAG-CBOR to a person: its values as a tree, its links to
//! be followed. No script. All links are relative, so they lead on at whatever place it was asked.

use std::fmt::{Display, Write};

use http::{HeaderValue, Response, StatusCode, header};
use ipld_core::ipld::Ipld;

use crate::block::{Block, Cid, codec};
use crate::gateway::body::Body;
use crate::gateway::error::Error;
use crate::gateway::request::{ContentRequest, Format};
use crate::gateway::resolve::Named;
use crate::gateway::{escape, headers, page};
use crate::ipld;

use super::directory;

/// Stands in the entity tag: to be changed whenever the page looks different.
const VERSION: &str = "1";
/// Largest block whose values are shown, in bytes. Each value takes more in memory than in the
/// block, and nobody reads that many.
const BLOCK_BYTES_MAX: usize = 512 << 10;
/// Most values that are shown.
const VALUES_MAX: usize = 2000;
/// How much of a text is shown, in characters.
const TEXT_CHARS_MAX: usize = 1000;
/// How many bytes are shown.
const BYTES_SHOWN_MAX: usize = 32;

/// Whether a page is shown for content of this CID: where a browser asks, and nothing says that it
/// wants the bytes.
pub(super) fn is_wanted(request: &ContentRequest, cid: &Cid) -> bool {
    request.wants.html
        && !request.wants.download
        && request.wants.format == Format::Default
        && matches!(cid.codec(), codec::DAG_JSON | codec::DAG_CBOR)
}

/// The entity tag of the page.
pub(super) fn etag(named: &Named) -> HeaderValue {
    headers::quoted(&[b"DagIndex-", VERSION.as_bytes(), b"_CID-", &named.text])
}

/// Answers with the page: with a slash at the end of its path, since its links are relative.
pub(super) fn preview(
    request: &ContentRequest,
    named: &Named,
    block: &Block,
) -> Result<Response<Body>, Error> {
    if !request.path.trailing_slash && !request.wants.slash_optional {
        return directory::to_slash(request);
    }
    let html = render(request, named, block)?;
    let mut headers = headers::content(request, named, etag(named), headers::Kind::Page);
    headers.insert(header::CONTENT_TYPE, page::MEDIA_TYPE);
    headers.insert(header::CONTENT_SECURITY_POLICY, page::POLICY);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(html.len()));
    headers::put_nosniff(&mut headers);
    let body = if request.wants.head { Body::empty() } else { Body::full(html) };
    Ok(headers::response(StatusCode::OK, headers, body))
}

fn render(request: &ContentRequest, named: &Named, block: &Block) -> Result<String, Error> {
    ipld::codec::validate(block.cid().codec(), block.data())?;
    let cid = String::from_utf8_lossy(&named.text);
    let (codec, format) = match block.cid().codec() {
        codec::DAG_JSON => ("DAG-JSON (0x0129)", "dag-json"),
        _ => ("DAG-CBOR (0x71)", "dag-cbor"),
    };
    let mut out = String::with_capacity(8 << 10);
    page::begin(&mut out, |out| {
        let _ = write!(out, "{format} {cid}");
    });
    out.push_str("<h1>Node <span>");
    escape::html(&mut out, &request.path.original);
    out.push_str("</span></h1>\n<dl>\n<dt>CID</dt><dd><code translate=\"no\">");
    escape::html(&mut out, &cid);
    let size = block.data().len();
    let _ = write!(out, "</code></dd>\n<dt>Codec</dt><dd>{codec}</dd>\n");
    let _ = write!(out, "<dt>Size</dt><dd>{size} bytes</dd>\n</dl>\n<nav aria-label=\"Formats\">");
    if request.asked_segments > 0 {
        out.push_str("<a href=\"../\">Up</a> · ");
    }
    let _ = writeln!(
        out,
        "<a href=\"?format={format}&amp;download=true\">Save as {format}</a> · \
         <a href=\"?format=raw\">Block</a> · <a href=\"?format=car\">CAR</a></nav>"
    );
    let value = (size <= BLOCK_BYTES_MAX).then(|| decode(block)).flatten();
    match value {
        Some(value) => {
            out.push_str("<section class=\"tree\" aria-label=\"Values\">\n<ul>\n<li>");
            Tree { out: &mut out, left: VALUES_MAX }.value(&value, &mut Some("./".to_owned()));
            out.push_str("</li>\n</ul>\n</section>\n");
        }
        None => out.push_str("<p>Its values are too many or too large to be shown here.</p>\n"),
    }
    page::end(&mut out);
    Ok(out)
}

fn decode(block: &Block) -> Option<Ipld> {
    match block.cid().codec() {
        codec::DAG_JSON => serde_ipld_dagjson::from_slice(block.data()).ok(),
        _ => serde_ipld_dagcbor::from_slice(block.data()).ok(),
    }
}

/// Writes values. Well-formed blocks nest no deeper than [`ipld::codec::DEPTH_MAX`].
struct Tree<'a> {
    out: &'a mut String,
    /// How many more are shown.
    left: usize,
}

impl Tree<'_> {
    /// Writes a value; `path` leads to it from the page, where a path can.
    fn value(&mut self, value: &Ipld, path: &mut Option<String>) {
        match value {
            Ipld::Null => self.out.push_str("null"),
            Ipld::Bool(yes) => self.out.push_str(if *yes { "true" } else { "false" }),
            Ipld::Integer(number) => {
                let _ = write!(self.out, "{number}");
            }
            Ipld::Float(number) => {
                let _ = write!(self.out, "{number:?}");
            }
            Ipld::String(text) => self.text(text),
            Ipld::Bytes(bytes) => self.bytes(bytes),
            Ipld::Link(cid) => self.link(cid, path.as_deref()),
            Ipld::List(items) => {
                let _ = write!(self.out, "<span class=\"soft\">list of {}</span>", items.len());
                let keyed = items.iter().enumerate();
                self.children(keyed.map(|(at, item)| (at.to_string(), item)), path);
            }
            Ipld::Map(entries) => {
                let _ = write!(self.out, "<span class=\"soft\">map of {}</span>", entries.len());
                self.children(entries.iter().map(|(key, value)| (key.clone(), value)), path);
            }
        }
    }

    fn children<'b>(
        &mut self,
        children: impl ExactSizeIterator<Item = (String, &'b Ipld)>,
        path: &mut Option<String>,
    ) {
        if children.len() == 0 {
            return;
        }
        self.out.push_str("\n<ul>\n");
        for (key, value) in children {
            let Some(left) = self.left.checked_sub(1) else {
                self.out.push_str("<li>… there are more than can be shown here</li>\n");
                break;
            };
            self.left = left;
            self.out.push_str("<li><span class=\"key\">");
            self.cut(&key);
            self.out.push_str(":</span> ");
            let length = path.as_ref().map_or(0, String::len);
            // No path leads by an empty name, nor by one that is a step to a browser.
            let mut below = path.take_if(|_| !matches!(key.as_str(), "" | "." | ".."));
            if let Some(below) = &mut below {
                escape::segment(below, key.as_bytes());
                below.push('/');
            }
            self.value(value, &mut below);
            if let Some(mut back) = below {
                back.truncate(length);
                *path = Some(back);
            }
            self.out.push_str("</li>\n");
        }
        self.out.push_str("</ul>\n");
    }

    fn link(&mut self, cid: &impl Display, path: Option<&str>) {
        // A link at the top has no name that leads through it.
        match path.and_then(|path| path.strip_suffix('/')).filter(|path| path.contains('/')) {
            Some(path) => {
                self.out.push_str("<a translate=\"no\" href=\"");
                self.out.push_str(path);
                let _ = write!(self.out, "\"><code>{cid}</code></a>");
            }
            None => {
                let _ = write!(self.out, "<code translate=\"no\">{cid}</code>");
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        self.cut(text);
        self.out.push('"');
    }

    fn cut(&mut self, text: &str) {
        match text.char_indices().nth(TEXT_CHARS_MAX) {
            Some((end, _)) => {
                escape::html(self.out, text.get(..end).unwrap_or_default());
                self.out.push('…');
            }
            None => escape::html(self.out, text),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let _ = write!(self.out, "<span class=\"soft\">{} bytes</span> <code>", bytes.len());
        for byte in bytes.iter().take(BYTES_SHOWN_MAX) {
            let _ = write!(self.out, "{byte:02x}");
        }
        self.out.push_str(if bytes.len() > BYTES_SHOWN_MAX { "…</code>" } else { "</code>" });
    }
}
