"""One live execution: its record, and what matters only while it lives."""

from __future__ import annotations

import enum

import msgspec

from .records import ExecutionRecord
from .state import Completion, Origin, Run
from .stdin import Stdin


class Stop(enum.Enum):
    """How far a stop may go."""

    INTERRUPT = "interrupt"
    KILL = "kill"


class Stopping(msgspec.Struct):
    """The ladder, while someone stands on it. Deadlines are on the loop's clock, in seconds."""

    goal: Stop
    again_at: float
    """When to interrupt once more: code may swallow the first KeyboardInterrupt."""
    until: float
    """When to stop trying: go one rung further, or give up, as ``goal`` says."""


class Execution:
    """What a session keeps of an execution that is not over. Nothing here survives the broker but ``record``."""

    def __init__(self, record: ExecutionRecord, code: str = "") -> None:
        self.record = record
        self.code = code
        self.stdin = Stdin()
        self.sent = False
        """Whether this broker has sent it to the kernel: not if a former one has, or was about to."""
        self.answered = False
        """Whether this broker has answered a prompt of it."""
        self.handover_at: float | None = None
        self.probe_at: float | None = None
        self.stopping: Stopping | None = None

    @property
    def id(self) -> str:
        return self.record.execution_id

    @property
    def is_visitor(self) -> bool:
        """Whether another client of the kernel runs it. See :mod:`~broker.core.visitors`."""
        return self.record.origin is Origin.JUPYTER

    @property
    def deadlines(self) -> list[float]:
        """When something is due if nothing happens before. Seconds on the loop's clock."""
        due = [at for at in (self.handover_at, self.probe_at) if at is not None]
        if self.stopping:
            due.append(min(self.stopping.again_at, self.stopping.until))
        return due

    def outcome(self) -> tuple[Run, dict[str, object] | None]:
        """How it ended, from what is known once its lane is done with it, and the error if it raised one."""
        ending = self.record.ending
        error = ending.raised if ending.reply is None else ending.reply.error
        if ending.reply is None and Completion.IDLE not in ending.completion and error is None:
            return Run.LOST, None
        if ending.reply is not None and ending.reply.status != "ok" and error is None:
            error = {"ename": ending.reply.status, "evalue": "", "traceback": []}
        if error is None:
            return (Run.INTERRUPTED if self.stopping and ending.reply is None else Run.COMPLETED), None
        return (Run.INTERRUPTED if self.stopping else Run.FAILED), error
