"""kill -9 at random moments, again and again, on one store; then everything that was acknowledged is read back.

    kill.py [--kills 200] [--seed N] [--uploaders 4]

Uploaders post files of random sizes to /content/add, one adds folders with `estuary add`, one removes pins and collects. At a random moment
the node is killed; in a quarter of the rounds it is killed again while it starts. After each round: start, `estuary fsck`, and every
acknowledged CID is read whole and hashed. What was not acknowledged must be there whole or not at all. The seed is printed; times are the machine's,
so a seed repeats the sizes and choices, not the very moment. Last line `kill: N kills, N acknowledged, 0 lost, 0 wrong`.
"""
import argparse, hashlib, http.client, json, random, shutil, sys, threading, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import estuary
from estuary import Failed, Node, check, get_hash, raw_cid

LIVE_MAX = 250  # pins kept; older ones are removed, which makes garbage
GONE = (OSError, http.client.HTTPException)


class Ledger:
    """What clients were told."""

    def __init__(self):
        self.lock = threading.Lock()
        self.kept = {}        # cid -> (sha256, size): acknowledged, must be there
        self.folders = {}     # cid -> {name: (sha256, size)}
        self.maybe = {}       # cid -> (sha256, size): asked, not acknowledged
        self.removed = set()  # removal was asked for: anything whole is right
        self.acknowledged = 0

    def asked(self, cid, digest, size):
        with self.lock:
            if cid not in self.kept:
                self.maybe[cid] = (digest, size)

    def told(self, cid, digest, size):
        with self.lock:
            self.maybe.pop(cid, None)
            self.removed.discard(cid)
            self.kept[cid] = (digest, size)
            self.acknowledged += 1


def size_of(r):
    kind = r.random()
    if kind < 0.5: return r.randrange(0, 4096)
    if kind < 0.85: return r.randrange(4096, 1 << 20)
    return r.randrange(1 << 20, 6 << 20)


def uploader(node, key, r, ledger, stop):
    while not stop.is_set():
        data = r.randbytes(size_of(r))
        digest = hashlib.sha256(data).hexdigest()
        whole = len(data) <= 1 << 20
        if whole: ledger.asked(raw_cid(data), digest, len(data))
        try:
            status, answer = estuary.upload(node.api, key, data, timeout=30)
        except GONE:
            return
        if status != 200:
            if not stop.is_set(): ledger.refused = f"{status} {answer}"
            return
        if whole: check(answer["cid"] == raw_cid(data), f"another CID: {answer}")
        ledger.told(answer["cid"], digest, len(data))


def folders(node, r, ledger, work, stop):
    n = 0
    while not stop.is_set():
        n += 1
        root = work / f"folder-{n % 4}"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        inside = {}
        for i in range(r.randrange(1, 12)):
            data = r.randbytes(r.randrange(0, 60_000))
            (root / f"f{i}").write_bytes(data)
            inside[f"f{i}"] = (hashlib.sha256(data).hexdigest(), len(data))
        done = node.run("add", root, "--json", ok=None)
        if done.returncode: return
        cid = json.loads(done.stdout)["cid"]
        with ledger.lock:
            ledger.folders[cid] = inside
            ledger.acknowledged += 1


def remover(node, r, ledger, stop):
    while not stop.is_set():
        time.sleep(r.random() * 0.2)
        with ledger.lock:
            over = len(ledger.kept) - LIVE_MAX
            # A removal that was asked for may have happened, whatever the answer.
            gone = [cid for cid in list(ledger.kept)[:max(over, 1 if len(ledger.kept) > 50 else 0)]]
            for cid in gone: ledger.kept.pop(cid); ledger.removed.add(cid)
            for cid in list(ledger.folders)[:max(len(ledger.folders) - 20, 0)]: ledger.folders.pop(cid); gone.append(cid)
        if gone and node.run("pin", "rm", *gone, ok=None).returncode not in (0, 1): return
        node.run("gc", "--all", "--json", ok=None)


