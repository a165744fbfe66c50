"""What a caller is told of an execution or a session, made from its record and its events."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from ..api import types
from ..core.events import EventType
from ..core.lanes import MAX_LANES
from ..core.records import ExecutionRecord, SessionRecord
from ..core.state import Run
from ..core.turns import Waits
from ..journal import Journal, Scope, characters_printed, select
from ..journal_writer import Stored, iso
from ..service import Broker
from .cells import Cell, Limits, join
from .ipynb import notebook
from .rendering import STREAM, Output, Outputs, Rendered, decode, last_clear, render

T = TypeVar("T")
SMALL_OUTPUT, FEW_EVENTS = 256 * 1024, 1000
"""How many bytes of output, in how many events, are read at once. More would hold up the loop, and goes to a thread."""


class _OutputBody(msgspec.Struct):
    msg_type: str
    content: msgspec.Raw


class _AskedBody(msgspec.Struct):
    prompt: str = ""
    value: str = ""


VISIBLE = (EventType.OUTPUT, EventType.INPUT_REQUEST, EventType.INPUT_REPLY)
_asked = msgspec.json.Decoder(_AskedBody)
_output = msgspec.json.Decoder(_OutputBody)


class OutputSource:
    """The outputs of one execution after a seq, read lazily from the journal. See :class:`~.text.Outputs`."""

    def __init__(self, connection: sqlite3.Connection, record: ExecutionRecord, after: int, until: int) -> None:
        self._connection = connection
        self._scope = Scope(execution_id=record.execution_id)
        self._after, self._until = after, until
        if record.clears:
            self._after = max(after, last_clear(self.backward()))
        self._characters = None if self._after else record.characters

    def forward(self) -> Iterator[Output]:
        return self._read(backward=False)

    def backward(self) -> Iterator[Output]:
        return self._read(backward=True)

    def characters(self) -> int:
        if self._characters is None:
            return characters_printed(self._connection, self._scope, self._after, self._until)
        return self._characters

    def _read(self, *, backward: bool) -> Iterator[Output]:
        stored = select(
            self._connection,
            self._scope,
            after=self._after,
            until=self._until,
            types=VISIBLE,
            backward=backward,
        )
        return map(as_output, stored)


class HeldOutputs:
    """The same for few of them: read once."""

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs

    def forward(self) -> Iterator[Output]:
        return iter(self._outputs)

    def backward(self) -> Iterator[Output]:
        return reversed(self._outputs)

    def characters(self) -> int:
        return sum(len(decode(STREAM, o.content).text) for o in self._outputs if o.msg_type == "stream")


def as_output(stored: Stored) -> Output:
    """The event as output. A prompt, and what was typed at it, stand in a terminal where output does."""
    if stored.type != EventType.OUTPUT:
        asked = _asked.decode(stored.body)
        text = asked.prompt if stored.type == EventType.INPUT_REQUEST else f"{asked.value}\n"
        return Output(stored.seq, "stream", msgspec.json.encode({"name": "stdout", "text": text}))
    body = _output.decode(stored.body)
    return Output(stored.seq, body.msg_type, bytes(body.content))


class Replies:
    """Makes replies for one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def _journal(self) -> Journal:
        return self._broker.journal

    async def execution(
        self,
        record: ExecutionRecord,
        *,
        max_output: int = types.DEFAULT_MAX_OUTPUT,
        after: int = 0,
        hint: str | None = None,
    ) -> types.Execution:
        """The execution with its output after a seq."""
        until = self._journal.last_seq(record.execution_id)

        def read(connection: sqlite3.Connection) -> tuple[Rendered, list[dict[str, object]]]:
            source: Outputs = OutputSource(connection, record, after, until)
            if _is_small(record):
                source = HeldOutputs(list(source.forward()))
            return render(source, max_output, partial=after > 0), join(source, Limits(max_output))

        rendered, outputs = await self._read(record, read)
        return types.Execution(
            **msgspec.structs.asdict(self.summary(record)),
            text=rendered.text,
            truncated=_truncated(rendered),
            outputs=outputs,
            error=record.error,
            seq=max(until, after),
            hint=hint or self.hint(record),
        )

    async def progress(self, record: ExecutionRecord, after: int, max_output: int) -> types.Progress:
        """What the execution printed after a seq."""
        until = self._journal.last_seq(record.execution_id)

        def read(connection: sqlite3.Connection) -> Rendered:
            return render(OutputSource(connection, record, after, until), max_output, partial=after > 0)

        rendered = await self._read(record, read)
        summary = self.summary(record)
        return types.Progress(
            execution_id=record.execution_id,
            text=rendered.text,
            truncated=_truncated(rendered),
            seq=max(until, after),
            state=record.run,
            detached=record.detached,
            duration=summary.duration,
            idle_for=summary.idle_for,
            lines=record.lines,
            bytes=record.bytes,
            input_request=summary.input_request,
            hint=self.hint(record),
        )

    async def _read(self, record: ExecutionRecord, read: Callable[[sqlite3.Connection], T]) -> T:
        if _is_small(record):
            return self._journal.here(read)
        return await self._journal.in_thread(read)

    def summary(self, record: ExecutionRecord) -> types.Summary:
        """The execution without its output."""
        now = time.time()
        running = record.run.in_kernel
        place = self._broker.place(record)
        started, finished = record.started_at, record.finished_at
        last = record.last_output_at or started
        return types.Summary(
            execution_id=record.execution_id,
            session_id=record.session_id,
            title=record.title,
            label=record.label,
            origin=record.origin,
            state=record.run,
            detached=record.detached,
            interactive=record.interactive,
            execution_count=record.execution_count,
            created_at=iso(record.created_at),
            started_at=_iso(started),
            finished_at=_iso(finished),
            duration=None if started is None else round(max(0.0, (finished or now) - started), 3),
            idle_for=round(max(0.0, now - last), 3) if running and last else None,
            lines=record.lines,
            bytes=record.bytes,
            input_request=_input_request(record),
            queue=types.Place(position=place[0], behind=place[1]) if place else None,
            kernel_state=record.kernel_state,
            exit_status=record.exit_status,
        )

    def reported(self, record: ExecutionRecord) -> types.ReportedExecution:
        """The execution as reports have it."""
        summary = msgspec.structs.asdict(self.summary(record))
        return types.ReportedExecution(**{name: summary[name] for name in types.ReportedExecution.__struct_fields__})

    async def notebook(self, record: SessionRecord) -> str:
        """The session as a notebook, in JSON."""
        records = await self._journal.executions(record.owner, record.session_id, [])
        codes = {each.execution_id: self._journal.code(each.execution_id) for each in records}
        ends = {each.execution_id: self._journal.last_seq(each.execution_id) for each in records}
        spec = self._broker.kernelspecs().get(record.kernel, {})

        def read(connection: sqlite3.Connection) -> list[list[dict[str, Any]]]:
            cells = []
            for each in records:
                cell = Cell(inline=None)
                for output in OutputSource(connection, each, 0, ends[each.execution_id]).forward():
                    cell.feed(output)
                cells.append(cell.finished())
            return cells

        outputs = await self._journal.in_thread(read)
        cells = [(self.summary(r), codes[r.execution_id], o) for r, o in zip(records, outputs, strict=True)]
        return notebook(self.session(record), spec.get("display_name", record.kernel), cells)

    def session(self, record: SessionRecord) -> types.Session:
        notebooks = self._broker.notebooks
        counts = self._journal.counts(record.session_id)
        state = record.kernel_state
        if record.closed_at is not None:
            state = "closed"
        elif state == "ready":
            state = "busy" if counts.get(Run.RUNNING) or counts.get(Run.AWAITING_INPUT) else "idle"
        return types.Session(
            session_id=record.session_id,
            name=record.name,
            kernel=record.kernel,
            kernel_id=record.kernel_id,
            working_directory=record.working_directory,
            kernel_state=state,
            promises=record.promises,
            created_at=iso(record.created_at),
            closed_at=_iso(record.closed_at),
            executions=counts,
            kernel_pid=record.kernel_pid,
            connection_file=record.connection_file,
            notebook_path=notebooks.path_of(record.session_id) if notebooks else None,
        )

    def hint(self, record: ExecutionRecord) -> str | None:
        """What holds, and what to call next: so that nobody runs the same code again without need."""
        id = record.execution_id
        match record.run:
            case Run.AWAITING_INPUT:
                asked = (record.input_request or {}).get("prompt", "")
                return (
                    f"It asks for input ({asked!r}) and waits. Answer with send_stdin(execution_id={id!r}, data=...), "
                    "then wait for it. Do not run the code again."
                )
            case Run.QUEUED:
                place = self._broker.place(record)
                behind = f"behind execution {place[1]}" if place and place[1] else "until its kernel is ready"
                why = _WHY.get(self._broker.waits(record), "")
                return f"It is queued {behind}{why} and will run by itself. Do not send it again; wait for {id!r}."
            case Run.RUNNING:
                return (
                    f"It runs on; nothing was stopped or lost. Do not run the code again. Call wait({id!r}) for its "
                    f"end, get_progress({id!r}, after=seq) for what it prints next, interrupt({id!r}) to stop it."
                )
            case Run.KILLED | Run.LOST if record.kernel_state == "lost":
                return (
                    f"{_sentence(record.reason)} The variables of that kernel are gone; what is run next in this "
                    "session has a new kernel."
                )
            case Run.LOST:
                return (
                    f"{_sentence(record.reason)} The kernel and its variables are still there; look before running "
                    "it again."
                )
        if record.state_was_lost:
            return f"This ran in a new kernel, without the variables of before: {record.state_was_lost}."
        return None


_WHY: dict[Waits | None, str] = {
    Waits.ONE_AT_A_TIME: " (this kernel cannot run them side by side; another session can)",
    Waits.ALONE: ' (on_busy="queue" has it run alone)',
    Waits.LANE: f" (no more than {MAX_LANES} run in one kernel at once)",
}


def _is_small(record: ExecutionRecord) -> bool:
    return record.bytes <= SMALL_OUTPUT and record.n <= FEW_EVENTS


def _iso(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)


def _sentence(reason: str | None) -> str:
    return f"{reason[0].upper()}{reason[1:]}." if reason else ""


def _input_request(record: ExecutionRecord) -> types.InputRequest | None:
    asked = record.input_request
    return types.InputRequest(prompt=asked["prompt"], password=asked["password"]) if asked else None


def _truncated(rendered: Rendered) -> types.Truncated | None:
    cut = rendered.truncated
    if cut is None:
        return None
    return types.Truncated(omitted_characters=cut.omitted_characters, from_seq=cut.from_seq, to_seq=cut.to_seq)
