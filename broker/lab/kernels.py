"""A broker's kernels among the server's: listed under their ids, and theirs to end by whom it may be.

The server's own kernel manager stays what it is, and so does every other kernel in it. Only what people ask of a
kernel of the broker goes through the broker, where it is recorded: it interrupts executions, closes or restarts the
session, and refuses to end a kernel in which something runs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import Future
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.session import Session as JupyterSession
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from jupyter_server.services.sessions.sessionmanager import SessionManager
from tornado.web import HTTPError
from traitlets import Instance, Unicode

from ..core import messages as m
from ..core.records import ExecutionRecord
from ..core.state import Origin
from ..kernel.manager import BrokerKernelManager
from ..kernel.wire import DELIMITER
from ..runner import Runner
from ..service import Broker

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
"""Jupyter Server's own event for what was done with a kernel, or was not."""

LISTED_WITHIN = 10.0
"""Seconds that it takes at most until a kernel that is ready is listed."""
SAID_WITHIN = 1.0
"""Seconds that a kernel has to say what it is, before its notebook is written without that."""
HEAD = 22
"""Characters of a session's and of an execution's name in a sentence that must be short."""

_left: ContextVar[str] = ContextVar("_left", default="")
"""The kernel that a notebook has left, in the request that gave it another."""


class KernelInfo(NamedTuple):
    """What a kernel said of itself: the session id that its messages bear, and its ``kernel_info_reply``."""

    session: str
    content: bytes


class _Header(msgspec.Struct, frozen=True):
    msg_id: str = ""
    msg_type: str = ""


class _Status(msgspec.Struct, frozen=True):
    execution_state: str = ""


class _Info(msgspec.Struct, frozen=True):
    language_info: dict[str, Any] = {}


_info = msgspec.json.Decoder(_Info)
_header = msgspec.json.Decoder(_Header)
_status = msgspec.json.Decoder(_Status)


class LabKernel(BrokerKernelManager, AsyncIOLoopKernelManager):
    """A kernel of the broker, with what the server wants to know of any."""

    execution_state = Unicode("idle")
    reason = Unicode("")
    last_activity = Instance(datetime)
    runner: Runner
    """Its session's."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.info: asyncio.Future[KernelInfo] = asyncio.get_running_loop().create_future()
        self._patience = SAID_WITHIN
        self.last_activity = datetime.now(UTC)
        self.connections: set[Any] = set()
        """The browsers' (:class:`~broker.lab.connection.BrokerConnection`)."""
        self.own: defaultdict[str, set[str]] = defaultdict(set)
        """The cells that came over them, by the client's session: it hears of these from the kernel."""
        # The server would wait for the answer of a busy kernel before it opens a connection; it needs nothing of it.
        self._kernel_info_future: Future[dict[str, Any]] = Future()
        self._kernel_info_future.set_result({})

    def start_restarter(self) -> None:
        """None: what to do about a kernel that dies is for its session to say."""

    stop_restarter = start_restarter

    async def language(self) -> dict[str, Any] | None:
        """What it says of its language; None if it does not say so soon."""
        patience, self._patience = self._patience, 0.0
        await asyncio.wait([self.info], timeout=patience)
        if not self.info.done() or self.info.cancelled():
            return None
        return _info.decode(self.info.result().content).language_info

    def ask_info(self) -> None:
        """Have the kernel say who it is, for those who come while it is busy: by control, which answers then."""
        session = JupyterSession(key=self.session.key)
        channels = [self.connect_control(), self.connect_shell()]

        def done(_: object) -> None:
            for channel in channels:
                if not channel.closed():
                    channel.close()

        def answered(frames: list[Any]) -> None:
            parts: list[Any] = session.feed_identities(frames)[1]
            header = session.unpack(parts[1])
            if header["msg_type"] == "kernel_info_reply" and not self.info.done():
                self.info.set_result(KernelInfo(header["session"], bytes(parts[4])))

        self.info.add_done_callback(done)
        for channel in channels:
            channel.on_recv(answered)
            session.send(channel, "kernel_info_request")


