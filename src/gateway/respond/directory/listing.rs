//! The page that lists a directory: no script, legible in light and dark, and with the links that
//! other gateways' pages have.

use std::fmt::Write;

use percent_encoding::percent_decode_str;

use crate::gateway::request::ContentRequest;
use crate::gateway::resolve::Named;
use crate::gateway::site::Site;
use crate::gateway::{escape, page};
use crate::ipld::unixfs::directory::Entry;

use super::Page;

/// Stands in the entity tag: to be changed whenever the page looks different.
pub(super) const VERSION: &str = "2";

/// Longest name that is linked by name; what has a longer one is linked by its CID.
pub(super) const NAME_BYTES_MAX: usize = 1024;
/// How much of a longer name is shown, in characters.
const LONG_NAME_CHARS: usize = 200;

/// Bytes of markup around one entry, roughly.
const ENTRY_BYTES: usize = 320;

/// Writes the page.
pub(super) fn render(request: &ContentRequest, named: &Named, listed: &Page) -> String {
    let links = Links::of(request, named);
    let entries_bytes = listed.entries.len() * (ENTRY_BYTES + links.base.len());
    let mut out = String::with_capacity(4096 + entries_bytes);
    page::begin(&mut out, |out| title(out, request, &links));
    out.push_str("<h1>Index of <span>");
    breadcrumbs(&mut out, request, &links);
    out.push_str("</span></h1>\n<table>\n<caption>CID: <code translate=\"no\">");
    escape::html(&mut out, &String::from_utf8_lossy(&named.text));
    out.push_str("</code></caption>\n<thead><tr><th scope=\"col\">Name</th>");
    out.push_str("<th scope=\"col\">CID</th><th scope=\"col\">Size</th></tr></thead>\n<tbody>\n");
    if request.asked_segments > 0 {
        out.push_str("<tr><td><a href=\"");
        out.push_str(&links.base);
        out.push_str("..\">..</a> <span class=\"soft\">the folder above</span></td><td></td><td></td></tr>\n");
    }
    let mut escaped = String::new();
    for entry in &listed.entries {
        row(&mut out, &mut escaped, &links, entry);
    }
    out.push_str("</tbody>\n</table>\n");
    pages(&mut out, listed);
    page::end(&mut out);
    out
}

/// Where the page's links lead, by the kind of site that it is on.
struct Links {
    /// `ipfs` or `ipns`, the namespace of the breadcrumbs.
    namespace: &'static str,
    /// The root as it is shown, escaped for HTML.
    root: String,
    /// What the links of the breadcrumbs begin with; a slash and names follow it.
    crumbs: String,
    /// What follows it in the link to the root.
    root_end: &'static str,
    /// The directory's own path, with a slash at its end.
    base: String,
    /// What links to content by its CID begin with; none where no gateway is known, for a DNSLink
    /// domain need not be one.
    by_cid: Option<String>,
}

/// Shows what a CID is, for sites that have no gateway beside them.
const CID_INSPECTOR: &str = "https://cid.ipfs.tech/#";

impl Links {
    fn of(request: &ContentRequest, named: &Named) -> Self {
        let (namespace, root) = root(request, named);
        let mut path = String::from("/");
        for segment in request.asked() {
            escape::segment(&mut path, segment.as_bytes());
            path.push('/');
        }
        let mut shown = String::new();
        escape::html(&mut shown, &root);
        let mut of_root = format!("/{namespace}/");
        escape::segment(&mut of_root, root.as_bytes());
        match &request.site {
            Site::Path | Site::Trustless => Self {
                namespace,
                root: shown,
                base: format!("{of_root}{path}"),
                crumbs: of_root,
                root_end: "",
                by_cid: Some("/ipfs/".to_owned()),
            },
            Site::Subdomain(origin) => Self {
                namespace,
                root: shown,
                base: path,
                crumbs: format!("//{}{of_root}", origin.host),
                root_end: "",
                by_cid: Some(format!("//{}/ipfs/", origin.host)),
            },
            Site::DnsLink(origin) => Self {
                namespace,
                root: origin.host.clone(),
                base: path,
                crumbs: format!("//{}", origin.host),
                root_end: "/",
                by_cid: None,
            },
        }
    }

