"""curl over TLS and HTTP/2: downloads that go on half-way, certificates replaced meanwhile, signed URLs, an allowlist, encoded bodies.

    tls.py [PART...]        parts: versions resume cut encodings signed allow (default: all); needs curl and openssl

Last line `tls: N passed, N failed`.
"""
import gzip, hashlib, http.client, json, re, shutil, socket, ssl, subprocess, sys, time, urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary, shapes
from estuary import MIB, Failed, Node, check
from kubo import car_sections

SIZE = 16 * MIB + 12345
RATE = 2 * MIB  # bytes a second of a download that is to be slow
RELOAD_SECONDS_MAX = 15
URL_SECONDS = 3


class Count:
    passed = failed = 0

    def run(self, name, test):
        try:
            test()
            self.passed += 1
        except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError, http.client.HTTPException) as error:
            self.failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {str(error)[:600]}", flush=True)


count = Count()


class Certificates:
    """Certificates in files, made anew at will; all that were ever made are trusted."""

    def __init__(self, folder):
        self.folder, self.trusted = folder, folder / "trusted.pem"
        folder.mkdir()
        self.trusted.write_text("")

    def files(self, name):
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def issue(self, name, *names):
        certificate, key = self.files(name)
        new = [self.folder / f"{file}.new" for file in ("pem", "key")]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={names[0]}", "-out", new[0], "-keyout", new[1],
                        "-addext", "subjectAltName=" + ",".join(f"IP:{n}" if n[0].isdigit() else f"DNS:{n}" for n in names)], check=True, capture_output=True)
        with open(self.trusted, "a") as trusted: trusted.write(new[0].read_text())
        new[1].rename(key)
        new[0].rename(certificate)