class SharedKernels(MappingKernelManager):
    """What the server's kernel manager becomes (:func:`share`), whatever its class was."""

    broker: Broker
    restarting: set[str]
    """The kernels that a client of the server restarts at present. It connects anew by itself."""
    _news: asyncio.Event
    """Set when the next kernel is listed."""

    def listed(self, kernel_id: str) -> LabKernel | None:
        """A kernel of the broker; None if it is any other, or none."""
        kernel = self._kernels.get(kernel_id)
        return kernel if isinstance(kernel, LabKernel) else None

    def list_kernel(self, kernel: LabKernel, runner: Runner) -> None:
        """Let the server have a kernel of the broker."""
        kernel.parent, kernel.runner = self, runner
        self._kernels[kernel.kernel_id] = kernel
        self._kernel_connections.setdefault(kernel.kernel_id, 0)
        self._kernel_ports[kernel.kernel_id] = kernel.ports
        kernel.ask_info()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def unlist_kernel(self, kernel_id: str) -> None:
        """Take it back. Connections to it are closed by whoever has them."""
        if kernel := self.listed(kernel_id):
            kernel.info.cancel()
            self._kernels.pop(kernel_id)
            self._kernel_connections.pop(kernel_id, None)
            self._kernel_ports.pop(kernel_id, None)

    # What people ask for

    async def _async_shutdown_kernel(self, kernel_id: str, now: bool = False, restart: bool = False) -> None:
        if kernel := self.listed(kernel_id):
            if _left.get() == kernel_id:
                return
            runner = kernel.runner
            if alive := [record for record in alive_in(runner) if record.origin is Origin.API]:
                why = refusal(runner, alive)
                self._tell_refusal(kernel, why)
                raise HTTPError(409, why.replace("%", "%%"), reason="Executions run in this kernel")
            await self.broker.close_session(runner)
            self.unlist_kernel(kernel_id)
            return
        await super()._async_shutdown_kernel(kernel_id, now=now, restart=restart)

    shutdown_kernel = _async_shutdown_kernel

    def _tell_refusal(self, kernel: LabKernel, why: str) -> None:
        """Say it where people look: JupyterLab shows nobody what the server answers to its list's button."""
        for connection in list(kernel.connections):
            connection.say(why)
        data = {"kernel_id": kernel.kernel_id, "kernel_name": kernel.kernel_name, "action": "shutdown", "msg": why}
        self.parent.event_logger.emit(schema_id=KERNEL_ACTIONS, data={**data, "status": "error", "status_code": 409})

    async def shutdown_all(self, now: bool = False) -> None:
        """End all kernels but the broker's: nobody has asked for that, and they outlive the server."""
        ours = {id: kernel for id, kernel in self._kernels.items() if isinstance(kernel, LabKernel)}
        for id in ours:
            del self._kernels[id]
        try:
            await super().shutdown_all(now=now)
        finally:
            self._kernels.update(ours)

    async def _async_restart_kernel(self, kernel_id: str, now: bool = False) -> Any:
        if kernel := self.listed(kernel_id):
            self.restarting.add(kernel_id)
            try:
                await self.broker.restart_session(kernel.runner)
                # Who has the answer connects at once, and is to find the new one.
                async with asyncio.timeout(LISTED_WITHIN):
                    while self.listed(kernel_id) in (None, kernel):
                        await self._news.wait()
            finally:
                self.restarting.discard(kernel_id)
            return None
        return await super()._async_restart_kernel(kernel_id, now=now)

    restart_kernel = _async_restart_kernel

    async def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt all that runs there."""
        if kernel := self.listed(kernel_id):
            running = [record for record in alive_in(kernel.runner) if record.run.in_kernel]
            for record in running:
                await self.broker.tell(record, m.Interrupt(record.execution_id))
            if running:
                return
        result: Any = super().interrupt_kernel(kernel_id)
        if result is not None:
            await result

    # What the server does by itself

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Leave the broker's kernels alone: a session ends when it is closed."""
        if not self.listed(kernel_id):
            await super().cull_kernel_if_idle(kernel_id)

    def start_buffering(self, kernel_id: str, session_key: str, channels: dict[str, Any]) -> None:
        """Keep what is about a client's own cells until it comes back; the rest is in the journal."""
        super().start_buffering(kernel_id, session_key, channels)
        kernel, info = self.listed(kernel_id), self._kernel_buffers.get(kernel_id)
        if kernel is None or info is None:
            return
        own, kept = kernel.own[session_key.partition(":")[2]], info["buffer"]

        def keep(frames: list[Any]) -> None:
            if not is_others(frames, own):
                kept.append(("iopub", frames))

        channels["iopub"].on_recv(keep)


