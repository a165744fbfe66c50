"""The round trip of ``1+1``."""

from __future__ import annotations

import asyncio
import time

from ..kernelspecs import install_ipykernel
from .broker import opened, started
from .figures import MS, Figure, Goal, ratio
from .raw import own_kernel
from .server import server_kernel

CASE = "round trip"
PAUSE = 0.005
"""Seconds."""


async def run(*, quick: bool) -> list[Figure]:
    """From before the request is written until it is known that the execution is over.

    broker: ``execute`` is sent over the WebSocket, until its answer is decoded (everything in it is on disk by then).
    raw: ``BlockingKernelClient.execute``, until ``execute_reply`` and ``idle`` are decoded.
    Jupyter Server: an ``execute_request`` over its WebSocket, until ``execute_reply`` and ``idle`` are decoded.

    Each has a kernel of its own: the broker one of ours, and a stock one besides; the others a stock one. They take
    turns. Before each there is a pause for what the one before has left to do.
    """
    rounds = 60 if quick else 400
    broker_took: list[float] = []
    on_stock_took: list[float] = []
    raw_took: list[float] = []
    server_took: list[float] = []
    with started() as broker, own_kernel() as raw:
        async with opened(broker) as socket, server_kernel() as server:
            install_ipykernel(broker, "stock", "pass")
            await socket.call("create_session", name="round-trip")
            await socket.call("create_session", name="on-stock", kernel="stock")
            for turn in range(-10, rounds):
                await asyncio.sleep(PAUSE)
                began = time.perf_counter()
                execution = await socket.call("execute", code="1+1", session="round-trip")
                broker_takes = time.perf_counter() - began
                assert execution["state"] == "completed"

                await asyncio.sleep(PAUSE)
                began = time.perf_counter()
                await socket.call("execute", code="1+1", session="on-stock")
                on_stock_takes = time.perf_counter() - began

                await asyncio.sleep(PAUSE)
                began = time.perf_counter()
                raw.execute("1+1")
                raw_takes = time.perf_counter() - began

                await asyncio.sleep(PAUSE)
                began = time.perf_counter()
                await server.execute("1+1")
                server_takes = time.perf_counter() - began
                if turn >= 0:  # the first ones warm up
                    broker_took.append(broker_takes)
                    on_stock_took.append(on_stock_takes)
                    raw_took.append(raw_takes)
                    server_took.append(server_takes)
    return [
        ratio(CASE, "1+1: broker / raw jupyter_client", broker_took, raw_took, MS, Goal("at most", 1.0)),
        ratio(CASE, "1+1 on a stock kernel: broker / raw", on_stock_took, raw_took, MS, Goal("at most", 1.15)),
        ratio(CASE, "1+1: broker / Jupyter Server", broker_took, server_took, MS, Goal("at most", 0.3)),
        ratio(CASE, "1+1: Jupyter Server / raw", server_took, raw_took, MS),
    ]
