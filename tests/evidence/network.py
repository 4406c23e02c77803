"""Peers as they are: many askers, peers of unequal speed, peers that are dead, lie or dawdle, and a thousand at once.

    network.py [PART...] [--rounds 3]      parts: flood unequal bad crowd provide (default: all); needs install.sh kubo bitswap

Everything is on loopback. Kubos stand behind a proxy that lets so much pass a second (tests/peers/throttle.py), misbehaving peers are half ones
(tests/peers/go/bitswap). Exit status 1 when something did not hold. Last line `network: ...`.
"""
import argparse, asyncio, contextlib, hashlib, json, os, re, shutil, statistics, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
sys.path.insert(0, str(PEERS))
import estuary, shapes
from estuary import MIB, Failed, Node, check, figure, get, get_hash, network, status_field
from kubo import Kubo, Peer

FILE_BYTES = 192 * MIB
BLOCK_BYTES = 256
# What passes from each of four peers, in MiB a second.
RATES = (5, 10, 20, 40)
# A dead, a lying and a slow peer among good ones cost at most this.
BAD_COST_MAX = 0.10


def varint(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def block(n):
    return hashlib.shake_128(n.to_bytes(8, "little")).digest(BLOCK_BYTES)


def block_cid(n):
    return estuary.raw_cid(block(n))


def place(n):
    """Where a block's key is in the space of the DHT, from 0 to 1."""
    key = b"\x12\x20" + hashlib.sha256(block(n)).digest()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64


def write_car(path, numbers):
    """A CAR of raw leaves, without a root."""
    with open(path, "wb", buffering=4 * MIB) as f:
        header = b"\xa2\x65roots\x80\x67version\x01"
        f.write(varint(len(header)) + header)
        head = varint(36 + BLOCK_BYTES) + b"\x01\x55\x12\x20"
        for n in numbers:
            data = block(n)
            f.write(head + hashlib.sha256(data).digest() + data)


@contextlib.contextmanager
def node_of(work, name, env):
    node = Node(work / name, env)
    try:
        yield node.start()
        check(node.stop() == 0, f"{name}: the exit status is not 0; {node.log()[-500:]}")
    finally:
        node.kill()
        shutil.rmtree(node.data_dir, ignore_errors=True)


def peered(node, count, seconds=30):
    """Waits until so many peers are connected."""
    end = time.monotonic() + seconds
    while len(found := node.peers()) < count:
        check(time.monotonic() < end, f"{len(found)} of {count} peers: {found}")
        time.sleep(0.1)
    return found


def crowd_of_kubos(work, stack, count):
    """Kubos that all hold one file, and that file's CAR: (Kubos, CID, SHA-256, CAR)."""
    data = work / "data"
    data.write_bytes(shapes.stream("unequal", FILE_BYTES))
    kubos = [Kubo(work, f"kubo-{n}") for n in range(count)]
    for one in kubos: stack.enter_context(one)
    cids = {one.add(data, "--cid-version=1", "--raw-leaves", "--chunker=size-262144") for one in kubos}
    check(len(cids) == 1, f"{cids}")
    cid, car = cids.pop(), work / "data.car"
    with open(car, "wb") as out: subprocess.run(["ipfs", "--api", kubos[0].api, "dag", "export", "--progress=false", cid], stdout=out, check=True)
    return kubos, cid, hashlib.sha256(data.read_bytes()).hexdigest(), car


@contextlib.contextmanager
def behind(work, name, kubos, rates):
    """The Kubos' addresses behind proxies of these rates."""
    port = lambda one: one.multiaddr.split("/")[4]
    with Peer(work, name, sys.executable, PEERS / "throttle.py", *(f"{port(one)}:{rate}" for one, rate in zip(kubos, rates))) as proxy:
        yield [one.multiaddr.replace(f"/tcp/{port(one)}/", f"/tcp/{there}/") for one, there in zip(kubos, re.findall(r"^port (\d+)$", proxy.said(), re.M))]


def download(work, name, addresses, cid, digest, present=None):
    """Seconds for the file, on an empty node that is connected with these; and bytes that came for each byte wanted."""
    with node_of(work, name, network(addresses)) as node:
        peered(node, len(addresses) if present is None else present)
        start = time.monotonic()
        status, got, size = get_hash(f"{node.gateway}/ipfs/{cid}")
        seconds = time.monotonic() - start
        check((status, got, size) == (200, digest, FILE_BYTES), f"{name}: {status}, {size} bytes")
        return seconds, came(node) / FILE_BYTES, status_field(node.process.pid, "VmHWM")


def came(node):
    """Bytes of blocks that Bitswap took in, wanted or not."""
    return sum(node.metric(name) for name in RECEIVED)


# Counters of bytes that came from peers.
RECEIVED = ("estuary_bitswap_received_bytes_total",)


def unequal(work, rounds):
    """Four peers of unequal speed against the best of them alone."""
    with contextlib.ExitStack() as stack:
        kubos, cid, digest, _ = crowd_of_kubos(work, stack, len(RATES))
        addresses = stack.enter_context(behind(work, "proxy", kubos, RATES))
        took = {"the best alone": [], "all four": []}
        waste = []
        for turn in range(rounds):
            took["the best alone"].append(download(work, f"one-{turn}", addresses[-1:], cid, digest)[0])
            seconds, ratio, _ = download(work, f"four-{turn}", addresses, cid, digest)
            took["all four"].append(seconds)
            waste.append(ratio)
        rate = {what: FILE_BYTES / MIB / statistics.median(all_of) for what, all_of in took.items()}
        figure(f"from four peers of {', '.join(map(str, RATES))} MiB/s", f"{rate['all four']:.1f} MiB/s; from the best alone {rate['the best alone']:.1f}; together they could give {sum(RATES)}")
        figure("bytes that came for each byte wanted, from four peers", f"{statistics.median(waste):.3f}")
        check(rate["all four"] > rate["the best alone"], "four peers are slower than the best of them alone")


def bad(work, rounds):
    """A dead, a lying and a slow peer among good ones."""
    with contextlib.ExitStack() as stack:
        kubos, cid, digest, car = crowd_of_kubos(work, stack, 2)
        addresses = stack.enter_context(behind(work, "proxy", kubos, (30, 30)))
        half = {mode: stack.enter_context(Peer(work, mode, "bitswap", "serve", mode, car)).value("multiaddr") for mode in ("mute", "lie", "slow=512", "deaf")}
        nobody = f"/ip4/127.0.0.1/tcp/{estuary.free_port()}/p2p/12D3KooWGRUaZDWhiKRJBJUkrk3s2iyVBhAkyRWQYhJHL5UcGZzY"
        cases = {"two good peers": [], "with one that is not there": [nobody], "with one that says HAVE and never sends": [half["mute"]], "with one that reads and says nothing": [half["deaf"]],
                 "with one that lies": [half["lie"]], "with one of 0.5 MiB/s": [half["slow=512"]], "with all of them": [nobody, *half.values()]}
        took = {what: [] for what in cases}
        for turn in range(rounds):
            for number, (what, more) in enumerate(cases.items()):
                present = len(addresses) + len(more) - (nobody in more)
                took[what].append(download(work, f"bad-{turn}-{number}", addresses + more, cid, digest, present)[0])
        base = statistics.median(took["two good peers"])
        costs = {}
        for what, all_of in took.items():
            costs[what] = statistics.median(all_of) / base - 1
            figure(f"{FILE_BYTES // MIB} MiB, {what}", f"{FILE_BYTES / MIB / statistics.median(all_of):.1f} MiB/s" + (f", {costs[what]:+.1%} time" if what != "two good peers" else ""))
        dear = {what: f"{cost:.0%}" for what, cost in costs.items() if cost > BAD_COST_MAX}
        check(not dear, f"cost more than {BAD_COST_MAX:.0%}: {dear}")


def flood(work, rounds, askers=1000):
    """A thousand requests for one block that nobody has yet."""
    with Kubo(work, "kubo") as peer, node_of(work, "flood", network(peer.multiaddr)) as node:
        peered(node, 1)
        late = work / "late"
        late.write_bytes(shapes.stream("flood", 256 << 10))
        cid = estuary.raw_cid(late.read_bytes())
        stat = lambda: json.loads(peer.ipfs("bitswap", "stat", "--enc=json"))
        before, rss = stat(), status_field(node.process.pid, "VmRSS")
        host, port = re.match(r"http://([\d.]+):(\d+)", node.gateway).groups()

        async def ask():
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /ipfs/{cid} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            answer = await reader.read(-1)
            writer.close()
            return answer.startswith(b"HTTP/1.1 200") and len(answer) > 256 << 10

        async def all_of_them():
            tasks = [asyncio.create_task(ask()) for _ in range(askers)]
            await asyncio.sleep(4)
            waiting = status_field(node.process.pid, "VmRSS")
            await asyncio.to_thread(peer.add, late, "--cid-version=1", "--raw-leaves", "--chunker=size-262144")
            start = time.monotonic()
            answers = await asyncio.gather(*tasks)
            return sum(answers), waiting, time.monotonic() - start

        answered, waiting, seconds = asyncio.run(all_of_them())
        time.sleep(1)
        after = stat()
        sent = after["BlocksSent"] - before["BlocksSent"]
        figure(f"{askers:,} requests for one missing CID", f"{answered:,} answered, {sent} block and {after['MessagesReceived'] - before['MessagesReceived']} messages, {seconds:.2f} s after it was there")
        figure("memory of a waiting request", f"{(waiting - rss) * 1024 / askers:.1f} KiB")
        check(answered == askers and sent == 1, f"{answered} of {askers} were answered, the peer sent {sent} blocks")


def crowd(work, rounds, peers=1000, high=900, low=600):
    """A thousand peers connect; trimming spares the protected and the busy."""
    car = work / "slow.car"
    with Kubo(work, "kubo") as kubo:
        data = work / "slow"
        data.write_bytes(shapes.stream("crowd", 24 * MIB))
        cid = kubo.add(data, "--cid-version=1", "--raw-leaves")
        with open(car, "wb") as out: subprocess.run(["ipfs", "--api", kubo.api, "dag", "export", "--progress=false", cid], stdout=out, check=True)
        kubo.ipfs("pin", "rm", cid)
        kubo.ipfs("repo", "gc", "--quiet")
        with Peer(work, "slow", "bitswap", "serve", "slow=1024", car) as slow, \
                node_of(work, "crowd", {**network(kubo.multiaddr), "ESTUARY_P2P__CONNECTIONS_HIGH": str(high), "ESTUARY_P2P__CONNECTIONS_LOW": str(low)}) as node:
            peered(node, 1)
            node.run("swarm", "connect", slow.value("multiaddr"))
            slow_id = slow.value("multiaddr").rsplit("/", 1)[1]
            before = status_field(node.process.pid, "VmRSS")
            fetch = subprocess.Popen(["curl", "-sSf", "-o", str(work / "out"), f"{node.gateway}/ipfs/{cid}"])
            others = subprocess.Popen(["bitswap", "crowd", str(peers), node.address()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                most, least, kept = 0, peers, True
                end = time.monotonic() + 120
                said = None
                while time.monotonic() < end and fetch.poll() is None:
                    found = set(node.peers())
                    if len(found) > most: most, memory = len(found), status_field(node.process.pid, "VmRSS")
                    if most > low: least = min(least, len(found))
                    kept = kept and {kubo.peer, slow_id} <= found
                    time.sleep(0.3)
                check(fetch.wait(60) == 0 and (work / "out").read_bytes() == data.read_bytes(), "the fetch from the busy peer failed")
                figure(f"{peers:,} peers connect, high water {high}, low water {low}", f"at most {most} at a time, trimmed to {least}; the protected and the busy one were kept: {kept}")
                figure("memory of a connected peer", f"{(memory - before) * 1024 / most:.0f} KiB ({memory:.0f} MiB with {most})")
                check(kept and most > low and least <= low + 20, f"most {most}, least {least}, kept {kept}")
            finally:
                others.stdin.close()
                others.wait(30)
                fetch.kill()


def provide(work, rounds, interval_s=600):
    """A million CIDs are announced in a private DHT of Estuary servers and a Kubo over a shortened interval, with a restart in the middle. PROVIDE_BLOCKS=N takes fewer."""
    blocks = int(os.environ.get("PROVIDE_BLOCKS", 1_000_000))
    told, cursor = 'estuary_routing_provided_total{outcome="ok"', "estuary_routing_provide_cursor"
    with contextlib.ExitStack() as stack:
        kubo = stack.enter_context(Kubo(work, "kubo", "--dht"))
        servers = [stack.enter_context(node_of(work, f"server-{n}", network(bootstrap=kubo.multiaddr, dht="server"))) for n in range(4)]
        node = Node(work / "provider", {**network(bootstrap=kubo.multiaddr, dht="client"), "ESTUARY_ROUTING__PROVIDE": "all", "ESTUARY_ROUTING__PROVIDE_INTERVAL_S": str(interval_s)})
        stack.callback(node.kill)
        offline = Node(node.data_dir)  # fills the store before the network knows of it
        for start in range(0, blocks, 500_000):
            write_car(work / "part.car", range(start, min(start + 500_000, blocks)))
            offline.run("import", "--no-pin", work / "part.car")
        done, since, servers_most = 0, time.monotonic(), 0.0
        for part in (0.5, 1.0):  # until half is announced; then again after a restart, until the rest is
            node.start()
            before, first = status_field(node.process.pid, "VmRSS"), None
            begun, end = time.monotonic(), time.monotonic() + 2 * interval_s
            while done + (now := node.metric(told)) < part * blocks:
                check(time.monotonic() < end, f"{done + now:,.0f} of {blocks:,} CIDs announced after {time.monotonic() - begun:.0f} s; {node.log()[-500:]}")
                if first is None and now: first = node.metric(cursor)
                time.sleep(0.5)
            done += now
            figure(f"announced {'before' if part < 1 else 'after'} the restart", f"{now:,.0f} CIDs in {time.monotonic() - begun:.0f} s, the walk from {first / 1000:.1%} to {node.metric(cursor) / 1000:.1%}, {node.metric('estuary_routing_provide_lag_seconds'):.0f} s late at its end")
            figure(f"memory {'before' if part < 1 else 'after'} the restart", f"{before:.0f} MiB at the start, {status_field(node.process.pid, 'VmHWM'):.0f} MiB at most, {status_field(node.process.pid, 'VmRSS'):.0f} MiB at the end")
            reached = node.metric(cursor) / 1000 if part < 1 else 1
            sample = [n for n in range(0, blocks, max(1, blocks // 100)) if place(n) < reached]
            found = sum(node.status["peer_id"] in kubo.ipfs("routing", "findprovs", "-n", "1", block_cid(n)).decode().split() for n in sample)
            figure(f"found by the Kubo {'half way' if part < 1 else 'at the end'}", f"{found} of {len(sample)} CIDs that the walk has passed")
            check(found == len(sample), f"the Kubo finds {found} of {len(sample)}")
            check(node.stop() == 0, "the exit status is not 0")
        servers_most = max(status_field(server.process.pid, "VmHWM") for server in servers)
        figure(f"{blocks:,} CIDs announced over an interval of {interval_s} s", f"{done:,.0f} in all, {done / blocks - 1:.1%} twice because of the restart, each to {len(servers) + 1} peers; a server of the DHT had {servers_most:.0f} MiB at most")
        check(done <= 1.1 * blocks, f"{done:,.0f} announcements for {blocks:,} CIDs: the restart began anew")


PARTS = {one.__name__: one for one in (flood, unequal, bad, crowd, provide)}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("parts", nargs="*")
    a.add_argument("--rounds", type=int, default=3)
    a = a.parse_args()
    estuary.need_binary()
    estuary.need("ipfs", "bitswap", "curl")
    failed = []
    for name in a.parts or PARTS:
        work = estuary.scratch(f"evidence-{name}")
        try:
            PARTS[name](work, a.rounds)
        except (Failed, subprocess.CalledProcessError, OSError) as error:
            failed.append(name)
            print(f"FAIL {name}: {error}", flush=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    print("network: " + (f"failed: {', '.join(failed)}" if failed else f"all held: {', '.join(a.parts or PARTS)}"))
    sys.exit(1 if failed else 0)


main()
