"""The file that the engine prints into, and the messages that are made of it.

Its format, and why it survives, is said in ``text.py`` of the Python kernel: whoever finds it after the kernel's death
knows from the last record's epoch and offset what of it was not sent. Here another process fills it; it says so with
``text``, and with ``full`` when it waits for the file to be emptied.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

CAPACITY = 2**18
WORD = 8
"""Bytes of a word. Entries begin at a multiple of it."""
EPOCH, END = 0, 1
"""The words of the head: the epoch, and where the entries end."""
HEAD = 2 * WORD
STREAMS = ("stdout", "stderr")
SOON = 0.025
"""Seconds after which the file is looked at again: a little longer than the engine prints without saying so."""

Publish = Callable[[str, str, str, int, int], object]
"""Takes an execution's id, the stream's name, the text, the epoch and the offset."""


class TextFile:
    """The file at ``path``, which this makes."""

    def __init__(self, path: Path, publish: Publish) -> None:
        self._publish = publish
        self._epoch = 1
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # Written, not only made long: a page that the disk has no room for would be a bus error later.
            os.write(file, bytes(CAPACITY))
            self._map = mmap.mmap(file, CAPACITY)
        finally:
            os.close(file)
        self._words = memoryview(self._map).cast("Q")
        self._clear()

    def _clear(self) -> None:
        # Each word is stored at once, and the file is true after either.
        self._words[END] = self._sent = HEAD
        self._words[EPOCH] = self._epoch

    def send(self) -> None:
        """Send what was printed since the last time: neighbours of one execution and stream in one message."""
        end = self._words[END]
        parts: list[bytes] = []
        of: tuple[int, bytes] | None = None
        while self._sent < end:
            start = -(-self._sent // WORD) * WORD
            word = self._words[start // WORD]
            id, text = start + WORD, start + WORD + (word >> 8 & 0xFF)
            owner = (word & 0xFF, self._map[id:text])
            if of is not None and owner != of:
                self._send(of, parts)
                parts = []
            of = owner
            self._sent = text + (word >> 16)
            parts.append(self._map[text : self._sent])
        if of is not None:
            self._send(of, parts)

    def _send(self, of: tuple[int, bytes], parts: list[bytes]) -> None:
        stream, id = of
        text = b"".join(parts).decode("utf-8", "replace")
        self._publish(id.decode("latin-1"), STREAMS[stream], text, self._epoch, self._sent)

    def empty(self) -> None:
        """Send everything, and begin anew. The engine must be waiting for it."""
        self.send()
        self._epoch += 1
        self._clear()
