"""The WebSocket: many calls at once over one connection, and events and reports in the other direction.

A subscription is a cursor over the journal and a task that moves it: it reads a page, sends it, and goes on when the
socket has taken it. A reader that is slow, or has stopped reading, holds up its own cursor and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Coroutine
from typing import Any

import msgspec
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..core.errors import InvalidParams, LimitReached
from ..journal import EVERYTHING, Journal, Scope
from ..journal_writer import iso
from .auth import SUBPROTOCOL, Gate
from .http import Entrance
from .methods import Caller
from .rpc import Rpc, RpcError, failure, id_of, notification
from .types import BrokerStatus

log = logging.getLogger(__name__)

MAX_CALLS = 1000
"""Calls that one connection may have open at once."""
MAX_SUBSCRIPTIONS = 1000


class Connections:
    """The connections there are, for those who tell all of them something."""

    def __init__(self) -> None:
        self._open: set[Socket] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: Socket) -> None:
        self._open.add(socket)

    def discard(self, socket: Socket) -> None:
        self._open.discard(socket)

    def report(self, report: bytes) -> None:
        """Send a report to all. One that could not be sent yet is replaced by it."""
        for socket in self._open:
            socket.report(report)

    def tell(self, status: bytes) -> None:
        """Send the broker's state to all."""
        for socket in self._open:
            socket.tell(status)

    @property
    def subscriptions(self) -> int:
        return sum(socket.subscriptions for socket in self._open)


class Socket(Entrance, WebSocketHandler):
    """One connection. Never awaits a call where messages are read: the next one may be its ``interrupt``."""

    def initialize(self, gate: Gate, rpc: Rpc, journal: Journal, connections: Connections) -> None:  # type: ignore[override]
        super().initialize(gate)
        self._rpc, self._journal, self._connections = rpc, journal, connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._made = 0
        self._report: bytes | None = None
        self._reporting: asyncio.Task[None] | None = None

    @property
    def subscriptions(self) -> int:
        return len(self._subscriptions)

    def check_origin(self, origin: str) -> bool:
        return True  # the gate has checked it, against an exact list

    def get_compression_options(self) -> None:
        return None

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self._me = Caller(self.caller.owner, self)
        self._connections.add(self)
        if self._journal.stalled:
            self.tell(status(self._journal))

    def on_close(self) -> None:
        self._connections.discard(self)
        for task in [*self._tasks, *self._subscriptions.values()]:
            task.cancel()

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        data = message.encode() if isinstance(message, str) else message
        if len(self._tasks) >= MAX_CALLS:
            # Awaited: who does not read what is refused is not read from either.
            return _until_closed(self._refuse(data))
        self._spawn(self._answer(data))
        return None

    async def _answer(self, message: bytes) -> None:
        if (answer := await self._rpc.answer(message, self._me)) is not None:
            await self._send(answer)

    async def _refuse(self, message: bytes) -> None:
        error = RpcError(
            LimitReached.code,
            f"{MAX_CALLS} calls are open on this connection; wait for some to return",
            type=LimitReached.type,
        )
        await self._send(failure(id_of(message), error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(_until_closed(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send(self, message: bytes) -> None:
        await self.write_message(message)

    async def _send_all(self, messages: list[bytes]) -> None:
        """Send many in one write: :meth:`write_message` makes a task and a system call for each."""
        connection = self.ws_connection
        if connection is None or connection.stream is None or connection.is_closing():
            raise WebSocketClosedError
        try:
            await connection.stream.write(b"".join(map(_frame, messages)))
        except StreamClosedError:
            raise WebSocketClosedError from None

    # Events

    def subscribe(self, scope: Scope, after: int) -> str:
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise LimitReached(f"{MAX_SUBSCRIPTIONS} subscriptions are open on this connection; unsubscribe some")
        self._made += 1
        subscription = f"sub-{self._made}"
        self._subscriptions[subscription] = asyncio.ensure_future(
            _until_closed(self._follow(subscription, scope, after))
        )
        return subscription

    def unsubscribe(self, subscription: str) -> None:
        task = self._subscriptions.pop(subscription, None)
        if task is None:
            raise InvalidParams(f"there is no subscription {subscription!r} on this connection")
        task.cancel()

    async def _follow(self, subscription: str, scope: Scope, after: int) -> None:
        head = b'{"jsonrpc":"2.0","method":"event","params":{"subscription":"%s","event":' % subscription.encode()
        # The reply that names the subscription goes first, and has begun to wait for the same.
        await self._journal.settled()
        while True:
            page = await self._journal.read(scope, after)
            mine = [line for line in page.lines if scope is not EVERYTHING or self._is_mine(line.stored.session_id)]
            if mine:
                await self._send_all([head + line.wire + b"}}" for line in mine])
            after = page.seq
            if page.eof:
                await self._journal.changed(scope, after)

    def _is_mine(self, session_id: str) -> bool:
        return self._journal.owner(session_id) == self.caller.owner

    # The broker's state, and reports

    def tell(self, status: bytes) -> None:
        self._spawn(self._send(notification("broker_status", status)))

    def report(self, report: bytes) -> None:
        self._report = report
        if self._reporting is None or self._reporting.done():
            self._reporting = self._spawn(self._send_reports())

    async def _send_reports(self) -> None:
        while self._report is not None:
            report, self._report = self._report, None
            await self._send(notification("execution_report", report))


def status(journal: Journal) -> bytes:
    """Whether what happens can be written down, how many events wait for that, and since when."""
    began = journal.writer.stalled_since
    since = None if began is None else iso(began)
    return msgspec.json.encode(BrokerStatus(stalled=journal.stalled, pending=journal.pending, since=since))


def _frame(message: bytes) -> bytes:
    """A message in one text frame, as a server sends it: unmasked and uncompressed (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + message
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + message
    return struct.pack("!BBQ", 0x81, 127, size) + message


async def _until_closed(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except WebSocketClosedError:
        pass
    except asyncio.CancelledError:
        pass
    except Exception:
        log.exception("a WebSocket's task failed")
