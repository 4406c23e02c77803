"""A full disk, on a small file system of its own.

    disk_full.py [--mib 896]      needs root, to mount a tmpfs

Uploads until 507; reads go on and everything acknowledged is whole; kill -9 while full, start, fsck; then pins are removed and collected, and uploads
work again without a restart. Last line `disk_full: ...`.
"""
import argparse, hashlib, os, random, shutil, subprocess, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import estuary
from estuary import Failed, Node, check, get, get_hash

MIB = 1 << 20
SIZES = (6 * MIB, 700_000, 20_000)


def fill(node, key, r, kept, sizes, most=2000):
    """Uploads until it is refused; the refusal's status."""
    refused = 0
    for n in range(most):
        data = r.randbytes(sizes[n % len(sizes)])
        status, answer = estuary.upload(node.api, key, data)
        if status == 200:
            kept[answer["cid"]] = (hashlib.sha256(data).hexdigest(), len(data))
            refused = 0
            continue
        check(status == 507, f"refused with {status}: {answer}")
        refused += 1
        # A smaller one may still fit: full means that three sizes in a row do not.
        if refused >= len(sizes): return answer
    raise Failed("the disk did not fill up")


def all_there(node, kept, when):
    for cid, want in kept.items():
        status, digest, size = get_hash(f"{node.gateway}/ipfs/{cid}")
        check(status == 200 and (digest, size) == want, f"{when}: {cid}: {status}, {size} bytes")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--mib", type=int, default=896)
    a = a.parse_args()
    estuary.need_binary()
    if os.geteuid() != 0: estuary.skip("mounting a tmpfs needs root")
    work, r, kept = estuary.scratch("full"), random.Random(7), {}
    disk = work / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={a.mib}m", "tmpfs", str(disk)], check=True)
    # The log is beside the small disk, not on it.
    node = Node(disk / "node", env={"ESTUARY_CACHE__BYTES_MAX": str(8 * MIB)})
    node.log_path = work / "node.log"
    try:
        key = node.start().key()
        answer = fill(node, key, r, kept, SIZES)
        free = shutil.disk_usage(disk).free
        estuary.figure("acknowledged before the first 507", f"{len(kept)} uploads, {sum(s for _, s in kept.values()) / MIB:.0f} MiB of a {a.mib} MiB disk; {free / MIB:.0f} MiB left free")
        print(f"refusal: {answer}")
        all_there(node, kept, "while full")
        status, _, ready = get(node.admin + "/readyz")
        print(f"readyz while full: {status} {ready[:200]!r}")
        check(get(node.admin + "/livez")[0] == 200, "livez while full")
        # Fill what the node leaves free, so that even the database meets ENOSPC.
        ballast = disk / "ballast"
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=1M", "status=none"], capture_output=True)
        check(shutil.disk_usage(disk).free < MIB, "the ballast left space")
        status, _ = estuary.upload(node.api, key, r.randbytes(1000))
        check(status in (507, 503), f"with no byte left: {status}")
        all_there(node, kept, "with no byte left")
        node.kill()
        ballast.unlink()
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=1M", f"count={max(1, free // MIB - 4)}", "status=none"], capture_output=True)
        node.spawn().wait_ready(ready=False)
        check(get(node.admin + "/readyz")[0] == 503, "a node on a full disk is not ready")
        check(node.json("fsck")[0]["ok"], "fsck after kill -9 on the full disk")
        all_there(node, kept, "after kill -9 on the full disk")
        ballast.unlink()
        # Three of five go, here and there in every segment.
        before, cids = shutil.disk_usage(disk).free, list(kept)
        removed = {cid: kept.pop(cid) for cid in cids if r.random() < 0.6}
        node.run("pin", "rm", *removed)
        removed, start = sum(size for _, size in removed.values()), time.monotonic()
        while True:
            # The node's own compaction may be under way already, and gc leaves it to that.
            report = node.json("gc", "--all")[0]
            freed = shutil.disk_usage(disk).free - before
            if freed > 0.5 * removed or time.monotonic() > start + 60: break
            time.sleep(1)
        estuary.figure("removed, and given back by `gc` while full", f"{removed / MIB:.0f} MiB, {freed / MIB:.0f} MiB in {time.monotonic() - start:.1f} s")
        check(freed > 0.5 * removed, f"gc gave {freed:,} of {removed:,} bytes back: {report}")
        before = len(kept)
        fill(node, key, r, kept, SIZES)
        check(len(kept) > before + 5, "uploads did not go on")
        estuary.figure("acknowledged afterwards without a restart", f"{len(kept) - before} uploads")
        all_there(node, kept, "at the end")
        check(node.json("fsck")[0]["ok"], "fsck at the end")
        check(node.stop() == 0, "stop")
        print("disk_full: refused with 507, nothing lost, goes on when space is back")
    finally:
        node.kill()
        subprocess.run(["umount", str(disk)], check=False)
        shutil.rmtree(work, ignore_errors=True)


try:
    main()
except Failed as failed:
    sys.exit(f"disk_full: FAILED: {failed}")
