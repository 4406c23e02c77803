"""Estuary among real peers on loopback: Kubo, Helia, a private DHT, HTTP providers, Lassie.

    network.py [SECTION...]      sections: kubo helia dht http errors offline (default: all)

Needs install.sh kubo helia frisbii routing lassie lassie-bitswap, and target/release/estuary (or $ESTUARY). Each section prints `NAME: N held`, or
what failed; one whose peer is not installed says so. Last line `network: N held, N failed, N skipped`. NETWORK_LOG=DIR keeps the nodes' logs.
"""
import contextlib, hashlib, json, os, re, shutil, socket, subprocess, sys, threading, time, urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary, shapes
from estuary import MIB, Failed, Node, check, get, get_hash, network
from kubo import Kubo, Peer

HERE = Path(__file__).resolve().parent
FILE_BYTES = 64 * MIB
ENTRIES = 10_000
PROFILES = {"v0": ("--cid-version=0", "--raw-leaves=false"), "v1": ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576")}
# What an empty node may take to find and fetch something small.
FIND_SECONDS = 30


class Count:
    """What held, of a section and of all."""
    held = failed = skipped = 0

    def __init__(self, name):
        self.name, self.own = name, 0

    def run(self, what, test):
        """One check; what it raises is its failure."""
        start = time.monotonic()
        try:
            test()
            self.own += 1
            Count.held += 1
        except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            Count.failed += 1
            print(f"FAIL {self.name}: {what}: {type(error).__name__}: {str(error)[:700]}", flush=True)
        if os.environ.get("VERBOSE"): print(f"  {what}: {time.monotonic() - start:.1f} s", flush=True)

    def skip(self, why):
        Count.skipped += 1
        print(f"SKIPPED {self.name}: {why}", flush=True)


def content(work):
    """A file and a folder that must be sharded: (path, path, SHA-256, names)."""
    file, folder = work / "file.bin", work / "folder"
    if not file.exists():
        file.write_bytes(shapes.stream("network", FILE_BYTES))
        folder.mkdir()
        shapes.tiny(ENTRIES)(folder)
    return file, folder, hashlib.sha256(file.read_bytes()).hexdigest(), [f"file-{n:05}.txt" for n in range(ENTRIES)]


def same_file(url, want, size=FILE_BYTES):
    start = time.monotonic()
    status, digest, got = get_hash(url)
    check((status, digest, got) == (200, want, size), f"{url}: {status}, {got} bytes of {size}")
    return size / MIB / (time.monotonic() - start)


def same_folder(node, cid, names):
    """The listing, and entries from all over it."""
    listed = [line["name"] for line in node.json("ls", cid)]
    check(sorted(listed) == names, f"{len(listed)} names of {len(names)}, other names or twice")
    for n in (0, 1, len(names) // 2, len(names) - 1):
        status, _, body = get(f"{node.gateway}/ipfs/{cid}/{names[n]}")
        check(status == 200 and body == f"{n}\n".encode(), f"{names[n]}: {status} {body[:200]}")
    check(get(f"{node.gateway}/ipfs/{cid}/none")[0] == 404, "a name that is not there")


@contextlib.contextmanager
def started(work, name, env):
    node = Node(work / name, env)
    try:
        yield node.start()
        check(node.stop() == 0, f"{name}: the exit status is not 0")
    finally:
        node.kill()
        if keep := os.environ.get("NETWORK_LOG"):
            os.makedirs(keep, exist_ok=True)
            shutil.copy(node.log_path, keep)
        shutil.rmtree(node.data_dir, ignore_errors=True)


def kubo(work, count):
    """Both directions, over TCP and over QUIC, CIDv0 and v1."""
    file, folder, digest, names = content(work)
    rates = {}
    with Kubo(work, "kubo") as peer:
        cids = {version: (peer.add(file, *options), peer.add(folder, *options)) for version, options in PROFILES.items()}
        for transport, address, listen in (("TCP", peer.multiaddr, "/ip4/127.0.0.1/tcp/0"), ("QUIC", peer.quic, "/ip4/127.0.0.1/udp/0/quic-v1")):
            with started(work, f"kubo-{transport}", network(address, listen=listen)) as node:
                for version, (one, many) in cids.items():
                    def fetch():
                        rates[f"from Kubo, {transport}, {version}"] = same_file(f"{node.gateway}/ipfs/{one}", digest)
                    count.run(f"file of Kubo's over {transport}, {version}", fetch)
                    count.run(f"folder of Kubo's over {transport}, {version}", lambda: same_folder(node, many, names))
                used = [a for addresses in node.peers().values() for a in addresses]
                count.run(f"the connection is {transport}", lambda: check(used and all(("quic" in a) == (transport == "QUIC") for a in used), f"{used}"))
        # What a second Kubo must have from us; it has none of it, and knows nobody else.
        for transport, listen, part in (("TCP", "/ip4/127.0.0.1/tcp/0", "/tcp/"), ("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1", "/quic-v1")):
            with started(work, f"serve-{transport}", network(listen=listen)) as node, Kubo(work, f"asks-{transport}") as other:
                other.connect(node.address(part))
                for profile in ("unixfs-v1-2025", "unixfs-v0-2015"):
                    one, many = (node.json("add", path, "--profile", profile)[0]["cid"] for path in (file, folder))
                    def fetch():
                        start = time.monotonic()
                        check(other.cat_hash(one) == (digest, FILE_BYTES), "other bytes")
                        rates[f"to Kubo, {transport}, {profile}"] = FILE_BYTES / MIB / (time.monotonic() - start)
                    count.run(f"our file by Kubo over {transport}, {profile}", fetch)
                    count.run(f"our folder by Kubo over {transport}, {profile}", lambda: check(sorted(other.names(many)) == names, "other names"))
                    count.run(f"an entry of it, {profile}", lambda: check(other.ipfs("cat", "--timeout=20s", f"{many}/{names[77]}") == b"77\n", "other bytes"))
    estuary.figure("64 MiB, MiB/s", "; ".join(f"{what} {rate:.0f}" for what, rate in rates.items()))


def helia_lines(*words, timeout=180):
    done = subprocess.run([str(HERE / "helia"), *map(str, words)], capture_output=True, text=True, timeout=timeout)
    lines = {line["event"]: line for line in map(json.loads, filter(lambda l: l.startswith("{"), done.stdout.splitlines()))}
    check("error" not in lines and done.returncode == 0, f"{lines.get('error')} {done.stderr[-300:]}")
    return lines


def helia(work, count):
    """Both directions, over WebSocket and over TCP."""
    if not (estuary.PEERS_HOME / "node_modules/@libp2p/websockets").is_dir():
        return count.skip("install.sh helia")
    file, folder, digest, names = content(work)
    listing = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
    for transport, words, listen, part in (("WebSocket", ["--ws"], "/ip4/127.0.0.1/tcp/0/ws", "/ws"), ("TCP", [], "/ip4/127.0.0.1/tcp/0", "/tcp/")):
        with Peer(work, f"helia-{transport}", HERE / "helia", "helia_serve.mjs", *words, file, *([folder] if words else [])) as peer:
            added = [line["cid"] for line in map(json.loads, filter(lambda l: l.startswith("{"), peer.out.read_text().splitlines())) if line["event"] == "added"]
            with started(work, f"helia-asks-{transport}", network(peer.ready, listen=listen)) as node:
                count.run(f"Helia's file over {transport}", lambda: same_file(f"{node.gateway}/ipfs/{added[0]}", digest))
                if len(added) > 1: count.run(f"Helia's folder over {transport}", lambda: same_folder(node, added[1], names))
        with started(work, f"helia-serves-{transport}", network(listen=listen)) as node:
            one, many = (node.json("add", path)[0]["cid"] for path in (file, folder))
            def fetch():
                got = helia_lines("helia_get.mjs", node.address(part), one)["got"]
                check((got["sha256"], got["bytes"]) == (digest, FILE_BYTES), f"{got}")
            count.run(f"our file by Helia over {transport}", fetch)
            def listed():
                got = helia_lines("helia_get.mjs", node.address(part), many, "--ls")["listed"]
                check((got["names"], got["sha256"]) == (ENTRIES, listing), f"{got}")
            # Helia looks at each entry: 20 s.
            if words: count.run(f"our folder by Helia over {transport}", listed)


def until(seconds, test):
    """Repeats until it holds; its last failure when time is up."""
    end = time.monotonic() + seconds
    while True:
        try:
            return test()
        except (Failed, OSError) as error:
            if time.monotonic() > end: raise Failed(f"not within {seconds} s: {error}") from None
            time.sleep(0.3)


class Signer(Kubo):
    """A Kubo without a network, whose keys sign names."""

    def __init__(self, work):
        super().__init__(work, "signer", "--offline")
        self.keys = 0

    def sign(self, path):
        """(name, the bytes of a record that says this path), by a new key."""
        self.keys += 1
        self.ipfs("key", "gen", f"key-{self.keys}")
        name = json.loads(self.ipfs("name", "publish", "--allow-offline", "--resolve=false", f"--key=key-{self.keys}", "--enc=json", path))["Name"]
        status, _, signed = get(f"{self.gateway}/ipns/{name}?format=ipns-record")
        check(status == 200, f"a record of {name}: {status}")
        return name, signed


def dht(work, count):
    """A private network of five Kubos with the DHT on."""
    with contextlib.ExitStack() as stack:
        kubos = [Kubo(work, f"dht-{n}", "--dht") for n in range(5)]
        for one in kubos: stack.enter_context(one)
        signer = stack.enter_context(Signer(work))
        for one in kubos[1:]: one.connect(kubos[0].multiaddr)
        for one in kubos[2:]: one.connect(kubos[1].multiaddr)
        theirs, ours = work / "theirs", work / "ours"
        theirs.write_bytes(shapes.stream("theirs", 3 * MIB))
        ours.write_bytes(shapes.stream("ours", 3 * MIB))
        cid = kubos[4].add(theirs, "--cid-version=1")
        kubos[4].ipfs("routing", "provide", cid)
        name = json.loads(kubos[4].ipfs("name", "publish", "--enc=json", f"/ipfs/{cid}"))["Name"]
        # It knows only the first, which has nothing.
        for mode in ("client", "server"):
            with started(work, f"dht-{mode}", network(bootstrap=kubos[0].multiaddr, dht=mode)) as node:
                digest = hashlib.sha256(theirs.read_bytes()).hexdigest()
                count.run(f"{mode}: what a Kubo provides is found and fetched", lambda: until(FIND_SECONDS, lambda: same_file(f"{node.gateway}/ipfs/{cid}", digest, 3 * MIB)))
                def found():
                    lines = node.json("find", cid)
                    check(any(line.get("peer") == kubos[4].peer for line in lines), f"find: {lines}")
                count.run(f"{mode}: `find` names it", found)
                count.run(f"{mode}: a name that a Kubo published", lambda: until(FIND_SECONDS, lambda: same_file(f"{node.gateway}/ipns/{name}", digest, 3 * MIB)))
                mine = node.json("add", ours, "--profile", "unixfs-v1-2025")[0]["cid"]
                def provided():
                    said = kubos[3].ipfs("routing", "findprovs", "--timeout=5s", mine, ok=False).decode()
                    check(node.status["peer_id"] in said, f"findprovs: {said!r}")
                count.run(f"{mode}: a Kubo finds us by the DHT", lambda: until(60, provided))
                count.run(f"{mode}: and fetches from us", lambda: check(kubos[3].cat_hash(mine, 30) == (hashlib.sha256(ours.read_bytes()).hexdigest(), 3 * MIB), "other bytes"))
                kubos[3].ipfs("repo", "gc")
                # A record that a key of nobody here signed, put into Estuary: it publishes it.
                key, signed = signer.sign(f"/ipfs/{mine}")
                def published():
                    said = kubos[2].ipfs("name", "resolve", "--nocache", "--timeout=10s", key, ok=False).decode().strip()
                    check(said == f"/ipfs/{mine}", f"name resolve: {said!r}")
                def put():
                    node.run("name", "put", key, "-", input=signed)
                    until(30, published)
                count.run(f"{mode}: a name that we published, by a Kubo", put)


@contextlib.contextmanager
def silent_server():
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        kept = []
        def accept():
            with contextlib.suppress(OSError):
                while True: kept.append(listener.accept()[0])
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for one in kept: one.close()


# Identities that nobody holds the keys of.
PEER_IDS = ["12D3KooWGRUaZDWhiKRJBJUkrk3s2iyVBhAkyRWQYhJHL5UcGZzY", "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp", "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"]


def record(peer, addresses, *protocols):
    return {"Schema": "peer", "ID": peer, "Addrs": addresses, "Protocols": list(protocols)}


def http_record(peer, url):
    return record(peer, [f"/ip4/127.0.0.1/tcp/{urllib.parse.urlsplit(url).port}/http"], "transport-ipfs-gateway-http")


def http(work, count):
    """A delegated router and HTTP providers, no Bitswap; and Lassie as our client."""
    if not all(shutil.which(program) for program in ("routing", "frisbii")):
        return count.skip("install.sh routing frisbii")
    file, folder, digest, names = content(work)
    table = work / "table.json"
    with Kubo(work, "gateway") as peer:
        one, many = (peer.add(path, *PROFILES["v1"]) for path in (file, folder))
        car = work / "frisbii.car"
        small = work / "small.bin"
        small.write_bytes(shapes.stream("frisbii", 8 * MIB))
        third = peer.add(small, *PROFILES["v1"])
        car.write_bytes(peer.ipfs("dag", "export", "--progress=false", third))
        small_digest = hashlib.sha256(small.read_bytes()).hexdigest()
        with Peer(work, "frisbii", HERE / "frisbii.sh", car) as frisbii:
            table.write_text(json.dumps({"*": [], third: [http_record(PEER_IDS[0], frisbii.ready)], one: [http_record(peer.peer, peer.gateway)], many: [http_record(peer.peer, peer.gateway)]}))
            with Peer(work, "router", HERE / "delegated.sh", table) as router, started(work, "http", network(delegated=router.ready)) as node:
                count.run("from Frisbii", lambda: same_file(f"{node.gateway}/ipfs/{third}", small_digest, 8 * MIB))
                count.run("a file from Kubo's gateway", lambda: same_file(f"{node.gateway}/ipfs/{one}", digest))
                count.run("a folder from Kubo's gateway", lambda: same_folder(node, many, names))
                count.run("no Bitswap peer was met", lambda: check(not node.peers(), f"{node.peers()}"))
                def asked():
                    stats = json.loads(get(f"{router.ready}/stats")[2])
                    check(0 < stats["providers"] <= 20, f"the router was asked {stats['providers']} times for three roots")
                count.run("the router is not asked for each block", asked)
            # The same content from a Bitswap peer and an HTTP provider at once; then names through the router, both ways.
            table.write_text(json.dumps({"*": [record(peer.peer, [peer.multiaddr.rsplit("/p2p/")[0]], "transport-bitswap"), http_record(peer.peer, peer.gateway)]}))
            with Peer(work, "router-2", HERE / "delegated.sh", table) as router, started(work, "both", network(delegated=router.ready)) as node:
                count.run("a file from Bitswap and HTTP at once", lambda: same_file(f"{node.gateway}/ipfs/{one}", digest))
                with Signer(work) as signer: key, signed = signer.sign(f"/ipfs/{third}")
                def put():
                    node.run("name", "put", key, "-", input=signed)
                    puts = lambda: json.loads(get(f"{router.ready}/stats")[2])["ipns_put"]
                    until(20, lambda: check(puts() > 0, "nothing was put to the router"))
                count.run("a name that we published to the router", put)
                with started(work, "names", network(delegated=router.ready)) as other:
                    count.run("and resolved by it elsewhere", lambda: same_file(f"{other.gateway}/ipns/{key}", small_digest, 8 * MIB))
    for program, protocol in (("lassie", "http"), ("lassie-bitswap", "bitswap")):
        if not shutil.which(program):
            count.skip(f"install.sh {program}")
            continue
        with started(work, program, network()) as node:
            cid = node.json("add", small)[0]["cid"]
            def fetch():
                where = node.gateway if protocol == "http" else node.address()
                done = subprocess.run([HERE / "lassie.sh", cid, where, "--protocols", protocol], capture_output=True, text=True, timeout=120)
                last = re.search(r"^lassie: (\d+) blocks, (\d+) bytes", done.stdout, re.M)
                check(done.returncode == 0 and last and int(last[1]) == 9 and int(last[2]) > 8 * MIB, f"{done.stdout[-300:]} {done.stderr[-500:]}")
            count.run(f"Lassie over {protocol}", fetch)


def errors(work, count):
    """What is said when content does not come: who was found, and what they did."""
    if not shutil.which("routing"):
        return count.skip("install.sh routing")
    absent = [estuary.raw_cid(f"nobody has this {n}".encode()) for n in range(8)]
    table = work / "table.json"

    def answer(node, cid, seconds, headers=None):
        start = time.monotonic()
        status, head, body = get(f"{node.gateway}/ipfs/{cid}?format=raw", headers, timeout=180)
        took = time.monotonic() - start
        check(took < seconds, f"{status} after {took:.0f} s")
        return status, head, body.decode(errors="replace"), took

    with silent_server() as mute, Kubo(work, "knows-nothing") as peer:
        silent = {"ID": PEER_IDS[1], "address": f"/ip4/127.0.0.1/tcp/{mute}"}
        table.write_text(json.dumps({"*": [], absent[1]: [record(PEER_IDS[0], [f"/ip4/127.0.0.1/tcp/{estuary.free_port()}"], "transport-bitswap")],
                                     absent[2]: [record(silent["ID"], [silent["address"]], "transport-bitswap")],
                                     absent[3]: [record(PEER_IDS[2], [f"{silent['address']}/http"], "transport-ipfs-gateway-http")],
                                     absent[4]: [record(peer.peer, [peer.multiaddr.rsplit("/p2p/")[0]], "transport-bitswap")],
                                     absent[5]: [record(PEER_IDS[n], [f"/ip4/127.0.0.1/tcp/{estuary.free_port()}"], "transport-bitswap") for n in range(3)],
                                     absent[6]: [http_record(PEER_IDS[0], peer.gateway)]}))
        with Peer(work, "router", HERE / "delegated.sh", table) as router, started(work, "errors", network(delegated=router.ready)) as node:
            def says(cid, statuses, pattern, seconds=70):
                status, head, body, took = answer(node, cid, seconds)
                print(f"  {status} in {took:.1f} s: {' '.join(body.split())[:240]}", flush=True)
                check(status in statuses and re.search(pattern, body, re.I), f"{status} in {took:.1f} s: {body[:400]}")
                if status in (502, 504): check("no-store" in head.get("cache-control", "no-store"), f"Cache-Control: {head.get('cache-control')}")
            count.run("nobody has it", lambda: says(absent[0], (502,), "no provider|nobody"))
            count.run("its only provider is not there", lambda: says(absent[1], (502, 504), r"1 provider"))
            count.run("its only provider takes the connection and says nothing", lambda: says(absent[2], (502, 504), r"1 provider"))
            count.run("an HTTP provider that never answers", lambda: says(absent[3], (502, 504), r"1 provider"))
            count.run("its provider says that it lacks it", lambda: says(absent[4], (502,), r"1 provider"))
            count.run("three providers, none reached", lambda: says(absent[5], (502, 504), r"3 providers"))
            count.run("an HTTP provider that answers 404", lambda: says(absent[6], (502,), r"1 provider"))
            def again():
                answer(node, absent[0], 20)
                status, _, body, took = answer(node, absent[0], 20)
                check(status == 502 and took < 2, f"asked again: {status} after {took:.1f} s")
            count.run("asked again it is known at once", again)
            def cached():
                status, _, body, took = answer(node, absent[7], 5, {"Cache-Control": "only-if-cached"})
                check(status == 412 and took < 1, f"{status} after {took:.1f} s")
            count.run("only-if-cached asks nobody", cached)
        with started(work, "alone", network()) as node:
            count.run("no router and no peer: said soon", lambda: check(answer(node, absent[0], 5)[0] in (404, 502), "neither 404 nor 502"))
        # A router that is not there delays nothing that a peer has.
        data = work / "late"
        data.write_bytes(shapes.stream("late", MIB))
        cid = peer.add(data, *PROFILES["v1"])
        with started(work, "dead-router", network(peer.multiaddr, delegated=f"http://127.0.0.1:{mute}")) as node:
            def fast():
                until(10, lambda: check(node.peers(), "the peering is not there"))
                start = time.monotonic()
                same_file(f"{node.gateway}/ipfs/{cid}", hashlib.sha256(data.read_bytes()).hexdigest(), MIB)
                check(time.monotonic() - start < 2, f"{time.monotonic() - start:.1f} s beside a router that never answers")
            count.run("a router that never answers delays no peer", fast)


def offline(work, count):
    """--offline: no port but the three of HTTP, no connection, no datagram."""
    if not shutil.which("strace"):
        return count.skip("strace: install.sh load")
    trace = work / "trace"
    node = Node(work / "offline", {**network("/ip4/127.0.0.1/tcp/4001/p2p/" + PEER_IDS[0], bootstrap="/ip4/127.0.0.1/tcp/4002/p2p/" + PEER_IDS[1], delegated="http://127.0.0.1:4003", dht="server"), "ESTUARY_OFFLINE": "1"},
                wrap=["strace", "-f", "-e", "trace=connect,bind,sendto,sendmsg,sendmmsg", "-o", str(trace)])
    try:
        node.start()
        answers = [get(f"{node.gateway}/ipfs/{estuary.raw_cid(b'not here')}")[0], get(f"{node.gateway}/ipns/{PEER_IDS[0]}")[0], get(f"{node.gateway}/ipns/example.org")[0]]
        time.sleep(2)
        child = int(subprocess.run(["pgrep", "-P", str(node.process.pid)], capture_output=True, text=True, check=True).stdout.split()[0])
        os.kill(child, 15)
        node.process.wait(60)
    finally:
        for pid in subprocess.run(["pgrep", "-P", str(node.process.pid)], capture_output=True, text=True).stdout.split(): os.kill(int(pid), 9)
        node.kill()
    calls = [line for line in trace.read_text(errors="replace").splitlines() if "AF_INET" in line]
    binds = [line for line in calls if " bind(" in line and not line.endswith("= -1")]
    count.run("three ports, of HTTP", lambda: check(len(binds) == 3, f"{binds}"))
    sent = [line for line in calls if re.search(r" (connect|sendto|sendmsg|sendmmsg)\(", line)]
    count.run("no connection and no datagram", lambda: check(not sent, f"{sent[:5]}"))
    count.run("what is not here is not found", lambda: check(all(status in (302, 404, 500, 502, 504) for status in answers), f"{answers}"))


SECTIONS = {one.__name__: one for one in (kubo, helia, dht, http, errors, offline)}


def main():
    unknown = [word for word in sys.argv[1:] if word not in SECTIONS]
    if unknown: sys.exit(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    estuary.need_binary()
    if not shutil.which("ipfs"): estuary.skip("install.sh kubo")
    for name in sys.argv[1:] or SECTIONS:
        work, count, start = estuary.scratch(f"network-{name}"), Count(name), time.monotonic()
        failed = Count.failed
        try:
            count.run("the section", lambda: SECTIONS[name](work, count))
            if Count.failed == failed:
                count.own -= 1
                Count.held -= 1
        finally:
            shutil.rmtree(work, ignore_errors=True)
        print(f"{name}: {count.own} held" + (f", {Count.failed - failed} failed" if Count.failed > failed else "") + f" ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"network: {Count.held} held, {Count.failed} failed, {Count.skipped} skipped")
    sys.exit(1 if Count.failed else 0)


main()
