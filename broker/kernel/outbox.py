"""Reads a kernel's outbox: everything that it has sent, in one order, numbered without a hole.

The kernel appends, and this reads after it; the file is the only way from the kernel to the broker, be it live or
after a restart. How it is written, and why it survives the kernel, is said in ``outbox.py`` and ``text.py`` of
``kernels/python/broker_kernel``, whose formats are repeated here: they run in other interpreters.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

HEADER = struct.Struct("<QQdQIHB")
"""Size of the record, number, time in seconds since the epoch, epoch and offset of the text, frames, channel."""
IOPUB, SHELL, STDIN, OWN = range(4)
TEXT_HEAD = struct.Struct("=QQ")
"""The epoch, and where the entries end."""
WORD = struct.Struct("=Q")
"""Of an entry: the stream, the length of the message id (8 bits each), the length of the text. The id and the text
follow; the next entry begins at a multiple of a word's size."""
STREAMS = ("stdout", "stderr")
SEGMENT = 8 * 2**20
"""Bytes after which the kernel begins another segment."""
CHUNK = 2**20
"""Bytes that are read at once."""
KEPT = 2
"""Segments that are never deleted while the kernel lives: a text's last record may be in the last but one."""


class Record(NamedTuple):
    """One message. ``content`` is its content frame as sent."""

    number: int
    time: float
    channel: int
    msg_type: str
    parent_id: str
    msg_id: str
    content: bytes
    buffers: list[bytes]
    metadata: bytes = b""
    """The frame as sent, of a message that has any."""


class Outbox:
    """The outbox in ``directory``, read from the record after ``after`` on."""

    def __init__(self, directory: Path, after: int = 0) -> None:
        self.directory = directory
        self.last = after
        """The number of the last record that was read."""
        # Open for writing, too: with no writer, a FIFO would be readable for ever.
        self.wake = os.open(directory / "wake", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._segment: Path | None = None
        self._segments_read = 0
        self._read_of_segment = 0
        self._file = -1
        self._data = b""
        self._text = (0, 0)
        """The epoch and the offset of the last text that a record was made of."""

    @classmethod
    def create(cls, directory: Path) -> Outbox:
        """Make an empty one, for a kernel that is to be started."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        os.mkfifo(directory / "wake", 0o600)
        return cls(directory)

    def close(self) -> None:
        for file in (self.wake, self._file):
            if file >= 0:
                os.close(file)
        self.wake = self._file = -1

    def remove(self) -> None:
        """Delete it: all that is in it is in the journal."""
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def hush(self) -> None:
        """Take the bytes that say there is more to read."""
        with contextlib.suppress(OSError):
            os.read(self.wake, 65_536)

    def read(self) -> list[Record]:
        """Some of the records that follow, in order; none if there are none at present.

        A record that is not written to its end is none yet.
        """
        records: list[Record] = []
        while not records and (self._read_on() or self._next_segment()):
            records.extend(self._take())
        return records

    def _read_on(self) -> bool:
        if self._file < 0:
            return False
        wanted = CHUNK
        if len(self._data) >= HEADER.size:
            (size, *_) = HEADER.unpack_from(self._data)
            wanted = max(CHUNK, size - len(self._data))
        more = os.read(self._file, wanted)
        self._read_of_segment += len(more)
        self._data = self._data + more if self._data else more
        return bool(more)

    def _next_segment(self) -> bool:
        """Go on to the segment that has the next record, once there is one."""
        if self._segment is None:
            segments = [path for path in self.segments() if int(path.name) <= self.last + 1]
            if not segments:
                return False
            self._segments_read = len(segments) - 1
            following = segments[-1]
        else:
            if self._read_of_segment < SEGMENT:
                return False
            following = self.directory / f"{self.last + 1:016d}"
        try:
            file = os.open(following, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        if following == self._segment:
            os.close(file)
            return False
        if self._file >= 0:
            os.close(self._file)
        self._segment, self._file, self._data = following, file, b""
        self._segments_read += 1
        self._read_of_segment = 0
        return True

    def _take(self) -> Iterator[Record]:
        data, start, end = self._data, 0, len(self._data)
        while end - start >= HEADER.size:
            size, number, time, epoch, offset, count, channel = HEADER.unpack_from(data, start)
            if end - start < size:
                break
            if epoch:
                self._text = (epoch, offset)
            if number > self.last:
                at = start + HEADER.size
                lengths = struct.unpack_from(f"<{count}Q", data, at)
                at += 8 * count
                frames = []
                for length in lengths:
                    frames.append(data[at : at + length])
                    at += length
                head, parent, own, content, *buffers = frames
                kind, _, metadata = head.partition(b"\0")
                self.last = number
                yield Record(
                    *(number, time, channel, kind.decode(), parent.decode(), own.decode(), content, buffers, metadata)
                )
            start += size
        self._data = data[start:]

    def segments(self) -> list[Path]:
        """What it consists of, in order."""
        return sorted(path for path in self.directory.iterdir() if path.name.isdigit())

    def trim(self, number: int) -> None:
        """Delete what is in the journal: segments with no record after ``number``, but the last few."""
        if self._segments_read <= KEPT:
            return
        segments = self.segments()
        for segment, following in itertools.pairwise(segments[: 1 - KEPT]):
            if int(following.name) <= number + 1:
                segment.unlink(missing_ok=True)
                self._segments_read -= 1

    def last_words(self) -> list[Record]:
        """What a kernel that is dead had printed, and had not made a record of. All records must have been read.

        They are numbered as if it had.
        """
        try:
            data = (self.directory / "text").read_bytes()
        except FileNotFoundError:
            return []
        if len(data) < TEXT_HEAD.size:
            return []
        epoch, end = TEXT_HEAD.unpack_from(data)
        sent = self._text[1] if self._text[0] == epoch else 0
        return list(self._entries(data[: min(end, len(data))], sent))

    def _entries(self, data: bytes, sent: int) -> Iterator[Record]:
        at = TEXT_HEAD.size
        while at + WORD.size <= len(data):
            (word,) = WORD.unpack_from(data, at)
            stream, id_length, length = word & 0xFF, word >> 8 & 0xFF, word >> 16
            at += WORD.size
            parent = data[at : at + id_length].decode(errors="replace")
            at += id_length
            # The last one's text goes on to the end, whatever its length.
            text = data[max(at, min(sent, at + length)) : at + length].decode("utf-8", "surrogatepass")
            at = -(-(at + length) // WORD.size) * WORD.size
            if text and stream < len(STREAMS):
                self.last += 1
                content = msgspec.json.encode({"name": STREAMS[stream], "text": _mended(text)})
                yield Record(self.last, 0.0, IOPUB, "stream", parent, "", content, [])


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


__all__ = ["IOPUB", "OWN", "SHELL", "STDIN", "Outbox", "Record"]
