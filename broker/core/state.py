"""The three small machines of an execution.

Theory of operation
===================

An execution could be described by one machine with some twenty states ("running, detached, its reply seen but
not its idle, ..."). It is three instead, and none of them looks at another:

*run* is what the code does::

    queued -> running <-> awaiting_input -> completed | failed | interrupted | killed | lost

  It may end straight from ``queued``: an execution that is stopped, or whose kernel is gone, before it began.

*completion* collects the two facts that mean "done" (messaging spec, "Messages on the shell (ROUTER/DEALER)
  channel" and "Kernel status"): the ``execute_reply`` on the shell channel and ``status: idle`` on IOPub. They
  travel over different sockets and come in either order; only both together prove that all output was read.

*attachment* says whether the caller of ``execute`` still awaits it. It goes one way, and it never touches *run*:
  that a caller has stopped waiting is no reason for anything to happen in a kernel.

The transitions are data. :func:`advance` is the only thing that reads them; an illegal transition raises and
changes nothing, since the caller assigns what it returns.
"""

from __future__ import annotations

import enum


class Run(enum.StrEnum):
    """What an execution's code does, or how it ended."""

    QUEUED = "queued"
    RUNNING = "running"
    AWAITING_INPUT = "awaiting_input"
    COMPLETED = "completed"
    FAILED = "failed"
    """The code raised."""
    INTERRUPTED = "interrupted"
    """It was stopped, and the kernel lives."""
    KILLED = "killed"
    """It was stopped together with its kernel."""
    LOST = "lost"
    """The kernel died, or could not be reached, by itself."""

    @property
    def ended(self) -> bool:
        return self in ENDED

    @property
    def in_kernel(self) -> bool:
        """Whether the kernel has it: it is neither waiting in the broker nor over."""
        return self in IN_KERNEL


ENDED = frozenset({Run.COMPLETED, Run.FAILED, Run.INTERRUPTED, Run.KILLED, Run.LOST})
IN_KERNEL = frozenset({Run.RUNNING, Run.AWAITING_INPUT})

RUN_TRANSITIONS: dict[Run, frozenset[Run]] = {
    Run.QUEUED: frozenset({Run.RUNNING, Run.INTERRUPTED, Run.KILLED, Run.LOST}),
    Run.RUNNING: ENDED | {Run.AWAITING_INPUT},
    Run.AWAITING_INPUT: ENDED | {Run.RUNNING},
    **{ended: frozenset() for ended in ENDED},
}


class Completion(enum.Flag):
    """Which of the two signs of "done" the broker has seen."""

    NONE = 0
    REPLY = enum.auto()
    IDLE = enum.auto()
    BOTH = REPLY | IDLE


class Origin(enum.StrEnum):
    """Who asked for an execution."""

    API = "api"
    """A caller of the broker."""
    JUPYTER = "jupyter"
    """Another client of the kernel: a person, in JupyterLab for one."""


class Attachment(enum.StrEnum):
    """Whether the caller of ``execute`` still awaits the execution."""

    ATTACHED = "attached"
    DETACHED = "detached"


ATTACHMENT_TRANSITIONS: dict[Attachment, frozenset[Attachment]] = {
    Attachment.ATTACHED: frozenset({Attachment.DETACHED}),
    Attachment.DETACHED: frozenset(),
}


class IllegalTransition(Exception):
    """A machine was asked to go where its table does not lead. Nothing was changed."""


def advance(run: Run, to: Run) -> Run:
    """Return ``to``, if *run* may go there from ``run``.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    if to not in RUN_TRANSITIONS[run]:
        raise IllegalTransition(f"an execution cannot go from {run} to {to}")
    return to


def detach(attachment: Attachment) -> Attachment:
    """Return ``DETACHED``, if ``attachment`` may go there.

    Raises:
        IllegalTransition: it is detached already.
    """
    if Attachment.DETACHED not in ATTACHMENT_TRANSITIONS[attachment]:
        raise IllegalTransition("a detached execution cannot be detached again")
    return Attachment.DETACHED
