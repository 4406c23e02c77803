"""A large file through every way in and out, and the memory it takes.

    big.py [--gib 4]      wants four times that on disk (SCRATCH=folder puts it elsewhere)

`estuary add`, `curl` back and compare, a download that breaks half-way and goes on with `curl -C -`, the same with `estuary get`, and
an upload by `curl` of the same bytes. Peak memory of the node and of each client. Last line `big: ...`; fails above 256 MiB.
"""
import argparse, json, os, shutil, subprocess, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import estuary
from estuary import Failed, Node, check, status_field

RSS_MIB_MAX = 256


def timed(command, env=None):
    """(seconds, peak MiB, standard output) of a process of its own."""
    start = time.monotonic()
    process = subprocess.Popen([str(c) for c in command], env=env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    check(process.returncode == 0, f"{' '.join(map(str, command))}: exit {process.returncode}")
    return time.monotonic() - start, used.ru_maxrss / 1024, out.decode()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--gib", type=float, default=4)
    a = a.parse_args()
    estuary.need_binary()
    estuary.need("curl", "cmp")
    work = estuary.scratch("big")
    size = int(a.gib * (1 << 30))
    check(shutil.disk_usage(work).free > 4 * size, f"{work} has too little space: set SCRATCH")
    node = Node(work / "node")
    try:
        source, out, got = work / "source", work / "out", work / "got"
        subprocess.run(["dd", "if=/dev/urandom", f"of={source}", "bs=4M", f"count={size >> 22}", "status=none"], check=True)
        size = source.stat().st_size
        node.start()
        pid = node.process.pid
        rate = lambda seconds: f"{seconds:.1f} s, {size / seconds / (1 << 20):.0f} MiB/s"
        seconds, client, text = timed(node.command("add", source, "--json"), node.env)
        cid = json.loads(text)["cid"]
        estuary.figure("`estuary add`", rate(seconds))
        estuary.figure("peak memory of the `add` client", f"{client:.0f} MiB")
        estuary.figure("peak memory of the node after it", f"{status_field(pid, 'VmHWM'):.0f} MiB")
        url = f"{node.gateway}/ipfs/{cid}"
        seconds, _, _ = timed(["curl", "-sSf", "-o", out, url])
        estuary.figure("`curl` back", rate(seconds))
        subprocess.run(["cmp", source, out], check=True)
        estuary.figure("peak memory of the node after it, its memory cache full", f"{status_field(pid, 'VmHWM'):.0f} MiB")
        os.truncate(out, size // 2 + 12345)
        timed(["curl", "-sSf", "-C", "-", "-o", out, url])
        subprocess.run(["cmp", source, out], check=True)
        print("curl -C - went on half-way: the same bytes")
        out.unlink()
        shutil.copy(source, got)
        os.truncate(got, size // 2 + 54321)
        seconds, client, _ = timed(node.command("get", cid, "-o", got), node.env)
        subprocess.run(["cmp", source, got], check=True)
        estuary.figure("resumed by `curl -C -` and by `estuary get`", "half-way, the same bytes")
        estuary.figure("peak memory of the `get` client", f"{client:.0f} MiB")
        got.unlink()
        estuary.figure("peak memory of the node after both", f"{status_field(pid, 'VmHWM'):.0f} MiB")
        key = node.key()
        seconds, _, text = timed(["curl", "-sSf", "-H", f"Authorization: Bearer {key}", "-F", f"data=@{source}", f"{node.api}/content/add"])
        check(json.loads(text)["cid"] == cid, f"another CID by curl: {text}")
        estuary.figure("uploaded again by `curl` (known blocks)", rate(seconds))
        peak = status_field(pid, "VmHWM")
        estuary.figure("peak memory of the node, all of it", f"{peak:.0f} MiB")
        estuary.figure("size", f"{size:,} bytes")
        check(peak <= RSS_MIB_MAX and client <= RSS_MIB_MAX, f"more than {RSS_MIB_MAX} MiB: {peak:.0f}, {client:.0f}")
        check(node.stop() == 0, "stop")
        print(f"big: {size:,} bytes in and out, at most {peak:.0f} MiB of memory")
    finally:
        node.kill()
        shutil.rmtree(work, ignore_errors=True)


try:
    main()
except (Failed, subprocess.CalledProcessError) as failed:
    sys.exit(f"big: FAILED: {failed}")
