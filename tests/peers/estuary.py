"""A real Estuary process for the scripts here and in tests/evidence: start, ask, stop, kill. Python 3.9, nothing else.

The binary is $ESTUARY, or target/release/estuary. Nodes listen on free ports of 127.0.0.1 and are found by `estuary status`.
"""
import hashlib, http.client, json, os, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.parse
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PEERS_HOME = Path(os.environ.get("PEERS_HOME", Path.home() / ".cache/estuary-peers"))
BIN = os.environ.get("ESTUARY", str(Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "release/estuary"))
START_SECONDS = 60
MIB = 1 << 20
# Told to end, a script still ends what it started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Failed(Exception):
    """A command or a check failed; the text says which."""


def figure(what, value):
    """One line of evidence: tests/evidence/run.py collects these."""
    print(f"figure {what}: {value}", flush=True)


def check(ok, text):
    if not ok:
        raise Failed(text)


def skip(why):
    print(f"SKIPPED: {why}", flush=True)
    sys.exit(77)


def need(*commands):
    for command in commands:
        if not shutil.which(command):
            skip(f"{command} is not installed")


def need_binary():
    check(os.access(BIN, os.X_OK), f"{BIN} is missing: cargo build --release, or set ESTUARY")


def scratch(name):
    """A new folder that the caller removes; below $SCRATCH where the usual one is too small."""
    return Path(tempfile.mkdtemp(prefix=f"estuary-{name}-", dir=os.environ.get("SCRATCH")))


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def raw_cid(data):
    """The CID of a file of one raw leaf: CIDv1, raw, sha2-256, base32."""
    import base64
    body = b"\x01\x55\x12\x20" + hashlib.sha256(data).digest()
    return "b" + base64.b32encode(body).decode().lower().rstrip("=")


def status_field(pid, field):
    """A field of /proc/PID/status in MiB: VmRSS, VmHWM."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise Failed(f"no {field} of {pid}")


def network(peering=(), bootstrap=(), dht="off", delegated=(), listen=("/ip4/127.0.0.1/tcp/0",)):
    """The environment of a node that knows only whom it is told of, and dials loopback."""
    join = lambda values: ",".join([values] if isinstance(values, str) else values)
    return {"ESTUARY_OFFLINE": None, "ESTUARY_P2P__LISTEN": join(listen), "ESTUARY_P2P__PEERING": join(peering), "ESTUARY_P2P__BOOTSTRAP": join(bootstrap),
            "ESTUARY_ROUTING__DHT": dht, "ESTUARY_ROUTING__DELEGATED": join(delegated), "ESTUARY_NETWORK__ALLOW_PRIVATE": "true"}


class Node:
    """A node on a data directory of its own, offline unless `env` says otherwise (see `network`)."""

    def __init__(self, data_dir, env=None, wrap=()):
        self.data_dir, self.wrap, self.process = Path(data_dir), list(wrap), None
        listen = {f"ESTUARY_{room}__LISTEN": "127.0.0.1:0" for room in ("GATEWAY", "API", "ADMIN")}
        self.env = {key: value for key, value in {**os.environ, **listen, "ESTUARY_OFFLINE": "1", **(env or {})}.items() if value is not None}
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_path = self.data_dir.with_name(self.data_dir.name + ".log")

    def command(self, *args):
        return [BIN, "--data-dir", str(self.data_dir), *map(str, args)]

    def spawn(self):
        """Starts the process and does not wait."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.wrap, *self.command("serve")], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def wait_ready(self, seconds=START_SECONDS, ready=True):
        """Waits until the node answers, and, unless not `ready`, until it says that it is ready: on a full disk it is not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"the node ended with {self.process.returncode}: {self.log()}")
            asked = self.run("status", "--json", ok=None)
            if asked.returncode == 0:
                status = json.loads(asked.stdout)
                if status["ready"] or not ready:
                    self.status = status
                    self.gateway, self.api, self.admin = (status[room]["url"].rstrip("/") for room in ("gateway", "api", "admin"))
                    return self
            time.sleep(0.02)
        raise Failed(f"the node was not ready after {seconds} s: {self.log()}")

    def start(self, seconds=START_SECONDS):
        return self.spawn().wait_ready(seconds)

    def log(self):
        return self.log_path.read_bytes()[-3000:].decode(errors="replace") if self.log_path.exists() else ""

    def run(self, *args, ok=0, input=None, timeout=600):
        """A command against this node. `ok`: the exit status it must have; None for any."""
        done = subprocess.run(self.command(*args), env=self.env, capture_output=True, input=input or b"", timeout=timeout)
        if ok is not None and done.returncode != ok:
            raise Failed(f"estuary {' '.join(map(str, args))}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-1500:]}")
        return done

    def json(self, *args, ok=0, timeout=600):
        """The lines a command prints with --json."""
        return [json.loads(line) for line in self.run(*args, "--json", ok=ok, timeout=timeout).stdout.splitlines() if line.strip()]

    def key(self):
        return self.json("key", "create", "--label", "script")[0]["key"]

    def address(self, part="/tcp/"):
        """The first multiaddress of it with this in it, with its peer id at the end."""
        found = [a for a in self.json("status")[0]["addresses"] if part in a]
        check(found, f"no address with {part}: {self.json('status')[0]['addresses']}")
        return found[0] if "/p2p/" in found[0] else f"{found[0]}/p2p/{self.status['peer_id']}"

    def peers(self):
        """The peers it is connected with: id -> the addresses of the connections."""
        return {line["peer"]: [one["address"] for one in line["connections"]] for line in self.json("swarm", "peers")}

    def metric(self, name):
        """The sum of a metric over its labels; `name` may end in labels, `x{a="b"`."""
        lines = get(self.admin + "/metrics")[2].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and line[len(name):len(name) + 1] in " {,}")

    def stop(self, seconds=60):
        """SIGTERM; the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"the node did not end within {seconds} s of SIGTERM") from None

    def kill(self):
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def connect(url, timeout=120):
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)


def get(url, headers=None, method="GET", timeout=120):
    """(status, headers, body) of one request. A body that is cut short raises."""
    parts = urllib.parse.urlsplit(url)
    connection = connect(url, timeout)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target or "/", headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def get_hash(url, timeout=300):
    """(status, SHA-256, bytes) of a body, read in pieces."""
    parts = urllib.parse.urlsplit(url)
    connection = connect(url, timeout)
    try:
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        digest, size = hashlib.sha256(), 0
        while piece := answer.read(MIB):
            digest.update(piece)
            size += len(piece)
        return answer.status, digest.hexdigest(), size
    finally:
        connection.close()


def upload(api, key, data, name="file.bin", timeout=300):
    """POST /content/add: (status, the answer's JSON or text). Raises OSError when the node goes away."""
    boundary = "estuary" + os.urandom(12).hex()
    head = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"{name}\"\r\n"
            f"Content-Type: application/octet-stream\r\n\r\n").encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    connection = connect(api, timeout)
    try:
        connection.putrequest("POST", "/content/add")
        connection.putheader("Authorization", f"Bearer {key}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(len(head) + len(data) + len(tail)))
        connection.endheaders()
        try:
            connection.send(head)
            for at in range(0, len(data), 1 << 18):
                connection.send(data[at:at + (1 << 18)])
            connection.send(tail)
        except (BrokenPipeError, ConnectionResetError):
            pass  # an early refusal: its answer may still be readable
        answer = connection.getresponse()
        body = answer.read()
        try:
            return answer.status, json.loads(body)
        except ValueError:
            return answer.status, body.decode(errors="replace")
    finally:
        connection.close()
