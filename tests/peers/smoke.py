"""The shortest proof that a release binary works: start, upload, read back, metrics that promtool accepts, stop.

    smoke.py        last line `smoke: N passed, N failed`
"""
import shutil, subprocess, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import estuary
from estuary import Node, check, get


def main():
    estuary.need_binary()
    work = estuary.scratch("smoke")
    passed, failed = 0, []

    def step(name, run):
        nonlocal passed
        try:
            run()
            passed += 1
        except Exception as error:
            failed.append(name)
            print(f"FAIL {name}: {type(error).__name__}: {str(error)[:800]}")

    def second_process():
        done = subprocess.run(node.command("serve"), env=node.env, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        check(done.returncode not in (0, None), "a second node on the same directory started")
        check(done.stderr, "it says nothing")

    def upload():
        nonlocal cid
        status, answer = estuary.upload(node.api, node.key(), b"hello estuary\n", "hello.txt")
        check(status == 200 and answer["cid"] == estuary.raw_cid(b"hello estuary\n"), f"{status} {answer}")
        cid = answer["cid"]
        check(answer["retrieval_url"] == f"{node.gateway}/ipfs/{cid}", f"{answer}")
        check(estuary.upload(node.api, "ESTnonsenseARY", b"x")[0] == 401, "a wrong key was taken")

    def read():
        status, headers, body = get(f"{node.gateway}/ipfs/{cid}")
        check(status == 200 and body == b"hello estuary\n", f"{status} {body!r}")
        check(get(f"{node.gateway}/ipfs/{cid}", {"If-None-Match": headers["etag"]})[0] == 304, "no 304")

    def admin():
        for path in ("/livez", "/readyz"):
            check(get(node.admin + path)[0] == 200, path)
        text = get(node.admin + "/metrics")[2]
        check(b"estuary_" in text, "no metrics")
        if shutil.which("promtool"):
            done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
            check(done.returncode == 0, (done.stdout + done.stderr).decode())
        else:
            print("SKIPPED promtool is not installed")

    def stop():
        check(node.stop() == 0, "exit status")
        check(node.run("status", ok=None).returncode == 3, "status finds a node")
        check(node.json("fsck")[0]["ok"], "fsck")

    cid = None
    node = Node(work / "node")
    try:
        step("start", node.start)
        for name, run in (("a second process is told so", second_process), ("upload", upload), ("read", read), ("admin", admin), ("stop", stop)):
            step(name, run)
    finally:
        node.kill()
        shutil.rmtree(work, ignore_errors=True)
    print(f"smoke: {passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
