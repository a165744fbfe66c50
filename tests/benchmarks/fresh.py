"""The first output of a session that did not exist."""

from __future__ import annotations

import itertools
import subprocess
import time

from jupyter_client.manager import start_new_kernel

from .broker import Socket, opened, started
from .figures import SECONDS, Figure, ratio
from .raw import Raw

CASE = "fresh session"
CODE = "print('here', flush=True)"


async def run(*, quick: bool) -> list[Figure]:
    """From nothing until the first output is decoded.

    broker: ``execute`` in a session that it has to make for that, until the first ``output`` event.
    raw: ``jupyter_client.manager.start_new_kernel()`` and ``execute``, until the first ``stream`` message.
    """
    broker_took: list[float] = []
    raw_took: list[float] = []
    with started() as broker:
        async with opened(broker) as socket:
            await socket.call("subscribe")
            for turn in range(3 if quick else 9):
                began = time.perf_counter()
                await _until_output(socket, f"fresh-{turn}")
                broker_took.append(time.perf_counter() - began)
                await socket.call("close_session", session=f"fresh-{turn}")

                began = time.perf_counter()
                manager, client = start_new_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                Raw(client).until_output(CODE)
                raw_took.append(time.perf_counter() - began)
                client.stop_channels()
                manager.shutdown_kernel(now=True)
    return [ratio(CASE, "until the first output: broker / jupyter_client", broker_took, raw_took, SECONDS)]


async def _until_output(socket: Socket, session: str) -> None:
    await socket.send("execute", session=session, code=CODE)
    for _ in itertools.count():
        message = await socket.receive()
        if message.get("method") == "event" and message["params"]["event"]["type"] == "output":
            return
