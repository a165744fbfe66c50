"""What is written to descriptors 1 and 2 past ``sys.stdout``: by C code, and by the processes that a cell starts.

Each cell has two pipes of its own. Descriptors 1 and 2 lead to those of the cell that began last and still runs;
``subprocess`` is given those of the cell that calls it. A pipe is read until its last writer is gone, so a background
process is heard for as long as it lives, under the cell that started it.
"""

from __future__ import annotations

import codecs
import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import RLock

    from .cells import Cell

STREAMS = ("stdout", "stderr")
CHUNK = 65_536

epoll: select.epoll | None = None
"""Becomes readable when one of the pipes is. None where nothing is captured."""
_write: Callable[[Cell, int, str], object]
_lock: RLock
_readers: dict[int, _Pipe] = {}


def capture(write: Callable[[Cell, int, str], object], lock: RLock) -> None:
    """Capture from now on, and hand ``write`` the cell, the stream's index and the text, holding ``lock``."""
    global epoll, _write, _lock
    if hasattr(select, "epoll"):
        epoll, _write, _lock = select.epoll(), write, lock


class _Pipe:
    """The reading end of one cell's stream."""

    def __init__(self, cell: Cell, stream: int) -> None:
        assert epoll is not None
        self._cell, self._stream = cell, stream
        # What is no UTF-8 stays what it is: it is sent as it came.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)
        _readers[self._reading] = self
        epoll.register(self._reading, select.EPOLLIN)

    def drain(self, most: int = 2**63) -> None:
        """Read what there is."""
        with _lock:
            while self._reading >= 0 and most > 0:
                try:
                    data = os.read(self._reading, CHUNK)
                except BlockingIOError:
                    return
                text = self._decoder.decode(data, final=not data)
                if text:
                    _write(self._cell, self._stream, text)
                if not data:
                    self._close()
                most -= CHUNK

    def _close(self) -> None:
        assert epoll is not None
        epoll.unregister(self._reading)
        del _readers[self._reading]
        os.close(self._reading)
        self._reading = -1


class Outputs:
    """A cell's two pipes."""

    def __init__(self, cell: Cell) -> None:
        self._pipes = [_Pipe(cell, stream) for stream in range(len(STREAMS))]
        self._ended = False

    def fileno(self, stream: int) -> int:
        """The descriptor to write to; the standard one, once the cell has ended."""
        return 1 + stream if self._ended else self._pipes[stream].writing

    def drain(self) -> None:
        """Read what has been written by now."""
        for pipe in self._pipes:
            pipe.drain()

    def end(self) -> None:
        """The cell is over. Who holds the other ends still may write."""
        self._ended = True
        for pipe in self._pipes:
            os.close(pipe.writing)


def open_outputs(cell: Cell) -> Outputs | None:
    """A cell's pipes; None if nothing is captured, or no descriptor is left: then it writes where the last one did."""
    if epoll is None:
        return None
    try:
        return Outputs(cell)
    except OSError:
        return None


def lead_to(outputs: Outputs | None) -> None:
    """Let descriptors 1 and 2 lead to these."""
    if outputs is not None:
        for stream in range(len(STREAMS)):
            os.dup2(outputs.fileno(stream), 1 + stream)


def ready() -> None:
    """Read what is there to read. Called when :data:`epoll` is readable."""
    assert epoll is not None
    with suppress(OSError):
        for fd, _ in epoll.poll(0):
            if pipe := _readers.get(fd):
                pipe.drain(16 * CHUNK)
