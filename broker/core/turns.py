"""Which execution begins next, and in which lane of the kernel.

In order, and one at a time: behind an execution that somebody awaits, the next one queues. One that is detached keeps
nobody waiting, where the kernel can run others beside it; those that asked to run ``concurrent`` wait for nobody there.
What asked to ``queue`` runs alone when it begins. A kernel that cannot do this has one lane, and all wait in order.
"""

from __future__ import annotations

import enum

from . import messages as m
from .acting import Acting
from .events import EventType
from .execution import Execution
from .promises import CONCURRENT
from .records import ExecutionRecord


class Waits(enum.Enum):
    """What an execution in the queue waits for."""

    KERNEL = "kernel"
    """The kernel's start."""
    TURN = "turn"
    """One that came before it."""
    ALONE = "alone"
    """Detached ones, since it asked to ``queue``."""
    ONE_AT_A_TIME = "one_at_a_time"
    """One that it would not wait for, were the kernel able to run them side by side."""
    LANE = "lane"
    """A lane: all are taken."""


class Turns(Acting):
    """The rules of the queue."""

    def place(self, execution_id: str) -> tuple[int, str | None] | None:
        """An execution's place in the queue, from 1, and the one it waits for (None: the kernel's start)."""
        queued = self._lanes.queued
        if execution_id not in queued:
            return None
        index = queued.index(execution_id)
        record = self._live[execution_id].record
        if index and not self._waits_for_nobody(record):
            return index + 1, queued[index - 1]
        return index + 1, self._obstacle()

    def waits(self, execution_id: str) -> Waits | None:
        """What a queued execution waits for; None if it is not queued."""
        if execution_id not in self._lanes.queued:
            return None
        record = self._live[execution_id].record
        obstacle = self._obstacle()
        if obstacle is None:
            return Waits.KERNEL if execution_id == self._lanes.head else Waits.TURN
        if self._waits_for_nobody(record):
            return Waits.LANE
        behind_detached = execution_id == self._lanes.head and self._live[obstacle].record.detached
        if not self._promised(CONCURRENT):
            eager = record.on_busy == "concurrent" or (behind_detached and record.on_busy != "queue")
            return Waits.ONE_AT_A_TIME if eager else Waits.TURN
        if behind_detached:
            return Waits.ALONE if record.on_busy == "queue" else Waits.LANE
        return Waits.TURN

    def _enqueue(self, execution: Execution) -> None:
        self._lanes.enqueue(execution.id, eager=execution.record.on_busy == "concurrent")

    def _dispatch(self) -> None:
        """Begin what can begin."""
        while self._lanes.head is not None and not self.closed and not self.stopping:
            if self.record.kernel_state in ("none", "dead"):
                self._start_kernel()
            if not self.ready or (execution := self._next()) is None:
                return
            lane = self._lanes.free(concurrent=self._promised(CONCURRENT))
            if lane is None:
                return
            self._lanes.occupy(lane, execution.id)
            lost = {"state_was_lost": self.record.state_was_lost} if self.record.state_was_lost else {}
            self._tell(EventType.EXECUTION_STARTED, execution.record, lane=lane, **lost)
            self._send(execution, lane)

    def _send(self, execution: Execution, lane: str) -> None:
        execution.sent = True
        self._do(m.SendExecute(execution.id, execution.code, lane))

    def _next(self) -> Execution | None:
        """The execution that may begin, should there be a lane for it."""
        head, eager = self._lanes.head, self._lanes.first_eager
        if head is not None and self._may_begin(self._live[head].record):
            return self._live[head]
        return self._live[eager] if eager is not None and self._promised(CONCURRENT) else None

    def _may_begin(self, record: ExecutionRecord) -> bool:
        """Whether what is in the kernel lets this one begin, which is first in the queue."""
        if not self._promised(CONCURRENT) or record.on_busy == "queue":
            return not self.busy
        return self._waits_for_nobody(record) or all(self._live[id].record.detached for id in self._lanes.occupants)

    def _waits_for_nobody(self, record: ExecutionRecord) -> bool:
        return record.on_busy == "concurrent" and self._promised(CONCURRENT)

    def _begins_at_once(self, record: ExecutionRecord) -> bool:
        """Whether this one, which is not queued yet, would begin without waiting for another."""
        return (
            self._lanes.head is None
            and (self.ready or self.record.kernel_state in ("none", "dead"))
            and self._may_begin(record)
            and self._lanes.free(concurrent=self._promised(CONCURRENT)) is not None
        )

    def _obstacle(self) -> str | None:
        """What runs, and must end or be handed over before this one can begin: the first that somebody awaits."""
        occupants = list(self._lanes.occupants)
        return next((id for id in occupants if not self._live[id].record.detached), next(iter(occupants), None))
