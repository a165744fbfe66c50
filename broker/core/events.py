"""Events: the durable facts about executions and sessions, and the only thing that is ever journalled."""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class EventType(enum.StrEnum):
    """What an event says. The names are those of the wire API."""

    EXECUTION_QUEUED = "execution_queued"
    """``{code, label?, request_id?, origin?}``: always an execution's first event."""
    EXECUTION_STARTED = "execution_started"
    """``{lane, state_was_lost?}``: written before the kernel gets the code, so that it can never run twice."""
    EXECUTION_COUNT = "execution_count"
    """``{execution_count}``: the kernel has begun (its ``execute_input``)."""
    OUTPUT = "output"
    """``{msg_type, content, metadata?, buffers?, content_base64?}``: an IOPub message, as sent."""
    INPUT_REQUEST = "input_request"
    """``{prompt, password}``"""
    INPUT_REPLY = "input_reply"
    """``{value, queued}``, or in place of the value ``password``, ``eof`` or ``interrupted``, which is then true."""
    STDIN_QUEUED = "stdin_queued"
    """``{queued, eof}``: input came before it was asked for. Its text is not here: it may be a password."""
    INTERACTIVE_SESSION_STARTED = "interactive_session_started"
    """``{}``: the first write to an execution's stdin."""
    HANDOVER = "handover"
    """``{reason}``: nobody awaits the execution any more. One of :class:`HandoverReason`."""
    EXECUTION_FINISHED = "execution_finished"
    """``{state, kernel_state, error?, reason?, exit_status?, stdin_unread?}``"""
    HISTORY_CLEARED = "history_cleared"
    """``{}``: the outputs stored for this execution before this event were dropped on request."""
    GAP = "gap"
    """``{reason}``: something may be missing here."""
    KERNEL_STATUS = "kernel_status"
    """``{state, pid?, exit_status?, reason?, ...}``: the session's kernel was started, or is gone."""
    SESSION_CLOSED = "session_closed"
    """``{}``: its kernel is gone; its history stays."""


class HandoverReason(enum.StrEnum):
    """Why a wait ended before its execution did."""

    TIMER = "timer"
    """``wait`` seconds are over."""
    REQUESTED = "requested"
    """``wait`` was 0."""
    INPUT = "input"
    """The code asked for input, and none was queued."""
    CLIENT_GONE = "client_gone"
    """The connection that waited was closed."""


class Event(msgspec.Struct, frozen=True):
    """One fact. The journal gives it its place, ``seq``; ``n`` counts one execution's events from 1.

    ``time`` is in seconds since the epoch. ``lines`` and ``bytes`` measure an output; they are in no record of the
    event, only in its fold.
    """

    type: EventType
    time: float
    session_id: str
    fields: dict[str, Any]
    execution_id: str | None = None
    n: int | None = None
    lines: int = 0
    bytes: int = 0
