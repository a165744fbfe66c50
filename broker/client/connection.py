"""One WebSocket to a broker, and the calls on it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import socket
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from .. import discovery
from .errors import BrokerError, ConnectionFailed, ConnectionLost, NoBroker, Unauthorized, error_from_wire

log = logging.getLogger(__name__)

SUBPROTOCOL = Subprotocol("broker.v1")
TOKEN_VARIABLE = "JUPYTER_BROKER_TOKEN"
OPEN_TIMEOUT = 30.0
CLOSE_TIMEOUT = 1.0
"""Seconds for a polite end. A broker with much to send reads our farewell late, and needs none."""
PING_EVERY = 20.0
DEAD_AFTER = 60.0
"""Seconds without any acknowledgement after which TCP gives a connection up."""
READ_AHEAD = 64
"""Messages to read before somebody takes them; beyond, TCP makes the broker wait."""
FIRST_DELAY = 0.05
LAST_DELAY = 2.0


class Address(NamedTuple):
    """A broker's base URL, which ends in "/", and its token."""

    url: str
    token: str

    @property
    def websocket_url(self) -> str:
        return "ws" + self.url.removeprefix("http") + "api/broker/v1/ws"


class Target(NamedTuple):
    """Which broker is meant: the one at a URL, or the one of a data directory, wherever that listens now."""

    url: str | None = None
    token: str | None = None
    data_dir: Path | None = None

    def locate(self) -> Address:
        """Find it.

        Raises:
            NoBroker: the data directory has none.
        """
        if self.url is not None:
            token = self.token or os.environ.get(TOKEN_VARIABLE, "")
            return Address(self.url.removesuffix("/") + "/", token)
        data_dir = discovery.resolve_data_dir(self.data_dir)
        info = discovery.read_info(data_dir)
        if info is None:
            raise NoBroker(
                f"no broker is running for {data_dir}; start one with `jupyter broker serve`, or `jupyter broker run`"
            )
        return Address(info.url, self.token or info.token)


class WireError(msgspec.Struct):
    code: int
    message: str
    data: Any = None


class Message(msgspec.Struct):
    """A reply, or a notification. What is in it is decoded by whoever knows its type."""

    id: int | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: WireError | None = None


_message = msgspec.json.Decoder(Message)


class Wire:
    """A WebSocket with JSON-RPC messages. One task at a time may read it."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._last_id = 0
        self._early: deque[Message] = deque()

    @classmethod
    async def open(cls, address: Address) -> Wire:
        """Connect.

        Raises:
            ConnectionFailed: nobody answers there, or it is no broker.
            Unauthorized: the token is wrong.
        """
        try:
            websocket = await connect(
                address.websocket_url,
                subprotocols=[SUBPROTOCOL],
                additional_headers={"Authorization": f"Bearer {address.token}"},
                compression=None,
                max_size=None,
                max_queue=READ_AHEAD,
                open_timeout=OPEN_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=PING_EVERY,
                # The answer to a ping comes after all that is still unread, and a reader may take its time.
                ping_timeout=None,
                proxy=None if _is_loopback(address.url) else True,
            )
        except websockets.InvalidStatus as error:
            raise _refused(address, error) from None
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            raise ConnectionFailed(f"the broker at {address.url} cannot be reached: {error}") from error
        if websocket.subprotocol != SUBPROTOCOL:
            await websocket.close()
            raise ConnectionFailed(f"{address.url} is no broker that speaks {SUBPROTOCOL}")
        _notice_death(websocket)
        return cls(websocket)

    def new_id(self) -> int:
        """An id for a request."""
        self._last_id += 1
        return self._last_id

    async def send(self, id: int, method: str, params: Mapping[str, Any]) -> None:
        """Send a request.

        Raises:
            ConnectionLost: the connection was cut.
        """
        request = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        try:
            await self._websocket.send(msgspec.json.encode(request), text=True)
        except (websockets.ConnectionClosed, OSError) as error:
            raise _lost(error) from error

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ConnectionLost: the connection was cut.
        """
        if self._early:
            return self._early.popleft()
        return await self._read()

    async def request(self, method: str, params: Mapping[str, Any]) -> bytes:
        """Send a request, and read until its reply is there. Other messages are kept for :meth:`receive`.

        Raises:
            BrokerError: the reply is an error, or the connection was cut.
        """
        id = self.new_id()
        await self.send(id, method, params)
        while (message := await self._read()).id != id:
            self._early.append(message)
        return unwrap(message)

    async def close(self) -> None:
        await self._websocket.close()

    async def _read(self) -> Message:
        try:
            return _message.decode(await self._websocket.recv(decode=False))
        except (websockets.ConnectionClosed, OSError) as error:
            raise _lost(error) from error
        except msgspec.DecodeError as error:
            raise ConnectionLost(f"the broker sent what is not JSON-RPC: {error}") from error


