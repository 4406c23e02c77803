"""The same requests to Estuary and to a real Kubo that hold the same content, and every difference of the answers.

    differential.py [--only REGEX] [--log FILE] [--summary]      needs install.sh kubo

Path x format x range x method x header, always the same list: over the fixtures of the public suite where they are on this machine ($FIXTURES),
its own requests included, and over trees.py. Compared: status, the headers below, and the body: bytes; of a CAR its blocks in their order, of a TAR its
entries, of a listing or a preview its links, of an error its form. differential.allow says which differences are meant, and by which sentence of
docs/http-api.md ("Where Estuary differs from Kubo"). What nothing explains is printed in full (--summary: one of each kind) and fails the script.
Last line `differential: N requests, N comparisons, N equal, N explained, N unexplained`.
"""
import argparse, base64, collections, concurrent.futures, html, http.client, io, json, os, re, shutil, sys, tarfile, threading, urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary, trees
import kubo as kubo_peer
from estuary import Failed, Node, check

HERE = Path(__file__).resolve().parent
ALLOW = HERE / "differential.allow"
DOCS = estuary.REPO / "docs/http-api.md"
SECTION = "Where Estuary differs from Kubo"
THREADS = 4
REQUESTS_MIN = 2000
HOSTS = "localhost,example.com"

FORMATS = {"raw": "application/vnd.ipld.raw", "car": "application/vnd.ipld.car", "tar": "application/x-tar", "dag-json": "application/vnd.ipld.dag-json",
           "dag-cbor": "application/vnd.ipld.dag-cbor", "json": "application/json", "cbor": "application/cbor", "ipns-record": "application/vnd.ipfs.ipns-record"}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
ACCEPTS = [*FORMATS.values(), BROWSER, "*/*", "text/html", "application/vnd.ipld.car; version=1; order=dfs; dups=y", "application/vnd.ipld.car;version=1;order=unk",
           "application/vnd.ipld.car; version=2", "application/vnd.ipld.car; dups=maybe", "application/vnd.ipld.raw, application/vnd.ipld.car", "application/vnd.unknown",
           "application/vnd.ipld.car;q=0.5, application/vnd.ipld.raw;q=0.9", "application/vnd.ipld.raw;q=0", "application/vnd.ipld.dag-json, text/html;q=0.9", "image/png", "text/plain"]
HEADERS = ["content-type", "content-length", "content-range", "content-encoding", "content-location", "content-disposition", "accept-ranges", "location", "cache-control", "etag",
           "last-modified", "x-ipfs-path", "x-ipfs-roots", "x-content-type-options", "link", "allow", "vary", "clear-site-data", "access-control-allow-origin",
           "access-control-allow-methods", "access-control-allow-headers", "access-control-expose-headers"]
PATH_HOST = "127.0.0.1:8080"
# Absent everywhere: well-formed CIDs that nobody holds.
ABSENT = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
ABSENT_PB = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"


# --- The list ----------------------------------------------------------------------------------

class Requests:
    """The list: (method, target, headers); targets and headers name content as `{name}`."""

    def __init__(self):
        self.seen = {}

    def add(self, target, method="GET", host=PATH_HOST, **headers):
        named = tuple((key.replace("_", "-"), value) for key, value in headers.items())
        self.seen.setdefault((method, target, (("Host", host), *named)))

    def both(self, target, **headers):
        self.add(target, "GET", **headers)
        self.add(target, "HEAD", **headers)


quote = lambda text: urllib.parse.quote(text, safe="/")
UNIXFS = (["{tree}", "{tree}/", "{tree}/hello.txt", "{tree}/hello.txt/", "{tree}/hello.txt/below", "{tree}/empty.txt", "{tree}/empty", "{tree}/empty/", "{tree}/big.bin", "{tree}/big.txt",
           "{tree}/a/b/c/d/e/f", "{tree}/a/b/c/d/e/f/", "{tree}/a/b/c/d/e/f/bottom.txt", "{tree}/missing", "{tree}/a/missing/b", "{tree}/site", "{tree}/site/", "{tree}/site/index.html",
           "{tree}/site/about", "{tree}/site/about/", "{tree}/site/assets/", "{tree}/index-is-a-folder/", "{tree}/ipfs/inner.txt", "{tree}/links/", "{tree}/links/to-file",
           "{tree}/links/to-dir", "{tree}/links/to-dir/inner.txt", "{tree}/links/to-file/", "{tree}/links/dangling", "{tree}/links/absolute", "{tree}/links/up",
           "{tree}//hello.txt", "{tree}/a//b/", "{tree}/./hello.txt", "{tree}/a/../hello.txt", "{tree}/%2e%2e/hello.txt", "{tree}/names/", "{tree}/names/folder%20with%20space/%C3%BC/",
           "{hamt}", "{hamt}/", "{hamt}/entry-00001.txt", "{hamt}/entry-19999.txt", "{hamt}/missing", "{hamt}/sub/", "{hamt}/sub", "{hamt}/sub/inner.txt",
           "{tree-v0}", "{tree-v0}/", "{tree-v0}/hello.txt", "{tree-v0}/big.bin", "{tree-v0}/a/b/", "{tree-v0}/site/",
           "{empty-folder}", "{empty-folder}/", "{leaf}", "{leaf}/", "{leaf}/below", "{empty-file}", "{big}", "{big}/", "{html}", "{json-file}", "{cbor-file}"])
OTHER = (["{raw}", "{raw}/below", "{json}", "{json}/plain", "{cbor}", "{cbor}/plain"]
         + ["{%s}%s" % (codec, path) for codec in ("dag-cbor", "dag-json") for path in ("", "/", "/link", "/link/", "/link/leaf", "/file", "/file/", "/big", "/folder", "/folder/", "/folder/hello.txt",
            "/folder/missing", "/text", "/number", "/nothing", "/bytes", "/list", "/list/0", "/list/2/three", "/list/9", "/map", "/map/a/b/c", "/links/0", "/links/1", "/links/2/deep/hello.txt", "/missing",
            "/Gr%C3%BC%C3%9Fe", "/map/missing/x")]
         + ["{%s-%s}" % (codec, kind) for codec in ("dag-cbor", "dag-json") for kind in ("leaf", "scalar", "list", "large")])
