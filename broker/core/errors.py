"""Errors that a caller can be told, each with the stable type that the wire API gives it.

* :class:`BrokerError`
    * :class:`UnknownExecution`
    * :class:`UnknownSession`
    * :class:`UnknownKernelspec`
    * :class:`KernelStartFailed`
    * :class:`SessionBusy`
    * :class:`NotWaiting`
    * :class:`StdinClosed`
    * :class:`WorkingDirectoryMissing`
    * :class:`IdempotencyConflict`
    * :class:`LimitReached`
    * :class:`Unauthorized`
    * :class:`InvalidParams`

A message says what was wrong and what to do. What a piece of user code raises is never one of these.
"""

from __future__ import annotations

from typing import Any, ClassVar


class BrokerError(Exception):
    """A request that cannot be carried out. Nothing was changed by it."""

    type: ClassVar[str]
    code: ClassVar[int]
    """The JSON-RPC error code; ours go from -32000 down (JSON-RPC 2.0, section 5.1)."""

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class UnknownExecution(BrokerError):
    type, code = "unknown_execution", -32000


class UnknownSession(BrokerError):
    type, code = "unknown_session", -32001


class UnknownKernelspec(BrokerError):
    type, code = "unknown_kernelspec", -32002


class KernelStartFailed(BrokerError):
    type, code = "kernel_start_failed", -32003


class SessionBusy(BrokerError):
    type, code = "session_busy", -32004


class NotWaiting(BrokerError):
    """Input for an execution that can never read it: it is over."""

    type, code = "not_waiting", -32005


class StdinClosed(BrokerError):
    """Input after the end of input was sent."""

    type, code = "stdin_closed", -32006


class WorkingDirectoryMissing(BrokerError):
    type, code = "working_directory_missing", -32007


class IdempotencyConflict(BrokerError):
    type, code = "idempotency_conflict", -32008


class LimitReached(BrokerError):
    type, code = "limit_reached", -32009


class Unauthorized(BrokerError):
    type, code = "unauthorized", -32010


class InvalidParams(BrokerError):
    """Parameters that are well typed and still make no sense (JSON-RPC 2.0's own code)."""

    type, code = "invalid_params", -32602
