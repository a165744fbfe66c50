"""What the broker's methods return, and its events.

Every type takes what it knows and passes over the rest: the wire API grows by addition.
"""

from __future__ import annotations

from typing import Any

import msgspec

ENDED = frozenset({"completed", "failed", "interrupted", "killed", "lost"})
"""The states that an execution never leaves."""


class InputRequest(msgspec.Struct, kw_only=True):
    """An open prompt. ``password``: what is typed must not be shown."""

    prompt: str = ""
    password: bool = False


class Truncated(msgspec.Struct, kw_only=True):
    """What a text leaves out; ``get_async_log`` has it, after ``from_seq``."""

    omitted_characters: int
    from_seq: int
    to_seq: int


class RaisedError(msgspec.Struct, kw_only=True):
    """What the code raised, as its kernel told it. The traceback's lines have ANSI colours."""

    ename: str = ""
    evalue: str = ""
    traceback: list[str] = []


class QueuePlace(msgspec.Struct, kw_only=True):
    """Where a queued execution stands: 1 is next. ``behind`` is what it waits for, None for its kernel's start."""

    position: int
    behind: str | None = None


class ExecutionSummary(msgspec.Struct, kw_only=True):
    """An execution without its output. Times are ISO 8601, durations seconds."""

    execution_id: str
    state: str
    session_id: str = ""
    title: str = ""
    """Its label, or the first line of its code."""
    label: str | None = None
    detached: bool = False
    interactive: bool = False
    execution_count: int | None = None
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    duration: float | None = None
    """Since it began to run, until now or its end."""
    idle_for: float | None = None
    """Since its last output, or since it began; None unless it runs."""
    lines: int = 0
    bytes: int = 0
    input_request: InputRequest | None = None
    queue: QueuePlace | None = None
    kernel_state: str | None = None
    exit_status: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over, however it ended."""
        return self.state in ENDED


class Execution(ExecutionSummary, kw_only=True):
    """An execution with its output: ``text`` is what a terminal would show, ``outputs`` are nbformat's."""

    text: str = ""
    truncated: Truncated | None = None
    outputs: list[dict[str, Any]] = []
    error: RaisedError | None = None
    seq: int = 0
    hint: str | None = None


class Progress(msgspec.Struct, kw_only=True):
    """What an execution printed after a place or a time, and how it stands. Go on with ``after=seq``."""

    execution_id: str
    text: str
    seq: int
    state: str
    truncated: Truncated | None = None
    detached: bool = False
    duration: float | None = None
    idle_for: float | None = None
    lines: int = 0
    bytes: int = 0
    input_request: InputRequest | None = None
    hint: str | None = None


class StdinResult(msgspec.Struct, kw_only=True):
    """How many lines an open prompt got, and how many wait for the next ones."""

    delivered: int
    queued: int


class Cleared(msgspec.Struct, kw_only=True):
    """How many stored events were dropped, and the seq up to which."""

    cleared: int
    seq: int


class Session(msgspec.Struct, kw_only=True):
    """One live kernel and its name. ``executions`` counts them by state."""

    session_id: str
    name: str
    kernel: str
    kernel_state: str
    working_directory: str = ""
    kernel_id: str | None = None
    promises: dict[str, bool] = {}
    created_at: str = ""
    closed_at: str | None = None
    executions: dict[str, int] = {}
    kernel_pid: int | None = None
    connection_file: str | None = None
    notebook_path: str | None = None
    """Where the session is kept as a notebook; None if it is not."""

    @property
    def has_kernel(self) -> bool:
        """Whether a kernel's process exists."""
        return self.kernel_state not in ("none", "dead", "closed")


class Kernelspec(msgspec.Struct, kw_only=True):
    """A kernel that can be started, by its name."""

    name: str
    display_name: str = ""
    language: str = ""
    default: bool = False


class Event(msgspec.Struct, frozen=True):
    """One durable fact. ``data`` has the fields of its type; the README lists the types.

    ``seq`` is its place in the journal. ``n`` counts one execution's events from 1; an event about a session has none.
    """

    seq: int
    n: int | None
    execution_id: str | None
    session_id: str
    time: str
    type: str
    data: dict[str, Any]

    @classmethod
    def from_wire(cls, fields: dict[str, Any]) -> Event:
        """Take an event apart. ``fields`` is used up."""
        return cls(
            fields.pop("seq"),
            fields.pop("n", None),
            fields.pop("execution_id", None),
            fields.pop("session_id", ""),
            fields.pop("time", ""),
            fields.pop("type"),
            fields,
        )

    def to_wire(self) -> dict[str, Any]:
        """The event as the broker sent it."""
        head = {name: getattr(self, name) for name in self.__struct_fields__ if name != "data"}
        return head | self.data


class LogPage(msgspec.Struct, kw_only=True):
    """Events in order. ``eof``: there is nothing more at present; else go on with ``after=seq``."""

    events: list[Event]
    seq: int
    eof: bool


class ReportedExecution(msgspec.Struct, kw_only=True):
    """A line of a report. Times are ISO 8601, durations seconds."""

    execution_id: str
    state: str
    session_id: str = ""
    label: str | None = None
    started_at: str | None = None
    duration: float | None = None
    lines: int = 0
    bytes: int = 0
    detached: bool = False
    idle_for: float | None = None
    input_request: InputRequest | None = None


class Report(msgspec.Struct, kw_only=True):
    """What runs at a time. Each replaces the one before."""

    time: str
    executions: list[ReportedExecution]