SAMPLE = ["{tree}/", "{tree}/hello.txt", "{tree}/big.bin", "{tree}/site/", "{tree}/links/to-file", "{tree}/missing", "{hamt}/", "{hamt}/entry-00001.txt", "{tree-v0}/hello.txt", "{leaf}", "{big}", "{empty-file}",
          "{raw}", "{json}", "{cbor}", "{dag-cbor}", "{dag-cbor}/link", "{dag-cbor}/number", "{dag-json}", "{dag-json}/file", "{dag-cbor-large}", "{json-file}", "bafkqabtimvwgy3yk", ABSENT]


def formats(add):
    """Every path in every format, by `format` and by `Accept`, with GET and with HEAD."""
    for path in UNIXFS + OTHER + ["bafkqaaa", "bafkqabtimvwgy3yk", ABSENT, ABSENT_PB, ABSENT_PB + "/below"]:
        add.both(f"/ipfs/{path}")
        for name in FORMATS:
            add.both(f"/ipfs/{path}?format={name}")
    for path in SAMPLE:
        for accept in ACCEPTS:
            add.both(f"/ipfs/{path}", Accept=accept)
        for name, accept in FORMATS.items():
            add.add(f"/ipfs/{path}?format={name}", Accept=BROWSER)
            add.add(f"/ipfs/{path}?format=raw", Accept=accept)
    for name in trees.NAMES:
        add.both(f"/ipfs/{{tree}}/names/{quote(name)}")
        add.add(f"/ipfs/{{tree}}/names/{quote(name)}?format=car&dag-scope=block")
        add.add(f"/ipfs/{{leaf}}?filename={urllib.parse.quote(name, safe='')}")
        add.add(f"/ipfs/{{leaf}}?download=true&filename={urllib.parse.quote(name, safe='')}")
    for name in trees.TYPES:
        add.both(f"/ipfs/{{tree}}/types/{quote(name)}")
        add.add(f"/ipfs/{{leaf}}?filename={quote(name)}")
        add.add(f"/ipfs/{{tree}}/types/{quote(name)}", Range="bytes=1-3")


def ranges(add):
    whole = ["{tree}/hello.txt", "{tree}/big.bin", "{tree}/big.txt", "{tree-v0}/big.bin", "{big}", "{leaf}", "{empty-file}", "{raw}", "{dag-cbor}", "{dag-json}", "{tree}/", "{hamt}/", "{tree}/site/", "{tree}/links/to-file", "{json}"]
    spans = ["bytes=0-0", "bytes=0-9", "bytes=5-", "bytes=-7", "bytes=0-", "bytes=-0", "bytes=1048570-1048590", "bytes=3145744-", "bytes=99999999-", "bytes=99999999-999999999", "bytes=-99999999", "bytes=5-2",
             "bytes=0-1,4-5", "bytes=0-1, 1048570-1048580, -3", "bytes=99999999-,0-1", "bytes=", "bytes=a-b", "lines=1-2", "bytes 0-1", "bytes=0-18446744073709551615", "bytes=18446744073709551616-"]
    for path in whole:
        for span in spans:
            add.add(f"/ipfs/{path}", Range=span)
        for span in spans[:12]:
            add.add(f"/ipfs/{path}", "HEAD", Range=span)
            add.add(f"/ipfs/{path}?format=raw", Range=span)
    for name in FORMATS:
        add.add(f"/ipfs/{{big}}?format={name}", Range="bytes=2-9")
        add.add(f"/ipfs/{{dag-cbor}}?format={name}", Range="bytes=2-9")


