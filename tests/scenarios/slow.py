"""A client that stops reading: what it has subscribed to piles up before its socket, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import websockets

from ..running import PATIENCE, TOKEN, BrokerProcess


class SlowReader:
    """Reads nothing but when it is told to."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self._connection = connection

    async def call(self, method: str, **params: Any) -> Any:
        """Call, and read up to the result."""
        await self._connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        while "result" not in (message := await self.read()):
            pass
        return message["result"]

    async def read(self) -> dict[str, Any]:
        """Read the next message."""
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await self._connection.recv())
        return message


@contextlib.asynccontextmanager
async def slow_reader(broker: BrokerProcess) -> AsyncIterator[SlowReader]:
    """Connect one. Little fits into its own buffers: a few kilobytes in the socket, one message above it."""
    address = urlsplit(broker.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.connect((address.hostname, address.port))
    sock.setblocking(False)
    async with websockets.connect(
        broker.url.replace("http", "ws", 1) + "api/broker/v1/ws",
        sock=sock,
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
        subprotocols=[websockets.Subprotocol("broker.v1")],
        compression=None,
        max_size=None,
        max_queue=1,
        ping_interval=None,
        close_timeout=0.1,
    ) as connection:
        yield SlowReader(connection)
