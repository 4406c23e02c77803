"""Content that is not here: Estuary beside Kubo in one run, both fetching from the same Kubo, and beside what that Kubo can send at all.

    cold.py [--rounds 1]      needs install.sh kubo bitswap; root, or unprivileged user namespaces; wants a machine that does nothing else

tests/peers/bench/baseline.sh measures (the gateway on core 0, clients and the source on core 1); this adds ratios and says which aims were missed.
Exit status 1 when an answer was wrong or one missing block was fetched more than once. Last line `cold: ...`.
"""
import argparse, os, statistics, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
import estuary
from estuary import check, figure

WANTS = "bare wants"
# (row, against whom, at least this ratio or at most): more is better but for times and memory.
AIMS = [("cold 512 MiB, 1 MiB blocks, MiB/s", "kubo", 2.5), ("cold 512 MiB, 256 KiB blocks, MiB/s", "kubo", 4), ("cold CAR of 1,000 blocks of 16 KiB, MiB/s", "kubo", 50)]
OF_WANTS = 0.9
TTFB_OF_KUBO = 0.2
# What a waiting request may take, of what it takes in Kubo.
WAITING_OF_KUBO = 0.2
FLOOD, WAITING, IDLE = "1,000 requests, one missing CID: answered 200", "RSS while 1,000 wait, MiB", "RSS before them, MiB"


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def measured(targets):
    """One run of baseline.sh: row -> target -> text."""
    script = HERE.parent / "peers/bench/baseline.sh"
    done = subprocess.run([script, "--only", "cold,flood", *targets], capture_output=True, text=True, env={**os.environ, "QUIET_WAIT": os.environ.get("QUIET_WAIT", "20")})
    print(done.stderr[-3000:], file=sys.stderr)
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in done.stdout.splitlines() if line.startswith("|") and "---" not in line]
    check(done.returncode == 0 and rows and not any(row[0] == "error" for row in rows), f"baseline.sh: {done.stdout[-2000:]}")
    return {row[0]: dict(zip(rows[0][1:], row[1:])) for row in rows[1:]}


def median(tables):
    """Of numbers the median, of other cells the last."""
    out = tables[-1]
    for what, cells in out.items():
        for name in cells:
            values = [number(table[what][name]) for table in tables]
            if len(values) > 1 and None not in values: cells[name] = f"{statistics.median(values):.4g}"
    return out


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--rounds", type=int, default=1)
    a = a.parse_args()
    estuary.need_binary()
    estuary.need("curl", "unshare", "taskset")
    targets = ["kubo", "estuary"]
    table = median([measured(targets if turn % 2 == 0 else targets[::-1]) for turn in range(a.rounds)])
    names = [name for name in (WANTS, *targets) if name in next(iter(table.values()))]
    print("| measure | " + " | ".join(names) + " | Estuary / Kubo |\n|" + "---|" * (len(names) + 2))
    ratio = {}
    for what, cells in table.items():
        us, them = (number(cells[name]) for name in ("estuary", "kubo"))
        if us is not None and them: ratio[what] = us / them
        print(f"| {what} | " + " | ".join(cells[name] for name in names) + f" | {ratio[what]:.2f} |" if what in ratio else f"| {what} | " + " | ".join(cells[name] for name in names) + " | |")
    print()
    missed = []
    for what, whom, aim in AIMS:
        us, most = (number(table[what].get(name, "")) for name in ("estuary", WANTS))
        enough = ratio.get(what, 0) >= aim or bool(us and most and us >= OF_WANTS * most)
        of_wants = f", {us / most:.2f} of a bare stream of wants" if us and most else ""
        figure(what, f"{ratio.get(what, 0):.1f} times Kubo's (aim {aim}{f' or {OF_WANTS} of the wants' if most else ''}){of_wants}")
        if not enough: missed.append(what)
    what = "cold 16 KiB TTFB median, ms"
    figure(what, f"{ratio.get(what, 99):.2f} of Kubo's (aim {TTFB_OF_KUBO})")
    if ratio.get(what, 99) > TTFB_OF_KUBO: missed.append(what)
    waiting = {name: (number(table[WAITING][name]) - number(table[IDLE][name])) * 1.024 for name in targets}  # KiB each, of 1,000
    figure("memory of a waiting request", f"{waiting['estuary']:.1f} KiB, Kubo {waiting['kubo']:.1f} KiB (aim {WAITING_OF_KUBO} of it)")
    if waiting["estuary"] > WAITING_OF_KUBO * waiting["kubo"]: missed.append("memory of a waiting request")
    flood = table[FLOOD]["estuary"], table["blocks the peer sent"]["estuary"]
    figure("1,000 requests for one missing CID", f"{flood[0]} answered 200, the peer sent {flood[1]} block")
    check(flood == ("1000", "1"), f"1,000 requests for one missing CID: {flood[0]} were answered, {flood[1]} blocks were sent")
    print("cold: " + ("all aims reached" if not missed else "aims missed: " + "; ".join(missed)))


try:
    main()
except estuary.Failed as failed:
    sys.exit(f"cold: FAILED: {failed}")
