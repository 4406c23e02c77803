"""nginx and Varnish in front of a node, as CDNs are: what they keep, what they ask again, and what it costs the node.

    caches.py [nginx] [varnish]      default: both; needs install.sh load

Cached: the second request does not reach the node. Revalidated: by a 304 for which no block was read. Ranges: byte for byte, also through nginx's
slices. Vary is honoured, cut answers and errors are not kept, and the host that was asked for arrives. Counted by the node's own metrics. Last line
`caches: N passed, N failed`.
"""
import gzip, http.client, os, re, shutil, socket, subprocess, sys, time, urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary, shapes
from estuary import MIB, Failed, Node, check
from kubo import car_sections

SLICE = MIB
os.environ["PATH"] += ":/usr/sbin"


def nginx(work, gateway):
    """nginx with three servers: a plain cache, one that revalidates after a second, one of slices. Yields what to stop and the three addresses."""
    folder, upstream = work / "nginx", urllib.parse.urlsplit(gateway).netloc
    folder.mkdir()
    ports = [estuary.free_port() for _ in range(3)]
    temp = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    cached = f"proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $http_host; proxy_cache one; add_header X-Cache $upstream_cache_status always;"
    # `any` is a trap that many set: what must not be kept says so itself.
    long = "proxy_cache_valid any 10m;"
    # Debian has the slice module built in; elsewhere it may be absent.
    with_slices = "with-http_slice_module" in subprocess.run(["nginx", "-V"], capture_output=True, text=True).stderr
    (folder / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log info; user root;
events {{ worker_connections 512; }}
http {{
  access_log off; {temp}
  proxy_cache_path {folder}/cache keys_zone=one:1m max_size=1g inactive=1h;
  server {{ listen 127.0.0.1:{ports[0]}; location / {{ {cached} {long} proxy_cache_key plain$host$request_uri; }} }}
  server {{ listen 127.0.0.1:{ports[1]}; location / {{ {cached} proxy_cache_key short$host$request_uri; proxy_cache_revalidate on; proxy_ignore_headers Cache-Control Expires; proxy_cache_valid 200 1s; }} }}
  {f'''server {{ listen 127.0.0.1:{ports[2]}; location / {{ slice {SLICE}; {cached} {long} proxy_cache_key slice$host$request_uri$slice_range; proxy_set_header Range $slice_range; }} }}''' if with_slices else ''}
}}""")
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], stdin=subprocess.DEVNULL)
    wait(process, ports[0])
    return process, [f"127.0.0.1:{port}" for port in ports[:3 if with_slices else 2]]


def varnish(work, gateway):
    """Varnish with two sites: as it is, and, below the port of the second, with a lifetime of a second."""
    folder, upstream = work / "varnish", urllib.parse.urlsplit(gateway)
    folder.mkdir()
    ports = [estuary.free_port(), estuary.free_port()]
    (folder / "default.vcl").write_text(f"""vcl 4.1;
import std;
backend node {{ .host = "{upstream.hostname}"; .port = "{upstream.port}"; }}
sub vcl_hash {{ hash_data(std.port(local.ip)); }}
sub vcl_recv {{ unset req.http.X-Short; if (std.port(local.ip) == {ports[1]}) {{ set req.http.X-Short = "1"; }} }}
sub vcl_backend_response {{
  if (beresp.status == 200 && bereq.http.X-Short) {{ set beresp.ttl = 1s; set beresp.grace = 0s; set beresp.keep = 1h; }}
}}
sub vcl_deliver {{ if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }} else {{ set resp.http.X-Cache = "MISS"; }} }}
""")
    listen = [word for port in ports for word in ("-a", f"127.0.0.1:{port}")]
    process = subprocess.Popen(["varnishd", "-F", "-n", str(folder / "run"), "-f", str(folder / "default.vcl"), "-s", "malloc,256m", "-T", "none", *listen],
                               stdin=subprocess.DEVNULL, stdout=open(folder / "log", "w"), stderr=subprocess.STDOUT)
    wait(process, ports[0])
    return process, [f"127.0.0.1:{port}" for port in ports]


def wait(process, port):
    for _ in range(200):
        check(process.poll() is None, f"{process.args[0]} ended with {process.returncode}")
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    raise Failed(f"{process.args[0]} did not start")


class Answer:
    def __init__(self, status, headers, body, cut):
        self.status, self.headers, self.body, self.cut = status, headers, body, cut


def ask(address, target, method="GET", host=None, **headers):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or address)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        try:
            body, cut = answer.read(), False
        except (http.client.IncompleteRead, ConnectionError, ValueError) as error:
            body, cut = getattr(error, "partial", b""), True
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body, cut)
    except (http.client.BadStatusLine, ConnectionError):
        return Answer(0, {}, b"", True)
    finally:
        connection.close()


class Counts:
    """What the node has done so far."""

    def __init__(self, node):
        text = estuary.get(node.admin + "/metrics")[2].decode()
        total = lambda name, label="": sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line) and label in line)
        self.requests = int(total("estuary_gateway_responses_total"))
        self.blocks = int(total("estuary_retrieval_blocks_total") + total("estuary_cache_hits_total") + total("estuary_cache_misses_total") + total("estuary_blockstore_read_blocks_total"))
        self.bytes = int(total("estuary_retrieval_bytes_total") + total("estuary_blockstore_read_bytes_total"))
        self.fresh = int(total("estuary_gateway_responses_total", 'status="304"'))


class Proof:
    """The content, and what each cache has to do with it."""

    def __init__(self, node, work):
        self.node, self.work, self.passed, self.failed = node, work, 0, 0
        self.serial = 0
        site = work / "site"
        (site / "sub").mkdir(parents=True)
        (site / "hello.txt").write_text("hello caches\n" * 1000)
        (site / "big.bin").write_bytes(shapes.stream("caches", 5 * MIB + 123))
        (site / "sub/page.html").write_text("<!doctype html><title>page</title>\n")
        self.big = (site / "big.bin").read_bytes()
        self.site = node.json("add", site)[0]["cid"]
        self.file = node.json("add", site / "big.bin")[0]["cid"]

    def fresh(self):
        """A query that nobody asked before, so that nothing is kept of it."""
        self.serial += 1
        return f"n={self.serial}"

    def test(self, name, run):
        try:
            run()
            self.passed += 1
        except (Failed, OSError, KeyError) as error:
            self.failed += 1
            print(f"FAIL {name}: {str(error)[:500]}", flush=True)

    def reached(self, run):
        """(what `run` gives, what the node did meanwhile)."""
        before = Counts(self.node)
        answer = run()
        time.sleep(0.02)  # a response counts once it is through
        after = Counts(self.node)
        return answer, {field: getattr(after, field) - getattr(before, field) for field in ("requests", "blocks", "bytes", "fresh")}

    def cached(self, at, what, target, **headers):
        """The second request for it stays before the node, and says the same."""
        separator = "&" if "?" in target else "?"
        target = f"{target}{separator}{self.fresh()}"
        first, did = self.reached(lambda: ask(at, target, **headers))
        check(first.status in (200, 206) and did["requests"] >= 1, f"{what}: {first.status}, {did}")
        second, did = self.reached(lambda: ask(at, target, **headers))
        check(did["requests"] == 0, f"{what}: the second request reached the node ({second.headers.get('x-cache')})")
        check((second.status, second.body) == (first.status, first.body), f"{what}: {second.status}, {len(second.body)} bytes; before {first.status}, {len(first.body)}")

    def run(self, name, addresses):
        plain, short, *sliced = addresses
        root, car = f"/ipfs/{self.site}", f"/ipfs/{self.site}?format=car"
        for what, target, headers in (("file", f"{root}/hello.txt", {}), ("large file", f"{root}/big.bin", {}), ("raw block", f"/ipfs/{self.site}?format=raw", {}), ("CAR", car, {}), ("listing", f"{root}/", {}),
                                      ("TAR", f"/ipfs/{self.site}?format=tar", {}), ("page", f"{root}/sub/page.html", {"Accept": "text/html"})):
            self.test(f"{name}: keeps a {what}", lambda: self.cached(plain, what, target, **headers))
        self.test(f"{name}: keeps content in its own origin", lambda: self.own_origin(plain))
        asked = []
        for what, target, none in (("file of a CID", f"/ipfs/{self.file}", True), ("raw block", f"/ipfs/{self.site}?format=raw", True), ("CAR", car, True), ("TAR", f"/ipfs/{self.file}?format=tar", True), ("file by a path", f"{root}/big.bin", False), ("listing", f"{root}/", False)):
            target += f"{'&' if '?' in target else '?'}{self.fresh()}"
            asked.append((what, target, none, ask(short, target)))
        time.sleep(2.2)  # nginx counts whole seconds, and a lifetime of one may take two
        for what, target, none, first in asked:
            self.test(f"{name}: revalidates a {what}", lambda: self.revalidated(short, what, target, none, first))
        for span, first, last in (("bytes=0-99", 0, 99), (f"bytes={SLICE - 10}-{SLICE + 10}", SLICE - 10, SLICE + 10), (f"bytes={3 * SLICE}-", 3 * SLICE, len(self.big) - 1), ("bytes=-1000", len(self.big) - 1000, len(self.big) - 1), (f"bytes={SLICE}-{4 * SLICE}", SLICE, 4 * SLICE)):
            for where, address in (("plain", plain), *([("slices", sliced[0])] if sliced else [])):
                self.test(f"{name}: {span} by {where}", lambda: self.range(address, span, first, last))
        if sliced: self.test(f"{name}: slices are asked once, and only those that are wanted", lambda: self.slices(sliced[0]))
        elif name == "nginx": print("SKIPPED nginx has no slice module here")
        self.test(f"{name}: Vary by Accept", lambda: self.vary(plain))
        self.test(f"{name}: Vary by Accept-Encoding", lambda: self.encodings(plain))
        for status, target, headers in ((404, f"{root}/not-there", {}), (404, "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", {}), (400, "/ipfs/notacid", {}), (406, f"{root}?format=dag-json", {}), (400, f"{root}?format=ipns-record", {}),
                                        (412, "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", {"Cache_Control": "only-if-cached"}), (500, "/nothing", {"host": f"{self.broken_site()}.ipfs.localhost"})):
            if status == 412 and name == "varnish": continue  # it does not pass that header on
            self.test(f"{name}: keeps no {status}", lambda: self.not_kept(plain, status, target, headers))
        for form in ("", "?format=car"):
            self.test(f"{name}: keeps nothing that was cut{form}", lambda: self.cut(plain, form))
        self.test(f"{name}: the host arrives", lambda: self.hosts(plain))

    def own_origin(self, at):
        host = f"{self.site}.ipfs.localhost:{at.split(':')[1]}"
        target = f"/hello.txt?{self.fresh()}"
        first, did = self.reached(lambda: ask(at, target, host=host))
        check(first.status == 200 and did["requests"] == 1, f"{first.status}, {did}")
        second, did = self.reached(lambda: ask(at, target, host=host))
        check(did["requests"] == 0 and second.body == first.body, f"{second.status}, {did}")
        other, did = self.reached(lambda: ask(at, target, host=f"{self.file}.ipfs.localhost:{at.split(':')[1]}"))
        check(did["requests"] == 1 and other.body != first.body, "another origin got the same answer")

    def broken_site(self):
        if not hasattr(self, "broken"):
            folder = self.work / "broken"
            folder.mkdir()
            (folder / "_redirects").write_text("/a /b 299\n")
            self.broken = self.node.json("add", folder)[0]["cid"]
        return self.broken

    def revalidated(self, at, what, target, none, first):
        check(first.status == 200 and first.headers.get("etag"), f"{what}: {first.status}")
        second, did = self.reached(lambda: ask(at, target))
        check(second.status == 200 and second.body == first.body, f"{what}: {second.status}, {len(second.body)} bytes")
        check(did["requests"] == 1 and did["fresh"] == 1, f"{what}: not by a 304: {did}, {second.headers.get('x-cache')}")
        check(did["blocks"] == 0 if none else did["bytes"] <= 64 << 10, f"{what}: a conditional request read blocks: {did}")

    def range(self, at, span, first, last):
        answer = ask(at, f"/ipfs/{self.file}?{self.fresh()}", Range=span)
        want = self.big[first:last + 1]
        check(answer.status == 206 and answer.body == want, f"{answer.status}, {len(answer.body)} bytes of {len(want)}, {answer.headers.get('content-range')}")
        check(answer.headers.get("content-range") == f"bytes {first}-{last}/{len(self.big)}", answer.headers.get("content-range"))

    def slices(self, at):
        target = f"/ipfs/{self.file}?{self.fresh()}"
        whole, span = range(len(self.big) // SLICE + 1), f"bytes={SLICE + 5}-{2 * SLICE + 5}"
        answer, did = self.reached(lambda: ask(at, target, Range=span))
        check(answer.status == 206 and did["requests"] == 2, f"two slices: {answer.status}, {did}")
        answer, did = self.reached(lambda: ask(at, target))
        check(answer.body == self.big and did["requests"] == len(whole) - 2, f"the rest: {len(answer.body)} bytes, {did}")
        answer, did = self.reached(lambda: ask(at, target))
        check(answer.body == self.big and did["requests"] == 0, f"again: {len(answer.body)} bytes, {did}")

    def vary(self, at):
        target = f"/ipfs/{self.site}/hello.txt?{self.fresh()}"
        kinds = ((None, "text/plain"), ("application/vnd.ipld.raw", "application/vnd.ipld.raw"), ("application/vnd.ipld.car", "application/vnd.ipld.car"), (None, "text/plain"), ("application/vnd.ipld.raw", "application/vnd.ipld.raw"))
        for accept, want in kinds:
            answer = ask(at, target, **({"Accept": accept} if accept else {}))
            check(answer.status == 200 and answer.headers["content-type"].startswith(want), f"{accept}: {answer.status} {answer.headers.get('content-type')}, Vary {answer.headers.get('vary')}")

    def encodings(self, at):
        target, plain = f"/ipfs/{self.site}/hello.txt?{self.fresh()}", (self.work / "site/hello.txt").read_bytes()
        for encoding in ("gzip", None, "gzip", "br", None):
            answer = ask(at, target, **({"Accept-Encoding": encoding} if encoding else {}))
            got = answer.headers.get("content-encoding")
            check(answer.status == 200 and got in ((encoding, None) if encoding else (None,)), f"asked for {encoding}, got {got}; Vary {answer.headers.get('vary')}")
            check(got is not None or answer.body == plain, f"{encoding}: other bytes")
            if got == "gzip":
                check(gzip.decompress(answer.body) == plain, "gzip: other bytes")

    def not_kept(self, at, status, target, headers):
        separator = "&" if "?" in target else "?"
        target = f"{target}{separator}{self.fresh()}"
        for _ in range(2):
            answer, did = self.reached(lambda: ask(at, target, **headers))
            check(answer.status == status, f"{answer.status}, not {status}")
            check(did["requests"] == 1, f"{status} was kept: {answer.headers.get('cache-control')}, {answer.headers.get('x-cache')}")

    def cut(self, at, form):
        """A file whose last block is not there: the answer breaks off. When the block has come, the answer is whole."""
        data = shapes.stream(f"cut {at} {form}", 3 * MIB + 5)
        source, car = self.work / "source", self.work / "cut.car"
        source.write_bytes(data)
        other = Node(self.work / f"other-{time.time_ns()}", self.node.env)
        cid = other.json("add", source)[0]["cid"]
        other.run("export", cid, "-o", car)
        sections = car_sections(car.read_bytes())
        def write(chosen):
            with open(car, "wb") as out:
                for section in chosen:
                    size, head = len(section), b""
                    while size >= 128: head, size = head + bytes([size & 127 | 128]), size >> 7
                    out.write(head + bytes([size]) + section)
            self.node.run("import", "--no-pin", car, ok=None)
        write(sections[:-1])
        target = f"/ipfs/{cid}{form}"
        for _ in range(2):
            answer, did = self.reached(lambda: ask(at, target))
            check(answer.cut or answer.status >= 500, f"{answer.status}, {len(answer.body)} bytes, whole")
            check(did["requests"] >= 1, "a cut answer was kept")
        write([sections[0], sections[-1]])
        time.sleep(float(self.node.env["ESTUARY_RETRIEVAL__ABSENT_TTL_MS"]) / 1000 + 0.1)
        answer = ask(at, target)
        check(answer.status == 200 and not answer.cut and (form or answer.body == data), f"once all is there: {answer.status}, {len(answer.body)} bytes, cut: {answer.cut}")

    def hosts(self, at):
        port = at.split(":")[1]
        answer = ask(at, f"/ipfs/{self.site}/hello.txt?a=b", host=f"localhost:{port}")
        check((answer.status, answer.headers.get("location")) == (301, f"http://{self.site}.ipfs.localhost:{port}/hello.txt?a=b"), f"{answer.status} {answer.headers.get('location')}")
        answer = ask(at, "/hello.txt", host=f"{self.site}.ipfs.localhost:{port}")
        check(answer.status == 200, f"{answer.status}")


def main():
    chosen = sys.argv[1:] or ["nginx", "varnish"]
    check(set(chosen) <= {"nginx", "varnish"}, "there are nginx and varnish")
    estuary.need_binary()
    estuary.need(*("varnishd" if name == "varnish" else name for name in chosen))
    work = estuary.scratch("caches")
    os.chmod(work, 0o755)  # Varnish gives up root
    node, processes = Node(work / "node", {"ESTUARY_RETRIEVAL__ABSENT_TTL_MS": "100"}), []
    try:
        node.start()
        proof = Proof(node, work)
        for name in chosen:
            before = proof.passed, proof.failed
            process, addresses = (nginx if name == "nginx" else varnish)(work, node.gateway)
            processes.append(process)
            proof.run(name, addresses)
            estuary.figure(f"{name} in front", f"{proof.passed - before[0]} checks held, {proof.failed - before[1]} failed")
        check(node.stop() == 0, "stop")
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)
        node.kill()
        shutil.rmtree(work, ignore_errors=True)
    print(f"caches: {proof.passed} passed, {proof.failed} failed")
    sys.exit(1 if proof.failed else 0)


try:
    main()
except Failed as failed:
    sys.exit(f"caches: FAILED: {failed}")
