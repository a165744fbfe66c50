"""Reading events with no hole and no repeat, over as many connections as it takes.

A stream has a connection of its own. Nothing but its reader takes from it, so a slow reader makes TCP hold up the
broker's cursor for this one stream, buffers nothing beyond a few messages, and is in the way of no other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec

from .connection import LAST_DELAY, Backoff, Target, Wire, open_patiently
from .errors import ConnectionLost
from .results import Event, ExecutionSummary

PAGE = 1000


class Scope(NamedTuple):
    """Whose events: one execution's, one session's, or all of the caller's."""

    execution_id: str | None = None
    session: str | None = None

    @property
    def params(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if value is not None}


class _Subscribed(msgspec.Struct):
    subscription: str
    seq: int


class _Notified(msgspec.Struct):
    event: dict[str, Any]


class _Page(msgspec.Struct):
    events: list[dict[str, Any]]
    seq: int
    eof: bool


class _Missed(ConnectionLost):
    """An event is missing before the one that came: as good as a cut."""


class _Cursor:
    """Where a reader stands, and which event is the next for it."""

    def __init__(self, scope: Scope, after: int | None) -> None:
        self.after = after
        self._numbered = scope.execution_id is not None
        self._n = 0 if after == 0 else None
        self._hole: tuple[int | None, int] | None = None

    def takes(self, event: Event) -> bool:
        """Go on to ``event``; False if it was there before.

        Raises:
            _Missed: one between is missing. When it comes again after the same one, the journal has the hole itself,
                for what was printed there was cleared; then it is taken.
        """
        if self.after is not None and event.seq <= self.after:
            return False
        if self._numbered and event.n is not None:
            if self._n is not None and event.n != self._n + 1 and self._hole != (self._n, event.n):
                self._hole = (self._n, event.n)
                raise _Missed(f"event {self._n + 1} of execution {event.execution_id} did not come")
            self._n = event.n
        self.after = event.seq
        return True


async def stream_events(
    target: Target, patience: float, scope: Scope, after: int | None, *, follow: bool
) -> AsyncGenerator[Event, None]:
    """What :meth:`broker.client.Client.stream` does."""
    cursor = _Cursor(scope, after)
    backoff = Backoff(patience)
    ends = scope.execution_id is not None and not follow
    clock = asyncio.get_running_loop().time
    while True:
        wire = await open_patiently(target, backoff)
        opened = clock()
        try:
            async with aclosing(_read(wire, scope, cursor, until_eof=ends)) as events:
                async for event in events:
                    if not cursor.takes(event):
                        continue
                    backoff.reset()
                    yield event
                    if ends and event.type == "execution_finished":
                        return
            return
        except ConnectionLost as error:
            if clock() - opened > LAST_DELAY:
                backoff.reset()
            await backoff.pause(error)
        finally:
            await wire.close()


async def _read(wire: Wire, scope: Scope, cursor: _Cursor, *, until_eof: bool) -> AsyncGenerator[Event, None]:
    """The events after the cursor; without end, but for an execution that is over if ``until_eof``."""
    if until_eof and await _is_over(wire, scope):
        # Its last event may be before the cursor already, and then no subscription would ever end.
        after = cursor.after
        while after is not None:
            reply = await wire.request("get_async_log", scope.params | {"after": after, "limit": PAGE})
            page = msgspec.json.decode(reply, type=_Page)
            for fields in page.events:
                yield Event.from_wire(fields)
            after = None if page.eof else page.seq
        return
    reply = await wire.request("subscribe", scope.params | {"after": cursor.after})
    if cursor.after is None:
        cursor.after = msgspec.json.decode(reply, type=_Subscribed).seq
    while True:
        message = await wire.receive()
        if message.method == "event":
            yield Event.from_wire(_notified.decode(message.params).event)


async def _is_over(wire: Wire, scope: Scope) -> bool:
    return msgspec.json.decode(await wire.request("get_execution", scope.params), type=ExecutionSummary).ended


_notified = msgspec.json.Decoder(_Notified)
