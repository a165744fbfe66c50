"""What every handler of a session stands on: its records, and the ways to say something and to ask for something."""

from __future__ import annotations

from typing import Any

import msgspec

from . import messages as m
from .errors import UnknownExecution
from .events import Event, EventType, HandoverReason
from .execution import Execution
from .lanes import Lanes
from .messages import Effect, Now, Step
from .records import ExecutionRecord, SessionRecord, apply
from .state import Attachment, Run

REMEMBERED = 256
"""Finished executions kept at hand for the output that may still follow."""


class Acting:
    """The parts of a session's state, and what may be done with them. Events change records here and nowhere else."""

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self._live: dict[str, Execution] = {}
        self._finished: dict[str, ExecutionRecord] = {}
        self._lanes = Lanes()
        self._stopping_for: str | None = None
        """Why the kernel is being killed, while it is."""
        self._away = record.kernel_state == "ready"
        """Whether there is a kernel that a former broker started, and that is still to be taken back."""
        self._step = Step([], [], [], None)
        self._now = Now(0.0, 0.0)

    @property
    def closed(self) -> bool:
        return self.record.closed_at is not None

    @property
    def busy(self) -> bool:
        """Whether the kernel runs anything."""
        return any(True for _ in self._lanes.occupants)

    @property
    def ready(self) -> bool:
        """Whether the kernel can be sent something."""
        return self.record.kernel_state == "ready" and not self._away

    @property
    def stopping(self) -> bool:
        """Whether the kernel is being ended, and its end is still to come."""
        return self._stopping_for is not None

    def find(self, execution_id: str) -> ExecutionRecord | None:
        """The record of an execution that lives, or has ended not long ago."""
        execution = self._live.get(execution_id)
        return execution.record if execution else self._finished.get(execution_id)

    def remember(self, record: ExecutionRecord) -> None:
        """Take in the record of an execution that ended long ago: something more is to be said about it."""
        self._finished[record.execution_id] = record
        while len(self._finished) > REMEMBERED:
            del self._finished[next(iter(self._finished))]

    def _promised(self, promise: str) -> bool:
        return self.record.promises.get(promise, False)

    def _tell(self, type: EventType, record: ExecutionRecord | None = None, /, **fields: Any) -> None:
        """Say one thing, and let it be so."""
        self._emit(Event(type, self._now.wall, self.record.session_id, fields), record)

    def _emit(self, event: Event, record: ExecutionRecord | None) -> None:
        if record is not None:
            event = msgspec.structs.replace(event, execution_id=record.execution_id, n=record.n + 1)
            self._step.changed.append(record)
        apply(event, self.record, record)
        self._step.events.append(event)

    def _do(self, effect: Effect) -> None:
        self._step.effects.append(effect)

    def _living(self, execution_id: str) -> Execution | None:
        """The execution, None if it is over.

        Raises:
            UnknownExecution: this session has no such execution.
        """
        if execution := self._live.get(execution_id):
            return execution
        if execution_id in self._finished:
            return None
        raise UnknownExecution(f"there is no execution {execution_id!r} here; list_executions has those there are")

    def _in_kernel(self, execution_id: str) -> Execution | None:
        """The execution, if the kernel has it. Any client may speak of any message; only its own are believed."""
        execution = self._live.get(execution_id)
        return execution if execution and execution.record.run.in_kernel else None

    def _hand_over(self, execution: Execution, reason: HandoverReason) -> None:
        execution.handover_at = None
        if execution.record.attachment is Attachment.ATTACHED:
            self._tell(EventType.HANDOVER, execution.record, reason=reason)

    def _finish(self, execution: Execution, state: Run, *, kernel_state: str, **fields: Any) -> None:
        if unread := len(execution.stdin):
            fields["stdin_unread"] = unread
        fields = {name: value for name, value in fields.items() if value is not None}
        self._tell(EventType.EXECUTION_FINISHED, execution.record, state=state, kernel_state=kernel_state, **fields)
        self._lanes.vacate(execution.id)
        del self._live[execution.id]
        self.remember(execution.record)

    def _start_kernel(self) -> None:
        self._tell(EventType.KERNEL_STATUS, state="starting")
        self._do(m.StartKernel())

    def _kill_kernel(self, reason: str, *, politely: bool = False) -> None:
        if not self.stopping:
            self._do(m.KillKernel(politely))
        self._stopping_for = reason