def conditions(add):
    own = "{own-etag}"
    for path in SAMPLE + ["{tree}/empty/", "{tree}", "{mtime}", "{mtime-folder}/", "{mtime-folder}/dated.txt"]:
        for query in ("", "?format=raw", "?format=car", "?format=tar", "?format=dag-json", "?filename=x.txt"):
            for value in (own, f"W/{own}", f'"other", {own}', "*", '"other"'):
                add.add(f"/ipfs/{path}{query}", If_None_Match=value)
        add.add(f"/ipfs/{path}", "HEAD", If_None_Match=own)
        add.add(f"/ipfs/{path}", If_None_Match=own, Range="bytes=0-1")
        add.add(f"/ipfs/{path}", Accept=BROWSER, If_None_Match=own)
        for value in (own, '"other"', f"W/{own}", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2065 07:28:00 GMT"):
            add.add(f"/ipfs/{path}", If_Range=value, Range="bytes=1-3")
        for value in ("Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 02 Jan 1998 00:00:00 GMT", "Wed, 21 Oct 2065 07:28:00 GMT", "nonsense"):
            add.add(f"/ipfs/{path}", If_Modified_Since=value)
            add.add(f"/ipfs/{path}", If_Unmodified_Since=value)
        add.add(f"/ipfs/{path}", If_None_Match='"other"', If_Modified_Since="Wed, 21 Oct 2065 07:28:00 GMT")
        add.add(f"/ipfs/{path}", If_Match='"other"')
        add.add(f"/ipfs/{path}", If_Match=own)
        add.both(f"/ipfs/{path}", Cache_Control="only-if-cached")
        add.add(f"/ipfs/{path}?format=raw", Cache_Control="only-if-cached, max-stale=1")
    for value in ("no-cache", "no-store, only-if-cached", "max-age=0", "ONLY-IF-CACHED"):
        add.both(f"/ipfs/{{leaf}}", Cache_Control=value)
        add.both(f"/ipfs/{ABSENT}", Cache_Control=value)
    for path in ("{mtime}", "{mtime-folder}", "{mtime-folder}/", "{mtime-folder}/dated.txt", "{mtime-folder}/link", "{mtime-folder}/run.sh"):
        for query in ("", "?format=raw", "?format=car", "?format=tar"):
            add.both(f"/ipfs/{path}{query}")


def queries(add):
    for path in SAMPLE:
        for query in ("filename=cat.jpg", "filename=page.html", "filename=a%22b%5Cc.txt", "filename=Gr%C3%BC%C3%9Fe.pdf", "filename=", "filename=..%2F..%2Fetc%2Fpasswd", "filename=a%0D%0AX-Evil%3A%201",
                      "download=true", "download=false", "download=true&filename=x.bin", "download=1", "download=TRUE", "unknown=parameter", "format=", "format=unknown", "format=RAW", "format=raw&format=car",
                      "go-get=1", "filename=a&filename=b"):
            add.add(f"/ipfs/{path}?{query}")
        for name in ("raw", "car", "tar", "json", "dag-json"):
            add.add(f"/ipfs/{path}?format={name}&filename=x.y")
            add.add(f"/ipfs/{path}?format={name}&download=false")
        for encoding in ("identity", "*;q=0", "identity;q=0"):
            add.add(f"/ipfs/{path}", Accept_Encoding=encoding)
    for uri in ("ipfs://{leaf}", "ipfs://{tree}/hello.txt", "ipfs://{tree}/hello.txt%3Fa%3Db", "ipns://docs.example.org", "ipns://{key}/hello.txt", "ipfs%3A%2F%2F{leaf}", "http://example.net", "https%3A%2F%2Fexample.net",
                "ipfs://", "ipfs:", "nonsense", "", "ipfs:/{leaf}", "IPFS://{leaf}", "ipfs://{tree}/names/Gr%25C3%25BC%25C3%259Fe.txt", "javascript:alert(1)"):
        add.both(f"/ipfs/?uri={uri}")
        add.add(f"/ipns/?uri={uri}")
        add.add(f"/ipfs/{{leaf}}?uri={uri}")


def cars(add):
    roots = ["{tree}/", "{tree}", "{tree}/hello.txt", "{tree}/big.bin", "{tree}/a/b/c/d/e/f/", "{tree}/site/", "{tree}/links/to-file", "{tree}/missing", "{tree}/hello.txt/below", "{hamt}", "{hamt}/entry-00001.txt", "{hamt}/sub/inner.txt",
             "{big}", "{leaf}", "{empty-file}", "{tree-v0}/a/b/", "{dag-cbor}", "{dag-cbor}/link", "{dag-cbor}/folder/hello.txt", "{dag-cbor}/links/2/deep/big.bin", "{dag-cbor}/number", "{dag-json}", "{dag-json}/big", "{raw}", "{json}", "bafkqabtimvwgy3yk"]
    for path in roots:
        for scope in ("block", "entity", "all"):
            for dups in ("y", "n"):
                if path == "{hamt}" and scope == "all" and dups == "y": continue
                add.add(f"/ipfs/{path}?format=car&dag-scope={scope}&car-dups={dups}")
            add.add(f"/ipfs/{path}?dag-scope={scope}", "HEAD", Accept=FORMATS["car"])
        for order in ("dfs", "unk"):
            add.add(f"/ipfs/{path}?dag-scope=entity", Accept=f"application/vnd.ipld.car; version=1; order={order}; dups=n")
    for path in ("{big}", "{tree}/big.bin", "{tree-v0}/big.bin", "{leaf}", "{empty-file}", "{tree}/", "{hamt}", "{dag-cbor}", "{dag-cbor}/big"):
        for span in ("0:0", "0:*", "0:1048575", "1048576:*", "1048576:1048576", "-5:*", "-5:-1", "100:-100", "5:2", "99999999:*", "-99999999:*", "0:99999999", "*:0", "nonsense", "", "1", "0:0:0", "18446744073709551616:*"):
            add.add(f"/ipfs/{path}?format=car&dag-scope=entity&entity-bytes={span}")
        add.add(f"/ipfs/{path}?format=car&entity-bytes=0:9")
        add.add(f"/ipfs/{path}?format=car&dag-scope=all&entity-bytes=0:9")
    for query in ("dag-scope=nonsense", "dag-scope=", "car-version=2", "car-version=1", "car-order=bfs", "car-order=unk", "car-dups=maybe", "car-dups=y", "car-version=1&car-order=dfs&car-dups=n"):
        add.both(f"/ipfs/{{tree}}/a/?format=car&{query}")
        add.add(f"/ipfs/{{tree}}/a/?{query}", Accept="application/vnd.ipld.car; version=1; order=dfs; dups=y")


def odd(add):
    for target in ("/", "/ipfs", "/ipfs/", "/ipns", "/ipns/", "/ipfs//", "/ipfs/notacid", "/ipfs/QmInvalidCID", "/ipfs/QmInvalidCID/x", "/ipfs/{leaf}x", "/ipfs/bafy", "/ipfs/%00", "/ipfs/{tree}/%00", "/ipfs/{tree}/%ff",
                   "/ipfs/{tree}/%zz", "/ipfs/ipfs/{leaf}", "/ipfs/ipfs/{tree}/hello.txt?a=b", "/ipfs/ipns/docs.example.org/hello.txt", "/ipns/ipns/docs.example.org", "/ipns/ipfs/{leaf}", "/ipfs/ipfs/notacid",
                   "/nothing", "/version", "/api/v0/id", "/robots.txt", "/favicon.ico", "/ipfs/{leaf-upper}", "/ipfs/{leaf-base58}", "/ipfs/{leaf-base16}", "/ipfs/{leaf-base64url}", "/ipfs/{leaf-pb}", "/ipfs/{tree-raw}", "/ipfs/{tree-unknown-codec}",
                   "/ipfs/bafkqaaa/", "/ipfs/bafkqaaa?format=car", "/ipfs/bafyaagakbyeaeeqiamiwmyrtanrdkzbzgyfrqbqbaa", "/ipfs/{tree}%2Fhello.txt", "/ipfs/{tree}/hello.txt?", "/ipfs/{tree}/hello.txt?a=%zz", "/ipfs/{tree}?a=b&c=d",
                   "/ipfs/{tree}/a?x=y%20z", "/ipfs/{tree}/site?a=b", "/ipfs/{tree}/site?go-get=1", "/IPFS/{leaf}"):
        add.both(target)
        add.add(target, Accept=BROWSER)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        for target in ("/ipfs/{leaf}", "/ipfs/{tree}/", "/ipns/docs.example.org", "/", "/ipfs/notacid"):
            add.add(target, method)
    for target in ("/ipfs/{leaf}", "/ipfs/{tree}", "/ipfs/{tree}/", "/ipfs/{tree}/types/script.js", "/ipns/docs.example.org", "/ipns/docs.example.org/types/script.js"):
        add.both(target, Service_Worker="script")
    for target in ("/ipfs/{leaf}", "/ipfs/{tree}/", "/ipfs/{dag-cbor}", f"/ipfs/{ABSENT}", "/ipfs/notacid"):
        add.add(target, Origin="https://example.net")
        add.add(target, "OPTIONS", Origin="https://example.net", Access_Control_Request_Method="GET", Access_Control_Request_Headers="range")
        add.add(target, Accept=BROWSER, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document", User_Agent="Mozilla/5.0 Chrome/120.0")


def names(add):
    for name in ("docs.example.org", "deep.example.org", "site.example.org", "file.example.org", "absent.example.org", "unknown.example.org", "dnslink-over-ipns.example.org", "dnslink-test.example.org", "{key}", "{key-base32}", "{key-peer-id}",
                 "{key-subpath}", "{key-rsa}", "{key-dag-cbor}", "{key-v2}", "{key-broken-v1}", "{key-v1}", "{key-broken-v2}", "{key-mismatch}", "{key-absent}", "notaname", "127.0.0.1", "a..b", "{leaf}"):
        for path in ("", "/", "/hello.txt", "/a/", "/root2/", "/missing"):
            add.both(f"/ipns/{name}{path}")
        for form in FORMATS:
            add.add(f"/ipns/{name}?format={form}")
            add.add(f"/ipns/{name}", Accept=FORMATS[form])
        add.add(f"/ipns/{name}/hello.txt?format=ipns-record")
        add.add(f"/ipns/{name}?format=ipns-record", "HEAD")
        add.add(f"/ipns/{name}", If_None_Match="{own-etag}")
        add.add(f"/ipns/{name}/", If_None_Match="{own-etag}")
        add.add(f"/ipns/{name}?format=ipns-record", If_None_Match="{own-etag}")
        add.add(f"/ipns/{name}/", Cache_Control="only-if-cached")
        add.add(f"/ipns/{name}/", Accept=BROWSER)


def hosts(add):
    paths = ["/", "/hello.txt", "/a", "/a/", "/missing", "/site/", "/types/page.html", "/ipfs/inner.txt", "/ipfs/{leaf}", "/ipns/docs.example.org", "/hello.txt?format=raw", "/?format=car&dag-scope=block", "/hello.txt?download=true&filename=x", "/names/Gr%C3%BC%C3%9Fe.txt"]
    roots = ["{tree}.ipfs.localhost:8080", "{tree}.ipfs.example.com", "{tree}.ipfs.example.com:8080", "{hamt}.ipfs.localhost:8080", "{leaf}.ipfs.localhost:8080", "{dag-cbor}.ipfs.localhost:8080", "{tree-v0-b32}.ipfs.localhost:8080",
             "{site}.ipfs.localhost:8080", "{key}.ipns.localhost:8080", "docs-example-org.ipns.localhost:8080", "docs.example.org.ipns.localhost:8080", "docs-example-org.ipns.example.com", "docs.example.org", "docs.example.org:8080", "deep.example.org",
             "file.example.org", "absent.example.org", "unknown.example.org", "dnslink-over-ipns.example.org"]
    for host in roots:
        for path in paths:
            add.both(path, host=host)
        for name, value in (("If_None_Match", "{own-etag}"), ("Range", "bytes=0-3"), ("Accept", BROWSER), ("Accept", FORMATS["car"]), ("Service_Worker", "script"), ("Cache_Control", "only-if-cached"), ("X_Forwarded_Proto", "https"), ("Origin", "https://example.net")):
            add.add("/", host=host, **{name: value})
            add.add("/hello.txt", host=host, **{name: value})
            add.add("/a?q=1", host=host, **{name: value})
    # To their own origin, and to the one form of a name.
    for host in ("localhost:8080", "localhost", "example.com", "example.com:8080", "LOCALHOST:8080"):
        for path in ("{leaf}", "{tree}", "{tree}/", "{tree}/a/b?x=y", "{tree-v0}/hello.txt", "{leaf-upper}", "{leaf-base58}", "{leaf-base16}", "{tree}/names/Gr%C3%BC%C3%9Fe.txt", "{tree}/a%20b", "{long}", "{long}/x", "notacid", "{dag-cbor}", "bafkqabtimvwgy3yk", ABSENT):
            add.both(f"/ipfs/{path}", host=host)
            add.add(f"/ipfs/{path}", host=host, X_Forwarded_Proto="https")
            add.add(f"/ipfs/{path}", host=host, Accept=BROWSER)
        for path in ("docs.example.org", "docs.example.org/a?x=y", "{key}", "{key}/hello.txt", "{key-base32}", "{key-peer-id}", "{key-pb}", "notaname", "unknown.example.org", "{key-absent}", "a-b.example.org", "very-long-name-that-has-more-characters-than-a-dns-label-may-have-and-then-some.example.org"):
            add.both(f"/ipns/{path}", host=host)
            add.add(f"/ipns/{path}", host=host, X_Forwarded_Proto="https")
            add.add(f"/ipns/{path}", host=host, X_Forwarded_Proto="http")
        for path in ("/", "/ipfs/", "/ipns/", "/ipfs/{leaf}?format=raw", "/ipfs/{leaf}?format=car", "/ipfs/{tree}/?uri=ipfs://{leaf}", "/ipfs/?uri=ipfs://{leaf}", "/nothing", "/ipfs/ipfs/{leaf}"):
            add.both(path, host=host)
    for label in ("{leaf-base58}", "{leaf-upper}", "{leaf-base16}", "{tree-v0}", "notacid", "{long}", "{tree-b36}", "{key-pb}"):
        for kind in ("ipfs", "ipns"):
            add.both("/hello.txt?x=y", host=f"{label}.{kind}.localhost:8080")
            add.both("/", host=f"{label}.{kind}.example.com")
            add.add("/", host=f"{label}.{kind}.example.com", X_Forwarded_Proto="https")
    for label in ("{key-base32}", "{key-peer-id}", "{key-rsa}", "{key-absent}", "unknown-example-org", "unknown.example.org", "a", "dnslink-over-ipns-example-org"):
        add.both("/hello.txt", host=f"{label}.ipns.localhost:8080")
        add.both("/", host=f"{label}.ipns.example.com")
    for label in ("", "x.{leaf}", "{leaf}.x", "sub.{tree}"):
        add.add("/", host=f"{label}.ipfs.localhost:8080")
    for host in ("gateway.example.net", "[::1]:8080", "127.0.0.1", "10.0.0.1:8080", "example.org", "{tree}.ipfs.gateway.example.net", "{tree}.ipfs.127.0.0.1:8080", "localhost.", "localhost:80", "example.com.", "a.example.com", ""):
        for path in ("/ipfs/{leaf}", "/ipfs/{tree}/", "/ipns/docs.example.org/", "/", "/hello.txt"):
            add.both(path, host=host)
    # A proxy in front, which both trust here.
    for host in ("10.0.0.1", "gateway.example.net"):
        for forwarded in ("localhost:8080", "example.com", "{tree}.ipfs.example.com", "docs.example.org", "{key}.ipns.example.com", "unknown.example.net"):
            for path in ("/", "/hello.txt", "/ipfs/{leaf}", "/ipfs/{tree}/a", "/ipns/docs.example.org"):
                add.add(path, host=host, X_Forwarded_Host=forwarded)
                add.add(path, host=host, X_Forwarded_Host=forwarded, X_Forwarded_Proto="https")
    for target in ("http://{tree}.ipfs.localhost:8080/hello.txt", "http://localhost:8080/ipfs/{leaf}", "http://docs.example.org/", "http://127.0.0.1:8080/ipfs/{leaf}", "http://unknown.example.net/"):
        add.both(target, host=urllib.parse.urlsplit(target).netloc)


def redirects(add):
    urls = ["/", "/moved", "/moved?a=b", "/moved-301", "/moved-302", "/moved-303", "/moved-307", "/moved-308", "/rewrite", "/rewrite?a=b", "/gone", "/legal", "/missing", "/no-page", "/posts/2024/05/hello", "/posts/2024/05", "/posts/2024/05/hello?x=y",
            "/static-query", "/static-query?lang=de&x=y", "/splat/a/b/c", "/splat/", "/splat", "/splat/a?x=y", "/rewrite-all/x/y", "/outside", "/outside/a/b?c=d", "/existing.html", "/first", "/Gr%C3%BC%C3%9Fe", "/gr%C3%B6%C3%9Fe", "/to-unicode",
            "/loop", "/nothing/at/all", "/blog/one.html", "/blog/two.html", "/blog", "/blog/", "/_redirects", "/a", "/a/x/b", "/moved/", "//moved", "/splat/%C3%BC%20x"]
    for name in ("site", "site-crlf", "site-spa", "site-forced", "site-bad-status", "site-twice", "site-words", "site-large", "site-splat-inside", "site-no-slash"):
        few = urls if name in ("site", "site-crlf", "site-spa") else ["/", "/a", "/a/x/b", "/existing.html", "/nothing", "/_redirects"]
        for url in few:
            add.both(url, host=f"{{{name}}}.ipfs.localhost:8080")
            if name == "site":
                add.both(url, host="site.example.org")
                add.add(url, host="site-example-org.ipns.localhost:8080")
                add.add(f"/ipfs/{{site}}{url}")
                for header, value in (("If_None_Match", "{own-etag}"), ("Accept", BROWSER), ("Range", "bytes=0-3"), ("Cache_Control", "only-if-cached")):
                    add.add(url, host="{site}.ipfs.localhost:8080", **{header: value})
        for form in ("raw", "car", "json", "tar"):
            add.add(f"/nothing?format={form}", host=f"{{{name}}}.ipfs.localhost:8080")
            add.add(f"/rewrite?format={form}", host=f"{{{name}}}.ipfs.localhost:8080")
        for method in ("POST", "OPTIONS"):
            add.add("/moved", method, host=f"{{{name}}}.ipfs.localhost:8080")


def fixture_requests(add, fixtures, roots):
    """The suite's own requests, with the HEAD and 304 forms of each, and every root of its CARs in every format."""
    for line in fixtures.requests.read_text().splitlines():
        request = json.loads(line)
        headers = tuple(tuple(header) for header in request["headers"])
        target = request["target"].replace("{", "{{").replace("}", "}}")
        for method in {request["method"]: 0, "HEAD": 0}:
            add.seen.setdefault((method, target, headers))
        if request["method"] == "GET" and not any(name in ("If-None-Match", "Range") for name, _ in headers):
            add.seen.setdefault(("GET", target, (*headers, ("If-None-Match", "{own-etag}"))))
            add.seen.setdefault(("GET", target, (*headers, ("Range", "bytes=1-5"))))
    for root in roots:
        for form in FORMATS:
            add.both(f"/ipfs/{root}?format={form}")
        add.both(f"/ipfs/{root}")
        add.both(f"/ipfs/{root}/")
        add.add(f"/ipfs/{root}", Accept=BROWSER)
        add.add(f"/ipfs/{root}?format=car&car-dups=y&dag-scope=all")
        add.add(f"/ipfs/{root}?format=car&dag-scope=entity")


# --- The answers -------------------------------------------------------------------------------

class Gateway:
    """One of the two: a connection for each thread."""

    def __init__(self, url):
        self.parts, self.local, self.etags, self.connections = urllib.parse.urlsplit(url), threading.local(), {}, []

    def send(self, method, target, headers):
        for attempt in range(2):
            if getattr(self.local, "connection", None) is None:
                self.local.connection = http.client.HTTPConnection(self.parts.hostname, self.parts.port, timeout=60)
                self.connections.append(self.local.connection)
            connection = self.local.connection
            try:
                connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
                for name, value in headers:
                    connection.putheader(name, value.encode())
                connection.endheaders()
                answer = connection.getresponse()
                cut = False
                try:
                    body = answer.read()
                except (http.client.IncompleteRead, ConnectionError, ValueError) as error:
                    body, cut = getattr(error, "partial", b""), True
                fields = {}
                for name, value in answer.getheaders():
                    fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
                if cut or answer.will_close:
                    self.close()
                return Answer(answer.status, fields, body, cut)
            except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError) as error:
                self.close()
                if attempt: return Answer(f"no answer ({type(error).__name__})", {}, b"", False)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                return Answer(f"no answer ({type(error).__name__})", {}, b"", False)

    def close(self):
        self.local.connection.close()
        self.local.connection = None

    def done(self):
        """Kubo ends only when its connections have."""
        for connection in self.connections: connection.close()

    def own_etag(self, method, target, headers):
        key = (target, headers)
        if key not in self.etags:
            self.etags[key] = self.send("GET", target, headers).headers.get("etag", '"none"')
        return self.etags[key]

    def ask(self, method, target, headers):
        if any("{own-etag}" in value for _, value in headers):
            plain = tuple(header for header in headers if header[0] in ("Host", "Accept"))
            etag = self.own_etag(method, target, plain)
            # `W/` before what is weak already would be nonsense.
            headers = tuple((name, value.replace("W/{own-etag}", "W/" + etag.removeprefix("W/")).replace("{own-etag}", etag)) for name, value in headers)
        return self.send(method, target, headers)


class Answer:
    def __init__(self, status, headers, body, cut):
        self.status, self.headers, self.body, self.cut = status, headers, body, cut
        self.type = headers.get("content-type", "")
        etag = headers.get("etag", "")
        self.page = "listing" if "DirIndex-" in etag else "preview" if "DagIndex-" in etag else None


def normal(name, value):
    """A header's value without what no two servers have in common."""
    if value is None:
        return None
    if name == "etag":
        value = re.sub(r"(Dir|Dag)Index-[^_]+_", r"\1Index-*_", value)
        return re.sub(r"\.(car|x-tar)\.[0-9a-z]+\"", r".\1.*"+'"', value)
    if name == "cache-control":
        return re.sub(r"max-age=(\d+)", lambda m: f"max-age={m[1]}" if int(m[1]) > 100_000 else f"max-age=~{round(int(m[1]) / 60)} min", value)
    if name in ("access-control-allow-methods", "access-control-allow-headers", "access-control-expose-headers", "vary", "allow"):
        return ", ".join(sorted({part.strip().lower() for part in value.split(",")}))
    if name == "content-type":
        return re.sub(r"\s*;\s*", "; ", value)
    return value


def links(body):
    """Where a page leads to on the gateway. Decoded twice: what needs escaping is a matter of taste, and `?filename=` is escaped twice."""
    found = re.findall(r"href=[\"']?([^\"'\s>]+)", body.decode(errors="replace"))
    return {urllib.parse.unquote(urllib.parse.unquote(link)) for link in map(html.unescape, found) if re.match(r"/ip[fn]s/|//|/[^/]|\.\.", link)}


def tar(body):
    out = []
    try:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            for entry in archive:
                data = archive.extractfile(entry).read() if entry.isfile() else b""
                out.append((entry.name.rstrip("/"), entry.type, entry.linkname, data))
    except tarfile.TarError as error:
        out.append(("broken", str(error)))
    return sorted(out)


def form(answer):
    """What an error looks like."""
    if not answer.body: return "empty"
    return "page" if "text/html" in answer.type else "one line" if answer.body.count(b"\n") <= 1 and "text/plain" in answer.type else f"{answer.type}, {answer.body.count(10)} lines"


def compare(method, got, want):
    """What differs: (field, ours, Kubo's). Where the status is the same it stands before the field."""
    if got.status != want.status:
        return [("status", got.status, want.status)]
    if isinstance(want.status, str):
        return []
    return [(f"{want.status} {field}", ours, theirs) for field, ours, theirs in compare_content(method, got, want)]


def compare_content(method, got, want):
    found, failed, page = [], want.status >= 400, want.page or got.page
    for name in HEADERS:
        # The length of pages and errors is that of their words; that of a CAR is not known at its start.
        if name == "content-length" and (page or want.status >= 300 or "vnd.ipld.car" in want.type or "x-tar" in want.type): continue
        if name == "content-type" and want.status >= 300: continue
        ours, theirs = normal(name, got.headers.get(name)), normal(name, want.headers.get(name))
        if ours != theirs: found.append((name, got.headers.get(name), want.headers.get(name)))
    if got.cut != want.cut: found.append(("end", "cut" if got.cut else "whole", "cut" if want.cut else "whole"))
    if method == "HEAD" or 300 <= want.status < 400 or got.cut or want.cut:
        return found
    if failed and not page:
        if "text/html" in want.type or "text/html" in got.type or not got.body:
            if got.body != want.body and form(got) != form(want): found.append(("error-form", form(got), form(want)))
        return found
    if page:
        if got.page != want.page: found.append(("page", got.page, want.page))
        elif missing := sorted(links(want.body) - links(got.body)): found.append(("links", f"{len(missing)} are missing", missing[:5]))
    elif got.body != want.body:
        if "vnd.ipld.car" in want.type:
            ours, theirs = kubo_peer.car_sections(got.body), kubo_peer.car_sections(want.body)
            if not ours or not theirs: found.append(("body", "no CAR" if not ours else "a CAR", "no CAR" if not theirs else "a CAR"))
            elif sorted(ours[1:]) == sorted(theirs[1:]) and ours[1:] != theirs[1:]: found.append(("block-order", "another order", f"{len(theirs) - 1} blocks"))
            elif ours[1:] != theirs[1:]: found.append(("blocks", len(ours) - 1, len(theirs) - 1))
            else: found.append(("car-header", ours[0].hex(), theirs[0].hex()))
        elif "x-tar" in want.type:
            ours, theirs = tar(got.body), tar(want.body)
            if ours != theirs:
                odd = [str(entry)[:120] for entry in ours if entry not in theirs][:2], [str(entry)[:120] for entry in theirs if entry not in ours][:2]
                found.append(("tar-entries", f"{len(ours)}: {odd[0]}", f"{len(theirs)}: {odd[1]}"))
        else: found.append(("body", f"{len(got.body)} bytes {got.body[:60]!r}", f"{len(want.body)} bytes {want.body[:60]!r}"))
    return found


class Allowed:
    """differential.allow, which says what it holds."""

    def __init__(self):
        self.rules, self.counts, reason = [], collections.Counter(), None
        for number, line in enumerate(ALLOW.read_text().splitlines() if ALLOW.exists() else [], 1):
            if not line.strip() or line.startswith("#"): continue
            if line.startswith("["):
                reason = line.strip("[]")
                continue
            check(reason and " " in line, f"{ALLOW.name}:{number}: a reason first, then FIELD REGEX")
            field, regex = line.split(" ", 1)
            self.rules.append((reason, re.compile(field), re.compile(regex), line))
        self.used = collections.Counter()

    def reason(self, label, field, got, want):
        text = f"{label} | {field}: {got} -> {want}"
        for reason, fields, regex, line in self.rules:
            if fields.fullmatch(field.split(" ", 1)[-1]) and regex.search(text):
                self.used[line] += 1
                self.counts[reason] += 1
                return reason
        return None

    def undocumented(self):
        """Reasons that the documentation does not give."""
        text = DOCS.read_text()
        at = text.find(SECTION)
        section = " ".join(re.split(r"\n## ", text[at:])[0].split()).lower() if at >= 0 else ""
        return [reason for reason in dict.fromkeys(rule[0] for rule in self.rules) if " ".join(reason.split()).lower() not in section]


# --- The run -----------------------------------------------------------------------------------

def based(cid, base):
    """A CIDv1 in base32, in another base."""
    data = base64.b32decode(cid[1:].upper() + "=" * (-len(cid[1:]) % 8))
    def digits(alphabet):
        number, out = int.from_bytes(data, "big"), ""
        while number:
            number, digit = divmod(number, len(alphabet))
            out = alphabet[digit] + out
        return out
    return {"upper": lambda: "B" + cid[1:].upper(), "base58": lambda: "z" + digits("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"), "base16": lambda: "f" + data.hex(),
            "base64url": lambda: "u" + base64.urlsafe_b64encode(data).decode().rstrip("="), "base36": lambda: "k" + digits("0123456789abcdefghijklmnopqrstuvwxyz"), "bytes": lambda: data}[base]()


def base32(data):
    return "b" + base64.b32encode(data).decode().lower().rstrip("=")


def names_of(cid, fixtures):
    """The same content by other CIDs, and the fixtures' keys."""
    leaf, tree = based(cid["leaf"], "bytes"), based(cid["tree"], "bytes")
    cid.update({f"leaf-{base}": based(cid["leaf"], base) for base in ("upper", "base58", "base16", "base64url")})
    cid["missing-block"] = "QmYhmPjhFjYFyaoiuNzYv8WGavpSRDwdHWe5B4M5du5Rtk"  # of the fixtures: a file that lacks blocks
    cid["leaf-pb"], cid["tree-raw"], cid["tree-unknown-codec"] = base32(b"\1\x70" + leaf[2:]), base32(b"\1\x55" + tree[2:]), base32(b"\1\x01" + tree[2:])
    cid["tree-b36"] = based(cid["tree"], "base36")
    # Too long for a DNS label in every base: a SHA-512.
    cid["long"] = base32(b"\x01\x55\x13\x40" + bytes(range(64)))
    keys = {path.name: name for name, path in fixtures.records} if fixtures else {}
    pick = lambda part: next((name for file, name in keys.items() if part in file), "k51qzi5uqu5dhjghbwdvbo6mi40htrq6e2z4pwgp15pgv3ho1azvidttzh8yy2")
    cid["key"], cid["key-subpath"], cid["key-dag-cbor"], cid["key-rsa"] = pick("j12zfhe"), pick("dojlm57c"), pick("tzh8yy2"), pick("QmVujd5")
    cid["key-peer-id"], cid["key-v2"], cid["key-broken-v1"], cid["key-v1"] = pick("12D3KooW"), pick("hb6103f_v2"), pick("broken-signature-v1"), pick("p6ku_v1.")
    cid["key-broken-v2"], cid["key-mismatch"], cid["key-absent"] = pick("broken-signature-v2"), pick("broken-v1-value"), "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36daa"
    data = from_base36(cid["key"])
    cid["key-base32"], cid["key-pb"] = base32(data), base32(b"\1\x70" + data[2:])


def from_base36(text):
    number = int(text[1:], 36)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def content(node, work, fixtures):
    """Makes the trees with our node: name -> CID."""
    cid = {name: node.json("add", path)[0]["cid"] for name, path in trees.folders(work / "trees").items()}
    cid["tree-v0"] = node.json("add", work / "trees/tree", "--profile", "unixfs-v0-2015")[0]["cid"]
    return cid


def share(node, api, cid, work, fixtures):
    """Both gateways get all of it: our trees go to Kubo, Kubo's nodes come to us, the fixtures to both."""
    cars = []
    for name, one in cid.items():
        cars.append(work / f"{name}.car")
        node.run("export", one, "-o", cars[-1])
    kubo_peer.ipfs("--api", api, "dag", "import", "--pin-roots=false", "--silent", *cars, *(fixtures.cars if fixtures else []))
    made = trees.nodes(cid, lambda data, codec, given: kubo_peer.dag_put(api, data, codec, given))
    dated = work / "dated"
    (dated / "folder").mkdir(parents=True)
    for path, data in ((dated / "file.txt", "dated\n"), (dated / "folder/dated.txt", "dated too\n"), (dated / "folder/run.sh", "#!/bin/sh\n")):
        path.write_text(data)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    os.chmod(dated / "folder/run.sh", 0o755)
    os.symlink("dated.txt", dated / "folder/link")
    os.utime(dated / "folder", (1_100_000_000, 1_100_000_000))
    add = lambda path: kubo_peer.ipfs("--api", api, "add", "-Q", "-r", "--cid-version=1", "--preserve-mode", "--preserve-mtime", path).decode().strip()
    made["mtime"], made["mtime-folder"] = add(dated / "file.txt"), add(dated / "folder")
    for name, one in made.items():
        path = work / f"kubo-{name}.car"
        path.write_bytes(kubo_peer.rpc(api, "dag/export", arg=one, progress="false"))
        node.run("import", "--no-pin", path)
    for path in fixtures.cars if fixtures else []:
        node.run("import", "--no-pin", path, ok=None)
    took = [sum(node.run("name", "put", name, path, ok=None).returncode == 0 for name, path in fixtures.records), sum(kubo_peer.put_record(api, name, path) for name, path in fixtures.records)] if fixtures else [0, 0]
    print(f"IPNS records taken: {took[0]}, by Kubo {took[1]}", flush=True)
    cid.update(made)


def fixture_roots(fixtures):
    """The roots that the fixture CARs name."""
    out = {}
    for path in fixtures.cars:
        header = kubo_peer.car_sections(path.read_bytes())[0]
        for at in (m.start() for m in re.finditer(rb"\xd8\x2a\x58", header)):
            size = header[at + 3]
            raw = header[at + 5:at + 4 + size]
            out.setdefault(base32(raw) if raw[0] == 1 else "Qm" + "".join(base58(raw))[2:])
    return list(out)


def base58(raw):
    alphabet, number, out = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        out = alphabet[digit] + out
    return out


def run(ours, theirs, requests, cid, options):
    allowed, only = Allowed(), re.compile(options.only)
    known = sorted(((value, name) for name, value in cid.items() if len(value) > 20), key=lambda pair: -len(pair[0]))
    def readable(text):
        text = str(text)
        for value, name in known:
            text = text.replace(value, "{" + name + "}")
        return text if len(text) < 600 else text[:600] + "…"
    label = lambda method, target, headers: readable(" ".join([method, target.replace("{{", "{").replace("}}", "}"), *(f"{n}={v}" for n, v in headers if (n, v) != ("Host", PATH_HOST))]))
    chosen = [request for request in requests.seen if only.search(label(*request))]
    def ask(request):
        method, target, headers = request
        keep = dict(cid, **{"own-etag": "{own-etag}"})
        target, headers = target.format_map(keep), tuple((name, value.format_map(keep) if "{" in value else value) for name, value in headers)
        return compare(method, ours.ask(method, target, headers), theirs.ask(method, target, headers))
    equal = explained = open_ones = comparisons = alike = 0
    kinds = collections.OrderedDict()
    with open(options.log, "w") as log, concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for request, differences in zip(chosen, pool.map(ask, chosen)):
            text, rest = label(*request), []
            comparisons += 1
            alike += not any(re.fullmatch(r"status|\d+ (end|body|blocks|block-order|car-header|tar-entries|links|page|error-form)", field) for field, _, _ in differences)
            for field, got, want in differences:
                got, want = readable(got), readable(want)
                if not allowed.reason(text, field, got, want): rest.append((field, got, want))
            if rest:
                open_ones += 1
                lines = "".join(f"\n     {field}: got {got}, Kubo {want}" for field, got, want in rest)
                log.write(f"DIFF {text}{lines}\n")
                if not options.summary: print(f"DIFF {text}{lines}")
                for field, got, want in rest:
                    kinds.setdefault((field, got if len(got) < 60 and "{" not in got else "…", want if len(want) < 60 and "{" not in want else "…"), []).append(text)
            elif differences: explained += 1
            else: equal += 1
    if options.summary:
        for (field, got, want), texts in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
            print(f"{len(texts):5} {field}: {got} -> {want}      e.g. {texts[0]}" + (f"   AND {texts[-1]}" if len(texts) > 1 else ""))
    for reason, number in allowed.counts.most_common():
        print(f"explained {number:5} {reason}")
    undocumented = allowed.undocumented()
    for reason in undocumented:
        print(f"NOT DOCUMENTED {reason}")
    whole = options.only == ""
    if whole:
        for rule in allowed.rules:
            if not allowed.used[rule[3]]: print(f"never needed: {rule[3]}")
        check(len(chosen) >= REQUESTS_MIN, f"only {len(chosen)} requests")
    estuary.figure("requests put to Estuary and to Kubo", f"{comparisons:,}: {alike:,} with the same status and body, {equal:,} with the same headers too; {explained:,} differ as documented ({len(allowed.counts)} reasons), {open_ones} otherwise")
    print(f"differential: {len(chosen)} requests, {comparisons} comparisons, {equal} equal, {explained} explained, {open_ones} unexplained")
    return open_ones == 0 and not undocumented


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--only", default="")
    options.add_argument("--log", default=str(estuary.REPO / "target/evidence/differential.txt"))
    options.add_argument("--summary", action="store_true")
    options = options.parse_args()
    estuary.need_binary()
    estuary.need("ipfs")
    Path(options.log).parent.mkdir(parents=True, exist_ok=True)
    fixtures = kubo_peer.fixtures()
    if not fixtures: print("SKIPPED the suite's fixtures are not on this machine (set FIXTURES)")
    work = estuary.scratch("differential")
    node = Node(work / "node")
    try:
        node.start()
        cid = content(node, work, fixtures)
        ours = {"docs.example.org": f"/ipfs/{cid['tree']}", "deep.example.org": f"/ipfs/{cid['tree']}/a/b", "site.example.org": f"/ipfs/{cid['site']}", "file.example.org": f"/ipfs/{cid['leaf']}", "absent.example.org": f"/ipfs/{ABSENT_PB}",
                "a-b.example.org": f"/ipfs/{cid['leaf']}"}
        ns_map = fixtures.ns_map(ours) if fixtures else ",".join(f"{name}:{path}" for name, path in ours.items())
        check(node.stop() == 0, "stop")
        node.env.update({"IPFS_NS_MAP": ns_map, "ESTUARY_GATEWAY__SUBDOMAIN_HOSTS": HOSTS, "ESTUARY_GATEWAY__TRUSTED_PROXIES": "127.0.0.1"})
        node.start()
        with kubo_peer.kubo(work, "--ns-map", ns_map) as (kubo_url, api):
            share(node, api, cid, work, fixtures)
            names_of(cid, fixtures)
            cid["tree-v0-b32"] = base32(b"\1\x70" + from_base58(cid["tree-v0"]))
            requests = Requests()
            for part in (formats, ranges, conditions, queries, cars, odd, names, hosts, redirects):
                part(requests)
            if fixtures: fixture_requests(requests, fixtures, fixture_roots(fixtures))
            ours, theirs = Gateway(node.gateway), Gateway(kubo_url)
            held = run(ours, theirs, requests, cid, options)
            ours.done()
            theirs.done()
        check(node.stop() == 0, "the node's exit status is not 0")
    finally:
        node.kill()
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(0 if held else 1)


def from_base58(text):
    number = 0
    for letter in text:
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(letter)
    return number.to_bytes(34, "big")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"differential: FAILED: {failed}")