def shown(port, name):
    """The fingerprint of the certificate that is shown to who asks for `name`."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate(port, name)).__bytes__()).hexdigest()


def certificate(port, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    import socket
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain, server_hostname=name) as stream:
        return ssl.DER_cert_to_PEM_cert(stream.getpeercert(True))


class Curl:
    """curl with one node's certificates."""

    def __init__(self, node, port, certificates):
        self.node, self.port, self.certificates = node, port, certificates

    def url(self, path, host="127.0.0.1"):
        return f"https://{host}:{self.port}{path}"

    def command(self, *args):
        return ["curl", "-sS", "--http2", "--max-time", "120", "--cacert", str(self.certificates.trusted), *map(str, args)]

    def __call__(self, path, *args, host="127.0.0.1"):
        """(status, HTTP version, headers, body)."""
        body, head = self.certificates.folder / "body", self.certificates.folder / "head"
        for file in (body, head): file.write_bytes(b"")
        url = path if path.startswith("https:") else self.url(path, host)
        done = subprocess.run(self.command("-o", body, "-D", head, "-w", "%{http_code} %{http_version}", *args, url), capture_output=True, text=True)
        check(done.returncode == 0, f"curl {url}: exit {done.returncode}: {done.stderr.strip()}")
        status, version = done.stdout.split()
        headers = {k.lower(): v for k, v in re.findall(r"^([^:\s]+): (.*?)\r?$", head.read_text().rstrip().split("\n\r\n")[-1], re.M)}
        return int(status), version, headers, body.read_bytes()

    def slowly(self, path, to):
        return subprocess.Popen(self.command("--limit-rate", RATE, "-o", to, self.url(path)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def start(work, certificates, names, **env):
    """A node that shows these certificates, and curl for it."""
    port = estuary.free_port()
    pem, key = zip(*(certificates.files(name) for name in names))
    node = Node(work / f"node-{port}", {"ESTUARY_GATEWAY__TLS_LISTEN": f"127.0.0.1:{port}", "ESTUARY_GATEWAY__TLS_CERT": ",".join(map(str, pem)), "ESTUARY_GATEWAY__TLS_KEY": ",".join(map(str, key)), **env})
    return node.start(), Curl(node, port, certificates)


HOSTS = ("127.0.0.1", "localhost", "*.ipfs.localhost", "*.ipns.localhost")


def versions(work, certificates):
    """HTTP/2 and 1.1; the certificate that fits the name; redirects that stay on TLS; roots in origins of their own."""
    certificates.issue("other", "other.example")
    node, curl = start(work, certificates, ["one", "other"])
    with node:
        (work / "page").mkdir()
        (work / "page/hello.txt").write_text("hello\n")
        cid = node.json("add", work / "page")[0]["cid"]
        def version(flag, want):
            status, got, _, body = curl(f"/ipfs/{cid}/hello.txt", flag)
            check((status, got, body) == (200, want, b"hello\n"), f"{status} HTTP/{got}")
        count.run("HTTP/2", lambda: version("--http2", "2"))
        count.run("HTTP/1.1", lambda: version("--http1.1", "1.1"))
        def names():
            check(shown(curl.port, "other.example") != shown(curl.port, "localhost"), "the same certificate for both names")
        count.run("the certificate of the name", names)
        def origin():
            status, _, headers, _ = curl(f"/ipfs/{cid}/hello.txt", host="localhost")
            check((status, headers.get("location")) == (301, f"https://{cid}.ipfs.localhost:{curl.port}/hello.txt"), f"{status} {headers.get('location')}")
            status, _, _, body = curl(headers["location"])
            check((status, body) == (200, b"hello\n"), f"{status}")
        count.run("a redirect to its own origin, over TLS", origin)
        def old():
            done = subprocess.run(["curl", "-sS", "--max-time", "10", "--cacert", certificates.trusted, "--tls-max", "1.1", "--tlsv1.0", curl.url("/ipfs/bafkqaaa")], capture_output=True)
            check(done.returncode != 0, "TLS 1.1 was taken")
        count.run("nothing below TLS 1.2", old)


def resume(work, certificates):
    """A file and a CAR, each broken off half-way and taken up again, while the certificate is replaced; what was under way goes on."""
    node, curl = start(work, certificates, ["one"])
    with node:
        source = work / "large"
        source.write_bytes(shapes.stream("tls", SIZE))
        cid = node.json("add", source)[0]["cid"]
        node.run("export", cid, "-o", work / "large.car")
        for what, path, whole in (("file", f"/ipfs/{cid}", source), ("CAR", f"/ipfs/{cid}?format=car", work / "large.car")):
            count.run(f"a {what} is taken up half-way", lambda: broken_off(work, certificates, curl, path, whole.read_bytes()))


def broken_off(work, certificates, curl, path, whole):
    kept, part = work / "kept", work / "part"
    for file in (kept, part): file.unlink(missing_ok=True)
    before, etag = shown(curl.port, "localhost"), curl(path, "-I")[2].get("etag")
    check(etag and not etag.startswith("W/"), f"the entity tag is {etag}")
    going_on = curl.slowly(path, kept)
    broken = curl.slowly(path, part)
    end = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < len(whole) // 3:
        check(broken.poll() is None and time.monotonic() < end, "the download did not get on")
        time.sleep(0.02)
    broken.kill()
    broken.wait()
    certificates.issue("one", *HOSTS)
    end = time.monotonic() + RELOAD_SECONDS_MAX
    while shown(curl.port, "localhost") == before:
        check(time.monotonic() < end, f"the new certificate was not shown within {RELOAD_SECONDS_MAX} s")
        time.sleep(0.1)
    going = going_on.poll() is None
    have = part.stat().st_size
    done = subprocess.run(curl.command("-C", "-", "-o", part, "-w", "%{http_code} %{http_version} %{size_download}", curl.url(path)), capture_output=True, text=True)
    try:
        check(done.returncode == 0, f"curl -C -: exit {done.returncode}: {done.stderr.strip()}")
        status, version, size = done.stdout.split()
        check((status, version) == ("206", "2"), f"{status} HTTP/{version}")
        check(part.read_bytes() == whole, f"other bytes: {part.stat().st_size} of {len(whole)}")
        check(int(size) == len(whole) - have, f"{size} bytes came, {len(whole) - have} were missing")
        status, _, headers, body = curl(path, "-H", "Range: bytes=1000-1999", "-H", f"If-Range: {etag}")
        check(status == 206 and body == whole[1000:2000], f"If-Range with its entity tag: {status}")
        status, _, headers, body = curl(path, "-H", "Range: bytes=1000-1999", "-H", 'If-Range: "other"')
        check(status == 200 and body == whole, f"If-Range with another: {status}")
    finally:
        _, errors = going_on.communicate(timeout=120)
    check(going, "the old transfer was over before the certificate was replaced")
    check(going_on.returncode == 0 and kept.read_bytes() == whole, f"the old transfer: exit {going_on.returncode} {errors.decode().strip()}")


def cut(work, certificates):
    """What breaks off does not end well."""
    node, curl = start(work, certificates, ["one"])
    with node:
        source, car = work / "to-cut", work / "to-cut.car"
        source.write_bytes(shapes.stream("tls-cut", 3 * MIB + 5))
        other = Node(work / "other", node.env)
        cid = other.json("add", source)[0]["cid"]
        other.run("export", cid, "-o", car)
        last = len(car_sections(car.read_bytes())[-1])
        car.write_bytes(car.read_bytes()[:-last - len_of_length(last)])
        node.run("import", "--no-pin", car, ok=None)
        for what, query in (("file", ""), ("CAR", "?format=car")):
            for flag in ("--http2", "--http1.1"):
                def breaks_off():
                    done = subprocess.run(curl.command(flag, "-o", "/dev/null", "-w", "%{http_code} %{size_download}", curl.url(f"/ipfs/{cid}{query}")), capture_output=True, text=True)
                    check(done.returncode in (18, 56, 92) and done.stdout.startswith("200"), f"exit {done.returncode}, {done.stdout}")
                count.run(f"a {what} that is cut, {flag}", breaks_off)


def len_of_length(size):
    return max(1, (size.bit_length() + 6) // 7)


def decoded(coding, body):
    if coding == "gzip": return gzip.decompress(body)
    if coding == "br":
        script = "process.stdout.write(require('zlib').brotliDecompressSync(require('fs').readFileSync(0)))"
        return subprocess.run(["node", "-e", script], input=body, capture_output=True, check=True).stdout
    return subprocess.run(["zstd", "-d", "-c", "-q"], input=body, capture_output=True, check=True).stdout


def encodings(work, certificates):
    """Encoded bodies are the same bytes, each coding has its own entity tag, and ranges and what is checked against a CID are left alone."""
    estuary.need("node", "zstd")
    node, curl = start(work, certificates, ["one"])
    with node:
        folder = work / "text"
        folder.mkdir()
        text = "".join(f"line {n} of a text that is worth the work\n" for n in range(40_000)).encode()
        contents = {"large.txt": text, "small.html": b"<!doctype html>" + text[:5000], "app.js": text[:100_000], "data.json": json.dumps(list(range(5000))).encode(), "image.svg": b"<svg xmlns='http://www.w3.org/2000/svg'>" + b"<g/>" * 2000 + b"</svg>"}
        for name, data in contents.items(): (folder / name).write_bytes(data)
        noise = shapes.stream("noise", 100_000)
        (folder / "photo.jpg").write_bytes(noise)
        cid = node.json("add", folder)[0]["cid"]
        for name, data in contents.items():
            tags = {}
            for coding in ("gzip", "br", "zstd", "identity"):
                def body():
                    status, _, headers, got = curl(f"/ipfs/{cid}/{name}", "-H", f"Accept-Encoding: {coding}")
                    check(status == 200, f"{status}")
                    check(headers.get("content-encoding", "identity") == coding, f"{headers.get('content-encoding')}")
                    check((got if coding == "identity" else decoded(coding, got)) == data, "other bytes")
                    check(coding == "identity" or len(got) < len(data) / 2, f"{len(got)} bytes of {len(data)}")
                    check("accept-encoding" in headers.get("vary", "").lower(), f"Vary: {headers.get('vary')}")
                    check("content-length" not in headers or int(headers["content-length"]) == len(got), "another length")
                    tags[coding] = headers["etag"]
                    # Checked by curl itself, too.
                    if coding != "identity":
                        check(curl(f"/ipfs/{cid}/{name}", "-H", f"Accept-Encoding: {coding}", "--compressed")[3] == data, "curl --compressed gets other bytes")
                    status, _, headers, _ = curl(f"/ipfs/{cid}/{name}", "-H", f"Accept-Encoding: {coding}", "-H", f"If-None-Match: {tags[coding]}")
                    check(status == 304, f"its own entity tag: {status}")
                    status, _, headers, got = curl(f"/ipfs/{cid}/{name}", "-H", f"Accept-Encoding: {coding}", "-I")
                    check(status == 200 and headers["etag"] == tags[coding], f"HEAD has {headers.get('etag')}")
                    status, _, headers, got = curl(f"/ipfs/{cid}/{name}", "-H", f"Accept-Encoding: {coding}", "-H", "Range: bytes=100-199")
                    check(status == 206 and "content-encoding" not in headers and got == data[100:200], f"a range: {status} {headers.get('content-encoding')}")
                count.run(f"{name} {coding}", body)
            count.run(f"{name}: four entity tags", lambda: check(len(set(tags.values())) == 4, f"{tags}"))
        def alone():
            for target, want in ((f"/ipfs/{cid}/photo.jpg", noise), (f"/ipfs/{cid}/large.txt?format=raw", None), (f"/ipfs/{cid}?format=car", None), (f"/ipfs/{cid}?format=tar", None)):
                status, _, headers, body = curl(target, "-H", "Accept-Encoding: gzip, br, zstd")
                check(status == 200 and "content-encoding" not in headers and (want is None or body == want), f"{target}: {status} {headers.get('content-encoding')}")
        count.run("what is checked against a CID, and what is compressed already, is left alone", alone)
        def refused():
            check(curl(f"/ipfs/{cid}/large.txt", "-H", "Accept-Encoding: gzip;q=0, br;q=0")[2].get("content-encoding") is None, "encoded though refused")
            check(curl(f"/ipfs/{cid}/large.txt", "-H", "Accept-Encoding: gzip;q=1.0, br;q=0.2, zstd;q=0")[2].get("content-encoding") == "gzip", "weights do not count")
        count.run("weights", refused)
        def page():
            status, _, headers, body = curl(f"/ipfs/{cid}/", "-H", "Accept-Encoding: gzip", "--compressed")
            check(status == 200 and b"large.txt" in body, f"a listing: {status}")
        count.run("a listing, encoded or not", page)


def signed(work, certificates):
    """A signed URL works until it expires, and with none of its bytes altered."""
    node, curl = start(work, certificates, ["one"], ESTUARY_GATEWAY__SIGNED="required", ESTUARY_GATEWAY__SIGNING_KEYS=f"first:{'ab' * 32},second:{'cd' * 32}")
    with node:
        folder = work / "private"
        (folder / "sub").mkdir(parents=True)
        (folder / "secret.txt").write_text("secret\n")
        (folder / "sub/page.html").write_text("<!doctype html><img src=\"picture.svg\">")
        (folder / "sub/picture.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        cid = node.json("add", folder)[0]["cid"]
        path = f"/ipfs/{cid}/secret.txt"
        sign = lambda url, expires, *args: node.json("sign", url, "--expires", expires, *args)[0]["url"]
        def holds():
            url = sign(curl.url(path + "?filename=a.txt"), "1h", "--key", "first")
            status, _, headers, body = curl(url)
            check((status, body) == (200, b"secret\n"), f"{status} {body!r}")
            check("private" in headers.get("cache-control", "") and "immutable" not in headers["cache-control"], f"Cache-Control: {headers.get('cache-control')}")
            check(int(re.search(r"max-age=(\d+)", headers["cache-control"])[1]) <= 3600, headers["cache-control"])
            check("filename=\"a.txt\"" in headers.get("content-disposition", ""), f"{headers.get('content-disposition')}")
            check(curl(url, "-H", f"If-None-Match: {headers['etag']}")[0] == 304, "no 304")
            check(curl(url, "-r", "1-3")[3] == b"ecr", "no range")
        count.run("a signed URL works", holds)
        def unsigned():
            for target in (path, f"/ipfs/{cid}", f"/ipfs/{cid}?format=raw", f"/ipfs/{cid}?format=car", path + "?expires=99999999999&key=first&signature=AAAA"):
                for args in ((), ("-I",), ("-H", "If-None-Match: *"), ("-H", "Range: bytes=0-0"), ("-H", "Cookie: estuary-signed=1.99999999999.first.AAAA")):
                    status, _, headers, _ = curl(target, *args)
                    check(status in (401, 403) and headers.get("cache-control") == "no-store", f"{target} {args}: {status} {headers.get('cache-control')}")
        count.run("nothing works unsigned", unsigned)
        def expires():
            url = sign(curl.url(path), f"{URL_SECONDS}s", "--key", "second")
            end = time.time() + URL_SECONDS
            check(curl(url)[0] == 200, "not at once")
            while time.time() < end - 1.2:
                check(curl(url)[0] == 200 or time.time() >= end - 1.1, "expired early")
            time.sleep(max(0, end + 0.1 - time.time()))
            status, _, _, body = curl(url)
            check(status in (403, 410) and b"expired" in body, f"after its time: {status} {body[:100]!r}")
        count.run("it expires", expires)
        def altered():
            url = urllib.parse.urlsplit(sign(node.gateway + path + "?filename=a.txt", "1h", "--key", "first"))
            target, connection, tried = f"{url.path}?{url.query}", estuary.connect(node.gateway), 0
            def ask(altered):
                nonlocal connection
                try:
                    connection.request("GET", altered)
                    answer = connection.getresponse()
                    return answer.status, answer.read()
                except (http.client.HTTPException, OSError):
                    connection.close()
                    connection = estuary.connect(node.gateway)
                    return 0, b""
            check(ask(target) == (200, b"secret\n"), "the URL itself")
            for at in range(len(target)):
                for other in {chr(ord(target[at]) ^ bit) for bit in (1, 2, 4, 8, 16, 32)} | {"A", "%", "&", "=", "/"}:
                    if other == target[at] or not "!" <= other <= "~": continue
                    status, body = ask(target[:at] + other + target[at + 1:])
                    tried += 1
                    check(not (200 <= status < 300) and b"secret\n" != body, f"{target[:at]}[{other}]{target[at + 1:]}: {status}")
                for changed in (target[:at] + target[at + 1:], target[:at] + target[at] + target[at:]):
                    status, body = ask(changed)
                    tried += 1
                    check(status != 200 or changed == target, f"{changed}: {status}")
            for more in ("&download=true", "&filename=b.txt", "&format=raw", "&x", "#"[:0] + "&expires=99999999999"):
                check(ask(target + more)[0] != 200, f"{more} was added")
            estuary.figure("altered signed URLs", f"{tried:,} tried, none was answered")
        count.run("none of its bytes may be altered", altered)
        def directory():
            url = sign(curl.url(f"/ipfs/{cid}/sub/"), "1h", "--key", "first", "--prefix")
            jar = work / "jar"
            page = url.replace("/sub/?", "/sub/page.html?")
            check(curl(page, "-c", jar)[0] == 200, "a page below it")
            check(curl(f"/ipfs/{cid}/sub/picture.svg", "-b", jar)[0] == 200, "what the page refers to")
            check(curl(f"/ipfs/{cid}/secret.txt", "-b", jar)[0] == 403, "a file above it")
            check(curl(url.replace("/sub/?", "/secret.txt?"))[0] == 403, "a file above it, by the URL")
            check(curl(url.replace("/sub/?", "/sub/../secret.txt?"), "--path-as-is")[0] != 200, "a file above it, by `..`")
            check(curl(url.replace("/sub/?", "/sub/%2e%2e/secret.txt?"), "--path-as-is")[0] != 200, "a file above it, by `%2e%2e`")
        count.run("a directory with all below it", directory)
        def own_origin():
            url = sign(curl.url(path, "localhost"), "1h", "--key", "first")
            status, _, headers, _ = curl(url)
            check(status == 301, f"{status}")
            status, _, _, body = curl(headers["location"])
            check((status, body) == (200, b"secret\n"), f"in its own origin: {status}")
        count.run("it survives the redirect to its own origin", own_origin)


def allow(work, certificates):
    """Only what an allowlist names is answered; the list is read anew while serving."""
    listed = work / "lists"
    listed.mkdir()
    (listed / "own.allow").write_text("# nothing yet\n")
    node, curl = start(work, certificates, ["one"], ESTUARY_GATEWAY__ALLOW=str(listed))
    with node:
        cid = {}
        for name in ("a", "b"):
            (work / name).mkdir()
            (work / name / "x.txt").write_text(f"{name}\n")
            cid[name] = node.json("add", work / name)[0]["cid"]
        targets = lambda name: [f"/ipfs/{cid[name]}/x.txt", f"/ipfs/{cid[name]}/", f"/ipfs/{cid[name]}?format=raw", f"/ipfs/{cid[name]}?format=car"]
        def statuses(name): return {curl(target)[0] for target in targets(name)}
        def refused(name):
            got = statuses(name)
            check(got <= {403, 404, 410, 451}, f"{name}: {got}")
        def wait(name, want):
            end = time.monotonic() + RELOAD_SECONDS_MAX
            while (curl(targets(name)[0])[0] == 200) != want:
                check(time.monotonic() < end, f"{name} did not become {'listed' if want else 'unlisted'} within {RELOAD_SECONDS_MAX} s")
                time.sleep(0.1)
        count.run("nothing is listed, nothing answered", lambda: (refused("a"), refused("b")))
        (listed / "own.allow").write_text(f"/ipfs/{cid['a']}/*\n")
        count.run("what is listed is answered", lambda: (wait("a", True), check(statuses("a") == {200}, f"{statuses('a')}"), refused("b")))
        (listed / "more.allow").write_text(f"/ipfs/{cid['b']}/*\n")
        count.run("another list comes", lambda: (wait("b", True), check(statuses("a") | statuses("b") == {200}, "not both")))
        (listed / "own.allow").unlink()
        count.run("a list goes", lambda: (wait("a", False), refused("a"), check(statuses("b") == {200}, "b")))
        check(node.stop() == 0, "stop")


PARTS = {"versions": versions, "resume": resume, "cut": cut, "encodings": encodings, "signed": signed, "allow": allow}


def main():
    estuary.need_binary()
    estuary.need("curl", "openssl")
    check("HTTP2" in subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout, "curl has no HTTP/2 here")
    parts = sys.argv[1:] or list(PARTS)
    check(all(part in PARTS for part in parts), f"parts are {', '.join(PARTS)}")
    for part in parts:
        work = estuary.scratch("tls")
        try:
            certificates = Certificates(work / "certificates")
            certificates.issue("one", *HOSTS)
            before = count.passed, count.failed
            count.run(part, lambda: PARTS[part](work, certificates))
            estuary.figure(part, f"{count.passed - before[0]} checks held, {count.failed - before[1]} failed")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    print(f"tls: {count.passed} passed, {count.failed} failed")
    sys.exit(1 if count.failed else 0)


main()
