"""Files and folders of every shape that decides a CID, the same on every run.

    shapes.py DIR       writes DIR/NN-name/... and DIR/shapes.tsv: name, path, chunker (or -), profiles
"""
import hashlib, os, sys
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
BOTH, V1, V0 = "unixfs-v1-2025,unixfs-v0-2015", "unixfs-v1-2025", "unixfs-v0-2015"


def stream(seed, size):
    """`size` bytes that only `seed` decides."""
    return hashlib.shake_128(seed.encode()).digest(size)


class Shapes:
    def __init__(self, root):
        self.root, self.rows = Path(root), []
        self.root.mkdir(parents=True, exist_ok=True)

    def place(self, name):
        path = self.root / f"{len(self.rows):02}-{name}"
        path.mkdir()
        return path

    def add(self, name, path, chunker="-", profiles=BOTH):
        self.rows.append((name, path, chunker, profiles))

    def file(self, name, size, chunker="-", profiles=BOTH, sparse=False):
        path = self.place(name) / "file.bin"
        if sparse:
            with open(path, "wb") as f:
                f.truncate(size)
        else:
            path.write_bytes(stream(name, size))
        self.add(name, path, chunker, profiles)

    def folder(self, name, fill, chunker="-", profiles=BOTH):
        path = self.place(name) / "folder"
        path.mkdir()
        fill(path)
        self.add(name, path, chunker, profiles)


def tiny(count, name=lambda n: f"file-{n:05}.txt", text=lambda n: f"{n}\n"):
    def fill(root):
        for n in range(count):
            (root / name(n)).write_text(text(n))
    return fill


def deep(levels):
    def fill(root):
        path = root
        for n in range(levels):
            path = path / f"level-{n}"
        path.mkdir(parents=True)
        (path / "bottom.txt").write_text("bottom\n")
    return fill


def names(all_names):
    def fill(root):
        for name in all_names:
            (root / name).write_text(f"this is {name}\n")
    return fill


def links(targets):
    def fill(root):
        (root / "real.txt").write_text("real\n")
        (root / "sub").mkdir()
        for name, target in targets:
            os.symlink(target, root / name)
    return fill


def mixed(root):
    (root / "empty").mkdir()
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "a" / "big.bin").write_bytes(stream("mixed", 3 * MIB + 17))
    (root / "a" / "b" / "none").write_bytes(b"")
    (root / "a" / "b" / "c" / "one").write_bytes(b"1")
    (root / "index.html").write_text("<!doctype html><title>mixed</title>\n")
    os.symlink("a/big.bin", root / "link")


def nested(fan, levels):
    def fill(root, left=levels, label=""):
        for n in range(fan):
            if left == 0:
                (root / f"leaf-{n}").write_text(f"{label}{n}")
            else:
                (root / f"dir-{n}").mkdir()
                fill(root / f"dir-{n}", left - 1, f"{label}{n}.")
    return fill


def big_folders(root):
    """A sharded folder within a plain one, and a plain one within the sharded."""
    (root / "large").mkdir()
    tiny(6000)(root / "large")
    (root / "large" / "sub").mkdir()
    tiny(3)(root / "large" / "sub")
    (root / "small").mkdir()
    tiny(3)(root / "small")


