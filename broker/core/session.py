"""The session: one pure state machine that everything that happens to a kernel goes through.

:meth:`Session.handle` takes one input and returns a :class:`~broker.core.messages.Step`: the events to journal, and
the effects to carry out once they are. It does no I/O, reads no clock and keeps no timer; who drives it asks
:meth:`Session.next_deadline` and comes back with a ``Tick``.

The handlers are in modules of their own, one idea each: :mod:`.turns` (which execution begins), :mod:`.life` (of the
kernel), :mod:`.hearing` (what it says), :mod:`.visitors` (cells of its other clients), :mod:`.prompts` (what it asks)
and :mod:`.ladder` (stopping).

A message from a kernel's outbox has a number, and is heard once: what comes a second time, because a broker ended
before it could tell the kernel that it had it, is on record and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import messages as m
from .errors import SessionBusy, UnknownSession
from .events import EventType, HandoverReason
from .execution import Execution
from .hearing import GRACE, Hearing
from .ladder import INTERRUPT_AGAIN, INTERRUPT_PATIENCE, Ladder, is_due
from .lanes import MAIN
from .life import KernelLife, exit_reason
from .messages import Input, Now, Step
from .records import ExecutionRecord, SessionRecord
from .state import Run


class Session(KernelLife, Hearing, Ladder):
    """The only writer of a session's records. ``executions`` are those that a former broker left unfinished."""

    def __init__(self, record: SessionRecord, executions: Iterable[tuple[ExecutionRecord, str]] = ()) -> None:
        super().__init__(record)
        for execution_record, code in executions:
            execution = self._live[execution_record.execution_id] = Execution(execution_record, code)
            execution.stdin.closed = execution_record.stdin_closed
            if execution_record.run is Run.QUEUED:
                self._enqueue(execution)
            else:
                self._lanes.occupy(execution_record.lane or MAIN, execution.id, uninvited=execution.is_visitor)

    def handle(self, input: Input, now: Now) -> Step:
        """Take one input.

        Raises:
            BrokerError: the caller asked for what cannot be done. Nothing was changed.
        """
        # Times are told to the microsecond. Kept finer, an event would be later than the time that it shows.
        self._now = Now(round(now.wall, 6), now.loop)
        self._step = step = Step([], [], [], None)
        if isinstance(input, m.FromKernel) and input.number:
            if input.number <= self.record.heard:
                return step
            self.record.heard = input.number
        result = _HANDLERS[type(input)](self, input)
        self._dispatch()
        return step._replace(result=result)

    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due: seconds on the loop's clock, or None if nothing is."""
        return min((at for execution in self._live.values() for at in execution.deadlines), default=None)

    @property
    def live(self) -> tuple[str, ...]:
        """The ids of the executions that are not over."""
        return tuple(self._live)

    # Inputs from callers

    def _submit(self, input: m.Submit) -> str:
        record = input.execution
        if self.closed:
            raise UnknownSession(f"session {self.record.name!r} was closed; use another, or create it again")
        if record.on_busy == "reject" and not self._begins_at_once(record):
            running = self._obstacle() or self._lanes.head or "its kernel, which is starting"
            raise SessionBusy(
                f"session {self.record.name!r} is busy with {running}; wait for it, use another session, "
                'or send on_busy="queue"',
                running=list(self._lanes.occupants),
                queued=list(self._lanes.queued),
            )
        execution = self._live[record.execution_id] = Execution(record, input.code)
        self._tell(
            EventType.EXECUTION_QUEUED,
            record,
            code=input.code,
            **{name: getattr(record, name) for name in ("label", "request_id") if getattr(record, name)},
        )
        self._enqueue(execution)
        if input.stdin:
            self._take_stdin(execution, input.stdin, eof=False)
        if input.wait is not None and input.wait <= 0:
            self._hand_over(execution, HandoverReason.REQUESTED)
        elif input.wait is not None:
            execution.handover_at = self._now.loop + input.wait
        return record.execution_id

    def _waiter_gone(self, input: m.WaiterGone) -> None:
        if execution := self._living(input.execution_id):
            self._hand_over(execution, HandoverReason.CLIENT_GONE)

    def _clear_history(self, input: m.ClearHistory) -> None:
        execution = self._living(input.execution_id)
        record = execution.record if execution else self._finished[input.execution_id]
        self._tell(EventType.HISTORY_CLEARED, record)

    def _restored(self, input: m.Restored) -> None:
        for execution in self._live.values():
            record = execution.record
            if record.stdin_queued:
                self._tell(
                    EventType.GAP,
                    record,
                    reason=f"{record.stdin_queued} lines of input were queued in the memory of a broker that "
                    "stopped; send them again",
                )
                self._tell(EventType.STDIN_QUEUED, record, queued=0, eof=record.stdin_closed)
            self._hand_over(execution, HandoverReason.CLIENT_GONE)

    def _roll_called(self, input: m.RollCall) -> None:
        self._send_what_never_came(input)
        self._ask_again(input)

    # The clock

    def _tick(self, input: m.Tick) -> None:
        for execution in list(self._live.values()):
            if is_due(execution.handover_at, self._now):
                self._hand_over(execution, HandoverReason.TIMER)
            if is_due(execution.probe_at, self._now):
                execution.probe_at = self._now.loop + GRACE
                self._do(m.Probe(execution.id, execution.record.lane or MAIN))
            if execution.stopping:
                self._climb(execution, execution.stopping)


_HANDLERS: dict[type, Callable[[Session, Any], Any]] = {
    m.Submit: Session._submit,
    m.WaiterGone: Session._waiter_gone,
    m.SendStdin: Session._send_stdin,
    m.Interrupt: Session._interrupt,
    m.Kill: Session._kill,
    m.ClearHistory: Session._clear_history,
    m.Restored: Session._restored,
    m.EnsureKernel: Session._ensure_kernel,
    m.Restart: Session._restart,
    m.Close: Session._close,
    m.KernelLaunched: Session._launched,
    m.KernelReady: Session._ready,
    m.KernelStartFailed: Session._start_failed,
    m.KernelGone: Session._gone,
    m.Published: Session._published,
    m.Idle: Session._idle,
    m.Replied: Session._replied,
    m.Prompted: Session._prompted,
    m.ProbeAnswered: Session._probe_answered,
    m.RollCall: Session._roll_called,
    m.Tick: Session._tick,
}

__all__ = ["GRACE", "INTERRUPT_AGAIN", "INTERRUPT_PATIENCE", "Session", "exit_reason"]
