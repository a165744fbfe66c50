"""The round trip of ``1+1``."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..kernelspecs import install_ipykernel
from .broker import opened, started
from .figures import MS, Figure, Goal, ratio
from .raw import own_kernel
from .server import server_kernel

CASE = "round trip"
OURS = "jupyter-broker-python"
PAUSE = 0.005
"""Seconds."""

Side = Callable[[], Any]
"""Runs the code once. What it returns may have to be awaited."""


async def run(*, quick: bool) -> list[Figure]:
    """From before the request is written until it is known that the execution is over.

    broker: ``execute`` is sent over the WebSocket, until its answer is decoded (everything in it is on disk by then).
    raw: ``BlockingKernelClient.execute_interactive``, until it returns.
    polled: ``BlockingKernelClient.execute``, until ``execute_reply`` and ``idle`` are decoded (see :mod:`.raw`).
    Jupyter Server: an ``execute_request`` over its WebSocket, until ``execute_reply`` and ``idle`` are decoded.

    Each has a kernel of its own: one of ours, or a stock one. They take turns. Before each there is a pause for what
    the one before has left to do.
    """
    rounds = 60 if quick else 400
    with started() as broker, own_kernel() as raw, own_kernel(OURS) as raw_ours:
        async with opened(broker) as socket, server_kernel() as server:
            install_ipykernel(broker, "stock", "pass")
            await socket.call("create_session", name="ours")
            await socket.call("create_session", name="stock", kernel="stock")
            ours, stock = (partial(socket.call, "execute", code="1+1", session=name) for name in ("ours", "stock"))
            took = await take_turns(
                {
                    "broker, ours": ours,
                    "broker, stock": stock,
                    "raw, ours": lambda: raw_ours.interact("1+1"),
                    "raw, stock": lambda: raw.interact("1+1"),
                    "polled, ours": lambda: raw_ours.execute("1+1"),
                    "polled, stock": lambda: raw.execute("1+1"),
                },
                rounds,
            )
            beside = await take_turns(
                {"broker, ours": ours, "broker, stock": stock, "server, stock": lambda: server.execute("1+1")}, rounds
            )

    def of(over: str, under: str, goal: Goal | None = None) -> Figure:
        of = took if under in took else beside
        return ratio(CASE, f"1+1: {over} / {under}", of[over], of[under], MS, goal)

    return [
        of("broker, ours", "raw, ours", Goal("at most", 1.15)),
        of("broker, stock", "raw, stock", Goal("at most", 1.15)),
        of("broker, ours", "raw, stock", Goal("at most", 1.0)),
        of("broker, ours", "polled, ours"),
        of("broker, stock", "polled, stock"),
        of("broker, ours", "server, stock", Goal("at most", 0.3)),
        of("broker, stock", "server, stock"),
    ]


async def take_turns(sides: dict[str, Side], rounds: int) -> dict[str, list[float]]:
    """The seconds that each took, round by round."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-10, rounds):
        for name, execute in sides.items():
            await asyncio.sleep(PAUSE)
            began = time.perf_counter()
            done = execute()
            if inspect.isawaitable(done):
                await done
            takes = time.perf_counter() - began
            if turn >= 0:  # the first ones warm up
                took[name].append(takes)
    return took