    /// Begins a link to content by its CID, as far as into the value of `href`.
    fn by_cid(&self, out: &mut String, cid: &str) {
        out.push_str(self.by_cid.as_deref().unwrap_or(CID_INSPECTOR));
        out.push_str(cid);
    }
}

/// The namespace and the root of the path as it was asked for.
fn root(request: &ContentRequest, named: &Named) -> (&'static str, String) {
    if let Some(rest) = request.path.original.strip_prefix("/ipns/") {
        let name = rest.split('/').next().unwrap_or_default();
        return ("ipns", percent_decode_str(name).decode_utf8_lossy().into_owned());
    }
    let roots = named.roots.to_str().unwrap_or_default();
    ("ipfs", roots.split(',').next().unwrap_or_default().to_owned())
}

fn title(out: &mut String, request: &ContentRequest, links: &Links) {
    let _ = write!(out, "/{}/{}", links.namespace, links.root);
    for segment in request.asked() {
        out.push('/');
        escape::html(out, segment);
    }
}

fn breadcrumbs(out: &mut String, request: &ContentRequest, links: &Links) {
    let Links { namespace, root, crumbs, root_end, .. } = links;
    let mut href = crumbs.clone();
    let _ = write!(out, "/{namespace}/<a href=\"{href}{root_end}\">{root}</a>");
    for segment in request.asked() {
        href.push('/');
        escape::segment(&mut href, segment.as_bytes());
        let _ = write!(out, "/<a href=\"{href}\">");
        escape::html(out, segment);
        out.push_str("</a>");
    }
}

fn row(out: &mut String, escaped: &mut String, links: &Links, entry: &Entry) {
    escaped.clear();
    let cid = entry.cid.to_string();
    out.push_str("<tr><td><a href=\"");
    if entry.name.len() > NAME_BYTES_MAX {
        links.by_cid(out, &cid);
        out.push_str("\">");
        let shown: String = entry.name_lossy().chars().take(LONG_NAME_CHARS).collect();
        escape::html(out, &shown);
        out.push('…');
    } else {
        escape::segment(escaped, &entry.name);
        out.push_str(&links.base);
        out.push_str(escaped);
        out.push_str("\">");
        escape::html(out, &entry.name_lossy());
    }
    out.push_str("</a></td><td><a class=\"ipfs-hash\" translate=\"no\" href=\"");
    links.by_cid(out, &cid);
    if links.by_cid.is_some() {
        // Escaped twice, as in the pages of other gateways.
        out.push_str("?filename=");
        escape::segment(out, escaped.as_bytes());
        out.push_str("\">");
    } else {
        out.push_str("\" target=\"_blank\" rel=\"noreferrer noopener\">");
    }
    short(out, &cid);
    out.push_str("</a></td><td>");
    if let Some(size) = entry.tsize {
        human(out, size);
    }
    out.push_str("</td></tr>\n");
}

/// The two ends of a CID.
fn short(out: &mut String, cid: &str) {
    match (cid.get(..4), cid.len().checked_sub(4).and_then(|at| cid.get(at..))) {
        (Some(start), Some(end)) if cid.len() > 12 => {
            out.push_str(start);
            out.push('…');
            out.push_str(end);
        }
        _ => out.push_str(cid),
    }
}

/// A size for people.
fn human(out: &mut String, bytes: u64) {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        let _ = write!(out, "{bytes} B");
        return;
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let _ = write!(out, "{value:.1} {unit}");
}

/// Links to the pages before and after this one, where there are any.
fn pages(out: &mut String, page: &Page) {
    if page.number == 0 && !page.more {
        return;
    }
    out.push_str("<nav aria-label=\"Pages\">");
    if page.number > 0 {
        let _ = write!(out, "<a rel=\"prev\" href=\"?page={}\">Previous</a> ", page.number);
    }
    let _ = write!(out, "Page {}", page.number + 1);
    if page.more {
        let _ = write!(out, " <a rel=\"next\" href=\"?page={}\">Next</a>", page.number + 2);
    }
    out.push_str("</nav>\n");
}
