"""The IPFS project's gateway conformance suite against a node that holds its fixtures: CARs, IPNS records, DNSLinks.

    presets.py [--kubo] [--via-kubo] [PRESET...]     default: all presets, of which every assertion must pass

--kubo: the same against a real Kubo first. --via-kubo: the CARs are in a Kubo, and Estuary begins empty and is peered with it, so that it fetches by
Bitswap what the suite asks for; records are put into it, as no other node has them. Nothing may differ.
Needs the compiled suite (conformance.sh says how it is found); without it this says so and exits 77. CONFORMANCE_LOG=FILE keeps the suite's output.
Last line `presets: N passed, N failed`, counting leaf assertions.
"""
import os, re, shutil, subprocess, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary
import kubo as kubo_peer
from estuary import Node, check

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("GATEWAY_CONFORMANCE_HOME", estuary.PEERS_HOME / "gateway-conformance"))
TESTS = Path(os.environ.get("GATEWAY_CONFORMANCE_TESTS", HOME / "tests.bin"))
SUBDOMAIN_HOSTS = "localhost,example.com"
LEAVES = 893  # of all presets


def name_map():
    """The suite's DNSLinks, as its own tool writes them: `domain:path` with commas between."""
    pair = re.compile(r"^ *domain: (\S+)$(?:\n *#.*)*\n *path: (\S+)(?: *#.*)?$", re.M)
    texts = [path.read_text() for path in sorted((HOME / "fixtures").rglob("*.yml"))]
    return ",".join(":".join(found) for text in texts for found in pair.findall(text))


def fixtures():
    """CARs, and records by their names."""
    records = sorted((HOME / "fixtures").rglob("*.ipns-record"))
    return sorted((HOME / "fixtures").rglob("*.car")), [(re.split(r"[_.]", path.name)[0], path) for path in records]


def suite(who, gateway, presets):
    """Runs it: (passed, failed, skipped)."""
    port = gateway.rsplit(":", 1)[1]
    command = [str(HERE / "conformance.sh"), gateway, f"http://localhost:{port}", *(["--specs", ",".join(presets)] if presets else [])]
    if log := os.environ.get("CONFORMANCE_LOG"):
        command += ["--log", f"{log}.{who}"]
    done = subprocess.run(command, capture_output=True, text=True)
    last = re.search(r"^conformance: (\d+) passed, (\d+) failed, (\d+) skipped", done.stdout, re.M)
    check(last, f"the suite broke off: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    print(re.sub(r"^conformance:.*\n", "", done.stdout, flags=re.M) if int(last[2]) else "", end="")
    estuary.figure(f"{who}, {', '.join(presets) or 'all presets'}", f"{last[1]} passed, {last[2]} failed, {last[3]} skipped")
    return tuple(map(int, last.groups()))


def kubo_alone(work, presets, cars, records):
    with kubo_peer.kubo(work, "--ns-map", name_map()) as (url, api):
        for path in cars:  # one by one: several have the same name, which it does not take
            kubo_peer.rpc(api, "dag/import", path.read_bytes(), pin_roots="false")
        put = sum(kubo_peer.put_record(api, name, path) for name, path in records)
        print(f"Kubo: {len(cars)} CARs, {put} records")
        suite("Kubo", url, presets)


def estuary_node(work, presets, cars, records, env, who):
    """The suite against Estuary, which takes these CARs and records first."""
    named = {"IPFS_NS_MAP": name_map(), "ESTUARY_GATEWAY__SUBDOMAIN_HOSTS": SUBDOMAIN_HOSTS, "ESTUARY_GATEWAY__TRUSTED_PROXIES": "127.0.0.1"}
    with Node(work / "node", {**named, **env}).start() as node:
        took = sum(node.run("import", "--no-pin", path, ok=None).returncode == 0 for path in cars)
        put = sum(node.run("name", "put", name, path, ok=None).returncode == 0 for name, path in records)
        print(f"{who}: {took} of {len(cars)} CARs, {put} of {len(records)} records")
        outcome = suite(who, node.gateway, presets)
        check(node.stop() == 0, "the node's exit status is not 0")
    return outcome


def main():
    words = sys.argv[1:]
    presets = [word for word in words if not word.startswith("--")]
    if not TESTS.exists():
        estuary.skip("the gateway conformance suite is not on this machine (GATEWAY_CONFORMANCE_TESTS, GATEWAY_CONFORMANCE_HOME)")
    estuary.need_binary()
    work = estuary.scratch("conformance")
    cars, records = fixtures()
    try:
        if "--kubo" in words: kubo_alone(work, presets, cars, records)
        if "--via-kubo" in words:
            with kubo_peer.Kubo(work, "source") as source:
                for path in cars: kubo_peer.rpc(source.api, "dag/import", path.read_bytes(), pin_roots="false")
                passed, failed, skipped = estuary_node(work, presets, [], records, estuary.network(source.multiaddr), "Estuary, empty, by a Kubo")
        else:
            passed, failed, skipped = estuary_node(work, presets, cars, records, {}, "Estuary")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not presets and (passed, skipped) != (LEAVES, 0):
        print(f"FAIL of {LEAVES} assertions {passed} passed and {skipped} were skipped")
    print(f"presets: {passed} passed, {failed} failed")
    sys.exit(0 if failed == 0 and (presets or (passed, skipped) == (LEAVES, 0)) else 1)


try:
    main()
except estuary.Failed as failed:
    sys.exit(f"presets: FAILED: {failed}")
