"""Code for a kernel that prints lines from many sources at once, each known from a seed alone.

It is sent to kernels as it stands, so it imports nothing of ours. How many lines of each source were printed for sure
is counted in a mapped file beside the broker and the kernel, and survives both.
"""

import hashlib
import mmap
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

SOURCES = ("plain", "flushed", "stderr", "thread", "child", "display")
WIDTHS = (0, 7, 40, 300, 3000)


def line(seed, source, number):
    """One line, with a checksum and some padding beyond ASCII: ``seed:source:number:checksum:...``."""
    name = f"{seed}:{source}:{number}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    width = WIDTHS[4 if digest[8:10] == "00" else int(digest[8], 16) % 4]
    return f"{name}:{digest[:8]}:" + "xé☃😀"[int(digest[10], 16) % 4] * width


class Counts:
    """How many lines of each source were printed: the call that prints them has returned."""

    def __init__(self, directory, seed):
        path = Path(directory) / f"{seed}.counts"
        if not path.exists():
            path.write_bytes(bytes(8 * len(SOURCES)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def __getitem__(self, source):
        at = 8 * SOURCES.index(source)
        return int.from_bytes(self._map[at : at + 8], "little")

    def __setitem__(self, source, count):
        at = 8 * SOURCES.index(source)
        self._map[at : at + 8] = count.to_bytes(8, "little")


def work(seed, directory, sources=SOURCES, pause=0.03):
    """Print until the file ``stop`` is in ``directory``."""
    from IPython.display import display  # noqa: PLC0415

    counts = Counts(directory, seed)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE) if "child" in sources else None

    def to_child(text):
        child.stdin.write(text.encode())
        child.stdin.flush()

    # A single write each, or a line of another source could come between a line and its end.
    ways = {
        "plain": lambda text: print(text, end=""),
        "flushed": lambda text: print(text, end="", flush=True),
        "stderr": lambda text: print(text, end="", file=sys.stderr),
        "thread": lambda text: print(text, end=""),
        "child": to_child,
        "display": lambda text: display({"text/plain": text}, raw=True),
    }

    def print_from(sources):
        rng = random.Random(f"{seed} {sources}")
        while not (Path(directory) / "stop").exists():
            for _ in range(rng.randrange(1, 30)):
                source = rng.choice(sources)
                number = counts[source]
                ways[source](line(seed, source, number) + "\n")
                counts[source] = number + 1
            time.sleep(rng.random() * pause)

    thread = threading.Thread(target=print_from, args=(("thread",),))
    if "thread" in sources:
        thread.start()
    print_from([source for source in sources if source != "thread"])
    if "thread" in sources:
        thread.join()
    if child:
        child.stdin.close()
        child.wait()
