"""The kernel's life: its start, its end, and its being taken back by the broker that comes after."""

from __future__ import annotations

from typing import Any

from . import messages as m
from .events import EventType
from .lanes import MAIN
from .promises import NOTHING_LOST
from .state import Completion, Run
from .turns import Turns


class KernelLife(Turns):
    """Begins and ends kernels, and ends with a kernel what was in it."""

    _start_again = False
    _closing = False

    # What callers ask

    def _ensure_kernel(self, input: m.EnsureKernel) -> None:
        if self.record.kernel_state in ("none", "dead") and not self.stopping and not self.closed:
            self._start_kernel()

    def _restart(self, input: m.Restart) -> None:
        if self.record.kernel_state in ("none", "dead"):
            self._ensure_kernel(m.EnsureKernel())
            return
        if not self._closing:
            self._start_again = True
            self._kill_kernel("the session was restarted")

    def _close(self, input: m.Close) -> None:
        if self.closed:
            return
        reason = "the session was closed"
        if self.record.kernel_state in ("none", "dead") and not self.stopping:
            self._kernel_is_gone(None, reason)
            self._tell(EventType.SESSION_CLOSED)
            return
        self._closing = True
        self._kill_kernel(reason, politely=not self.busy)

    # What the driver reports

    def _launched(self, input: m.KernelLaunched) -> None:
        self._tell(
            EventType.KERNEL_STATUS,
            state="starting",
            kernel_id=input.kernel_id,
            pid=input.pid,
            pid_created=input.pid_created,
            connection_file=input.connection_file,
        )

    def _ready(self, input: m.KernelReady) -> None:
        self._away = False
        known = self.record
        self._tell(
            EventType.KERNEL_STATUS,
            state="ready",
            kernel_id=known.kernel_id,
            pid=known.kernel_pid,
            pid_created=known.kernel_pid_created,
            connection_file=known.connection_file,
            promises=input.promises,
        )
        if input.adopted and not self._promised(NOTHING_LOST):
            self._take_over()

    def _take_over(self) -> None:
        """A kernel that ran on while no broker was there: what it printed meanwhile is gone."""
        for execution in self._live.values():
            if execution.record.run.in_kernel:
                self._tell(
                    EventType.GAP,
                    execution.record,
                    reason="no broker was running; what was printed meanwhile is missing",
                )
                self._do(m.Probe(execution.id, execution.record.lane or MAIN))

    def _send_what_never_came(self, input: m.RollCall) -> None:
        """Send again what a former broker had written down, and was ended before it could send it."""
        for execution in self._live.values():
            record = execution.record
            never_came = execution.id not in input.received and record.ending.completion is Completion.NONE
            ours = not execution.is_visitor and not execution.sent
            if record.run.in_kernel and never_came and ours and not self.stopping:
                self._send(execution, record.lane or MAIN)

    def _start_failed(self, input: m.KernelStartFailed) -> None:
        self._tell(EventType.KERNEL_STATUS, state="none", reason=input.message)
        error = {"ename": "KernelStartFailed", "evalue": input.message, "traceback": []}
        for execution in list(self._live.values()):
            reason = "it never began: the kernel did not start"
            self._finish(execution, Run.LOST, kernel_state="lost", error=error, reason=reason)
        self._stopping_for = None
        self._away = False
        self._go_on()

    def _gone(self, input: m.KernelGone) -> None:
        wanted, self._stopping_for = self._stopping_for, None
        self._away = False
        if wanted is None and self.record.kernel_state == "starting" and self.record.connection_file is None:
            # Nothing ever ran in it. What waits for it gets another one.
            self._tell(EventType.KERNEL_STATUS, state="none", reason="the broker ended while it started it")
            return
        reason = wanted or f"the kernel died ({exit_reason(input.exit_status)})"
        self._kernel_is_gone(input.exit_status, reason, killed=wanted is not None)
        self._go_on()

    def _go_on(self) -> None:
        """Do what the end of the kernel was wanted for."""
        again, self._start_again = self._start_again, False
        if self._closing and not self.closed:
            self._tell(EventType.SESSION_CLOSED)
        elif again:
            self._start_kernel()

    def _kernel_is_gone(self, exit_status: int | None, reason: str, *, killed: bool = True) -> None:
        for execution in list(self._live.values()):
            state = Run.KILLED if killed else Run.LOST
            error: dict[str, Any] | None = None
            if execution.record.ending.reply is not None:
                state, error = execution.outcome()
            ended = f"it never began: {reason}"
            if execution.record.run.in_kernel:
                ended = reason
                if not self._promised(NOTHING_LOST):
                    missing = f"{reason}; what the kernel had not sent is missing"
                    self._tell(EventType.GAP, execution.record, reason=missing)
            self._finish(execution, state, kernel_state="lost", error=error, reason=ended, exit_status=exit_status)
        if self.record.kernel_state not in ("none", "dead"):
            self._tell(EventType.KERNEL_STATUS, state="dead", reason=reason, exit_status=exit_status)


def exit_reason(exit_status: int | None) -> str:
    """Say in words how a process ended. Negative: minus the number of the signal that killed it."""
    if exit_status is None:
        return "how is not known: it was not a child of this broker"
    if exit_status < 0:
        return f"killed by signal {-exit_status}"
    return f"exit status {exit_status}"
