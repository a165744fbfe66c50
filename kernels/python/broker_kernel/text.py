"""Text that was printed and is not sent yet, and the streams that it comes from.

Text is sent in messages of many lines, but not late: a line that comes after a pause is sent at once, and nothing
waits longer than :data:`INTERVAL`. What waits lies in a memory-mapped file besides, where it survives the kernel: as
many bytes as the file's head says, in entries of a stream, a message id and the text. The head also has an *epoch*,
which changes whenever the file is emptied; a record that was made of such text has the epoch, and up to which offset
the text is in it. So whoever finds a dead kernel's file knows what of it was not sent.

The file is true at every instant, for a kernel may be killed at any: its head and the heads of its entries are words
of the machine, each stored at once, and what a word speaks of is there before the word is.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

from ipykernel.iostream import OutStream as StockStream

from .cells import Cell, cells
from .descriptors import STREAMS
from .interrupts import lanes, protected
from .outbox import Outbox

INTERVAL = 0.02
"""Seconds that text may wait for more of it."""
CAPACITY = 2**16
"""Bytes of text that may wait."""
LONGEST = 2**18
"""Characters of text in one message at most."""
WORD = 8
"""Bytes of a word. Entries begin at a multiple of it."""
EPOCH, END = 0, 1
"""The words of the head: the epoch, and where the entries end."""
HEAD = 2 * WORD
OPEN = 2**48 - 1
"""The length of the last entry's text, which goes on to the end."""

Publish = Callable[[Cell, str, str, int, int], object]
"""Takes the cell, the stream's name, the text, the epoch and the offset."""


class _Entry:
    """One word (the stream, the length of the message id, the length of the text), the id, and the text."""

    __slots__ = ("cell", "end", "id_length", "parts", "start", "stream")

    def __init__(self, cell: Cell, stream: int, start: int, id_length: int) -> None:
        self.cell, self.stream, self.start, self.id_length = cell, stream, start, id_length
        self.parts: list[str] = []
        self.end = start + WORD + id_length

    def word(self, length: int) -> int:
        return self.stream | self.id_length << 8 | length << 16


