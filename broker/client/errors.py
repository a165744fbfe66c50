"""What a call to the broker can raise.

* :class:`BrokerError`
    * :class:`ConnectionFailed`
        * :class:`NoBroker`
        * :class:`ConnectionLost`
    * :class:`Unauthorized`
    * :class:`RequestFailed`
        * :class:`InvalidRequest`
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

What a piece of code raises in its kernel is never one of these: it is a result, ``Execution.error``.
"""

from __future__ import annotations

from typing import Any


class BrokerError(Exception):
    """The base of all errors of the client."""


class ConnectionFailed(BrokerError):
    """The broker cannot be reached."""


class NoBroker(ConnectionFailed):
    """No broker is running for a data directory."""


class ConnectionLost(ConnectionFailed):
    """The connection was cut before the reply came. Whether the request was carried out is not known."""


class Unauthorized(BrokerError):
    """The broker refuses this client: its token, or where it comes from."""


class RequestFailed(BrokerError):
    """The broker cannot carry out a request. Nothing was changed by it.

    ``code`` is the JSON-RPC error code, ``type`` the stable name of the error, ``data`` what else is known.
    """

    def __init__(self, code: int, type: str, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.type = type
        self.message = message
        self.data = data or {}


class InvalidRequest(RequestFailed):
    """No such method, or parameters that do not fit it: codes -32700 and -32602 to -32600."""


class UnknownExecution(RequestFailed):
    """There is no execution of that id, or it is another caller's."""


class UnknownSession(RequestFailed):
    """There is no session of that id or name."""


class UnknownKernelspec(RequestFailed):
    """No kernel of that name is installed."""


class KernelStartFailed(RequestFailed):
    """The kernel ended before it was ready. The message has what it wrote to stderr."""


class SessionBusy(RequestFailed):
    """``on_busy="reject"``, and something runs."""


class NotWaiting(RequestFailed):
    """Input for an execution that is over."""


class StdinClosed(RequestFailed):
    """Input after the end of input."""


class WorkingDirectoryMissing(RequestFailed):
    """The directory is not there, or is no directory."""


class IdempotencyConflict(RequestFailed):
    """The ``request_id`` was used for another request."""


class LimitReached(RequestFailed):
    """One more would be too many. The message says of what."""


_BY_TYPE: dict[str, type[RequestFailed]] = {
    "unknown_execution": UnknownExecution,
    "unknown_session": UnknownSession,
    "unknown_kernelspec": UnknownKernelspec,
    "kernel_start_failed": KernelStartFailed,
    "session_busy": SessionBusy,
    "not_waiting": NotWaiting,
    "stdin_closed": StdinClosed,
    "working_directory_missing": WorkingDirectoryMissing,
    "idempotency_conflict": IdempotencyConflict,
    "limit_reached": LimitReached,
}
_INVALID = frozenset({-32700, -32600, -32601, -32602})


def error_from_wire(code: int, message: str, data: Any = None) -> BrokerError:
    """The exception for an error object of a JSON-RPC reply (JSON-RPC 2.0, section 5.1)."""
    fields = dict(data) if isinstance(data, dict) else {}
    name = fields.pop("type", "")
    if name == "unauthorized":
        return Unauthorized(message)
    kind = _BY_TYPE.get(name) or (InvalidRequest if code in _INVALID else RequestFailed)
    return kind(code, name, message, fields)