def name_bytes(total, each):
    """Names that together fill a directory to about the threshold at which it is sharded."""
    return tiny(total // each, name=lambda n: f"{n:06}" + "n" * (each - 6), text=lambda n: "")


def all_shapes(root):
    s = Shapes(root)
    for size in (0, 1, 2, 3, 31, 32, 255, 256, 1024, 65535, 65536, 65537):
        s.file(f"bytes-{size}", size)
    # Around one chunk and several, of either profile.
    for chunk, label in ((256 * KIB, "256k"), (MIB, "1m")):
        for n, what in ((chunk - 1, "minus-1"), (chunk, "exact"), (chunk + 1, "plus-1"), (2 * chunk, "two"), (2 * chunk + 1, "two-plus-1")):
            s.file(f"chunk-{label}-{what}", n)
    s.file("megabytes-10", 10 * MIB + 12345)
    # The widest node, and one link more: with the profile's own chunks, and with small ones.
    s.file("links-174", 174 * 256 * KIB, profiles=V0)
    s.file("links-174-plus-1", 174 * 256 * KIB + 1, profiles=V0)
    s.file("links-1024-sparse", 1024 * MIB, profiles=V1, sparse=True)
    s.file("links-1024-sparse-plus-1", 1024 * MIB + 1, profiles=V1, sparse=True)
    for width in (173, 174, 175, 348, 349, 1023, 1024, 1025, 2048, 2049):
        s.file(f"small-chunks-{width}", width * 64, chunker="size-64")
    s.file("three-levels-174", (174 * 174 + 1) * 16, chunker="size-16")
    s.file("chunks-1000-odd", 1_234_567, chunker="size-1000")
    s.file("chunk-largest", 5 * MIB, chunker="size-1048576")
    s.file("all-the-same-chunk", 5 * MIB, sparse=True)
    # Folders.
    s.folder("empty-folder", lambda root: None)
    s.folder("one-empty-file", names(["empty"]))
    s.folder("one-file", tiny(1))
    s.folder("ten-files", tiny(10))
    s.folder("empty-folders-within", lambda root: [(root / n).mkdir() for n in ("a", "b", "c")])
    s.folder("mixed", mixed)
    s.folder("nested-3x4", nested(3, 4))
    s.folder("deep-40", deep(40))
    s.folder("hidden", names([".hidden", ".config", "plain"]))
    s.folder("same-content-twice", tiny(20, text=lambda n: "same\n"))
    s.folder("order-of-names", names(["a", "B", "Z", "a.b", "a-b", "a b", "A", "10", "9", "~", "_"]))
    s.folder("unicode", names(["Grüße.txt", "日本語", "emoji-🐟", "é", "e\u0301", "Ω", "עברית", "\u200bzero"]))
    s.folder("awkward-names", names(["100%.txt", "a#b", "a?b", "a&b=c", "a\\b", "'quote\"", " lead", "trail ", "new\nline", "semi;colon", "*", "<tag>"]))
    s.folder("long-names", tiny(5, name=lambda n: f"{n}" + "x" * 250))
    s.folder("symlink", links([("to-file", "real.txt")]))
    s.folder("symlinks", links([("to-file", "real.txt"), ("to-dir", "sub"), ("up", "../elsewhere"), ("absolute", "/etc/hostname"), ("dangling", "nothing"), ("unicode", "zïel")]))
    s.folder("small-chunks-in-folder", mixed, chunker="size-4096")
    s.folder("files-300", tiny(300))
    s.folder("files-1024", tiny(1024))
    s.folder("files-5000", tiny(5000))
    # Around the threshold of sharding (256 KiB, which the profiles estimate in different ways).
    for count in (4000, 4600, 4700, 4800, 5200, 5600, 6000):
        s.folder(f"shard-edge-{count}", tiny(count, name=lambda n: f"{n:08}.dat", text=lambda n: f"{n % 7}"))
    s.folder("shard-long-names", name_bytes(300 * KIB, 200))
    s.folder("shard-below-long-names", name_bytes(150 * KIB, 200))
    s.folder("shard-unicode", tiny(6000, name=lambda n: f"ключ-{n}-🐟"))
    s.folder("shard-20000", tiny(20_000))
    s.folder("shard-within", big_folders)
    return s.rows


if __name__ == "__main__":
    rows = all_shapes(sys.argv[1])
    with open(Path(sys.argv[1]) / "shapes.tsv", "w") as f:
        for row in rows:
            f.write("\t".join(map(str, row)) + "\n")
    print(f"shapes: {len(rows)}, {sum(len(r[3].split(',')) for r in rows)} with profiles")
