"""Child processes: they are interrupted with the cell that started them, as a terminal's Ctrl-C would."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any


class Interrupt:
    """One SIGINT to each of some processes, and to those that they have started."""

    def __init__(self, processes: Iterable[Popen[Any]]) -> None:
        self._told: dict[int, str] = {}
        """What each process was when it was told."""
        # Without a pid it is only just being started: who starts it is interrupted in any case.
        self._processes = [process for process in processes if process.pid is not None]
        for pid in self._alive():
            self._tell(pid)
        # What was started between two of these has heard nothing yet, and a shell waits for its end.
        for pid in self._alive():
            if pid not in self._told:
                self._tell(pid)

    def again(self) -> None:
        """Tell those that were not themselves yet: what is told between fork and exec is lost (signal(7))."""
        for pid in self._alive():
            if pid in self._told and self._told[pid] != _program(pid):
                self._tell(pid)

    def _alive(self) -> list[int]:
        roots = [process.pid for process in self._processes if process.returncode is None]
        return [pid for root in roots for pid in (root, *descendants(root))]

    def _tell(self, pid: int) -> None:
        self._told[pid] = _program(pid)
        with suppress(OSError):
            os.kill(pid, signal.SIGINT)


def descendants(pid: int) -> Iterator[int]:
    """The processes that ``pid`` has started, and theirs. None where the system does not tell (``proc(5)``)."""
    with suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from descendants(child)


def _program(pid: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")
    return ""
