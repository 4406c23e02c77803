"""Two Estuary nodes, each behind its own NAT, and a relay between them: content by the relay, then directly, by hole punching.

    nat.py [--quic]      needs root, `ip`, `nft`, and install.sh kubo; --quic: punch UDP holes in place of TCP

Network namespaces on this machine, nothing outside: a bridge with made-up public addresses, two routers that masquerade and let nothing in, a host
behind each, and a real Kubo as the relay. First nothing passes between the routers, so that only the relay is left; then it may.
Last line `nat: ...`.
"""
import contextlib, hashlib, json, os, shutil, subprocess, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary, shapes
from estuary import BIN, MIB, Failed, Node, check, figure, network

HERE = Path(__file__).resolve().parent
RELAY, ROUTERS = "45.10.7.10", {"a": "45.10.7.2", "b": "45.10.7.3"}
PREFIX = f"est{os.getpid() % 100000}"
RULES = """
table ip nat {
  chain out { type nat hook postrouting priority 100; oifname "wan" masquerade; }
}
table ip filter {
  chain in { type filter hook input priority 0; policy drop; iifname "lo" accept; iifname "lan" accept; }
  chain through { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; }
}
"""
# Only the relay can be reached: what one router sends to the other is lost.
APART = """
table bridge apart {
  chain through { type filter hook forward priority 0; ip saddr 45.10.7.2 ip daddr 45.10.7.3 drop; ip saddr 45.10.7.3 ip daddr 45.10.7.2 drop; }
}
"""


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    check(done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}")


def ns(name):
    return f"{PREFIX}-{name}"


def inside(name):
    return ["ip", "netns", "exec", ns(name)]


def nft(name, text):
    done = subprocess.run([*inside(name), "nft", "-f", "-"], input=text, capture_output=True, text=True)
    check(done.returncode == 0, f"nft in {name}: {done.stderr.strip()}")


