"""What a session is told (inputs) and what it asks for (effects).

Inputs come from three sides: a caller's method, the kernel's driver, and the clock. Effects are carried out by the
runner once the events of the same step are committed, so nothing happens in a kernel that the journal does not
know of.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from .events import Event
from .records import ExecutionRecord


class Now(NamedTuple):
    """The time on both clocks, in seconds: ``wall`` since the epoch dates events, ``loop`` drives deadlines."""

    wall: float
    loop: float


# Inputs from callers


class Submit(msgspec.Struct, frozen=True):
    """Queue an execution. ``wait`` in seconds; None never hands over. The result is the execution's id."""

    execution: ExecutionRecord
    code: str
    wait: float | None
    stdin: tuple[str, ...] = ()


class WaiterGone(msgspec.Struct, frozen=True):
    """The caller that awaited this execution has been cut off."""

    execution_id: str


class SendStdin(msgspec.Struct, frozen=True):
    """Lines for an execution's prompts. The result is :class:`StdinTaken`."""

    execution_id: str
    lines: tuple[str, ...]
    eof: bool = False


class StdinTaken(msgspec.Struct, frozen=True):
    """How many lines went to an open prompt, and how many wait for the next ones."""

    delivered: int
    queued: int


class Interrupt(msgspec.Struct, frozen=True):
    """The first rung of the ladder: interrupt one execution, and no more than that."""

    execution_id: str


class Kill(msgspec.Struct, frozen=True):
    """The whole ladder: interrupt, and if that does not end it, kill its kernel."""

    execution_id: str


class ClearHistory(msgspec.Struct, frozen=True):
    execution_id: str


class Restored(msgspec.Struct, frozen=True):
    """An earlier broker left this session. Nobody awaits its executions, and the input that it held is gone."""


class EnsureKernel(msgspec.Struct, frozen=True):
    """Start the kernel, unless there is one."""


class Restart(msgspec.Struct, frozen=True):
    """Kill the kernel and start another."""


class Close(msgspec.Struct, frozen=True):
    """End the session: its executions, then its kernel."""


# Inputs from the driver. A session has one kernel at a time; the driver never reports on an earlier one.


class KernelLaunched(msgspec.Struct, frozen=True):
    """The process exists. It does not answer yet."""

    kernel_id: str
    pid: int | None
    pid_created: float | None
    connection_file: str


class KernelReady(msgspec.Struct, frozen=True):
    """It answered on every channel. ``adopted``: it is one that an earlier broker left running."""

    promises: dict[str, bool]
    adopted: bool = False


class KernelStartFailed(msgspec.Struct, frozen=True):
    """It never got ready. ``message`` has what it wrote to stderr."""

    message: str


class KernelGone(msgspec.Struct, frozen=True):
    """The process is gone, and all that it had sent was reported before this.

    ``exit_status`` is the exit code, or minus the signal's number, or None where it cannot be known.
    """

    exit_status: int | None


class FromKernel(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the kernel itself said. ``number`` is its place in the kernel's outbox, 0 if it has none."""

    number: int = 0


class Published(FromKernel, frozen=True):
    """An IOPub message for one execution, or for none that this broker knows (``execution_id`` None)."""

    execution_id: str | None
    msg_type: str
    content: bytes
    """The content frame: valid JSON in valid UTF-8."""
    extra: dict[str, Any] = {}
    """More fields for the event: ``metadata``, ``buffers``, ``content_base64``."""


class Idle(FromKernel, frozen=True):
    """``status: idle`` for this execution."""

    execution_id: str


class Replied(FromKernel, frozen=True):
    """``execute_reply`` for this execution."""

    execution_id: str
    status: str
    error: dict[str, Any] | None = None
    execution_count: int | None = None


class Prompted(FromKernel, frozen=True):
    """``input_request`` for this execution; ``request_id`` is its ``msg_id``."""

    execution_id: str
    prompt: str
    password: bool
    request_id: str = ""


class ProbeAnswered(FromKernel, frozen=True):
    """The lane of this execution answered a request that was sent after it. So it is over."""

    execution_id: str


class RollCall(FromKernel, frozen=True):
    """What a kernel that was taken back says of itself, where it promises to lose nothing.

    Which executions ever reached it, and which of them ask for input: the prompt, and whether it is for a password.
    """

    received: frozenset[str]
    prompts: dict[str, tuple[str, bool]] = {}


class Tick(msgspec.Struct, frozen=True):
    """The deadline that :meth:`Session.next_deadline` named has come."""


Input = (
    Submit
    | WaiterGone
    | SendStdin
    | Interrupt
    | Kill
    | ClearHistory
    | Restored
    | EnsureKernel
    | Restart
    | Close
    | KernelLaunched
    | KernelReady
    | KernelStartFailed
    | KernelGone
    | Published
    | Idle
    | Replied
    | Prompted
    | ProbeAnswered
    | RollCall
    | Tick
)


# Effects


class StartKernel(msgspec.Struct, frozen=True):
    """Start a kernel; report :class:`KernelLaunched`, then :class:`KernelReady` or :class:`KernelStartFailed`."""


class KillKernel(msgspec.Struct, frozen=True):
    """Kill the kernel and all its descendants; report :class:`KernelGone`. ``politely``: ask it first."""

    politely: bool = False


class SendExecute(msgspec.Struct, frozen=True):
    execution_id: str
    code: str
    lane: str


class SendInput(msgspec.Struct, frozen=True):
    """Answer the open prompt of this execution; None is the end of input."""

    execution_id: str
    value: str | None


class SendInterrupt(msgspec.Struct, frozen=True):
    execution_id: str
    lane: str


class Probe(msgspec.Struct, frozen=True):
    """Ask the lane something harmless; report :class:`ProbeAnswered`."""

    execution_id: str
    lane: str


Effect = StartKernel | KillKernel | SendExecute | SendInput | SendInterrupt | Probe


class Step(NamedTuple):
    """What one input led to. ``changed`` are the records of executions that it changed, be it without an event.

    They go into the next commit together with the session's, which says how far the kernel's outbox was heard.
    """

    events: list[Event]
    effects: list[Effect]
    changed: list[ExecutionRecord]
    result: Any
