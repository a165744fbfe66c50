"""The session: one pure state machine that everything that happens to a kernel goes through.

:meth:`Session.handle` takes one input and returns a :class:`~broker.core.messages.Step`: the events to journal, and
the effects to carry out once they are. It does no I/O, reads no clock and keeps no timer; who drives it asks
:meth:`Session.next_deadline` and comes back with a ``Tick``.

When is an execution over? Its ``execute_reply`` and its ``status: idle`` prove it, both. Where one of them is
missing for :data:`GRACE` seconds, its lane is probed: a request sent after it can only be answered after it, so the
answer proves that what is still missing will never come. The same probe wakes an event loop that an interrupt did
not, and tells, after a restart of the broker, whether an execution ended while nobody listened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from . import contents
from . import messages as m
from .errors import NotWaiting, SessionBusy, StdinClosed, UnknownExecution, UnknownSession
from .events import Event, EventType, HandoverReason
from .execution import Execution, Stop, Stopping
from .lanes import MAIN, Lanes
from .messages import Effect, Input, Now, Step
from .records import ExecutionRecord, SessionRecord, apply
from .state import Attachment, Completion, Run

GRACE = 1.0
"""Seconds without a message after which a missing half of "done" is asked for."""
INTERRUPT_AGAIN = 1.0
"""Seconds between two interrupts of one stop."""
INTERRUPT_PATIENCE = 4.0
"""Seconds in which an interrupt must have worked."""
REMEMBERED = 256
"""Finished executions kept at hand for the output that may still follow."""


class Session:
    """The only writer of a session's records. ``executions`` are those that a former broker left unfinished."""

    def __init__(self, record: SessionRecord, executions: Iterable[tuple[ExecutionRecord, str]] = ()) -> None:
        self.record = record
        self._live: dict[str, Execution] = {}
        self._finished: dict[str, ExecutionRecord] = {}
        self._lanes = Lanes()
        self._stopping_for: str | None = None
        """Why the kernel is being killed, while it is."""
        self._start_again = False
        self._step = Step([], [], None)
        for execution_record, code in executions:
            execution = self._live[execution_record.execution_id] = Execution(execution_record, code)
            execution.stdin.closed = execution_record.stdin_closed
            if execution_record.run is Run.QUEUED:
                self._lanes.enqueue(execution.id)
            else:
                self._lanes.occupy(execution_record.lane or MAIN, execution.id)

    # What the runner asks

    def handle(self, input: Input, now: Now) -> Step:
        """Take one input.

        Raises:
            BrokerError: the caller asked for what cannot be done. Nothing was changed.
        """
        # Times are told to the microsecond. Kept finer, an event would be later than the time that it shows.
        self._now = Now(round(now.wall, 6), now.loop)
        self._step = Step([], [], None)
        result = _HANDLERS[type(input)](self, input)
        self._dispatch()
        return Step(self._step.events, self._step.effects, result)

    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due: seconds on the loop's clock, or None if nothing is."""
        return min((at for execution in self._live.values() for at in execution.deadlines), default=None)

    def find(self, execution_id: str) -> ExecutionRecord | None:
        """The record of an execution that lives, or has ended not long ago."""
        execution = self._live.get(execution_id)
        return execution.record if execution else self._finished.get(execution_id)

    def remember(self, record: ExecutionRecord) -> None:
        """Take in the record of an execution that ended long ago: something more is to be said about it."""
        self._finished[record.execution_id] = record
        while len(self._finished) > REMEMBERED:
            del self._finished[next(iter(self._finished))]

    def place(self, execution_id: str) -> tuple[int, str | None] | None:
        """An execution's place in the queue, from 1, and the one it waits for (None: the kernel's start)."""
        queued = self._lanes.queued
        if execution_id not in queued:
            return None
        index = queued.index(execution_id)
        return index + 1, queued[index - 1] if index else self._lanes.occupant(MAIN)

    @property
    def live(self) -> tuple[str, ...]:
        """The ids of the executions that are not over."""
        return tuple(self._live)

    @property
    def busy(self) -> bool:
        """Whether the kernel runs anything."""
        return any(True for _ in self._lanes.occupants)

    @property
    def stopping(self) -> bool:
        """Whether the kernel is being ended, and its end is still to come."""
        return self._stopping_for is not None

    @property
    def closed(self) -> bool:
        return self.record.closed_at is not None

    # Small tools of the handlers

    def _tell(self, type: EventType, record: ExecutionRecord | None = None, /, **fields: Any) -> None:
        """Say one thing, and let it be so."""
        self._emit(Event(type, self._now.wall, self.record.session_id, fields), record)

    def _emit(self, event: Event, record: ExecutionRecord | None) -> None:
        if record is not None:
            event = msgspec.structs.replace(event, execution_id=record.execution_id, n=record.n + 1)
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

    def _dispatch(self) -> None:
        """Begin what can begin."""
        while self._lanes.head is not None and self.record.closed_at is None and not self._stopping_for:
            if self.record.kernel_state in ("none", "dead"):
                self._start_kernel()
            lane = MAIN if self._lanes.occupant(MAIN) is None else None
            if lane is None or self.record.kernel_state != "ready":
                return
            execution = self._live[self._lanes.head]
            self._lanes.occupy(lane, execution.id)
            lost = {"state_was_lost": self.record.state_was_lost} if self.record.state_was_lost else {}
            self._tell(EventType.EXECUTION_STARTED, execution.record, lane=lane, **lost)
            self._do(m.SendExecute(execution.id, execution.code, lane))

    def _start_kernel(self) -> None:
        self._tell(EventType.KERNEL_STATUS, state="starting")
        self._do(m.StartKernel())

    def _finish(self, execution: Execution, state: Run, *, kernel_state: str, **fields: Any) -> None:
        if unread := len(execution.stdin):
            fields["stdin_unread"] = unread
        fields = {name: value for name, value in fields.items() if value is not None}
        self._tell(EventType.EXECUTION_FINISHED, execution.record, state=state, kernel_state=kernel_state, **fields)
        self._lanes.vacate(execution.id)
        del self._live[execution.id]
        self.remember(execution.record)

    def _hand_over(self, execution: Execution, reason: HandoverReason) -> None:
        execution.handover_at = None
        if execution.record.attachment is Attachment.ATTACHED:
            self._tell(EventType.HANDOVER, execution.record, reason=reason)

    # Inputs from callers

    def _submit(self, input: m.Submit) -> str:
        record = input.execution
        if self.closed:
            raise UnknownSession(f"session {self.record.name!r} was closed; use another, or create it again")
        if record.on_busy == "reject" and not (self._lanes.free and self.record.kernel_state != "starting"):
            running = self._lanes.occupant(MAIN) or "its kernel, which is starting"
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
        self._lanes.enqueue(record.execution_id)
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

    def _send_stdin(self, input: m.SendStdin) -> m.StdinTaken:
        execution = self._living(input.execution_id)
        if execution is None:
            state = self._finished[input.execution_id].run
            raise NotWaiting(f"execution {input.execution_id} is over ({state}) and reads no more input")
        if execution.stdin.closed:
            raise StdinClosed(f"the end of input was already sent to execution {input.execution_id}")
        return self._take_stdin(execution, input.lines, eof=input.eof)

    def _take_stdin(self, execution: Execution, lines: tuple[str, ...], *, eof: bool) -> m.StdinTaken:
        if not execution.record.interactive:
            self._tell(EventType.INTERACTIVE_SESSION_STARTED, execution.record)
        before = len(execution.stdin) + len(lines)
        execution.stdin.put(lines, eof=eof)
        if execution.record.run is Run.AWAITING_INPUT and execution.stdin.has_answer:
            self._answer(execution)
        if len(execution.stdin) or eof:
            self._tell(
                EventType.STDIN_QUEUED,
                execution.record,
                queued=len(execution.stdin),
                eof=execution.stdin.closed,
            )
        return m.StdinTaken(before - len(execution.stdin), len(execution.stdin))

    def _answer(self, execution: Execution) -> None:
        assert execution.record.input_request is not None
        value = execution.stdin.take()
        answer: dict[str, Any] = {"value": value}
        if value is None:
            answer = {"eof": True}
        elif execution.record.input_request["password"]:
            answer = {"password": True}
        self._tell(EventType.INPUT_REPLY, execution.record, **answer, queued=len(execution.stdin))
        self._do(m.SendInput(execution.id, value))

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

    def _prompt_is_gone(self, execution: Execution) -> None:
        """Its prompt, if one is open, was closed by an interrupt: what is sent from now on is for the next one."""
        if execution.record.run is Run.AWAITING_INPUT:
            self._tell(EventType.INPUT_REPLY, execution.record, interrupted=True, queued=len(execution.stdin))

    def _clear_history(self, input: m.ClearHistory) -> None:
        execution = self._living(input.execution_id)
        record = execution.record if execution else self._finished[input.execution_id]
        self._tell(EventType.HISTORY_CLEARED, record)

    def _ensure_kernel(self, input: m.EnsureKernel) -> None:
        if self.record.kernel_state in ("none", "dead") and not self._stopping_for:
            self._start_kernel()

    def _restart(self, input: m.Restart) -> None:
        if self.record.kernel_state in ("none", "dead"):
            self._ensure_kernel(m.EnsureKernel())
            return
        self._start_again = True
        self._kill_kernel("the session was restarted")

    def _close(self, input: m.Close) -> None:
        if self.record.kernel_state in ("none", "dead") and not self._stopping_for:
            self._kernel_is_gone(None, "the session was closed")
            self._tell(EventType.SESSION_CLOSED)
            return
        self._start_again = False
        self._kill_kernel("the session was closed", politely=not self.busy)

    def _kill_kernel(self, reason: str, *, politely: bool = False) -> None:
        if self._stopping_for:
            self._stopping_for = reason
            return
        self._stopping_for = reason
        self._do(m.KillKernel(politely))

    # Inputs from the kernel's driver

    def _launched(self, input: m.KernelLaunched) -> None:
        self._tell(EventType.KERNEL_STATUS, state="starting", **_given(input))

    def _ready(self, input: m.KernelReady) -> None:
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
        if input.adopted:
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

    def _start_failed(self, input: m.KernelStartFailed) -> None:
        self._tell(EventType.KERNEL_STATUS, state="none", reason=input.message)
        error = {"ename": "KernelStartFailed", "evalue": input.message, "traceback": []}
        for execution in list(self._live.values()):
            reason = "it never began: the kernel did not start"
            self._finish(execution, Run.LOST, kernel_state="lost", error=error, reason=reason)

    def _gone(self, input: m.KernelGone) -> None:
        wanted, self._stopping_for = self._stopping_for, None
        if wanted is None and self.record.kernel_state == "starting" and self.record.connection_file is None:
            # Nothing ever ran in it. What waits for it gets another one.
            self._tell(EventType.KERNEL_STATUS, state="none", reason="the broker ended while it started it")
            return
        reason = wanted or f"the kernel died ({exit_reason(input.exit_status)})"
        self._kernel_is_gone(input.exit_status, reason, killed=wanted is not None)
        if wanted == "the session was closed":
            self._tell(EventType.SESSION_CLOSED)
        elif self._start_again:
            self._start_again = False
            self._start_kernel()

    def _kernel_is_gone(self, exit_status: int | None, reason: str, *, killed: bool = True) -> None:
        for execution in list(self._live.values()):
            state = Run.KILLED if killed else Run.LOST
            error = None
            if execution.reply is not None:
                state, error = execution.outcome()
            ended = f"it never began: {reason}"
            if execution.record.run.in_kernel:
                ended = reason
                self._tell(EventType.GAP, execution.record, reason=f"{reason}; what the kernel had not sent is missing")
            self._finish(execution, state, kernel_state="lost", error=error, reason=ended, exit_status=exit_status)
        if self.record.kernel_state not in ("none", "dead"):
            self._tell(EventType.KERNEL_STATUS, state="dead", reason=reason, exit_status=exit_status)

    def _published(self, input: m.Published) -> None:
        record = self.find(input.execution_id) if input.execution_id else None
        execution = self._live.get(input.execution_id) if input.execution_id else None
        if execution and execution.probe_at is not None:
            execution.probe_at = self._now.loop + GRACE
        if input.msg_type == "execute_input":
            if execution:
                count = contents.execution_count(input.content)
                self._tell(EventType.EXECUTION_COUNT, execution.record, execution_count=count)
            return
        if execution and input.msg_type == "error":
            execution.raised = contents.raised(input.content)
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
            execution.reply = input
            self._saw(execution, Completion.REPLY)

    def _saw(self, execution: Execution, sign: Completion) -> None:
        execution.completion |= sign
        execution.probe_at = self._now.loop + GRACE
        if execution.completion is Completion.BOTH:
            self._done(execution)

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
            if sign not in execution.completion
        )
        self._tell(EventType.GAP, execution.record, reason=f"the kernel is done with it, but sent no {missing}")
        self._done(execution)

    def _prompted(self, input: m.Prompted) -> None:
        execution = self._live.get(input.execution_id)
        if execution is None:
            # A background thread of a finished cell asks. Nobody could ever answer it: its execution is over. Where
            # another asks at the same time, a kernel could not tell whose answer this is.
            if not any(each.record.run is Run.AWAITING_INPUT for each in self._live.values()):
                self._do(m.SendInput(input.execution_id, None))
            return
        if not execution.record.run.in_kernel:
            return
        self._prompt_is_gone(execution)
        if execution.stopping and execution.stopping.goal is Stop.INTERRUPT:
            # The code has taken the interrupt, and goes on as it likes: another one would be one too many.
            execution.stopping = None
        self._tell(EventType.INPUT_REQUEST, execution.record, prompt=input.prompt, password=input.password)
        if execution.stdin.has_answer:
            self._answer(execution)
        else:
            self._hand_over(execution, HandoverReason.INPUT)

    # The clock

    def _tick(self, input: m.Tick) -> None:
        for execution in list(self._live.values()):
            if _is_due(execution.handover_at, self._now):
                self._hand_over(execution, HandoverReason.TIMER)
            if _is_due(execution.probe_at, self._now):
                execution.probe_at = self._now.loop + GRACE
                self._do(m.Probe(execution.id, execution.record.lane or MAIN))
            if execution.stopping:
                self._climb(execution, execution.stopping)

    def _climb(self, execution: Execution, stopping: Stopping) -> None:
        """The next rung of the ladder, when it is time for it."""
        if _is_due(stopping.until, self._now):
            execution.stopping = None
            if stopping.goal is Stop.KILL:
                self._kill_kernel("it was killed, for an interrupt did not end it")
        elif _is_due(stopping.again_at, self._now):
            stopping.again_at = self._now.loop + INTERRUPT_AGAIN
            self._send_interrupt(execution)


def _is_due(at: float | None, now: Now) -> bool:
    return at is not None and at <= now.loop


def _given(input: m.KernelLaunched) -> dict[str, Any]:
    return {
        "kernel_id": input.kernel_id,
        "pid": input.pid,
        "pid_created": input.pid_created,
        "connection_file": input.connection_file,
    }


def exit_reason(exit_status: int | None) -> str:
    """Say in words how a process ended. Negative: minus the number of the signal that killed it."""
    if exit_status is None:
        return "how is not known: it was not a child of this broker"
    if exit_status < 0:
        return f"killed by signal {-exit_status}"
    return f"exit status {exit_status}"


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
    m.Tick: Session._tick,
}

__all__ = ["GRACE", "INTERRUPT_AGAIN", "INTERRUPT_PATIENCE", "Session", "exit_reason"]
