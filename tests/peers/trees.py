"""Content of every kind that a gateway answers differently for, the same on every run. differential.py gives it to two gateways.

    trees.py DIR        writes the folders and files that `estuary add` takes
"""
import base64, os, sys
from pathlib import Path

import shapes

# Odd, but legal in a UnixFS directory.
NAMES = ["Grüße.txt", "日本語.txt", "emoji-🐟.txt", "e\u0301.txt", "עברית.txt", "100%.txt", "100%25.txt", "a#b.txt", "a?b.txt", "a&b=c.txt", "a+b.txt", "a b.txt",
         " lead.txt", "trail.txt ", "semi;colon.txt", "co,mma.txt", "co:lon.txt", "back\\slash.txt", "quote\"'.txt", "<script>alert(1)</script>.html", "*.txt", "~tilde",
         "(paren)[bracket]", "new\nline.txt", "..double.txt", "...", "UPPER.TXT", ".hidden", "x" * 250, "%2F.txt", "$dollar.txt", "@at.txt", "café.html"]
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")
# What the type of a file is told from: the name, or, without one that is known, the first bytes.
TYPES = {
    "page.html": b"<!doctype html><title>page</title>", "page.htm": b"<!doctype html><title>page</title>", "page.xhtml": b"<html xmlns='http://www.w3.org/1999/xhtml'/>",
    "script.js": b"export default 1\n", "module.mjs": b"export default 1\n", "style.css": b"body{}\n", "image.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "photo.png": PNG, "photo.jpg": JPEG, "photo.webp": b"RIFF\x1a\0\0\0WEBPVP8L", "photo.gif": b"GIF89a\1\0\1\0", "doc.pdf": b"%PDF-1.4\n%EOF\n", "data.json": b"{\"a\": 1}\n",
    "data.xml": b"<?xml version='1.0'?><a/>", "feed.rss": b"<?xml version='1.0'?><rss/>", "archive.zip": b"PK\x03\x04\x14\0", "archive.tar.gz": b"\x1f\x8b\x08\0\0\0\0\0",
    "movie.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "movie.webm": b"\x1a\x45\xdf\xa3\x01\0\0\0", "sound.mp3": b"ID3\x03\0\0\0", "module.wasm": b"\0asm\1\0\0\0",
    "font.woff2": b"wOF2\0\1\0\0", "notes.txt": b"plain\n", "notes.md": b"# notes\n", "table.csv": b"a,b\n", "code.rs": b"fn main() {}\n", "unknown.xyzzy": b"unknown to all\n",
    "noext-text": b"some text\n", "noext-html": b"<!DOCTYPE html><html></html>", "noext-png": PNG, "noext-svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "noext-xml": b"<?xml version='1.0'?><a/>", "noext-json": b"{\"a\": 1}\n", "noext-pdf": b"%PDF-1.4\n", "noext-binary": bytes(range(256)), "noext-gzip": b"\x1f\x8b\x08\0\0\0\0\0",
    "noext-utf16": "hi".encode("utf-16"), "liar.png": b"<!doctype html><script>alert(1)</script>", "UPPER.HTML": b"<p>upper</p>", "two.html.txt": b"<p>text</p>", "dot.": b"dot\n",
}
REDIRECTS = """# comments and empty lines are nothing

/moved /target.html
/moved-301 /target.html 301
/moved-302 /target.html 302
/moved-303 /target.html 303
/moved-307 /target.html 307
/moved-308 /target.html 308
/rewrite /target.html 200
/gone /410.html 410
/legal /451.html 451
/missing /404.html 404
/no-page /not-there.html 404
/posts/:year/:month/:title /articles/:title?y=:year&m=:month 302
/static-query /target.html?lang=en 302
/splat/* /blog/:splat 301
/rewrite-all/* /target.html 200
/outside https://example.net/ 302
/outside/* https://example.net/:splat 302
/existing.html /target.html 301
/first /target.html?first 302
/first /target.html?second 302
/Grüße /target.html 302
/gr%C3%B6%C3%9Fe /target.html 302
/to-unicode /Grüße.html 302
/loop /loop 302
/* /404.html 404
"""


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def tree(root):
    for name in NAMES:
        write(root / "names" / name, f"this is {name}\n")
    for name, data in TYPES.items():
        write(root / "types" / name, data)
    write(root / "a/b/c/d/e/f/bottom.txt", "bottom\n")
    write(root / "hello.txt", "Hello, this is a plain text of one leaf.\n")
    write(root / "empty.txt", b"")
    write(root / "big.bin", shapes.stream("big", 3 * shapes.MIB + 17))
    write(root / "big.txt", "0123456789abcde\n" * 90_000)
    (root / "empty").mkdir()
    write(root / "site/index.html", "<!doctype html><title>site</title>\n")
    write(root / "site/about/index.html", "<!doctype html><title>about</title>\n")
    write(root / "site/assets/app.js", "export default 1\n")
    write(root / "index-is-a-folder/index.html/inner.txt", "inner\n")
    write(root / "ipfs/inner.txt", "a folder of the name of a namespace\n")
    write(root / "links/real.txt", "real\n")
    write(root / "links/sub/inner.txt", "inner\n")
    for name, target in (("to-file", "real.txt"), ("to-dir", "sub"), ("up", "../hello.txt"), ("absolute", "/etc/hostname"), ("dangling", "nothing"), ("zïel", "zïel")):
        os.symlink(target, root / "links" / name)
    write(root / "names/folder with space/ü/x.txt", "x\n")


def hamt(root):
    shapes.tiny(20_000, name=lambda n: f"entry-{n:05}.txt" if n % 100 else f"ключ-{n}-🐟.txt")(root)
    write(root / "sub/inner.txt", "inner\n")
    write(root / "sub/index.html", "<!doctype html><title>in a sharded one</title>\n")


def site(root, rules):
    for name in ("index", "target", "existing", "404", "410", "451"):
        write(root / f"{name}.html", f"<!doctype html><title>{name}</title>\n")
    write(root / "blog/one.html", "<!doctype html><title>one</title>\n")
    write(root / "_redirects", rules)


def folders(root):
    """Writes them below `root`: name -> path. Each is added on its own."""
    made = {}
    def folder(name, fill):
        (root / name).mkdir(parents=True)
        fill(root / name)
        made[name] = root / name
    folder("tree", tree)
    folder("hamt", hamt)
    folder("site", lambda path: site(path, REDIRECTS))
    folder("site-crlf", lambda path: site(path, REDIRECTS.replace("\n", "\r\n")))
    folder("site-spa", lambda path: site(path, "/* /index.html 200\n"))
    for name, rules in (("forced", "/a /target.html 301!\n"), ("bad-status", "/a /target.html 299\n"), ("twice", "/:a/:a /target.html\n"), ("words", "/a\n"),
                        ("large", "# " + "x" * 65_600 + "\n/a /target.html\n"), ("splat-inside", "/a/*/b /target.html\n"), ("no-slash", "a /target.html\n")):
        folder(f"site-{name}", lambda path: site(path, rules))
    folder("empty-folder", lambda path: None)
    for name, data in (("leaf", b"Hello, this is a plain text of one leaf.\n"), ("empty-file", b""), ("big", shapes.stream("big", 2_621_441)),
                       ("html", b"<!doctype html><script>document.title = 'script'</script>\n"), ("json-file", b"{\"hello\": \"json\"}\n"), ("cbor-file", bytes.fromhex("a16568656c6c6f6463626f72"))):
        write(root / "files" / name, data)
        made[name] = root / "files" / name
    return made


def nodes(cid, put):
    """Nodes of other codecs, with links into `cid` (name -> CID): name -> CID. `put(data, codec, given)` stores one."""
    import json
    link = lambda name: {"/": cid[name]}
    made = {}
    values = {"text": "a text", "number": 1, "negative": -1, "real": 1.5, "yes": True, "nothing": None, "bytes": {"/": {"bytes": "AQIDBA"}}, "list": [1, "two", {"three": 3}, []],
              "map": {"a": {"b": {"c": "deep"}}}, "Grüße": "unicode", "with space": 1, "a/b": "a slash", "": "an empty key", "<script>alert(1)</script>": "<script>alert(2)</script>"}
    for codec in ("dag-cbor", "dag-json"):
        leaf = put(json.dumps({"leaf": True, "of": codec}).encode(), codec, "dag-json")
        node = {**values, "link": {"/": leaf}, "file": link("leaf"), "big": link("big"), "folder": link("tree"), "links": [{"/": leaf}, link("leaf"), {"deep": link("tree")}]}
        made[codec] = put(json.dumps(node).encode(), codec, "dag-json")
        made[f"{codec}-leaf"] = leaf
        made[f"{codec}-scalar"] = put(b"\"only a text\"", codec, "dag-json")
        made[f"{codec}-list"] = put(json.dumps([1, 2, {"/": leaf}]).encode(), codec, "dag-json")
        made[f"{codec}-large"] = put(json.dumps({f"key-{n:04}": "x" * 100 for n in range(3000)}).encode(), codec, "dag-json")
    made["json"] = put(b"{\"plain\":\"json\",\"list\":[1,2,3]}", "json", "json")
    made["cbor"] = put(bytes.fromhex("a165706c61696e6463626f72"), "cbor", "cbor")
    made["raw"] = put(b"a raw block, which no file was made of\n", "raw", "raw")
    return made


if __name__ == "__main__":
    print(f"trees: {len(folders(Path(sys.argv[1])))}")