class Connection:
    """A wire with a task that reads it, so that many calls can be under way at a time."""

    def __init__(self, wire: Wire, notified: Callable[[str, bytes], None]) -> None:
        self._wire = wire
        self._notified = notified
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._reader = asyncio.create_task(self._read_forever())
        self.lost: ConnectionLost | None = None
        """Why it cannot be used any more."""

    async def call(self, method: str, params: Mapping[str, Any]) -> bytes:
        """Send a request, and wait for its reply: the JSON of its result.

        Raises:
            BrokerError: the reply is an error, or the connection was cut.
        """
        if self.lost:
            raise self.lost
        id = self._wire.new_id()
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[id] = reply
        try:
            await self._wire.send(id, method, params)
            return await reply
        finally:
            del self._pending[id]
            # The reader may have failed it while the request was still being sent: that is known then.
            if reply.done() and not reply.cancelled():
                reply.exception()

    async def close(self) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        self._end(ConnectionLost("the client was closed"))
        await self._wire.close()

    async def wait_lost(self) -> None:
        """Return once the connection is cut."""
        await asyncio.wait([self._reader])

    async def _read_forever(self) -> None:
        try:
            while True:
                self._take(await self._wire.receive())
        except ConnectionLost as error:
            self._end(error)
        except Exception as error:
            log.exception("a message from the broker cannot be handled")
            self._end(ConnectionLost(f"a message from the broker cannot be handled: {error!r}"))

    def _take(self, message: Message) -> None:
        if message.method is not None:
            self._notified(message.method, bytes(message.params))
            return
        future = self._pending.get(message.id) if message.id is not None else None
        if future is None:
            log.debug("a reply to no request of ours: %r", message)
        elif not future.done():
            try:
                future.set_result(unwrap(message))
            except BrokerError as error:
                future.set_exception(error)

    def _end(self, error: ConnectionLost) -> None:
        self.lost = self.lost or error
        for future in self._pending.values():
            if not future.done():
                future.set_exception(error)


class Backoff:
    """How long to wait before the next attempt, and when to give up: after ``patience`` seconds of failures."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """It works."""
        self._failing_since: float | None = None
        self._delay = FIRST_DELAY

    async def pause(self, error: ConnectionFailed) -> None:
        """Wait before the next attempt, or raise ``error`` if it was the last."""
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience:
            raise error
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.5))
        self._delay = min(self._delay * 2, LAST_DELAY)


async def open_patiently(target: Target, backoff: Backoff) -> Wire:
    """Connect to a broker that may be restarting, perhaps at another address.

    Raises:
        ConnectionFailed: it did not come back in time.
        Unauthorized: the token is wrong.
    """
    while True:
        try:
            return await Wire.open(target.locate())
        except ConnectionFailed as error:
            await backoff.pause(error)


def unwrap(message: Message) -> bytes:
    """The JSON of a reply's result.

    Raises:
        BrokerError: the reply is an error.
    """
    if message.error is not None:
        raise error_from_wire(message.error.code, message.error.message, message.error.data)
    return bytes(message.result)


def _lost(error: Exception) -> ConnectionLost:
    return ConnectionLost(f"the connection to the broker was cut: {error}")


def _refused(address: Address, error: websockets.InvalidStatus) -> BrokerError:
    response = error.response
    said = (response.body or b"").decode(errors="replace").strip()[:500]
    if response.status_code in (401, 403):
        return Unauthorized(
            f"the broker at {address.url} refuses this client (HTTP {response.status_code}): "
            f"{said or 'check the token and the address'}"
        )
    return ConnectionFailed(f"{address.url} answered with HTTP {response.status_code}: {said or 'is it a broker?'}")


def _notice_death(websocket: ClientConnection) -> None:
    # Pings go out whether or not they are answered, and bytes that no peer acknowledges end the connection.
    raw = websocket.transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_AFTER * 1000))


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
