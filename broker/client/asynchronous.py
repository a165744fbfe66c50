"""The asynchronous client: the wire API's methods by name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from . import results as r
from .connection import Backoff, Connection, Target, Wire, open_patiently
from .errors import BrokerError, ConnectionLost
from .stream import Scope, stream_events

log = logging.getLogger(__name__)
T = TypeVar("T")

RECONNECT_FOR = 60.0
"""Seconds in which a broker that was there must have come back."""


class _Executions(msgspec.Struct):
    executions: list[r.ExecutionSummary]


class _Killed(msgspec.Struct):
    killed: list[r.Execution]


class _Sessions(msgspec.Struct):
    sessions: list[r.Session]


class _Kernelspecs(msgspec.Struct):
    kernelspecs: list[r.Kernelspec]


class _Log(msgspec.Struct):
    events: list[dict[str, Any]]
    seq: int
    eof: bool


class Client:
    """A connection to a broker, for one event loop::

        async with Client.connect() as client:
            execution = await client.execute("print('hello')")

    A parameter that is not given is not sent, so that the broker's own default holds: the wire API's
    description has them. Every method raises :class:`~broker.client.RequestFailed` or one of its kind when
    the broker refuses, and :class:`~broker.client.ConnectionFailed` when it cannot be reached.

    A cut connection is made again by the next call. The call that it cut is sent once more by itself where that can do
    no harm: if it only reads, and ``execute``, whose ``request_id`` makes the broker run it once. Any other raises
    :class:`~broker.client.ConnectionLost`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        reconnect_for: float | None = RECONNECT_FOR,
    ) -> None:
        """Say which broker is meant: see :meth:`connect`."""
        self._target = Target(url, token, Path(data_dir) if data_dir is not None else None)
        self._patience = math.inf if reconnect_for is None else reconnect_for
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._report_callbacks: list[Callable[[r.Report], object]] = []
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        reconnect_for: float | None = RECONNECT_FOR,
    ) -> Self:
        """A client, to be entered with ``async with``, which connects.

        Without ``url`` the broker of ``data_dir`` is meant (the default data directory, if not given), wherever it
        listens now. ``token`` is found with it; for a ``url``, it may be in ``JUPYTER_BROKER_TOKEN``.
        ``reconnect_for``: how many seconds a broker that went away may take to come back; None is for ever.

        Raises (on entering):
            NoBroker: none is running for the data directory.
            ConnectionFailed: it cannot be reached.
            Unauthorized: the token is wrong.
        """
        return cls(url, token, data_dir, reconnect_for=reconnect_for)

    async def __aenter__(self) -> Self:
        async with self._connecting:
            self._connection = Connection(await Wire.open(self._target.locate()), self._notified)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Calls under way raise :class:`~broker.client.ConnectionLost`."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._connection is not None:
            await self._connection.close()

    # Executions

    async def execute(
        self,
        code: str,
        *,
        session: str | UnsetType = UNSET,
        kernel: str | UnsetType | None = UNSET,
        working_directory: str | UnsetType | None = UNSET,
        wait: float | UnsetType | None = UNSET,
        stdin: Sequence[str] | UnsetType = UNSET,
        on_busy: Literal["auto", "queue", "concurrent", "reject"] | UnsetType = UNSET,
        request_id: str | None = None,
        max_output: int | UnsetType = UNSET,
        label: str | UnsetType | None = UNSET,
    ) -> r.Execution:
        """Run ``code``, and return when it is done, asks for input, or ``wait`` seconds are over (None: never).

        However it returns, the execution runs on until it ends by itself, or is ended by a method.
        """
        return await self._call(
            "execute",
            r.Execution,
            {
                "code": code,
                "session": session,
                "kernel": kernel,
                "working_directory": working_directory,
                "wait": wait,
                "stdin": stdin,
                "on_busy": on_busy,
                "request_id": request_id or uuid.uuid4().hex,
                "max_output": max_output,
                "label": label,
            },
            again=True,
        )

    async def wait(
        self,
        execution_id: str,
        *,
        wait: float | UnsetType | None = UNSET,
        until: Literal["done", "output"] | UnsetType = UNSET,
        after: int | UnsetType | None = UNSET,
        max_output: int | UnsetType = UNSET,
    ) -> r.Execution:
        """Wait, at most ``wait`` seconds (None: for ever), until it is done, or has output after the seq ``after``."""
        params = {"execution_id": execution_id, "wait": wait, "until": until, "after": after, "max_output": max_output}
        return await self._call("wait", r.Execution, params, again=True)

    async def get_execution(self, execution_id: str) -> r.Execution:
        """An execution with the output it has so far."""
        return await self._call("get_execution", r.Execution, {"execution_id": execution_id}, again=True)

    async def list_executions(
        self, *, session: str | UnsetType | None = UNSET, state: str | UnsetType | None = UNSET
    ) -> list[r.ExecutionSummary]:
        """All executions there ever were, the oldest first; those of one session, or in one state, if so asked."""
        params = {"session": session, "state": state}
        return (await self._call("list_executions", _Executions, params, again=True)).executions

    async def list_async_executions(self) -> list[r.ExecutionSummary]:
        """The detached executions."""
        return (await self._call("list_async_executions", _Executions, {}, again=True)).executions

    async def get_async_log(
        self, execution_id: str, *, after: int | UnsetType = UNSET, limit: int | UnsetType = UNSET
    ) -> r.LogPage:
        """A page of an execution's whole history: events with a seq above ``after``."""
        params = {"execution_id": execution_id, "after": after, "limit": limit}
        page = await self._call("get_async_log", _Log, params, again=True)
        return r.LogPage(events=[r.Event.from_wire(fields) for fields in page.events], seq=page.seq, eof=page.eof)

    async def get_progress(
        self,
        execution_id: str,
        *,
        since: str | UnsetType | None = UNSET,
        after: int | UnsetType | None = UNSET,
        max_output: int | UnsetType = UNSET,
    ) -> r.Progress:
        """What it printed since a time (ISO 8601), or after a seq."""
        params = {"execution_id": execution_id, "since": since, "after": after, "max_output": max_output}
        return await self._call("get_progress", r.Progress, params, again=True)

    async def send_stdin(
        self, execution_id: str, data: str | UnsetType | None = UNSET, *, eof: bool | UnsetType = UNSET
    ) -> r.StdinResult:
        """Answer its prompt with a line; lines that no prompt has asked for yet wait for the next. ``eof`` ends it."""
        params = {"execution_id": execution_id, "data": data, "eof": eof}
        return await self._call("send_stdin", r.StdinResult, params)

    async def interrupt(self, execution_id: str) -> r.Execution:
        """Raise KeyboardInterrupt in it, and in nothing else."""
        return await self._call("interrupt", r.Execution, {"execution_id": execution_id})

    async def kill(self, execution_id: str | UnsetType | None = UNSET) -> list[r.Execution]:
        """End it, together with its kernel if nothing less helps; every one of the caller's, if no id is given."""
        return (await self._call("kill", _Killed, {"execution_id": execution_id})).killed

    async def clear_history(self, execution_id: str, *, clear_history: bool | UnsetType = UNSET) -> r.Cleared:
        """Drop the output stored for it so far."""
        params = {"execution_id": execution_id, "clear_history": clear_history}
        return await self._call("clear_history", r.Cleared, params)

    # Sessions

    async def create_session(
        self,
        name: str | UnsetType | None = UNSET,
        *,
        kernel: str | UnsetType | None = UNSET,
        working_directory: str | UnsetType | None = UNSET,
        env: Mapping[str, str] | UnsetType = UNSET,
    ) -> r.Session:
        """Make a session and start its kernel."""
        params = {"name": name, "kernel": kernel, "working_directory": working_directory, "env": env}
        return await self._call("create_session", r.Session, params)

    async def get_session(self, session: str) -> r.Session:
        """A session, by its id or name."""
        return await self._call("get_session", r.Session, {"session": session}, again=True)

    async def restart_session(self, session: str) -> r.Session:
        """End its kernel and start another one; the history stays."""
        return await self._call("restart_session", r.Session, {"session": session})

    async def close_session(self, session: str) -> r.Session:
        """End its executions and its kernel; the history stays."""
        return await self._call("close_session", r.Session, {"session": session})

    async def list_sessions(self) -> list[r.Session]:
        """The open sessions."""
        return (await self._call("list_sessions", _Sessions, {}, again=True)).sessions

    async def list_kernelspecs(self) -> list[r.Kernelspec]:
        """The kernels that can be started."""
        return (await self._call("list_kernelspecs", _Kernelspecs, {}, again=True)).kernelspecs

    # Events and reports

    def stream(
        self,
        execution_id: str | None = None,
        *,
        session: str | None = None,
        after: int | None = 0,
        follow: bool = False,
    ) -> AsyncGenerator[r.Event, None]:
        """The events of an execution, of a session, or (with neither) of all the caller's, each once and in order.

        It begins after the seq ``after`` (None: with what happens from now on), and goes on with what comes, over a
        connection of its own, which is made again when it is cut. For an execution it ends after its
        ``execution_finished``; with ``follow`` it never ends, since a background thread may still print.

        Left before its end, it is best closed (``contextlib.aclosing``); its connection ends with it.
        """
        return stream_events(self._target, self._patience, Scope(execution_id, session), after, follow=follow)

    def on_report(self, callback: Callable[[r.Report], object]) -> Callable[[], None]:
        """Call ``callback`` with each report of what runs. Returns what stops that.

        While there is a callback, a cut connection is made again by itself.
        """
        self._report_callbacks.append(callback)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_connected())

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._report_callbacks.remove(callback)

        return stop

    # The connection

    async def _call(self, method: str, result: type[T], params: Mapping[str, Any], *, again: bool = False) -> T:
        given = {name: value for name, value in params.items() if value is not UNSET}
        try:
            reply = await (await self._connected()).call(method, given)
        except ConnectionLost:
            if not again:
                raise
            reply = await (await self._connected()).call(method, given)
        return msgspec.json.decode(reply, type=result)

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None:
                raise ConnectionLost("the client is not connected; use `async with Client.connect() as client`")
            if self._connection.lost is not None:
                await self._connection.close()
                wire = await open_patiently(self._target, Backoff(self._patience))
                self._connection = Connection(wire, self._notified)
            return self._connection

    async def _keep_connected(self) -> None:
        while self._report_callbacks:
            try:
                connection = await self._connected()
            except BrokerError as error:
                log.warning("no more reports until the next call: %s", error)
                break
            await connection.wait_lost()
        self._keeper = None

    def _notified(self, method: str, params: bytes) -> None:
        if method == "execution_report":
            report = msgspec.json.decode(params, type=r.Report)
            for callback in tuple(self._report_callbacks):
                try:
                    callback(report)
                except Exception:
                    log.exception("a callback for reports failed")
