"""What an upload syncs before it is acknowledged, as the kernel saw it.

    strace.py

A node runs under strace. For each of three uploads (into a fresh store, then two more) it is shown that before the first byte of `HTTP/1.1 200`
is written to the client's socket: every segment file that was written is synced after its last write; after that the database is written and synced; and the
folder of every file that was made is synced too. Last line `strace: N uploads, all synced before the 2xx`.
"""
import os, re, shutil, signal, subprocess, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import estuary
from estuary import Failed, Node, check

CALLS = "openat,creat,rename,renameat,renameat2,fsync,fdatasync,sync_file_range,msync,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,io_uring_enter"
WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
SYNCS = ("fsync", "fdatasync")


def calls(path):
    """(start, end, name, arguments, result) of each call, in order of their starts."""
    begun, out = {}, []
    for line in open(path, errors="replace"):
        m = re.match(r"(\d+) +(\d+\.\d+) (.*)", line.rstrip("\n"))
        if not m: continue
        thread, at, rest = m[1], float(m[2]), m[3]
        if rest.endswith("<unfinished ...>"):
            begun[thread] = (at, rest.removesuffix("<unfinished ...>").rstrip())
            continue
        start = at
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", rest):
            if thread not in begun: continue
            start, head = begun.pop(thread)
            rest = head + resumed[1]
        done = re.match(r"(\w+)\((.*)\)\s+= (-?\w+)(.*)", rest)
        if not done: continue
        took = re.search(r"<(\d+\.\d+)>$", rest)
        end = at if resumed else start + (float(took[1]) if took else 0)
        out.append((start, end, done[1], done[2], done[3] + done[4]))
    return sorted(out)


def file_of(arguments, result, name):
    m = re.search(r"<(/[^>]*)>", result if name in ("openat", "creat") else arguments)
    return m[1] if m else None


def uploads(trace, data_dir):
    """For each acknowledged upload: what happened before its first byte."""
    found = []
    for start, _, name, arguments, _ in trace:
        # -yy shows what a descriptor is: <TCP:[127.0.0.1:1->127.0.0.1:2]>
        if name in ("write", "writev", "sendto", "sendmsg") and "<TCP" in arguments.split(",", 1)[0] and "HTTP/1.1 200" in arguments and "json" in arguments:
            found.append(start)
    return found


def show_order(trace, since, until, data_dir):
    """Checks the order within one upload; returns it as text."""
    inside = [c for c in trace if since <= c[0] < until]
    ours = [(s, e, n, file_of(a, r, n)) for s, e, n, a, r in inside]
    ours = [c for c in ours if c[3] and c[3].startswith(data_dir) and not c[3].endswith(".log")]
    written = {}
    for s, e, n, f in ours:
        if n in WRITES: written.setdefault(f, []).append((s, e))
    segments = [f for f in written if "segment" in f or f.endswith(".seg")]
    databases = [f for f in written if f.endswith(".redb") or f.endswith(".db")]
    check(segments, f"no segment file was written: {sorted(written)}")
    check(databases, f"no database was written: {sorted(written)}")
    sync_of = lambda f, after: [(s, e) for s, e, n, g in ours if g == f and n in SYNCS and s >= after and e <= until]
    lines, synced = [], 0
    for f in segments:
        last = max(e for _, e in written[f])
        syncs = sync_of(f, last)
        check(syncs, f"{f} was written and not synced before the 2xx")
        synced = max(synced, syncs[0][1])
        lines.append(f"{Path(f).name}: {len(written[f])} writes, synced {(until - syncs[0][1]) * 1000:.1f} ms before the 2xx")
    for f in databases:
        last = max(e for _, e in written[f])
        syncs = sync_of(f, last)
        check(syncs, f"{f} was written and not synced before the 2xx")
        behind = [w for w in written[f] if w[0] >= synced]
        check(behind, f"{f} was not written after the segment was synced")
        lines.append(f"{Path(f).name}: {len(written[f])} writes, synced {(until - syncs[-1][1]) * 1000:.1f} ms before the 2xx and after the segment")
    for s, e, n, a, r in inside:
        made = file_of(a, r, n)
        if n == "openat" and "O_CREAT" in a and made in written and not r.startswith("-"):
            check(sync_of(str(Path(made).parent), s), f"{made} was made and its folder not synced before the 2xx")
            lines.append(f"{Path(made).name} was made: its folder is synced")
        if n.startswith("rename") and r.startswith("0"):
            to = re.findall(r'"([^"]*)"', a)[-1]
            if to.startswith(data_dir):
                check(sync_of(str(Path(to).parent), s), f"{to} got its name and its folder was not synced before the 2xx")
                lines.append(f"{Path(to).name} got its name: its folder is synced")
    check(not any(n == "io_uring_enter" for _, _, n, _, _ in inside), "io_uring hides writes from this script")
    return lines


def main():
    estuary.need("strace")
    estuary.need_binary()
    work = estuary.scratch("strace")
    trace_path = work / "trace"
    node = Node(work / "node", wrap=["strace", "-f", "-ttt", "-T", "-yy", "-s", "96", "-e", f"trace={CALLS}", "-o", str(trace_path)])
    try:
        node.start()
        key = node.key()
        marks, sizes = [], (5_000_000, 100, 1_048_577)
        for size in sizes:
            time.sleep(0.3)
            marks.append(time.time())
            status, answer = estuary.upload(node.api, key, os.urandom(size))
            check(status == 200, f"{status} {answer}")
            time.sleep(0.2)
        # The tracer passes no signal on: end the traced node itself.
        child = int(subprocess.run(["pgrep", "-P", str(node.process.pid)], capture_output=True, text=True, check=True).stdout.split()[0])
        os.kill(child, signal.SIGTERM)
        node.process.wait(60)
        trace = calls(trace_path)
        answered = uploads(trace, str(node.data_dir))
        check(len(answered) >= len(sizes), f"{len(answered)} acknowledgements in the trace")
        for number, (size, since) in enumerate(zip(sizes, marks)):
            until = next(t for t in answered if t > since)
            # A file made at the start counts as the first upload's.
            lines = show_order(trace, 0 if number == 0 else since, until, str(node.data_dir))
            print(f"upload of {size:,} bytes:")
            for line in lines: print(f"  {line}")
            estuary.figure(f"upload of {size:,} bytes", "; ".join(lines))
        print(f"strace: {len(sizes)} uploads, all synced before the 2xx")
    finally:
        if node.process and node.process.poll() is None:
            for pid in subprocess.run(["pgrep", "-P", str(node.process.pid)], capture_output=True, text=True).stdout.split(): os.kill(int(pid), signal.SIGKILL)
        node.kill()
        if log := os.environ.get("STRACE_LOG"): shutil.copy(trace_path, log)
        shutil.rmtree(work, ignore_errors=True)


try:
    main()
except Failed as failed:
    sys.exit(f"strace: FAILED: {failed}")