def share(manager: MappingKernelManager, broker: Broker) -> SharedKernels:
    """Make the server's kernel manager take a broker's kernels too.

    The server has made it before any extension is loaded, of the class that its user has configured; so its class is
    extended where it stands.
    """
    cls = type(manager)
    manager.__class__ = type(cls.__name__, (SharedKernels, cls), {"__module__": cls.__module__})
    assert isinstance(manager, SharedKernels)
    manager.broker, manager.restarting, manager._news = broker, set(), asyncio.Event()
    return manager


class SharedSessions(SessionManager):
    """What the server's session manager becomes (:func:`share_sessions`), whatever its class was."""

    async def update_session(self, session_id: str, **kwargs: Any) -> None:
        """Change an entry of the server's list. One that gets another kernel leaves the one that it had."""
        if "kernel_id" in kwargs:
            _left.set((await self.get_session(session_id=session_id))["kernel"]["id"])
        await super().update_session(session_id, **kwargs)


def share_sessions(manager: SessionManager) -> None:
    """Let a notebook that is given another kernel leave a session's kernel alone: others are in it.

    The server shuts a kernel down when its notebook gets another.
    """
    cls = type(manager)
    manager.__class__ = type(cls.__name__, (SharedSessions, cls), {"__module__": cls.__module__})


def is_others(frames: list[Any], own: set[str]) -> bool:
    """Whether a message on IOPub is about a cell that is none of a client's own. Frames as ZeroMQ has them."""
    parent = _header.decode(frames[frames.index(DELIMITER) + 3])
    return parent.msg_type == "execute_request" and parent.msg_id not in own


def says_idle(frames: list[Any]) -> bool:
    """Whether a message on IOPub says that the kernel is done with something. Frames as ZeroMQ has them."""
    at = frames.index(DELIMITER)
    return (
        _header.decode(frames[at + 2]).msg_type == "status" and _status.decode(frames[at + 5]).execution_state == "idle"
    )


def alive_in(runner: Runner) -> list[ExecutionRecord]:
    """The executions of a session that are not over."""
    return [record for id in runner.session.live if (record := runner.session.find(id))]


def refusal(runner: Runner, alive: list[ExecutionRecord]) -> str:
    """Why a kernel is not shut down, for the person who wanted it to be.

    The first line says it all in the 140 characters that a notification of JupyterLab has.
    """
    count = f" and {len(alive) - 1} more are" if len(alive) > 1 else " is"
    what = "; ".join(f"{record.title!r} ({record.execution_id})" for record in alive[:5])
    more = f"; and {len(alive) - 5} more" if len(alive) > 5 else ""
    return (
        f"The kernel of session {_short(runner.session.record.name)} was not shut down: {_short(alive[0].title)}{count}"
        f" under way. Interrupt {'them' if len(alive) > 1 else 'it'} first.\n"
        f"Under way: {what}{more}. Interrupt, or kill what will not end, in the Broker panel, on the broker's page, or "
        f"with `jupyter broker kill ID`."
    )


def _short(name: str) -> str:
    return repr(name if len(name) <= HEAD else name[: HEAD - 1] + "…")
