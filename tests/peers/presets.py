"""Presets of the IPFS project's gateway conformance suite against a node that holds the fixtures.

    presets.py [--report PRESET]... [PRESET...]     default: what the gateway does whole today, then reports of the rest

A preset must pass whole; a --report preset is run, and its failing leaves are listed, without failing the script. Needs the compiled
suite (conformance.sh says how it is found); without it this says so and exits 77. Last line `presets: N passed, N failed`.
"""
import os, re, shutil, subprocess, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary
from estuary import Node

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("GATEWAY_CONFORMANCE_HOME", estuary.PEERS_HOME / "gateway-conformance"))
TESTS = Path(os.environ.get("GATEWAY_CONFORMANCE_TESTS", HOME / "tests.bin"))
# A test that names several presets runs where all of them are asked for.
SITES = "subdomain-ipfs-gateway,subdomain-ipns-gateway,dnslink-gateway,redirects-file,proxy-gateway"
WHOLE = ["path-unixfs-gateway", "path-unixfs-gateway,path-range-gateway", "path-tar-gateway", "path-dag-gateway", "path-raw-gateway", "trustless-block-gateway",
         "trustless-car-gateway", "trustless-car-gateway-optional", "path-ipns-gateway", "trustless-ipns-gateway", SITES]
REPORTED = []


def name_map():
    """The suite's DNSLinks, as its own tool writes them: `domain:path` with commas between."""
    pair = re.compile(r"^ *domain: (\S+)$(?:\n *#.*)*\n *path: (\S+)(?: *#.*)?$", re.M)
    texts = [path.read_text() for path in sorted((HOME / "fixtures").rglob("*.yml"))]
    return ",".join(":".join(found) for text in texts for found in pair.findall(text))


def main():
    whole, reported, words = [], [], iter(sys.argv[1:])
    for word in words:
        (reported if word == "--report" else whole).append(next(words) if word == "--report" else word)
    if not whole and not reported:
        whole, reported = WHOLE, REPORTED
    if not TESTS.exists():
        estuary.skip("the gateway conformance suite is not on this machine (GATEWAY_CONFORMANCE_TESTS, GATEWAY_CONFORMANCE_HOME)")
    estuary.need_binary()
    work = estuary.scratch("conformance")
    passed = failed = 0
    try:
        # The suite speaks for a proxy.
        env = {"IPFS_NS_MAP": name_map(), "ESTUARY_GATEWAY__TRUSTED_PROXIES": "127.0.0.1"}
        with Node(work / "node", env).start() as node:
            put = [path for path in sorted((HOME / "fixtures").rglob("*.ipns-record")) if node.run("name", "put", path.stem.split("_")[0], path, ok=None).returncode == 0]
            imported = [path for path in sorted((HOME / "fixtures").rglob("*.car")) if node.run("import", "--no-pin", path, ok=None).returncode == 0]
            print(f"imported {len(imported)} CARs, put {len(put)} records of names")
            port = node.gateway.rsplit(":", 1)[1]
            for preset in whole + reported:
                command = [str(HERE / "conformance.sh"), node.gateway, f"http://localhost:{port}", "--specs", preset]
                if log := os.environ.get("CONFORMANCE_LOG"):
                    command += ["--log", f"{log}.{preset}"]
                done = subprocess.run(command, capture_output=True, text=True)
                last = re.search(r"^conformance: .*$", done.stdout, re.M)
                print(done.stdout if done.returncode else "", end="")
                estuary.figure(preset, last[0].removeprefix("conformance: ") if last else "no result")
                if preset in whole:
                    passed, failed = (passed + 1, failed) if done.returncode == 0 else (passed, failed + 1)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"presets: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
