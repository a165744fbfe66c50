"""Subscribers in a process of their own: ``python -m tests.benchmarks.readers URL SESSION HOW_MANY``.

Says ``ready`` when all are subscribed; then, when each has had the end of one execution, how many lines they had
together. They look for words in the messages rather than decode them, to leave the machine to the broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import websockets

from ..running import TOKEN


async def main(url: str, session: str, count: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for _ in range(count):
            socket = await stack.enter_async_context(
                websockets.connect(
                    url.replace("http", "ws", 1) + "api/broker/v1/ws",
                    additional_headers={"Authorization": f"Bearer {TOKEN}"},
                    subprotocols=[websockets.Subprotocol("broker.v1")],
                    compression=None,
                    max_size=None,
                    ping_interval=None,
                )
            )
            request = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"session": session}}
            await socket.send(json.dumps(request))
            await socket.recv()
            sockets.append(socket)
        print("ready", flush=True)
        lines = await asyncio.gather(*map(read, sockets))
    print(sum(lines), flush=True)


async def read(socket: websockets.ClientConnection) -> int:
    """Read to the end of an execution; the lines on the way."""
    lines = 0
    while True:
        message = await socket.recv(decode=False)
        if b'"type":"output"' in message:
            lines += message.count(b"\\n")
        if b'"type":"execution_finished"' in message:
            return lines


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
