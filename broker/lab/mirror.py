"""What JupyterLab lists: every session of the broker that has a kernel, under its name, busy while anything runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_server.services.sessions.sessionmanager import SessionManager
from tornado.websocket import WebSocketClosedError

from ..core.events import EventType
from ..core.records import SessionRecord
from ..journal import EVERYTHING
from ..runner import Runner
from ..service import Broker
from .connection import BrokerConnection
from .kernels import LabKernel, SharedKernels

log = logging.getLogger(__name__)

TURNS = (
    EventType.KERNEL_STATUS,
    EventType.SESSION_CLOSED,
    EventType.EXECUTION_STARTED,
    EventType.INPUT_REQUEST,
    EventType.INPUT_REPLY,
    EventType.EXECUTION_FINISHED,
)
"""The events after which something else may be listed."""
ANSWERED_WITHIN = 2.0
"""Seconds in which a browser that has asked for a restart connects to the new kernel."""
Places = Callable[[SessionRecord], list[tuple[str, str, str]]]
"""Under which paths and names a session is listed, and what is there: ``notebook`` or ``console``."""


class Mirror:
    """Keeps the server's kernels and sessions what the broker's are. A reader of the journal.

    ``kernels`` has those that the broker starts, ``shared`` and ``sessions`` are the server's.
    """

    def __init__(
        self,
        broker: Broker,
        kernels: AsyncMultiKernelManager,
        shared: SharedKernels,
        sessions: SessionManager,
        places: Places,
    ) -> None:
        self._broker, self._kernels = broker, kernels
        self._shared, self._sessions = shared, sessions
        self._places = places
        self._adding = asyncio.Lock()
        self._listed: dict[str, LabKernel] = {}
        """By the session's id."""
        self._left: dict[str, list[BrokerConnection]] = {}
        """The connections to a session's former kernel, until it is known what became of that."""
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._following = asyncio.ensure_future(self._follow())

    async def stop(self) -> None:
        if self._following:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for session_id in list(self._listed):
            self._unlist(session_id)

    async def _follow(self) -> None:
        journal = self._broker.journal
        after = journal.seq
        for runner in self._broker.runners:
            await self._see(runner.session.record.session_id)
        while True:
            page = await journal.read(EVERYTHING, after, types=TURNS)
            # Several events of one session are one look at it.
            for session_id in dict.fromkeys(line.stored.session_id for line in page.lines):
                try:
                    await self._see(session_id)
                except Exception:
                    log.exception("session %s cannot be listed", session_id)
            after = page.seq
            if page.eof:
                await journal.changed(EVERYTHING, after)

    async def _see(self, session_id: str) -> None:
        """List a session as it is now."""
        runner = self._broker.runner(session_id)
        kernel = self._kernel_of(runner) if runner else None
        if self._listed.get(session_id) is not kernel:
            self._unlist(session_id)
        if kernel is None or runner is None:
            if runner is None or runner.session.record.kernel_state != "starting":
                self._say_state(session_id, "dead")
            return
        if session_id not in self._listed:
            self._listed[session_id] = kernel
            self._shared.list_kernel(kernel, runner)
            if kernel.kernel_id in self._shared.restarting:
                self._say_later(session_id)
            else:
                self._say_state(session_id, "restarting")
            await self._add_session(runner.session.record, kernel.kernel_id)
        kernel.execution_state = "busy" if runner.session.busy else "idle"
        kernel.last_activity = self._shared.last_kernel_activity = datetime.now(UTC)

    async def relist(self, session_id: str) -> None:
        """List a session where it is by now, too."""
        runner, kernel = self._broker.runner(session_id), self._listed.get(session_id)
        if runner and kernel:
            await self._add_session(runner.session.record, kernel.kernel_id)

    def _kernel_of(self, runner: Runner) -> LabKernel | None:
        record = runner.session.record
        if not runner.session.ready or record.kernel_id is None or record.closed_at is not None:
            return None
        kernel = self._kernels._kernels.get(record.kernel_id)
        return kernel if isinstance(kernel, LabKernel) else None

    async def _add_session(self, record: SessionRecord, kernel_id: str) -> None:
        async with self._adding:
            listed = {(each["kernel"]["id"], each["path"]) for each in await self._sessions.list_sessions()}
            for path, name, type in self._places(record):
                if (kernel_id, path) not in listed:
                    await self._sessions.create_session(path=path, name=name, type=type, kernel_id=kernel_id)

    def _unlist(self, session_id: str) -> None:
        kernel = self._listed.pop(session_id, None)
        if kernel is not None:
            self._left[session_id] = [*kernel.connections]
        if kernel is not None and self._shared.listed(kernel.kernel_id) is kernel:
            self._shared.unlist_kernel(kernel.kernel_id)

    def _say_state(self, session_id: str, state: str) -> None:
        """Tell those who were connected to a session's former kernel what became of it."""
        self._tell(self._left.pop(session_id, ()), state)

    def _say_later(self, session_id: str) -> None:
        """Tell of a restart those who have not asked for it: who has, connects anew with the answer.

        JupyterLab takes what it is told for a kernel that has died, and says so in a dialog.
        """
        left = self._left.pop(session_id, ())
        asyncio.get_running_loop().call_later(ANSWERED_WITHIN, lambda: self._tell(left, "restarting"))

    @staticmethod
    def _tell(connections: Iterable[BrokerConnection], state: str) -> None:
        for connection in connections:
            with contextlib.suppress(WebSocketClosedError):
                if connection.is_open:
                    connection.say_state(state)
