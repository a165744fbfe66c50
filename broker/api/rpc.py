"""JSON-RPC 2.0: from bytes to calls, and from results to bytes. See https://www.jsonrpc.org/specification."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import msgspec

from ..core.errors import BrokerError, LimitReached
from .methods import METHODS, Caller, Methods
from .schema import openrpc

log = logging.getLogger(__name__)

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
MAX_MESSAGE = 16 * 2**20
"""The largest message that is carried out, in bytes."""
MAX_TRANSPORT = 64 * 2**20
"""The largest message that is read at all, so as to be refused in words."""


class Request(msgspec.Struct):
    """A request object (section 4). Without an id it is a notification, and never answered."""

    jsonrpc: str
    method: str
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: str | int | float | msgspec.UnsetType | None = msgspec.UNSET


HALF_A_PAIR = (
    "a string has half of a surrogate pair, such as \\ud800 by itself, which is no text (RFC 8259, section 8.2); send "
    "the whole character, or have the code make it"
)
_NULL = msgspec.Raw(b"null")
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises; the last one for what is nested ever so deep."""
_request = msgspec.json.Decoder(Request)
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class RpcError(Exception):
    """An error object (section 5.1)."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class Rpc:
    """Answers messages, whatever they came over."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    async def answer(self, message: bytes, caller: Caller) -> bytes | None:
        """The answer to a message: to a request or a batch of them. None if it has none but notifications."""
        try:
            message.decode()
        except UnicodeDecodeError as error:
            return failure(None, RpcError(PARSE_ERROR, f"the message is not UTF-8 ({error}); send JSON in UTF-8"))
        if not message.lstrip().startswith(b"["):
            return await self._answer_one(message, caller)
        try:
            requests = _raws.decode(message)
        except _NOT_JSON as error:
            return failure(None, RpcError(PARSE_ERROR, f"the message is not JSON: {error}"))
        if not requests:
            return failure(None, RpcError(INVALID_REQUEST, "a batch must have a request in it", type="invalid_request"))
        answers = await asyncio.gather(*(self._answer_one(bytes(request), caller) for request in requests))
        present = [answer for answer in answers if answer is not None]
        return b"[" + b",".join(present) + b"]" if present else None

    async def _answer_one(self, message: bytes, caller: Caller) -> bytes | None:
        try:
            request = _parse(message)
        except RpcError as error:
            return failure(id_of(message), error)
        id = None if isinstance(request.id, msgspec.UnsetType) else request.id
        try:
            if len(message) > MAX_MESSAGE:
                raise LimitReached(
                    f"the message has {len(message):,} bytes, the most is {MAX_MESSAGE:,}; let the code read large "
                    "data from a file"
                )
            result = await self._call(request, caller)
        except RpcError as error:
            answer = failure(id, error)
        except BrokerError as error:
            answer = failure(id, RpcError(error.code, error.message, **error.data, type=error.type))
        except Exception:
            log.exception("%s failed", request.method)
            answer = failure(
                id, RpcError(INTERNAL_ERROR, "the broker failed here; its log says how", type="internal_error")
            )
        else:
            answer = msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result})
        return None if request.id is msgspec.UNSET else answer

    async def _call(self, request: Request, caller: Caller) -> Any:
        if request.method == "rpc.discover":
            return openrpc()
        method = METHODS.get(request.method)
        if method is None:
            raise RpcError(
                METHOD_NOT_FOUND,
                f"there is no method {request.method!r}; there are {', '.join(METHODS)}",
                type="method_not_found",
            )
        raw = b"{}" if isinstance(request.params, msgspec.UnsetType) else bytes(request.params)
        try:
            params = msgspec.json.decode(raw, type=method.params)
        except _NOT_JSON as error:
            known = ", ".join(method.params.__struct_fields__) or "none"
            raise RpcError(
                INVALID_PARAMS, f"{request.method}: {error}. Its parameters, by name: {known}", type="invalid_params"
            ) from error
        result = await method.call(self._methods, caller, params)
        await self._methods.settled()
        return result


def notification(method: str, params: bytes) -> bytes:
    """A notification (section 4.1) with params that are encoded already."""
    return b'{"jsonrpc":"2.0","method":"%s","params":%s}' % (method.encode(), params)


def _parse(message: bytes) -> Request:
    try:
        request = _request.decode(message)
    except msgspec.ValidationError as error:
        raise RpcError(
            INVALID_REQUEST,
            f"not a JSON-RPC 2.0 request: {error}. "
            'Send {"jsonrpc": "2.0", "id": 1, "method": ..., "params": {...}}',
            type="invalid_request",
        ) from error
    except _NOT_JSON as error:
        why = f"the message is not JSON: {error}"
        if _parsed_by_python(message, parse_constant=_refuse_constant) is not None:
            why = HALF_A_PAIR
        elif _parsed_by_python(message) is not None:
            why += "; it has no NaN and no Infinity: send null, or leave it out"
        raise RpcError(PARSE_ERROR, why, type="parse_error") from error
    if request.jsonrpc != "2.0":
        raise RpcError(INVALID_REQUEST, 'jsonrpc must be "2.0"', type="invalid_request")
    return request


def id_of(message: bytes) -> Any:
    """The id of a request that is not carried out; null if it has none (section 5)."""
    try:
        found = msgspec.json.decode(message, type=dict[str, msgspec.Raw]).get("id", _NULL)
        return msgspec.json.decode(found, type=str | int | float | None)
    except _NOT_JSON:
        id = (_parsed_by_python(message) or {}).get("id")
        try:
            return msgspec.json.decode(msgspec.json.encode(id), type=str | int | float | None)
        except (*_NOT_JSON, UnicodeEncodeError, OverflowError):
            return None


def _parsed_by_python(message: bytes, **options: Any) -> dict[str, Any] | None:
    """A request object that only a parser takes which lets halves of surrogate pairs pass, and NaN and Infinity."""
    try:
        found = json.loads(message, **options)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def failure(id: Any, error: RpcError) -> bytes:
    """A response with an error object (section 5)."""
    data: dict[str, Any] = {"type": "parse_error", **error.data}
    return msgspec.json.encode(
        {"jsonrpc": "2.0", "id": id, "error": {"code": error.code, "message": error.message, "data": data}}
    )
