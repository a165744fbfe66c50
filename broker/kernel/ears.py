"""How a broker hears a kernel: over its sockets, or, where it has one, by its outbox."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..steps import reached
from .outbox import IOPUB, SHELL, STDIN, Outbox, Record
from .sockets import Sockets
from .wire import InvalidMessage, beside, mended, unpack

log = logging.getLogger(__name__)

OVERTAKING = 0.02
"""Seconds by which a prompt may be ahead of the output that was printed before it, over sockets."""
RETRY_AFTER = 0.2
"""Seconds between two attempts to read an outbox that cannot be opened."""
UNDIGESTED = 8 * 2**20
"""Bytes that may be on their way into the journal before no more is read."""


class Said(NamedTuple):
    """A message of the kernel, or of its launcher."""

    channel: int
    msg_type: str
    parent_id: str
    msg_id: str
    content: bytes
    """Valid JSON in valid UTF-8."""
    extra: dict[str, Any]
    """``metadata``, ``buffers``; ``content_base64``, where ``content`` had to be mended."""
    number: int = 0
    """Its place in the outbox."""


Tell = Callable[[Said], bool]
"""Returns whether a session was told of it: then it is digested once it is in the journal, else it is already."""


class Ear(ABC):
    """Tells what a kernel says, in the order in which it was said."""

    def digested(self, number: int) -> None:  # noqa: B027 (sockets keep nothing)
        """All up to this number is in the journal."""

    @abstractmethod
    async def last_words(self) -> None:
        """Tell all that a dead kernel has said."""

    @abstractmethod
    def close(self) -> None: ...


class SocketEar(Ear):
    """Hears what comes over the sockets while it listens."""

    def __init__(self, sockets: Sockets, tell: Tell) -> None:
        self._sockets, self._tell = sockets, tell
        self._closed = False
        self.heard = asyncio.Event()
        """Set when anything has come over IOPub."""
        sockets.listen(self._on_iopub, self._on_shell, self._on_stdin)

    async def last_words(self) -> None:
        await self._sockets.last_words()

    def close(self) -> None:
        self._closed = True

    def _on_iopub(self, frames: list[bytes]) -> None:
        self.heard.set()
        if said := self._read(IOPUB, frames):
            self._tell(said)

    def _on_shell(self, frames: list[bytes]) -> None:
        if said := self._read(SHELL, frames):
            self._tell(said)

    def _on_stdin(self, frames: list[bytes]) -> None:
        if said := self._read(STDIN, frames):
            # What was printed before the prompt has left the kernel before it, but over another socket.
            asyncio.get_running_loop().call_later(OVERTAKING, self._prompted, said)

    def _prompted(self, said: Said) -> None:
        if not self._closed:
            self._sockets.drain_iopub()
            self._tell(said)

    def _read(self, channel: int, frames: list[bytes]) -> Said | None:
        try:
            message = unpack(frames, self._sockets.session)
        except InvalidMessage as error:
            log.warning("a message that the kernel cannot have sent was dropped: %s", error)
            return None
        header = message.header
        return Said(channel, header.msg_type, message.parent_id, header.msg_id, message.content, message.extra)


class OutboxEar(Ear):
    """Reads the outbox as it grows, and no faster than the journal takes it."""

    def __init__(self, outbox: Outbox, tell: Tell = lambda _: False) -> None:
        self.outbox = outbox
        self.tell = tell
        self._loop = asyncio.get_running_loop()
        self._undigested: deque[tuple[int, int]] = deque()
        """The numbers and sizes of outputs that the journal has yet to take."""
        self._bytes = 0
        self._told = 0
        self._digested = 0
        self._again: asyncio.Handle | None = None
        self._caught_up = asyncio.Event()
        self._loop.add_reader(outbox.wake, self._woken)
        self._read_soon()

    async def caught_up(self) -> None:
        """Wait until all that is there now was told."""
        self._caught_up.clear()
        self._read_soon()
        await self._caught_up.wait()

    async def last_words(self) -> None:
        await self.caught_up()
        for record in self.outbox.last_words():
            self._pass_on(record)

    @property
    def all_digested(self) -> bool:
        return self._digested >= self._told

    def digested(self, number: int) -> None:
        while self._undigested and self._undigested[0][0] <= number:
            self._bytes -= self._undigested.popleft()[1]
        self._digested = number
        self.outbox.trim(number)
        reached("digested")
        self._read_soon()

    def close(self) -> None:
        self._loop.remove_reader(self.outbox.wake)
        if self._again:
            self._again.cancel()
        self.outbox.close()

    def _woken(self) -> None:
        self.outbox.hush()
        self._read()

    def _read_soon(self) -> None:
        if self._again is None and self.outbox.wake >= 0:
            self._again = self._loop.call_soon(self._read)

    def _read(self) -> None:
        if self._again:
            self._again.cancel()
            self._again = None
        if self._bytes > UNDIGESTED:
            return
        try:
            records = self.outbox.read()
        except OSError as error:
            # No descriptor is left for the next segment. It stays where it is.
            log.error("an outbox cannot be read (%s); trying again until it can", error)
            self._again = self._loop.call_later(RETRY_AFTER, self._read)
            return
        for record in records:
            self._pass_on(record)
        reached("read")
        if records:
            self._read_soon()
        else:
            self._caught_up.set()

    def _pass_on(self, record: Record) -> None:
        content, extra = mended(record.content)
        if record.metadata or record.buffers:
            extra |= beside(record.metadata, record.buffers)
        said = Said(record.channel, record.msg_type, record.parent_id, record.msg_id, content, extra, record.number)
        if self.tell(said):
            self._told = record.number
            if record.channel == IOPUB and record.msg_type != "status":
                # Only what is an event of its own: a reply waits in memory for what follows it.
                self._undigested.append((record.number, len(record.content)))
                self._bytes += len(record.content)
