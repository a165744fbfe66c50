"""The file that the engine prints into, and the messages that are made of it.

Its format, and why it survives, is said in ``text.py`` of the Python kernel: whoever finds it after the kernel's death
knows from the last record's epoch and offset what of it was not sent. Here another process fills it; it says so with
``text``, and with ``full`` when it waits for the file to be emptied.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

CAPACITY = 2**18
FILE_HEAD = struct.Struct("<QQ")
"""The epoch, and where the entries end."""
ENTRY_HEAD = struct.Struct("<BBI")
"""Which stream, the length of the execution's id in bytes, the length of the text in bytes. Both follow."""
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
        self._sent = FILE_HEAD.size
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # Written, not only made long: a page that the disk has no room for would be a bus error later.
            os.write(file, bytes(CAPACITY))
            self._map = mmap.mmap(file, CAPACITY)
        finally:
            os.close(file)
        FILE_HEAD.pack_into(self._map, 0, self._epoch, self._sent)

    def send(self) -> None:
        """Send what was printed since the last time: neighbours of one execution and stream in one message."""
        _, end = FILE_HEAD.unpack_from(self._map)
        at, parts, of, start = self._sent, [], None, self._sent
        while at < end:
            stream, id_length, length = ENTRY_HEAD.unpack_from(self._map, at)
            text = at + ENTRY_HEAD.size + id_length
            owner = (stream, self._map[at + ENTRY_HEAD.size : text])
            if owner != of and of is not None:
                self._send(of, parts, at)
                parts = []
            of = owner
            at = text + length
            parts.append(self._map[text:at])
        if of is not None:
            self._send(of, parts, at)
        assert at >= start

    def _send(self, of: tuple[int, bytes], parts: list[bytes], end: int) -> None:
        stream, id = of
        self._sent = end
        self._publish(
            id.decode("latin-1"), STREAMS[stream], b"".join(parts).decode("utf-8", "replace"), self._epoch, end
        )

    def empty(self) -> None:
        """Send everything, and begin anew. The engine must be waiting for it."""
        self.send()
        self._epoch += 1
        self._sent = FILE_HEAD.size
        FILE_HEAD.pack_into(self._map, 0, self._epoch, self._sent)