@contextlib.contextmanager
def world():
    names = ["net", "relay", *(f"{kind}-{side}" for side in ROUTERS for kind in ("router", "host"))]
    try:
        for name in names:
            ip("netns", "add", ns(name))
            ip("-n", ns(name), "link", "set", "lo", "up")
        ip("-n", ns("net"), "link", "add", "br0", "type", "bridge")
        ip("-n", ns("net"), "link", "set", "br0", "up")

        def plug(name, port, address):
            """A cable from the bridge to this namespace."""
            ip("-n", ns("net"), "link", "add", port, "type", "veth", "peer", "name", "wan", "netns", ns(name))
            ip("-n", ns("net"), "link", "set", port, "master", "br0", "up")
            ip("-n", ns(name), "addr", "add", f"{address}/24", "dev", "wan")
            ip("-n", ns(name), "link", "set", "wan", "up")

        plug("relay", "relay", RELAY)
        for side, address in ROUTERS.items():
            router, host = f"router-{side}", f"host-{side}"
            plug(router, router, address)
            # Both households use the same private network, as households do.
            ip("-n", ns(router), "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", ns(host))
            ip("-n", ns(router), "addr", "add", "192.168.1.1/24", "dev", "lan")
            ip("-n", ns(router), "link", "set", "lan", "up")
            ip("-n", ns(host), "addr", "add", "192.168.1.2/24", "dev", "eth0")
            ip("-n", ns(host), "link", "set", "eth0", "up")
            ip("-n", ns(host), "route", "add", "default", "via", "192.168.1.1")
            subprocess.run([*inside(router), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)
            nft(router, RULES)
        yield
    finally:
        for name in names: subprocess.run(["ip", "netns", "del", ns(name)], capture_output=True)


@contextlib.contextmanager
def relay(work, quic):
    """A Kubo that relays without being asked whether it is public."""
    words = [*inside("relay"), str(HERE / "kubo.sh"), "--swarm-port", "4001"]
    for key, value in {"Addresses.Swarm": [f"/ip4/{RELAY}/tcp/4001", f"/ip4/{RELAY}/udp/4001/quic-v1"], "Swarm.RelayService": {"Enabled": True, "ConnectionDataLimit": 64 * MIB},
                       "Internal.Libp2pForceReachability": "public", "AutoNAT": {"ServiceMode": "enabled"}}.items():
        words += ["--config", key, json.dumps(value)]
    with open(work / "relay.out", "w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        for _ in range(300):
            text = (work / "relay.out").read_text()
            if "\nready " in text: break
            check(process.poll() is None, f"the relay did not start: {text[-500:]}")
            time.sleep(0.1)
        peer = text.split("peer ", 1)[1].split("\n", 1)[0]
        yield f"/ip4/{RELAY}/udp/4001/quic-v1/p2p/{peer}" if quic else f"/ip4/{RELAY}/tcp/4001/p2p/{peer}"
    finally:
        process.terminate()
        process.wait(30)


class Host(Node):
    """A node behind a router; its commands run there too."""

    def __init__(self, work, side, relay, quic):
        listen = "/ip4/0.0.0.0/udp/4001/quic-v1" if quic else "/ip4/0.0.0.0/tcp/4001"
        super().__init__(work / side, network(relay, relay, listen=listen), wrap=inside(f"host-{side}"))
        self.side = side

    def command(self, *args):
        words = super().command(*args)
        return words if args == ("serve",) else [*inside(f"host-{self.side}"), *words]

    def fetch(self, cid, seconds=120):
        """(SHA-256, seconds) of content, asked of its own gateway."""
        start = time.monotonic()
        done = subprocess.run([*inside(f"host-{self.side}"), "curl", "-sSf", "-m", str(seconds), f"{self.gateway}/ipfs/{cid}"], capture_output=True)
        check(done.returncode == 0, f"{cid}: {done.stderr.decode()[-300:]}; the node: {self.log()[-600:]}")
        return hashlib.sha256(done.stdout).hexdigest(), time.monotonic() - start

    def to(self, peer):
        """The addresses of the connections with a peer."""
        return self.peers().get(peer, [])


def wait(seconds, what, test):
    start = time.monotonic()
    while not (found := test()):
        check(time.monotonic() - start < seconds, f"{what}: not within {seconds} s")
        time.sleep(0.25)
    return found, time.monotonic() - start


def main():
    if os.geteuid() != 0: estuary.skip("network namespaces and NAT need root")
    estuary.need("ip", "nft", "curl", "ipfs")
    estuary.need_binary()
    quic = "--quic" in sys.argv[1:]
    work = estuary.scratch("nat")
    nodes = []
    try:
        with world(), relay(work, quic) as address:
            nft("net", APART)
            a, b = (Host(work, side, address, quic) for side in ROUTERS)
            nodes = [a, b]
            for node in nodes: node.start()
            relay_peer = address.rsplit("/", 1)[1]
            files = {name: shapes.stream(f"nat {name}", size) for name, size in (("relayed", 2 * MIB), ("direct", 32 * MIB))}
            cids = {}
            for name, data in files.items():
                (work / name).write_bytes(data)
                cids[name] = b.json("add", work / name)[0]["cid"]
            circuit = lambda: [x for x in b.json("status")[0]["addresses"] if "/p2p-circuit" in x and ("/udp/" in x) == quic]
            found, took = wait(90, "a place at the relay, among the node's addresses", circuit)
            figure("behind a NAT, until it has a place at the relay", f"{took:.1f} s ({found[0].split('/p2p/')[0]}/…/p2p-circuit)")
            announced = b.json("status")[0]["addresses"]
            b_id, a_id = b.status["peer_id"], a.status["peer_id"]
            a.run("swarm", "connect", found[0] if found[0].endswith(b_id) else f"{found[0]}/p2p/{b_id}")
            addresses = a.to(b_id)
            check(addresses and all("p2p-circuit" in x for x in addresses), f"connected before a way was open: {addresses}")
            digest, took = a.fetch(cids["relayed"])
            check(digest == hashlib.sha256(files["relayed"]).hexdigest(), "other bytes by the relay")
            figure("2 MiB by the relay", f"{2 / took:.1f} MiB/s")
            # The way opens; connected again, the two find it.
            nft("net", "delete table bridge apart")
            a.run("swarm", "disconnect", b_id)
            wait(20, "the end of the relayed connection", lambda: not a.to(b_id))
            a.run("swarm", "connect", found[0] if found[0].endswith(b_id) else f"{found[0]}/p2p/{b_id}")
            direct = lambda: [x for x in a.to(b_id) if "p2p-circuit" not in x]
            straight, took = wait(60, "a direct connection", direct)
            check(ROUTERS["b"] in straight[0], f"direct, but by {straight[0]}")
            figure("until the hole is punched", f"{took:.1f} s ({straight[0].split('/p2p/')[0]})")
            digest, took = a.fetch(cids["direct"])
            check(digest == hashlib.sha256(files["direct"]).hexdigest(), "other bytes directly")
            figure("32 MiB directly", f"{32 / took:.0f} MiB/s")
            private = [x for x in announced if "/192.168." in x]
            print(f"announced by the node behind the NAT: {announced}; private among them: {private}")
            for node in nodes: check(node.stop() == 0, "the exit status is not 0")
            print(f"nat: content by the relay, then directly over {'QUIC' if quic else 'TCP'}")
    except Failed:
        for node in nodes: print(f"--- {node.side}\n{node.log()}")
        raise
    finally:
        for node in nodes: node.kill()
        shutil.rmtree(work, ignore_errors=True)


try:
    main()
except Failed as failed:
    sys.exit(f"nat: FAILED: {failed}")
