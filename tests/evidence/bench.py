"""Estuary beside Kubo and nginx in one run; wants a machine that does nothing else.

    bench.py [--seconds 8]      needs install.sh kubo load; root, or unprivileged user namespaces

tests/peers/bench/baseline.sh measures (server on core 0, clients on core 1); this adds the ratios. Last line `bench: ...`.
"""
import os, re, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
import estuary

# (row of the table, against whom, at least this many times as much)
AIMS = [("1 KiB, req/s", "nginx", 0.8), ("304, req/s", "nginx", 0.8), ("raw 256 KiB, req/s", "nginx", 0.8), ("64 MiB one stream, MB/s", "nginx", 0.8),
        ("listing, req/s", "kubo", 10), ("CAR 10k blocks, MB/s", "kubo", 4), ("1 KiB, req/s", "kubo", 1), ("64 MiB one stream, MB/s", "kubo", 1)]


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def main():
    estuary.need_binary()
    estuary.need("wrk", "nginx", "curl", "unshare")
    baseline = HERE.parent / "peers/bench/baseline.sh"
    targets = ["estuary", "kubo", "nginx"]
    done = subprocess.run([baseline, "--only", "hot", *sys.argv[1:], *targets], capture_output=True, text=True, env={**os.environ, "QUIET_WAIT": os.environ.get("QUIET_WAIT", "20")})
    print(done.stderr[-3000:], file=sys.stderr)
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in done.stdout.splitlines() if line.startswith("|") and "---" not in line]
    if done.returncode or not rows or any(row[0] == "error" for row in rows):
        print(done.stdout)
        sys.exit("bench: FAILED")
    names = rows[0][1:]
    table = {row[0]: dict(zip(names, row[1:])) for row in rows[1:]}
    print("| measure | " + " | ".join(names) + " | of nginx | of Kubo |\n|" + "---|" * (len(names) + 3))
    for what, values in table.items():
        us = number(values["estuary"])
        ratio = lambda name: f"{us / them:.2f}" if us and (them := number(values.get(name, ""))) and not re.search("RSS|bytes|p99|cores", what) else ""
        print(f"| {what} | " + " | ".join(values[n] for n in names) + f" | {ratio('nginx')} | {ratio('kubo')} |")
    missed = []
    for what, name, aim in AIMS:
        us, them = (number(table[what][n]) for n in ("estuary", name))
        if us / them < aim: missed.append(f"{what}: {us / them:.2f} of {name}, aim {aim}")
    print()
    print("bench: " + ("all aims reached" if not missed else "aims missed: " + "; ".join(missed)))


main()