class Text:
    """The text of all cells and both streams, in the order in which it was printed."""

    def __init__(
        self, outbox: Outbox, publish: Publish, call_later: Callable[[float, Callable[[], object]], object]
    ) -> None:
        self._outbox = outbox
        self._publish = publish
        self._call_later = call_later
        self._epoch = 1
        self._entries: list[_Entry] = []
        self._write_to(bytearray(CAPACITY))
        self._due = False
        self._flushed_at = 0.0
        self._later: deque[tuple[Cell, int, str]] = deque()
        self._busy = False
        self.forked = False

    def keep_in(self, path: Path) -> None:
        """Keep what waits in this file."""
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # Written, not only made long: a page that the disk has no room for would be a bus error later.
            os.write(file, bytes(CAPACITY))
            self._write_to(mmap.mmap(file, CAPACITY))
        finally:
            os.close(file)

    def _write_to(self, map: mmap.mmap | bytearray) -> None:
        self._map = map
        self._words = memoryview(map).cast("Q")
        self._words[END] = self._end = HEAD
        self._words[EPOCH] = self._epoch

    def write(self, cell: Cell, stream: int, text: str) -> None:
        """Take text that was printed."""
        if not text:
            return
        # What :data:`~broker_kernel.interrupts.protected` does, without its calls: this is the hottest path there is.
        lane = lanes.get(get_ident())
        if lane is not None:
            lane.protected += 1
        try:
            with self._outbox.lock:
                self._later.append((cell, stream, text))
                if self._busy:
                    # A signal handler or a finalizer prints, in the middle of a print of its own thread.
                    return
                self._busy = True
                try:
                    self._put_all()
                finally:
                    self._busy = False
            if text.endswith("\n") and time.monotonic() - self._flushed_at > INTERVAL:
                self.flush()
            elif not self._due:
                self._due = True
                self._call_later(INTERVAL, self._timer)
        finally:
            if lane is not None:
                lane.protected -= 1
                if lane.pending:
                    lane.raise_pending()

    def _put_all(self) -> None:
        while self._later:
            self._put(*self._later.popleft())

    def _put(self, cell: Cell, stream: int, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        entries = self._entries
        if not entries or entries[-1].cell is not cell or entries[-1].stream != stream:
            self._begin(cell, stream, len(data))
        if self._end + len(data) > CAPACITY:
            self._send_all()
            if len(data) > CAPACITY // 2:
                self._send(cell, stream, text, 0, 0)
                return
            self._begin(cell, stream, len(data))
        entry = self._entries[-1]
        end = self._end + len(data)
        self._map[self._end : end] = data
        entry.parts.append(text)
        self._words[END] = self._end = entry.end = end

    def _begin(self, cell: Cell, stream: int, size: int) -> None:
        id = cell.id.encode()[:255]
        if self._end + 2 * WORD + len(id) + size > CAPACITY:
            self._send_all()
        if self._entries:
            last = self._entries[-1]
            self._words[last.start // WORD] = last.word(last.end - last.start - WORD - last.id_length)
        start = -(-self._end // WORD) * WORD
        entry = _Entry(cell, stream, start, len(id))
        self._map[start + WORD : entry.end] = id
        self._words[start // WORD] = entry.word(OPEN)
        self._entries.append(entry)
        self._words[END] = self._end = entry.end

    def _timer(self) -> None:
        self._due = False
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if not self._entries and not self._later:
            return
        with protected, self._outbox.lock:
            if self._busy:
                return  # see above: whoever is at it will do it
            self._busy = True
            try:
                self._send_all()
                self._put_all()
            finally:
                self._busy = False

    def _send_all(self) -> None:
        entries, self._entries = self._entries, []
        for entry in entries:
            if entry.parts:
                self._send(entry.cell, entry.stream, "".join(entry.parts), self._epoch, entry.end)
        if entries:
            self._epoch += 1
            self._words[END] = self._end = HEAD
            self._words[EPOCH] = self._epoch
            self._flushed_at = time.monotonic()

    def _send(self, cell: Cell, stream: int, text: str, epoch: int, offset: int) -> None:
        name = STREAMS[stream]
        while len(text) > LONGEST:
            self._publish(cell, name, text[:LONGEST], 0, 0)
            text = text[LONGEST:]
        self._publish(cell, name, text, epoch, offset)

    def after_fork(self) -> None:
        """In a child of the kernel: what waits is its parent's, and so is the file."""
        self.forked = True
        self._entries = []
        self._write_to(bytearray(CAPACITY))
        self._later.clear()


class OutStream(StockStream):  # type: ignore[misc]
    """``sys.stdout`` or ``sys.stderr`` of the kernel."""

    text: Text

    def __init__(self, session: Any, pub_thread: Any, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(session, pub_thread, name, watchfd=False)
        self._stream = STREAMS.index(name)
        self._text = type(self).text

    def write(self, string: str) -> int:
        """Write to the cell that this context belongs to."""
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        cell = cells.current()
        if self._text.forked:
            # Another process: it has no outbox, but its descriptors lead to where they should.
            data = memoryview(encode(string))
            while data:
                data = data[os.write(self.fileno(), data) :]
        else:
            self._text.write(cell, self._stream, string)
        return len(string)

    def flush(self) -> None:
        """Send what was written, to the streams and to the cell's descriptors, before this returns."""
        if self._text.forked:
            return
        with protected:
            # Both streams are flushed in turn wherever it matters, this one first.
            if self._stream == 0 and (outputs := cells.current().outputs) is not None:
                outputs.drain()
            self._text.flush()

    _flush = flush

    def fileno(self) -> int:
        """The descriptor of the current cell: what writes to it is heard as if it were written to this stream."""
        outputs = cells.current().outputs
        return outputs.fileno(self._stream) if outputs is not None else 1 + self._stream

    def set_parent(self, parent: dict[str, Any]) -> None:
        """The cell is known by its context already."""

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        """Let this context belong to another request."""
        return cells.adopt(parent)

    def reset_thread_parent(self, token: Any) -> None:
        """Undo that."""
        cells.reset(token)

    def close(self) -> None:
        self.flush()


def encode(text: str) -> bytes:
    """What another process would have written to say this: bytes that were no UTF-8 are what they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def at_exit() -> None:
    """Send what the end of the interpreter has printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, OutStream):
            stream.flush()
