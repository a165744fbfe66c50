"""What is known of an execution and of a session.

It is the fold of their events, and changes by :func:`apply` only; but for what the kernel has said so far of how an
execution ends (:class:`Ending`) and how far its outbox was heard (``heard``). No event says these, so they cannot be
folded again. They are kept since the journal commits the records together with the events: whatever is not in it will
be read from the outbox once more, and what is in it never will.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .events import Event, EventType
from .state import Attachment, Completion, Origin, Run, advance, detach

TITLE_LENGTH = 60


class Reply(msgspec.Struct, frozen=True):
    """What an ``execute_reply`` said."""

    status: str
    error: dict[str, Any] | None = None


class Ending(msgspec.Struct, frozen=True):
    """What the kernel has said of how an execution ended, before all of it was there."""

    completion: Completion = Completion.NONE
    reply: Reply | None = None
    raised: dict[str, Any] | None = None
    """The last ``error`` it published: how it ended, should its reply be missing."""


class ExecutionRecord(msgspec.Struct, kw_only=True):
    """One ``execute_request``. Times are in seconds since the epoch."""

    execution_id: str
    session_id: str
    owner: str
    origin: Origin = Origin.API
    title: str = ""
    """Its label, or the first line of its code."""
    label: str | None = None
    request_id: str | None = None
    request_digest: str | None = None
    on_busy: str = "auto"
    run: Run = Run.QUEUED
    ending: Ending = Ending()
    attachment: Attachment = Attachment.ATTACHED
    lane: str | None = None
    state_was_lost: str | None = None
    """Set where the session had an earlier kernel: why the namespace this one began with was empty."""
    interactive: bool = False
    input_request: dict[str, Any] | None = None
    stdin_queued: int = 0
    stdin_closed: bool = False
    execution_count: int | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    error: dict[str, Any] | None = None
    kernel_state: str | None = None
    reason: str | None = None
    exit_status: int | None = None
    n: int = 0
    lines: int = 0
    bytes: int = 0
    characters: int = 0
    """Of stream output, as far as it is still stored."""
    clears: int = 0
    """How often it cleared its output: what was shown before is on record, but no longer to be seen."""
    last_output_at: float | None = None

    @property
    def detached(self) -> bool:
        return self.attachment is Attachment.DETACHED


class SessionRecord(msgspec.Struct, kw_only=True):
    """A kernel, its name, and where it runs. Times are in seconds since the epoch."""

    session_id: str
    name: str
    owner: str
    kernel: str
    """The name of the kernelspec."""
    working_directory: str
    env: dict[str, str] = {}
    kernel_state: str = "none"
    """``none``, ``starting``, ``ready`` or ``dead``."""
    kernel_id: str | None = None
    kernel_pid: int | None = None
    kernel_pid_created: float | None = None
    """When that process started, so that another one with its number is not taken for it."""
    connection_file: str | None = None
    heard: int = 0
    """The number of the last message in the kernel's outbox that was dealt with."""
    promises: dict[str, bool] = {}
    start_error: str | None = None
    """Why the last attempt to start a kernel failed."""
    state_was_lost: str | None = None
    """Why the namespace is gone, until the next execution has been told."""
    created_at: float
    closed_at: float | None = None


def apply(event: Event, session: SessionRecord, execution: ExecutionRecord | None) -> None:
    """Change the record that ``event`` is about.

    Raises:
        IllegalTransition: the event does not follow from the record's state; nothing was changed.
    """
    if execution is None:
        if fold := _SESSION_FOLDS.get(event.type):
            fold(session, event)
        return
    assert event.n == execution.n + 1, "an execution's events are numbered without a hole"
    if change := _EXECUTION_FOLDS.get(event.type):
        change(execution, event)
    execution.n = event.n
    if "state_was_lost" in event.fields:
        session.state_was_lost = None


def _started(record: ExecutionRecord, event: Event) -> None:
    record.run = advance(record.run, Run.RUNNING)
    record.lane = event.fields["lane"]
    record.started_at = event.time
    record.state_was_lost = event.fields.get("state_was_lost")


def _counted(record: ExecutionRecord, event: Event) -> None:
    record.execution_count = event.fields["execution_count"]


def _printed(record: ExecutionRecord, event: Event) -> None:
    record.lines += event.lines
    record.bytes += event.bytes
    if event.fields["msg_type"] == "stream":
        record.characters += event.bytes
    record.clears += event.fields["msg_type"] == "clear_output"
    record.last_output_at = event.time


def _asked(record: ExecutionRecord, event: Event) -> None:
    record.run = advance(record.run, Run.AWAITING_INPUT)
    record.input_request = event.fields


def _answered(record: ExecutionRecord, event: Event) -> None:
    record.run = advance(record.run, Run.RUNNING)
    record.input_request = None
    record.stdin_queued = event.fields["queued"]


def _input_came_early(record: ExecutionRecord, event: Event) -> None:
    record.stdin_queued = event.fields["queued"]
    record.stdin_closed = event.fields["eof"]


def _became_interactive(record: ExecutionRecord, event: Event) -> None:
    record.interactive = True


def _handed_over(record: ExecutionRecord, event: Event) -> None:
    record.attachment = detach(record.attachment)


def _cleared(record: ExecutionRecord, event: Event) -> None:
    record.characters = 0


def _finished(record: ExecutionRecord, event: Event) -> None:
    fields = event.fields
    record.run = advance(record.run, Run(fields["state"]))
    record.ending = Ending()
    record.finished_at = event.time
    record.input_request = None
    record.stdin_queued = 0
    record.error = fields.get("error")
    record.kernel_state = fields["kernel_state"]
    record.reason = fields.get("reason")
    record.exit_status = fields.get("exit_status")


def _kernel_changed(record: SessionRecord, event: Event) -> None:
    fields = event.fields
    record.kernel_state = fields["state"]
    if fields["state"] == "starting" and "kernel_id" not in fields:
        record.heard = 0
    record.kernel_id = fields.get("kernel_id", record.kernel_id)
    record.kernel_pid = fields.get("pid")
    record.kernel_pid_created = fields.get("pid_created")
    record.connection_file = fields.get("connection_file")
    record.promises = fields.get("promises", {})
    record.start_error = fields.get("reason") if fields["state"] == "none" else None
    if fields["state"] == "dead":
        record.state_was_lost = fields["reason"]


def _closed(record: SessionRecord, event: Event) -> None:
    record.closed_at = event.time


_EXECUTION_FOLDS: dict[EventType, Callable[[ExecutionRecord, Event], None]] = {
    EventType.EXECUTION_STARTED: _started,
    EventType.EXECUTION_COUNT: _counted,
    EventType.OUTPUT: _printed,
    EventType.INPUT_REQUEST: _asked,
    EventType.INPUT_REPLY: _answered,
    EventType.STDIN_QUEUED: _input_came_early,
    EventType.INTERACTIVE_SESSION_STARTED: _became_interactive,
    EventType.HANDOVER: _handed_over,
    EventType.EXECUTION_FINISHED: _finished,
    EventType.HISTORY_CLEARED: _cleared,
}
_SESSION_FOLDS: dict[EventType, Callable[[SessionRecord, Event], None]] = {
    EventType.KERNEL_STATUS: _kernel_changed,
    EventType.SESSION_CLOSED: _closed,
}


def title_of(text: str) -> str:
    """The first line that is not empty, and no more of it than a list has room for."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1] + "…"
