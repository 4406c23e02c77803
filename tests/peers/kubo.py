"""A real Kubo for the scripts here: start it, ask its command line and its RPC API, and the public suite's fixtures."""
import contextlib, hashlib, http.client, json, os, re, signal, subprocess, time, urllib.parse
from pathlib import Path

import estuary
from estuary import Failed, check

HERE = Path(__file__).resolve().parent
os.environ["PATH"] = f"{estuary.PEERS_HOME}/bin:{os.environ['PATH']}"
os.environ["IPFS_TELEMETRY"] = "off"


def ipfs(*args, env=None, ok=True, input=None):
    done = subprocess.run(["ipfs", *map(str, args)], env={**os.environ, **(env or {})}, capture_output=True, input=input or b"", timeout=600)
    if ok and done.returncode:
        raise Failed(f"ipfs {' '.join(map(str, args))}: {done.stderr.decode(errors='replace')[-800:]}")
    return done.stdout


def repo(path, profile):
    env = {"IPFS_PATH": str(path)}
    ipfs("init", "--empty-repo", f"--profile=test,{profile}", env=env)
    return env


@contextlib.contextmanager
def kubo(work, *options):
    """A Kubo that cannot leave loopback, with options of kubo.sh: yields (gateway URL, API multiaddr)."""
    process = subprocess.Popen([str(HERE / "kubo.sh"), "--offline", *options], stdout=open(work / "kubo.out", "w"), stdin=subprocess.DEVNULL,
                               stderr=open(work / "kubo.err", "w"), start_new_session=True)
    try:
        for _ in range(600):
            text = (work / "kubo.out").read_text()
            if ready := re.search(r"^ready (\S+)$", text, re.M):
                yield ready[1], re.search(r"^api (\S+)$", text, re.M)[1]
                return
            check(process.poll() is None, "Kubo did not start: " + (work / "kubo.err").read_text()[-500:])
            time.sleep(0.1)
        raise Failed("Kubo did not start in time")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # it waits for requests that it has lost sight of
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Peer:
    """A program of this folder that runs beside the tests: it prints `NAME VALUE` lines and `ready`, and ends on SIGTERM."""

    def __init__(self, work, name, *command, env=None, seconds=90):
        self.out, self.err = work / f"{name}.out", work / f"{name}.err"
        self.process = subprocess.Popen([str(word) for word in command], stdout=open(self.out, "w"), stderr=open(self.err, "w"), stdin=subprocess.DEVNULL,
                                        env={**os.environ, **(env or {})}, start_new_session=True)
        self.name, self.seconds = name, seconds

    def wait(self):
        end = time.monotonic() + self.seconds
        while not (ready := re.search(r"^ready ?(\S*)$", self.out.read_text(), re.M)):
            check(self.process.poll() is None, f"{self.name} did not start: {self.said()[-800:]}")
            check(time.monotonic() < end, f"{self.name} did not start in time: {self.said()[-800:]}")
            time.sleep(0.05)
        self.ready = ready[1]
        return self

    def said(self):
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def value(self, name):
        found = re.search(rf"^{name} (\S+)", self.out.read_text(), re.M)
        check(found, f"{self.name} says no {name}")
        return found[1]

    def __enter__(self):
        return self.wait()

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Kubo(Peer):
    """A Kubo with libp2p on loopback, with options of kubo.sh. Start several at once, then wait for each."""

    def __init__(self, work, name, *options):
        super().__init__(work, name, HERE / "kubo.sh", *options)

    def wait(self):
        super().wait()
        self.gateway, self.api, self.multiaddr, self.quic, self.peer = self.ready, self.value("api"), self.value("multiaddr"), self.value("quic"), self.value("peer")
        return self

    def ipfs(self, *args, **named):
        return ipfs("--api", self.api, *args, **named)

    def add(self, path, *options):
        return self.ipfs("add", "-Q", "-r", *options, path).decode().strip()

    def cat_hash(self, path, timeout=120):
        """(SHA-256, bytes) of a file, which it may have to fetch."""
        data = self.ipfs("cat", f"--timeout={timeout}s", path)
        return hashlib.sha256(data).hexdigest(), len(data)

    def names(self, path, timeout=120):
        lines = self.ipfs("ls", "--size=false", "--resolve-type=false", f"--timeout={timeout}s", path).decode().splitlines()
        return [line.split(None, 1)[1].strip() for line in lines]  # each after its CID

    def connect(self, multiaddr):
        self.ipfs("swarm", "connect", multiaddr)


def rpc(api, command, data=None, **params):
    """A command of Kubo's RPC API, which starts no process; its answer's bytes. `data` goes as its file."""
    port = api.rsplit("/", 1)[1]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=300)
    try:
        query = urllib.parse.urlencode({key.replace("_", "-"): value for key, value in params.items()})
        body, headers = b"", {}
        if data is not None:
            headers = {"Content-Type": "multipart/form-data; boundary=estuary-rpc"}
            body = b"--estuary-rpc\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + data + b"\r\n--estuary-rpc--\r\n"
        connection.request("POST", f"/api/v0/{command}?{query}", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        check(answer.status == 200, f"{command}: {answer.status} {text[:300]}")
        return text
    finally:
        connection.close()


def dag_put(api, data, codec, given="dag-json"):
    """Puts a node that is given in another codec, without a pin: its CID."""
    return json.loads(rpc(api, "dag/put", data, store_codec=codec, input_codec=given, pin="false"))["Cid"]["/"]


def put_record(api, name, record):
    """Puts an IPNS record; whether Kubo took it."""
    try:
        rpc(api, "routing/put", Path(record).read_bytes(), arg=f"/ipns/{name}", allow_offline="true")
        return True
    except Failed:
        return False


class Fixtures:
    """The public suite's data, from $FIXTURES (cars/, ipns/, dnslinks.json, requests.jsonl)."""

    def __init__(self, root):
        self.root = root
        self.cars = sorted((root / "cars").glob("*.car"))
        # The name is what stands before the first `_` or `.`.
        self.records = [(re.split(r"[_.]", path.name)[0], path) for path in sorted((root / "ipns").glob("*.ipns-record"))]
        self.dnslinks = json.loads((root / "dnslinks.json").read_text())
        self.requests = root / "requests.jsonl"

    def ns_map(self, more=()):
        return ",".join(f"{name}:{path}" for name, path in {**self.dnslinks, **dict(more)}.items())


def fixtures():
    """The fixtures, or None where they are not on this machine."""
    for place in (os.environ.get("FIXTURES"), estuary.REPO / "../shared/peers/fixtures"):
        if place and (Path(place) / "cars").is_dir():
            return Fixtures(Path(place).resolve())
    return None


def car_sections(data):
    """The sections of a CAR v1: its header, then each block with its CID. None when it is cut off."""
    at, out = 0, []
    while at < len(data):
        size = shift = 0
        while True:
            if at == len(data):
                return None
            byte = data[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if at + size > len(data):
            return None
        out.append(data[at:at + size])
        at += size
    return out
