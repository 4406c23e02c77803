"""Two binaries of Estuary, before and after a change, on the hot path; wants a machine that does nothing else.

    hot_path.py BEFORE AFTER [--rounds 5] [--seconds 5] [--kubo] [--nginx]      needs wrk (install.sh load)

In each round both run, and each measure is taken of one after the other, so that what the machine does besides hits both: servers on core 0,
clients on core 1, the median of each measure counts. --kubo and --nginx put those beside them. Last line `hot_path: ...`; fails where the new binary has lost more than 10 %.
"""
import argparse, collections, contextlib, os, re, shutil, statistics, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
import estuary, shapes
from estuary import MIB, Failed, Node, check

SERVER, CLIENT = "0", "1"  # cores
LOST_MAX = 0.10
cids = {}  # of the content, which every node gives alike
os.environ["PATH"] = f"{estuary.PEERS_HOME}/bin:{os.environ['PATH']}"


def wrk(url, connections, seconds, *headers):
    """Requests a second."""
    command = ["taskset", "-c", CLIENT, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    for header in headers: command += ["-H", header]
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    check(not bad and "Socket errors" not in out, f"{url}: {out[-400:]}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])


def stream(url, size, times):
    """MB/s of one download, the median."""
    rates = []
    for _ in range(times):
        out = subprocess.run(["taskset", "-c", CLIENT, "curl", "-sSf", "-o", "/dev/null", "-w", "%{size_download} %{time_total}", url], capture_output=True, text=True, check=True).stdout.split()
        check(int(out[0]) >= size, f"{url}: {out[0]} bytes")
        rates.append(int(out[0]) / float(out[1]) / 1e6)
    return statistics.median(rates)


def measures(base, cid, seconds):
    """What is measured: name -> a run of it."""
    url = lambda name, rest="": f"{base}/ipfs/{cid[name]}{rest}"
    etag = estuary.get(url("1k"))[1]["etag"]
    check(estuary.get(url("1k"), {"If-None-Match": etag})[0] == 304, "no 304")
    # Once each, so that memory holds it.
    for name, rest in (("1k", ""), ("256k", "?format=raw"), ("64m", ""), ("blocks", ""), ("dir", "/"), ("dir", "/file-001.txt")): check(estuary.get(url(name, rest))[0] == 200, name)
    return {
        "1 KiB, req/s": lambda: wrk(url("1k"), 64, seconds),
        "1 KiB by a path, req/s": lambda: wrk(url("dir", "/file-001.txt"), 64, seconds),
        "304, req/s": lambda: wrk(url("1k"), 64, seconds, f"If-None-Match: {etag}"),
        "raw 256 KiB, req/s": lambda: wrk(url("256k", "?format=raw"), 16, seconds),
        "listing of 100, req/s": lambda: wrk(url("dir", "/"), 16, seconds),
        "64 MiB, MB/s": lambda: stream(url("64m"), 64 * MIB, 5),
        "CAR of 10,000 blocks, MB/s": lambda: stream(url("blocks", "?format=car"), 9_940 << 14, 3),
    }


def content(work):
    """What is served, as files: name -> (path, chunker)."""
    (work / "dir").mkdir()
    for n in range(100): (work / f"dir/file-{n:03}.txt").write_text(f"{n}\n" * 10)
    files = {"1k": (1024, "-"), "256k": (256 << 10, "-"), "64m": (64 * MIB, "-"), "blocks": (9_940 << 14, "size-16384")}
    for name, (size, _) in files.items(): (work / name).write_bytes(shapes.stream(f"hot {name}", size))
    return {**{name: (work / name, chunker) for name, (_, chunker) in files.items()}, "dir": (work / "dir", "-")}


def node_of(binary, *args, **named):
    """A node of another binary than the usual one."""
    node = Node(*args, **named)
    node.command = lambda *words: [binary, "--data-dir", str(node.data_dir), *map(str, words)]
    return node


@contextlib.contextmanager
def pinned(binary, work, name, files):
    """A node of this binary, on the server's core, that holds the content: (URL, CIDs)."""
    node = node_of(binary, work / name, wrap=["taskset", "-c", SERVER])
    try:
        node.start()
        cid = {}
        for key, (path, chunker) in files.items():
            cid[key] = node.json("add", path, *(["--chunker", chunker] if chunker != "-" else []))[0]["cid"]
            node.run("export", cid[key], "-o", work / f"{key}.car")
        cids.update(cid)
        yield node.gateway, cid
        check(node.stop() == 0, "stop")
    finally:
        node.kill()
        shutil.rmtree(node.data_dir, ignore_errors=True)


@contextlib.contextmanager
def target(name, work, cid):
    """Kubo or nginx with the same bytes, by the scripts of tests/peers/bench: (URL, CIDs)."""
    files, hot, own = work / "files", work / "hot", work / f"target-{name}"
    for folder in (files / "ipfs", hot, own): folder.mkdir(parents=True, exist_ok=True)
    for key, one in cid.items():
        shutil.copy(work / f"{key}.car", hot)
        if (work / key).is_dir(): shutil.copytree(work / key, files / "ipfs" / one, dirs_exist_ok=True)
        elif key == "blocks": shutil.copy(work / "blocks.car", files / "ipfs" / one)
        else: shutil.copy(work / key, files / "ipfs" / one)
    with open(own / "said", "w") as out:
        process = subprocess.Popen(["taskset", "-c", SERVER, str(HERE.parent / f"peers/bench/targets/{name}.sh")], env={**os.environ, "WORK": str(own), "FILES": str(files), "HOT": str(hot), "PEER": ""},
                                   stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if ready := re.search(r"^ready (\S+)$", (own / "said").read_text(), re.M): break
            check(process.poll() is None, f"{name} did not start: {(own / 'said').read_text()[-500:]}")
            time.sleep(0.1)
        yield ready[1].rstrip("/"), cid
    finally:
        process.terminate()
        process.wait(30)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("before")
    a.add_argument("after")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--seconds", type=int, default=5)
    a.add_argument("--kubo", action="store_true")
    a.add_argument("--nginx", action="store_true")
    a = a.parse_args()
    estuary.need("wrk", "curl", "taskset")
    binaries = {"before": os.path.abspath(a.before), "after": os.path.abspath(a.after)}
    for path in binaries.values(): check(os.access(path, os.X_OK), f"{path} is missing")
    work = estuary.scratch("hot-path")
    try:
        files, results = content(work), collections.defaultdict(lambda: collections.defaultdict(list))
        for turn in range(a.rounds):
            with contextlib.ExitStack() as stack:
                both = {name: measures(*stack.enter_context(pinned(binary, work, f"{name}-{turn}", files)), a.seconds) for name, binary in binaries.items()}
                for what in both["before"]:
                    # Each goes first in turn.
                    for name in list(binaries)[::1 if turn % 2 == 0 else -1]: results[name][what].append(both[name][what]())
                    print(f"round {turn + 1} {what}: " + ", ".join(f"{name} {results[name][what][-1]:,.0f}" for name in binaries), flush=True)
        for name in ("kubo", "nginx"):
            if getattr(a, name):
                with target(name, work, cids) as (base, same):
                    for what, run in measures(base, same, a.seconds).items(): results[name][what].append(run())
        others = [name for name in results if name not in binaries]
        print("\n| measure | before | after | after / before | spread of before |" + "".join(f" {n} | after / {n} |" for n in others) + "\n|" + "---|" * (5 + 2 * len(others)))
        lost = []
        for what in results["before"]:
            values = {name: measured[what] for name, measured in results.items()}
            before, after = (statistics.median(values[name]) for name in binaries)
            spread = (max(values["before"]) - min(values["before"])) / before
            row = f"| {what} | {before:,.0f} | {after:,.0f} | {after / before:.2f} | {spread:.0%} |"
            for name in others:
                other = statistics.median(values[name])
                row += f" {other:,.0f} | {after / other:.2f} |"
            print(row)
            if after < before * (1 - LOST_MAX): lost.append(f"{what} {after / before:.2f}")
        print("\nhot_path: " + (f"lost more than {LOST_MAX:.0%}: {'; '.join(lost)}" if lost else f"nothing lost more than {LOST_MAX:.0%} (median of {a.rounds} rounds)"))
        sys.exit(1 if lost else 0)
    finally:
        shutil.rmtree(work, ignore_errors=True)


try:
    main()
except (Failed, subprocess.CalledProcessError) as failed:
    sys.exit(f"hot_path: FAILED: {failed} {getattr(failed, 'stderr', '') or ''}")
