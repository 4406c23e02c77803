"""What the size of the store costs: reads at 10^4, 10^6 and 10^7 blocks, and the time from start to the first byte with 10^6.

    scale.py [BLOCKS...]      default: 10000 1000000 10000000; wants a quiet machine

The blocks come as CARs of 256-byte raw leaves without a root, through `estuary import`. Reads are random `?format=raw` requests over
keep-alive connections, with a memory cache that holds few of them. Last line `scale: ...`.
"""
import hashlib, random, shutil, sys, threading, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import estuary
from estuary import MIB, Failed, Node, check, connect, figure, get, raw_cid

BLOCK_BYTES = 256


def leaf(n):
    return hashlib.shake_128(n.to_bytes(8, "little")).digest(BLOCK_BYTES)


def varint(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def write_car(path, numbers):
    with open(path, "wb", buffering=4 * MIB) as f:
        header = b"\xa2\x65roots\x80\x67version\x01"
        f.write(varint(len(header)) + header)
        head = varint(36 + BLOCK_BYTES) + b"\x01\x55\x12\x20"
        for n in numbers:
            data = leaf(n)
            f.write(head + hashlib.sha256(data).digest() + data)


def reads(node, blocks, seconds=8, connections=8):
    """Requests a second for random blocks, the 99th percentile in ms."""
    times, lock = [], threading.Lock()
    end = time.monotonic() + seconds

    def client(seed):
        r, own, connection = random.Random(seed), [], connect(node.gateway)
        while time.monotonic() < end:
            data = leaf(r.randrange(blocks))
            target = f"/ipfs/{raw_cid(data)}?format=raw"
            start = time.monotonic()
            connection.request("GET", target)
            answer = connection.getresponse()
            body = answer.read()
            own.append(time.monotonic() - start)
            if answer.status != 200 or body != data: raise Failed(f"{target}: {answer.status}")
        with lock: times.extend(own)

    tasks = [threading.Thread(target=client, args=(seed,)) for seed in range(connections)]
    for task in tasks: task.start()
    for task in tasks: task.join()
    times.sort()
    check(times, "no request came back")
    return len(times) / seconds, times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000


def main():
    sizes = [int(word) for word in sys.argv[1:]] or [10_000, 1_000_000, 10_000_000]
    estuary.need_binary()
    work = estuary.scratch("scale")
    try:
        print("| blocks | import, blocks/s | start to first byte, s | reads/s (Python clients) | median, ms | p99, ms | index, MiB | memory, MiB |")
        print("|---|---|---|---|---|---|---|---|")
        first = None
        for blocks in sizes:
            node = Node(work / f"node-{blocks}", env={"ESTUARY_CACHE__BYTES_MAX": str(MIB // 4)})
            try:
                node.start()
                start, took = 0, 0.0
                while start < blocks:
                    count = min(500_000, blocks - start)
                    write_car(work / "part.car", range(start, start + count))
                    before = time.monotonic()
                    node.run("import", "--no-pin", work / "part.car")
                    took += time.monotonic() - before
                    start += count
                check(node.stop() == 0, "stop")
                data = leaf(blocks // 2)
                before = time.monotonic()
                node.start()
                status, _, body = get(f"{node.gateway}/ipfs/{raw_cid(data)}?format=raw")
                ready = time.monotonic() - before
                check(status == 200 and body == data, f"{status}")
                rate, median, p99 = reads(node, blocks)
                first = first or median
                index = sum(f.stat().st_size for f in node.data_dir.rglob("*.redb")) / MIB
                print(f"| {blocks:,} | {blocks / took:,.0f} | {ready:.2f} | {rate:,.0f} | {median:.2f} | {p99:.2f} | {index:.0f} | {estuary.status_field(node.process.pid, 'VmRSS'):.0f} |", flush=True)
                check(node.stop() == 0, "stop")
            finally:
                node.kill()
                shutil.rmtree(node.data_dir, ignore_errors=True)
        print(f"\nscale: the median read at {sizes[-1]:,} blocks takes {median / first:.2f} times that at {sizes[0]:,}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


try:
    main()
except Failed as failed:
    sys.exit(f"scale: FAILED: {failed}")
