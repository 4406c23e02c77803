"""Run evidence scripts and write what they found to docs/evidence.md.

    run.py [--no-write] [NAME...]      names: the scripts beside this one; default: all but those that want a quiet machine

A script prints lines `figure WHAT: VALUE`, exits 0 when all held, 77 when it cannot run here. Its whole output goes to target/evidence/NAME.log.
Sections of scripts that did not run stay as they are. Exit status 1 when one failed.
"""
import datetime, os, platform, re, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
PAGE = REPO / "docs/evidence.md"
# name -> (command, what it shows)
SCRIPTS = {
    "first_run": ("python3 tests/evidence/first_run.py", "A fresh clone and an empty home: the two commands of the README, the first upload by the page and by `curl`"),
    "interop": ("tests/peers/interop.sh", "CIDs, CARs and answers beside a real Kubo"),
    "conformance": ("python3 tests/peers/presets.py", "The IPFS project's gateway conformance suite, leaf assertions"),
    "differential": ("python3 tests/peers/differential.py", "Thousands of answers beside a real Kubo's: path x format x range x method x header"),
    "browser": ("node tests/peers/browser.mjs", "Headless Chromium on content in its own origin: an app with `_redirects`, a film that seeks, roots kept apart, our pages"),
    "caches": ("python3 tests/peers/caches.py", "nginx and Varnish in front: kept, revalidated by 304 without a block read, sliced; nothing kept that was cut or failed"),
    "tls": ("python3 tests/peers/tls.py", "curl over TLS and HTTP/2: resumed while the certificate is replaced, signed URLs, an allowlist, encoded bodies"),
    "kill": ("python3 tests/evidence/kill.py", "`kill -9` at random moments of parallel uploads, removals, collections and recoveries; then fsck and a full read-back"),
    "strace": ("python3 tests/evidence/strace.py", "The order of system calls of an upload: what is synced before the 2xx leaves"),
    "disk_full": ("python3 tests/evidence/disk_full.py", "A full disk: refused with 507, reads go on, work goes on when space is back"),
    "big": ("python3 tests/evidence/big.py", "4 GiB through every way in and out, and the memory it takes"),
    "collect": ("python3 tests/evidence/collect.py", "Deleting, collecting and compacting under load; a planted bit flip; a backup of a busy node"),
    "add": ("python3 tests/evidence/add.py", "`estuary add` and `ipfs add`, alternating, same file and profile"),
    "bench": ("python3 tests/evidence/bench.py", "Estuary beside Kubo and nginx in one run: server on one core, clients on the other"),
    "peers": ("python3 tests/peers/network.py", "Among real peers: Kubo and Helia both ways, a private DHT, HTTP providers without Bitswap, Lassie, what is said when nothing comes"),
    "nat": ("python3 tests/peers/nat.py", "Two nodes behind NATs: by a relay, then directly by hole punching"),
    "conformance_by_peer": ("python3 tests/peers/presets.py --via-kubo", "The conformance suite with all content on a Kubo and an empty Estuary"),
    "network": ("python3 tests/evidence/network.py", "Peers as they are: a thousand askers, unequal, dead, lying and slow peers, a thousand at once, a million CIDs provided"),
    "cold": ("python3 tests/evidence/cold.py", "Content that is not here, Estuary beside Kubo in one run, both fetching from the same Kubo"),
    "scale": ("python3 tests/evidence/scale.py", "What the size of the store costs: start, and reads"),
}
WANT_QUIET = ("add", "bench", "network", "cold", "scale")


def machine():
    model = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    memory = next(int(l.split()[1]) for l in open("/proc/meminfo") if l.startswith("MemTotal")) >> 20
    return f"{os.cpu_count()} x {model}, {memory} GiB, {platform.system()} {platform.release().split('-')[0]}"


def git(*args):
    return subprocess.run(["git", *args], cwd=REPO, capture_output=True, text=True).stdout.strip()


def section(name, figures, tables, seconds):
    command, what = SCRIPTS[name]
    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.lock") else "")
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    text = f"## {name}\n\n{what}.\n\n`{command}` · {today} · commit {commit} · {machine()} · {seconds:.0f} s\n\n"
    if figures:
        text += "| what | figure |\n|---|---|\n" + "".join(f"| {w} | {v} |\n" for w, v in figures)
    return text + "".join(f"\n{t}\n" for t in tables)


def run(name):
    """Runs a script and shows its output as it comes: (exit status, figures, tables, seconds)."""
    log = REPO / "target/evidence" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start, lines = time.monotonic(), []
    print(f"== {name}", flush=True)
    with open(log, "w") as out:
        process = subprocess.Popen(SCRIPTS[name][0].split(), cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace")
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            out.write(line)
            print(line, end="", flush=True)
    status, seconds = process.wait(), time.monotonic() - start
    figures = [m.groups() for line in lines if (m := re.match(r"figure (.*?): (.*)", line))]
    tables = re.findall(r"(?:^\|.*\|$\n?)+", "\n".join(lines), re.M)
    print(f"== {name}: {'held' if status == 0 else 'SKIPPED' if status == 77 else f'FAILED ({status})'} in {seconds:.0f} s", flush=True)
    return status, figures, tables, seconds


def write(done):
    text = PAGE.read_text() if PAGE.exists() else ""
    head = text.split("\n## ", 1)[0].rstrip() or "# Evidence"
    old = {s.split("\n", 1)[0]: "## " + s.rstrip() + "\n" for s in text.split("\n## ")[1:]}
    kept = {**old, **done}
    order = [n for n in SCRIPTS if n in kept] + [n for n in kept if n not in SCRIPTS]
    PAGE.write_text(head + "\n\n" + "\n".join(kept[n] for n in order))


def main():
    words = [w for w in sys.argv[1:] if w != "--no-write"]
    unknown = [w for w in words if w not in SCRIPTS]
    if unknown:
        sys.exit(f"no script {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    failed = []
    for name in words or [n for n in SCRIPTS if n not in WANT_QUIET]:
        status, figures, tables, seconds = run(name)
        if status == 0 and "--no-write" not in sys.argv:
            write({name: section(name, figures, tables, seconds)})
        elif status not in (0, 77):
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
