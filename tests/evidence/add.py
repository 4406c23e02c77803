"""`estuary add` beside `ipfs add`: the same file and profile, alternating, each into a new store without a server.

    add.py [--rounds 3] [--mib 1024]

Once on the disk (with a sync of the file system after `ipfs add`, which does not sync as much itself) and once in memory (tmpfs), where the sync
costs neither anything. Beside them: what the hash and the disk allow here. Last line `add: ...`.
"""
import argparse, os, shutil, statistics, subprocess, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import estuary
from estuary import Failed, check, figure

MIB = 1 << 20
PROFILES = ("unixfs-v1-2025", "unixfs-v0-2015")
os.environ["PATH"] = f"{estuary.PEERS_HOME}/bin:{os.environ['PATH']}"


def run(*command, env=None):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}).stdout


def sha256_rate():
    """MiB/s that one core hashes, by OpenSSL's own bench."""
    out = run("openssl", "speed", "-mr", "-seconds", "1", "-bytes", "1048576", "-evp", "sha256")
    return float(out.strip().splitlines()[-1].split(":")[-1]) / MIB


def disk_rate(folder, mib):
    start = time.monotonic()
    run("dd", "if=/dev/zero", f"of={folder}/dd", "bs=1M", f"count={mib}", "conv=fdatasync")
    rate = mib / (time.monotonic() - start)
    os.unlink(f"{folder}/dd")
    return rate


def ours(source, folder, profile):
    start = time.monotonic()
    cid = run(estuary.BIN, "--data-dir", f"{folder}/estuary", "--offline", "add", source, "--profile", profile, "--json")
    seconds = time.monotonic() - start
    shutil.rmtree(f"{folder}/estuary")
    return seconds, cid.split('"cid":"')[1].split('"')[0]


def kubo(source, folder, profile, sync):
    env = {"IPFS_PATH": f"{folder}/kubo", "IPFS_TELEMETRY": "off"}
    run("ipfs", "init", "--empty-repo", f"--profile=test,{profile}", env=env)
    start = time.monotonic()
    cid = run("ipfs", "add", "-Q", "--offline", source, env=env).strip()
    if sync: run("sync", "-f", f"{folder}/kubo")
    seconds = time.monotonic() - start
    shutil.rmtree(f"{folder}/kubo")
    return seconds, cid


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--mib", type=int, default=1024)
    a = a.parse_args()
    estuary.need_binary()
    estuary.need("ipfs", "openssl")
    disk, memory = estuary.scratch("add"), Path("/dev/shm") / f"estuary-add-{os.getpid()}"
    memory.mkdir()
    try:
        # The source is in memory both times, so that reading it costs little.
        source = memory / "source"
        with open(source, "wb") as f:
            for _ in range(a.mib // 8): f.write(os.urandom(8 * MIB))
        cores, rows = os.cpu_count(), []
        hash_rate = sha256_rate()
        disks = [disk_rate(disk, a.mib)]
        for place, folder, sync in (("disk, with sync", disk, True), ("memory", memory, False)):
            for profile in PROFILES:
                times = {"ours": [], "kubo": []}
                for _ in range(a.rounds):
                    us, them = ours(source, folder, profile), kubo(source, folder, profile, sync)
                    check(us[1] == them[1], f"{profile}: {us[1]}, Kubo {them[1]}")
                    times["ours"].append(us[0])
                    times["kubo"].append(them[0])
                us, them = (a.mib / statistics.median(times[who]) for who in ("ours", "kubo"))
                rows.append(f"| {place} | {profile} | {us:.0f} | {them:.0f} | {us / them:.2f} |")
                print(rows[-1].replace("|", " "), times, flush=True)
            disks.append(disk_rate(disk, a.mib))
        figure(f"SHA-256 (OpenSSL), {cores} cores", f"{hash_rate * cores:.0f} MiB/s")
        figure("synced sequential write (dd, median)", f"{statistics.median(disks):.0f} MiB/s")
        print("\n| where | profile | `estuary add`, MiB/s | `ipfs add`, MiB/s | ratio |\n|---|---|---|---|---|")
        print("\n".join(rows))
        print(f"\nadd: {a.rounds} rounds of {a.mib} MiB, the same CIDs")
    finally:
        shutil.rmtree(disk, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


try:
    main()
except (Failed, subprocess.CalledProcessError) as failed:
    sys.exit(f"add: FAILED: {failed} {getattr(failed, 'stderr', '') or ''}")
