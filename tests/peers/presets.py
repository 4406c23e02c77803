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
WHOLE = ["trustless-block-gateway", "trustless-car-gateway", "subdomain-ipfs-gateway,redirects-file,proxy-gateway"]
# The suite speaks for a proxy.
ENV = {"ESTUARY_GATEWAY__TRUSTED_PROXIES": "127.0.0.1"}
REPORTED = ["path-unixfs-gateway"]


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
        with Node(work / "node", ENV).start() as node:
            imported = [path for path in sorted((HOME / "fixtures").rglob("*.car")) if node.run("import", "--no-pin", path, ok=None).returncode == 0]
            print(f"imported {len(imported)} CARs")
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