def read_back(node, ledger, problems):
    def one(path, want, may_miss=False):
        try:
            status, digest, size = get_hash(f"{node.gateway}/ipfs/{path}")
        except GONE as error:
            problems.append(f"lost: {path}: {error!r}")
            return
        if status == 404 and may_miss: return
        if status != 200: problems.append(f"lost: {path}: {status}")
        elif (digest, size) != want: problems.append(f"wrong: {path}: {size} bytes for {want[1]}")

    jobs = [(cid, want, False) for cid, want in ledger.kept.items()]
    jobs += [(f"{cid}/{name}", want, False) for cid, inside in ledger.folders.items() for name, want in inside.items()]
    jobs += [(cid, want, True) for cid, want in ledger.maybe.items()]
    parts = [threading.Thread(target=lambda part: [one(*job) for job in part], args=(jobs[n::4],)) for n in range(4)]
    for part in parts: part.start()
    for part in parts: part.join()
    ledger.maybe.clear()
    return len(jobs)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--kills", type=int, default=200)
    a.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    a.add_argument("--uploaders", type=int, default=4)
    a = a.parse_args()
    estuary.need_binary()
    print(f"seed {a.seed}", flush=True)
    r, ledger, work = random.Random(a.seed), Ledger(), estuary.scratch("kill")
    node, problems, kills, double, reads, rounds, slowest = Node(work / "node"), [], 0, 0, 0, 0, 0.0
    try:
        key = node.start().key()
        while kills < a.kills:
            rounds += 1
            stop, ledger.refused = threading.Event(), None
            tasks = [threading.Thread(target=uploader, args=(node, key, random.Random(r.random()), ledger, stop)) for _ in range(a.uploaders)]
            tasks.append(threading.Thread(target=folders, args=(node, random.Random(r.random()), ledger, work, stop)))
            tasks.append(threading.Thread(target=remover, args=(node, random.Random(r.random()), ledger, stop)))
            for task in tasks: task.start()
            time.sleep(r.random() * 1.2 + 0.02)
            stop_at = time.monotonic()
            node.kill()
            stop.set()
            kills += 1
            for task in tasks: task.join()
            check(not ledger.refused, f"an upload was refused: {ledger.refused}")
            if r.random() < 0.25:
                # Again, while it recovers.
                node.spawn()
                time.sleep(r.random() * 0.12)
                node.kill()
                kills += 1
                double += 1
            start = time.monotonic()
            try:
                node.start()
            except Failed as failed:
                problems.append(f"lost: the node does not start: {failed}")
                break
            slowest = max(slowest, time.monotonic() - start)
            report = node.json("fsck", ok=None)
            if not (report and report[0].get("ok")): problems.append(f"fsck: {report}")
            reads += read_back(node, ledger, problems)
            pins = {pin["cid"] for pin in node.json("pin", "ls")}
            missing = [cid for cid in (*ledger.kept, *ledger.folders) if cid not in pins]
            if missing: problems.append(f"lost: {len(missing)} pins, {missing[:3]}")
            if problems: break
            if rounds % 20 == 0: print(f"{kills} kills, {ledger.acknowledged} acknowledged, {reads} read back", flush=True)
        if not problems:
            check(node.stop() == 0, "the node did not stop well")
            check(node.json("fsck")[0]["ok"], "fsck with no node running")
    finally:
        node.kill()
        keep = work.with_name(work.name + "-kept") if problems else None
        if keep: work.rename(keep)
        shutil.rmtree(work, ignore_errors=True)
    for problem in problems[:20]: print(problem)
    lost, wrong = (sum(p.startswith(w) for p in problems) for w in ("lost", "wrong"))
    if problems: print(f"round {rounds} of seed {a.seed}; the store is kept at {keep}")
    estuary.figure("kills (of them while starting up)", f"{kills} ({double})")
    estuary.figure("uploads acknowledged", ledger.acknowledged)
    estuary.figure("files read back and hashed", reads)
    estuary.figure("lost, wrong", f"{lost}, {wrong}")
    estuary.figure("slowest start after a kill", f"{slowest:.2f} s")
    estuary.figure("seed", a.seed)
    print(f"kill: {kills} kills, {ledger.acknowledged} acknowledged, {lost} lost, {wrong} wrong")
    sys.exit(1 if problems else 0)


main()
