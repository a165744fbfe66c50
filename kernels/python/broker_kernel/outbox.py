"""The outbox: the kernel's own append-only copy of everything it sends.

A directory with segments, each named by the number of its first record. A record is appended with one write before
anybody is told of it, so what the kernel has said survives the kernel; who reads it deletes the segments that it is
done with. ``wake`` is a FIFO: a byte in it says that there is more to read.

A record is :data:`HEADER`, the lengths of its frames, and the frames: message type (then, of a message that has
metadata, a NUL and those), the parent's and its own message id, content, and any buffers. One that is shorter than its
header says was being written when the kernel died.

``text`` is a memory-mapped file that holds what was printed since the last record was made of it: it is lost neither
when the process is killed before it gets round to it. See :class:`broker_kernel.text.Text`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock

from .interrupts import protected

HEADER = struct.Struct("<QQdQIHB")
"""Size of the whole record in bytes, its number, the time (s since the epoch), the epoch and the offset of the text in
it (see :class:`~broker_kernel.text.Text`; 0 if it is none), how many frames, the channel."""
IOPUB, SHELL, STDIN, OWN = range(4)
"""Channels. ``OWN``: between kernel and broker only."""
SEGMENT = 8 * 2**20
"""Bytes after which a segment is closed."""
RETRY_AFTER = 0.05
"""Seconds between two attempts to write to a disk that refuses."""


class Outbox:
    """Appends records in one order, from any thread.

    ``passed_on`` is called with each record's number, in the same order, by the thread that appends it.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self.lock = RLock()
        """Guards all that is on its way out of the kernel, so that there is one order of it, and of its locks."""
        self._appending = False
        self._later: deque[Callable[[], object]] = deque()
        self._file = -1
        self._size = SEGMENT
        self._wake = -1
        self.in_child = False
        """Whether this is a process that the kernel forked."""
        if directory is not None:
            self._wake = self._open_fifo(directory / "wake")

    @staticmethod
    def _open_fifo(path: Path) -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return -1

    @property
    def is_kept(self) -> bool:
        """Whether there is one: else the sockets are all there is."""
        return self._directory is not None

    def heard(self) -> bool:
        """Whether somebody reads along at present."""
        if self._directory is None:
            return True
        with contextlib.suppress(OSError):
            os.close(os.open(self._directory / "wake", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            return True
        return False

    def append(
        self,
        channel: int,
        frames: Sequence[bytes],
        *,
        epoch: int = 0,
        offset: int = 0,
        wake: bool = True,
        passed_on: Callable[[int], object] | None = None,
    ) -> None:
        """Append a record, and wake the reader.

        It blocks for as long as the disk refuses: what cannot be kept is not said.
        """
        with protected, self.lock:
            if self._appending:
                # A signal handler or a finalizer prints, in the middle of an append of its own thread.
                self._later.append(lambda: self._append(channel, frames, epoch, offset, wake, passed_on))
                return
            self._appending = True
            try:
                self._append(channel, frames, epoch, offset, wake, passed_on)
                while self._later:
                    self._later.popleft()()
            finally:
                self._appending = False

    def _append(
        self,
        channel: int,
        frames: Sequence[bytes],
        epoch: int,
        offset: int,
        wake: bool,
        passed_on: Callable[[int], object] | None,
    ) -> None:
        number = next(self._numbers)
        if self._directory is not None:
            lengths = struct.pack(f"<{len(frames)}Q", *map(len, frames))
            size = HEADER.size + len(lengths) + sum(map(len, frames))
            header = HEADER.pack(size, number, time.time(), epoch, offset, len(frames), channel)
            self._write(number, [header, lengths, *frames], size)
            if wake:
                with contextlib.suppress(OSError):  # full: it will wake anyway; or nobody is there
                    os.write(self._wake, b"\0")
        if passed_on:
            passed_on(number)

    def _write(self, number: int, parts: list[bytes], size: int) -> None:
        while self._size >= SEGMENT:
            try:
                self._open_segment(number)
            except OSError:
                time.sleep(RETRY_AFTER)
        data = memoryview(b"".join(parts))
        while data:
            try:
                data = data[os.write(self._file, data) :]
            except OSError:
                time.sleep(RETRY_AFTER)
        self._size += size

    def _open_segment(self, number: int) -> None:
        assert self._directory is not None
        path = self._directory / f"{number:016d}"
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size = file, 0

    def forked(self) -> None:
        """In a child of the kernel: it has no outbox, and the lock may be held by a thread that does not exist."""
        self._directory, self.lock, self._appending, self.in_child = None, RLock(), False, True
        self._later.clear()
