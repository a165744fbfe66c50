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

        Where the kernel keeps an outbox, all that it said after ``session.heard`` is reported before these, each with
        its number; then ``RollCall``, of what ever reached it.
        """

    def digested(self, number: int) -> None:  # noqa: B027 (a kernel without an outbox has nothing to do)
        """All that the kernel said up to this number in its outbox is in the journal; the kernel's copy may go.

        Called after a commit, with a number above the one before; a new kernel counts anew. The last numbers of a
        kernel that is gone come after its ``KernelGone``, and before its successor is asked for.
        """

    @abstractmethod
    def execute(self, execution_id: str, code: str, lane: str) -> None:
        """Send an ``execute_request`` whose ``msg_id`` is ``execution_id``.

        Called once for each; a second time only after ``RollCall`` did not name it. The lane is ``main``, or, in a
        kernel that promises ``concurrent``, one that is to be made if it is not there yet.
        """

    @abstractmethod
    def answer(self, execution_id: str, value: str | None) -> None:
        """Send an ``input_reply``; None is the end of input. Called only while that execution's prompt is open."""

    @abstractmethod
    async def interrupt(self, execution_id: str, lane: str) -> None:
        """Interrupt what runs in the lane, and wake it should it sleep in an event loop.

        Only this execution, where the kernel promises ``interrupts_one``.
        """

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
