"""Stopping an execution: interrupt it, several times if need be, and where it was to be killed, then kill its kernel.

The first rungs leave the others in that kernel alone. The last one ends them too.
"""

from __future__ import annotations

from . import messages as m
from .execution import Execution, Stop, Stopping
from .lanes import MAIN
from .messages import Now
from .prompts import Prompts
from .state import Run

INTERRUPT_AGAIN = 1.0
"""Seconds between two interrupts of one stop."""
INTERRUPT_PATIENCE = 4.0
"""Seconds in which an interrupt must have worked."""


class Ladder(Prompts):
    """The rungs, and when the next one is due."""

    def _interrupt(self, input: m.Interrupt) -> None:
        self._stop(self._living(input.execution_id), Stop.INTERRUPT)

    def _kill(self, input: m.Kill) -> None:
        self._stop(self._living(input.execution_id), Stop.KILL)

    def _stop(self, execution: Execution | None, goal: Stop) -> None:
        if execution is None:
            return
        if execution.record.run is Run.QUEUED:
            self._finish(execution, Run.INTERRUPTED, kernel_state="preserved", reason="stopped before it began")
            return
        if execution.stopping and execution.stopping.goal is Stop.KILL:
            goal = Stop.KILL
        execution.stopping = Stopping(goal, self._now.loop + INTERRUPT_AGAIN, self._now.loop + INTERRUPT_PATIENCE)
        self._send_interrupt(execution)

    def _send_interrupt(self, execution: Execution) -> None:
        self._prompt_is_gone(execution)
        self._do(m.SendInterrupt(execution.id, execution.record.lane or MAIN))

    def _climb(self, execution: Execution, stopping: Stopping) -> None:
        """The next rung of the ladder, when it is time for it."""
        if is_due(stopping.until, self._now):
            execution.stopping = None
            if stopping.goal is Stop.KILL and not self.stopping:
                self._kill_kernel(f"the kernel was killed, for an interrupt did not end execution {execution.id}")
        elif is_due(stopping.again_at, self._now):
            stopping.again_at = self._now.loop + INTERRUPT_AGAIN
            self._send_interrupt(execution)


def is_due(at: float | None, now: Now) -> bool:
    """Whether a deadline has come."""
    return at is not None and at <= now.loop
