"""Parameters and results of the wire API's methods: what validates requests is also what its schema is made from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..core.events import EventType
from ..core.state import Origin, Run

DEFAULT_MAX_OUTPUT = 24_000

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Seq = Annotated[int, Meta(ge=0, le=2**53, description="A place in the journal. Cursors go on after it.")]
MaxOutput = Annotated[int, Meta(ge=200, le=10_000_000, description="The longest text to return, in characters.")]
ExecutionId = Annotated[str, Meta(min_length=1, max_length=200)]
SessionRef = Annotated[str, Meta(min_length=1, max_length=200, description="A session's id or name.")]

OnBusy = Annotated[
    Literal["auto", "queue", "concurrent", "reject"],
    Meta(
        description="auto: behind what somebody awaits, beside what is detached. queue: alone, when nothing else runs "
        "any more. concurrent: at once, beside all. reject: refused unless auto would begin at once. A kernel that "
        "does not promise `concurrent` runs one at a time, in order."
    ),
]


class Params(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Parameters of a method, by name."""


class NoParams(Params):
    pass


class ExecuteParams(Params):
    code: str
    session: SessionRef = "default"
    kernel: str | None = None
    working_directory: str | None = None
    wait: Seconds | msgspec.UnsetType | None = msgspec.UNSET
    stdin: list[str] = []
    on_busy: OnBusy = "auto"
    request_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    max_output: MaxOutput = DEFAULT_MAX_OUTPUT
    label: Annotated[str, Meta(max_length=200)] | None = None


class WaitParams(Params):
    execution_id: ExecutionId
    wait: Seconds | msgspec.UnsetType | None = msgspec.UNSET
    until: Literal["done", "output"] = "done"
    after: Seq | None = None
    max_output: MaxOutput = DEFAULT_MAX_OUTPUT


class ExecutionParams(Params):
    execution_id: ExecutionId


class ListExecutionsParams(Params):
    session: SessionRef | None = None
    state: Run | None = None


class GetAsyncLogParams(Params):
    execution_id: ExecutionId
    after: Seq = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class GetProgressParams(Params):
    execution_id: ExecutionId
    since: str | None = None
    after: Seq | None = None
    max_output: MaxOutput = DEFAULT_MAX_OUTPUT


class SendStdinParams(Params):
    execution_id: ExecutionId
    data: str | None = None
    eof: bool = False


class KillParams(Params):
    execution_id: ExecutionId | None = None


class ClearHistoryParams(Params):
    execution_id: ExecutionId
    clear_history: bool = True


class CreateSessionParams(Params):
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    kernel: str | None = None
    working_directory: str | None = None
    env: dict[str, str] = {}


class SessionParams(Params):
    session: SessionRef


class SubscribeParams(Params):
    execution_id: ExecutionId | None = None
    session: SessionRef | None = None
    after: Seq | None = None


class UnsubscribeParams(Params):
    subscription: str


class Result(msgspec.Struct, kw_only=True):
    """What a method returns."""


class InputRequest(Result):
    prompt: str
    password: bool


class Truncated(Result):
    """What ``text`` leaves out: so many characters, of the events from one seq to another."""

    omitted_characters: int
    from_seq: int
    to_seq: int


class Place(Result):
    """Where a queued execution stands: 1 is next. ``behind`` is what it waits for, null for its kernel's start.

    What that is depends on ``on_busy``, and on whether the kernel promises ``concurrent``. See the ``hint``.
    """

    position: int
    behind: str | None


class Summary(Result):
    """An execution without its output. Times are ISO 8601, durations seconds.

    ``title`` is its label, or the first line of its code. ``origin`` is ``jupyter`` if another client of the kernel
    runs it, such as a person in JupyterLab.
    """

    execution_id: str
    session_id: str
    title: str
    label: str | None
    origin: Origin
    state: Run
    detached: bool
    interactive: bool
    execution_count: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration: float | None
    """Seconds since it began to run, until now or its end."""
    idle_for: float | None
    """Seconds since its last output, or since it began; null unless it runs."""
    lines: int
    bytes: int
    input_request: InputRequest | None
    queue: Place | None
    kernel_state: str | None
    exit_status: int | None


class Execution(Summary):
    """An execution with its output."""

    text: str
    truncated: Truncated | None
    outputs: list[dict[str, Any]]
    error: dict[str, Any] | None
    seq: int
    hint: str | None


class Progress(Result):
    """What an execution printed after a place or a time, and how it stands."""

    execution_id: str
    text: str
    truncated: Truncated | None
    seq: int
    state: Run
    detached: bool
    duration: float | None
    idle_for: float | None
    lines: int
    bytes: int
    input_request: InputRequest | None
    hint: str | None


class Executions(Result):
    executions: list[Summary]


class LogPage(Result):
    """Events in order. ``eof``: there is nothing more at present; else go on with ``after=seq``."""

    events: list[msgspec.Raw]
    seq: int
    eof: bool


class StdinResult(Result):
    """How many lines an open prompt got, and how many wait for the next."""

    delivered: int
    queued: int


class Killed(Result):
    killed: list[Execution]


class Cleared(Result):
    """How many stored events were dropped, and the seq up to which."""

    cleared: int
    seq: int


class Session(Result):
    session_id: str
    name: str
    kernel: str
    kernel_id: str | None
    working_directory: str
    kernel_state: str
    """``none``, ``starting``, ``idle``, ``busy``, ``dead`` or ``closed``."""
    promises: dict[str, bool]
    created_at: str
    closed_at: str | None
    executions: dict[str, int]
    kernel_pid: int | None
    connection_file: str | None
    notebook_path: str | None
    """Where it is kept as a notebook, in the server's folder or in that of ``--notebooks``; null if it is not."""


class Sessions(Result):
    sessions: list[Session]


class Kernelspec(Result):
    name: str
    display_name: str
    language: str
    default: bool


class Kernelspecs(Result):
    kernelspecs: list[Kernelspec]


class Subscription(Result):
    subscription: str
    seq: int


class Unsubscribed(Result):
    subscription: str


class ReportedExecution(Result):
    execution_id: str
    session_id: str
    title: str
    label: str | None
    started_at: str | None
    duration: float | None
    lines: int
    bytes: int
    detached: bool
    state: Run
    idle_for: float | None
    input_request: InputRequest | None


class Report(Result):
    """What runs now. Each replaces the one before."""

    time: str
    executions: list[ReportedExecution]


class BrokerStatus(Result):
    """Whether what happens can be written down. ``stalled`` says why not, null if it can; ``since``, when that began.

    ``pending`` counts the events that are not on disk yet.
    """

    stalled: str | None
    pending: int
    since: str | None


class Event(Result):
    """One durable fact. Beside these fields an event has those of its type."""

    seq: int
    n: int | None
    execution_id: str | None
    session_id: str
    time: str
    type: EventType
