"""What the kernel says of its executions: their output, and the signs that they are over.

When is an execution over? Its ``execute_reply`` and its ``status: idle`` prove it, both. From a kernel that loses
nothing both come, in its one order. From any other, one of them may be missing: after :data:`GRACE` seconds its lane is
probed. A request sent after it can only be answered after it, so the answer proves that what is still missing will
never come. The same probe wakes an event loop that an interrupt did not, and tells, after a restart of the broker,
whether an execution ended while nobody listened.
"""

from __future__ import annotations

from typing import Any

import msgspec

from . import contents
from . import messages as m
from .events import Event, EventType
from .execution import Execution
from .promises import NOTHING_LOST
from .records import Reply
from .state import Completion, Run
from .visitors import Visitors

GRACE = 1.0
"""Seconds without a message after which a missing half of "done" is asked for."""


class Hearing(Visitors):
    """Takes the kernel at its word."""

    def _published(self, input: m.Published) -> None:
        record = self.find(input.execution_id) if input.execution_id else None
        execution = self._live.get(input.execution_id) if input.execution_id else None
        if execution and execution.probe_at is not None:
            execution.probe_at = self._now.loop + GRACE
        if input.msg_type == "execute_input":
            executed = contents.executed(input.content)
            if record is None and input.execution_id:
                execution = self._visit(input.execution_id, executed.code)
            if execution:
                self._tell(EventType.EXECUTION_COUNT, execution.record, execution_count=executed.execution_count)
            return
        if execution and input.msg_type == "error":
            self._note(execution, raised=contents.raised(input.content))
        lines, size = contents.measure(input.msg_type, input.content)
        fields = {"msg_type": input.msg_type, "content": msgspec.Raw(input.content), **input.extra}
        self._emit(
            Event(EventType.OUTPUT, self._now.wall, self.record.session_id, fields, lines=lines, bytes=size), record
        )

    def _idle(self, input: m.Idle) -> None:
        if execution := self._in_kernel(input.execution_id):
            self._saw(execution, Completion.IDLE)

    def _replied(self, input: m.Replied) -> None:
        if execution := self._in_kernel(input.execution_id):
            self._note(execution, reply=Reply(input.status, input.error))
            self._saw(execution, Completion.REPLY)

    def _saw(self, execution: Execution, sign: Completion) -> None:
        completion = execution.record.ending.completion | sign
        self._note(execution, completion=completion)
        if completion is Completion.BOTH or (execution.is_visitor and sign is Completion.IDLE):
            self._done(execution)
        elif not self._promised(NOTHING_LOST):
            execution.probe_at = self._now.loop + GRACE

    def _note(self, execution: Execution, **said: Any) -> None:
        """Keep what no event says. See :class:`~broker.core.records.Ending`."""
        execution.record.ending = msgspec.structs.replace(execution.record.ending, **said)
        self._step.changed.append(execution.record)

    def _done(self, execution: Execution) -> None:
        state, error = execution.outcome()
        reason = "it ended while no broker listened; how, is not known" if state is Run.LOST else None
        self._finish(execution, state, kernel_state="preserved", error=error, reason=reason)

    def _probe_answered(self, input: m.ProbeAnswered) -> None:
        execution = self._in_kernel(input.execution_id)
        if execution is None:
            return
        missing = " and ".join(
            name
            for name, sign in (("execute_reply", Completion.REPLY), ("status: idle", Completion.IDLE))
            if sign not in execution.record.ending.completion
        )
        self._tell(EventType.GAP, execution.record, reason=f"the kernel is done with it, but sent no {missing}")
        self._done(execution)
