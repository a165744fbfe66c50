"""The broker's side: a WebSocket that is read directly, with nothing between the benchmark and the wire."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import websockets

from ..running import TOKEN, BrokerProcess


class Socket:
    """One WebSocket to a broker, used by one task: a call reads until its answer comes."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def send(self, method: str, **params: Any) -> int:
        number = next(self._ids)
        await self._socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        return number

    async def receive(self) -> dict[str, Any]:
        """The next message, decoded: an answer or a notification."""
        message: dict[str, Any] = json.loads(await self._socket.recv())
        return message

    async def call(self, method: str, **params: Any) -> Any:
        """Call, and return the result. Notifications that come before it are dropped."""
        number = await self.send(method, **params)
        while (message := await self.receive()).get("id") != number:
            pass
        return result_of(message)


def result_of(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        raise RuntimeError(f"the broker refused: {answer['error']}")
    return answer["result"]


@contextlib.contextmanager
def started(*arguments: str, pool_size: int = 0) -> Iterator[BrokerProcess]:
    """A broker with directories of its own, for one case. Without a pool, it starts nothing unasked."""
    broker = BrokerProcess("--quiet", f"--pool-size={pool_size}", *arguments)
    try:
        yield broker.start()
    finally:
        broker.destroy()


@contextlib.asynccontextmanager
async def opened(broker: BrokerProcess) -> AsyncIterator[Socket]:
    async with websockets.connect(
        broker.url.replace("http", "ws", 1) + "api/broker/v1/ws",
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
        subprotocols=[websockets.Subprotocol("broker.v1")],
        compression=None,
        max_size=None,
        ping_interval=None,
    ) as socket:
        yield Socket(socket)


def resident(pid: int) -> int:
    """A process's resident memory, in bytes."""
    return psutil.Process(pid).memory_info().rss


def cpu(pid: int) -> float:
    """The seconds of processor time that a process has used, all its threads together."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
