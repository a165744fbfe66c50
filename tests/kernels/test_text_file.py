"""The file of text that waits is true at every instant: a process that is killed at any leaves all that it printed."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from broker.kernel.outbox import Outbox

FOLDER = Path(__file__).parents[2] / "kernels" / "python"
PRINTER = f"""
import mmap, os, sys, types
sys.path.insert(0, {str(FOLDER)!r})
from pathlib import Path
from broker_kernel.outbox import IOPUB, Outbox
from broker_kernel.text import Text

def print_for_ever(directory, printed):
    outbox = Outbox(directory)

    def publish(cell, name, text, epoch, offset):
        outbox.append(IOPUB, [b"stream", cell.id.encode(), b"", text.encode()], epoch=epoch, offset=offset)

    text = Text(outbox, publish, lambda delay, call: None)
    text.keep_in(directory / "text")
    cells = [types.SimpleNamespace(id="a" * length) for length in (1, 36)]
    number = 0
    while True:
        text.write(cells[number // 3 % 2], number // 5 % 2, f"{{number}} " + "x" * (number % 97) + chr(10))
        number += 1
        printed[:] = number.to_bytes(8, "little")

for line in sys.stdin:
    directory = Path(line.strip())
    with open(directory / "count", "r+b") as file:
        printed = mmap.mmap(file.fileno(), 8)
    if (child := os.fork()) == 0:
        print_for_ever(directory, printed)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.mark.parametrize("seed", range(int(os.environ.get("FAULT_ROUNDS", "3"))))
def test_what_a_process_printed_is_there_whenever_it_is_killed(seed: int, tmp_path: Path) -> None:
    """A hundred kills a round: each falls somewhere, now and then between two stores to the file."""
    moments = random.Random(seed)
    with subprocess.Popen(
        [sys.executable, "-c", PRINTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as printer:
        assert printer.stdin is not None
        assert printer.stdout is not None
        for _ in range(100):
            outbox = Outbox.create(tmp_path / "outbox")
            count = outbox.directory / "count"
            count.write_bytes(bytes(8))
            printer.stdin.write(f"{outbox.directory}\n")
            printer.stdin.flush()
            child = int(printer.stdout.readline())
            select.select([], [], [], moments.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            assert printer.stdout.readline() == "dead\n"
            records = []
            while more := outbox.read():
                records += more
            sent = "".join(record.content.decode() for record in records)
            waiting = "".join(msgspec.json.decode(record.content)["text"] for record in outbox.last_words())
            lines = (sent + waiting).splitlines()
            printed = int.from_bytes(count.read_bytes(), "little")
            assert len(lines) - printed in (0, 1), f"killed at {printed}, of which {len(lines)} are there"
            assert lines == [f"{number} " + "x" * (number % 97) for number in range(len(lines))]
            outbox.remove()
        printer.stdin.close()
