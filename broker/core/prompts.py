"""Input: lines that callers give, prompts that executions open, and which line goes to which prompt."""

from __future__ import annotations

from typing import Any

from . import messages as m
from .acting import Acting
from .errors import NotWaiting, StdinClosed
from .events import EventType, HandoverReason
from .execution import Execution, Stop
from .state import Origin, Run


class Prompts(Acting):
    """The one writer of a kernel's stdin."""

    def _send_stdin(self, input: m.SendStdin) -> m.StdinTaken:
        execution = self._living(input.execution_id)
        if execution is None:
            state = self._finished[input.execution_id].run
            raise NotWaiting(f"execution {input.execution_id} is over ({state}) and reads no more input")
        if execution.is_visitor:
            raise NotWaiting(f"execution {input.execution_id} is another client's; what it asks is answered there")
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

    def _prompted(self, input: m.Prompted) -> None:
        execution = self._live.get(input.execution_id)
        record = self.find(input.execution_id)
        if record is None or record.origin is not Origin.API:
            # Another client's, and for that client to answer.
            return
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

    def _ask_again(self, input: m.RollCall) -> None:
        """Ask what a former broker had an answer to, and was ended before it could send it."""
        for id, (prompt, password) in input.prompts.items():
            execution = self._live.get(id)
            if execution and execution.record.run is Run.RUNNING and not execution.answered:
                self._prompted(m.Prompted(id, prompt, password))

    def _answer(self, execution: Execution) -> None:
        assert execution.record.input_request is not None
        execution.answered = True
        value = execution.stdin.take()
        answer: dict[str, Any] = {"value": value}
        if value is None:
            answer = {"eof": True}
        elif execution.record.input_request["password"]:
            answer = {"password": True}
        self._tell(EventType.INPUT_REPLY, execution.record, **answer, queued=len(execution.stdin))
        self._do(m.SendInput(execution.id, value))

    def _prompt_is_gone(self, execution: Execution) -> None:
        """Its prompt, if one is open, was closed by an interrupt: what is sent from now on is for the next one."""
        if execution.record.run is Run.AWAITING_INPUT:
            self._tell(EventType.INPUT_REPLY, execution.record, interrupted=True, queued=len(execution.stdin))
