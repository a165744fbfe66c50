"""What a session's runner asks of a kernel. The whole contract; :mod:`broker.kernel.dummy` is the short way to meet it.

A driver serves one session. The runner is its only caller. It tells what happens by calling ``report`` with the inputs
of :mod:`broker.core.messages`, from the event loop, in the order in which they happened, and never while one of its own
methods is being called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ..core.messages import Input
from ..core.records import SessionRecord

Report = Callable[[Input], None]


class KernelDriver(ABC):
    """One session's kernel, and its successors after restarts."""

    def __init__(self, report: Report) -> None:
        self.report = report

    @abstractmethod
    async def start(self, session: SessionRecord) -> None:
        """Start a kernel, in place of the last one if there was any.

        Called when there is none. Reports ``KernelLaunched`` when it has a process, then ``KernelReady`` or
        ``KernelStartFailed``. From then on, ``KernelGone`` when the process is gone, once all it sent was reported.
        """

    @abstractmethod
    async def adopt(self, session: SessionRecord, *, ready: bool) -> None:
        """Take back the kernel that an earlier broker left running, under its id.

        Called once, before anything else, where there was a kernel, be it one that was not ``ready`` yet. Reports
        ``KernelReady(adopted=True)``; where it was not ready, what :meth:`start` does; and ``KernelGone`` where it is
        no more, or cannot be reached any more: then it is ended.
        """

    @abstractmethod
    def execute(self, execution_id: str, code: str, lane: str) -> None:
        """Send an ``execute_request`` whose ``msg_id`` is ``execution_id``."""

    @abstractmethod
    def answer(self, execution_id: str, value: str | None) -> None:
        """Send an ``input_reply``; None is the end of input. Called only while that execution's prompt is open."""

    @abstractmethod
    async def interrupt(self, execution_id: str, lane: str) -> None:
        """Interrupt what runs in the lane, and wake it should it sleep in an event loop."""

    @abstractmethod
    def probe(self, execution_id: str, lane: str) -> None:
        """Send the lane a request that changes nothing; report ``ProbeAnswered`` when reply and idle are there."""

    @abstractmethod
    async def kill(self, *, politely: bool) -> None:
        """End the kernel and every process that it started. ``politely``: ask it to shut down, and wait a little.

        Reports ``KernelGone``, also for a kernel that is still starting.
        """

    @abstractmethod
    async def leave(self) -> None:
        """Let go of the kernel and let it run on: the broker stops."""
