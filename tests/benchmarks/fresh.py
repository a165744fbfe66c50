"""The first output of a session that did not exist."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from jupyter_client.manager import start_new_kernel

from ..running import PATIENCE, BrokerProcess
from .broker import Socket, opened, started
from .figures import MS, Figure, Goal, ratio
from .raw import Raw

CASE = "fresh session"
CODE = "print('here', flush=True)"


class Way(NamedTuple):
    """How a broker comes by a kernel."""

    name: str
    arguments: tuple[str, ...]
    pool_size: int
    script: str
    """What is in the command line of a kernel that came so."""
    goal: Goal | None


WAYS = (
    Way("from the pool", (), 1, "template.py", Goal("at most", 0.1)),
    Way("forked", (), 0, "template.py", Goal("at most", 0.35)),
    Way("from nothing", ("--BrokerProvisioner.fork=False",), 0, "launch.py", None),
)


async def run(*, quick: bool) -> list[Figure]:
    """From nothing until the first output is decoded.

    broker: ``execute`` in a session that it has to make for that, until the first ``output`` event. One broker for
    each way to come by a kernel; that of each kernel is checked.
    raw: ``jupyter_client.manager.start_new_kernel()``, of the stock kernel, and ``execute``, until the first
    ``stream`` message.

    The four take turns. A turn begins, and ends, when the pool is full and every kernel that is closed is gone.
    """
    took: dict[str, list[float]] = {way.name: [] for way in WAYS}
    raw_took: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        sides = []
        for way in WAYS:
            broker = stack.enter_context(started(*way.arguments, pool_size=way.pool_size))
            socket = await stack.enter_async_context(opened(broker))
            await socket.call("subscribe")
            sides.append(_Side(way, broker, socket))
        for turn in range(-1, 3 if quick else 9):
            for side in sides:
                takes = await side.take_turn(turn)
                if turn >= 0:  # the first ones start the templates
                    took[side.way.name].append(takes)
            takes = _raw_turn()
            if turn >= 0:
                raw_took.append(takes)
    return [
        ratio(CASE, f"first output: broker, {way.name} / jupyter_client", took[way.name], raw_took, MS, way.goal)
        for way in WAYS
    ]


def _raw_turn() -> float:
    began = time.perf_counter()
    manager, client = start_new_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Raw(client).until_output(CODE)
    took = time.perf_counter() - began
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return took


class _Side:
    """A broker with one way to come by a kernel."""

    def __init__(self, way: Way, broker: BrokerProcess, socket: Socket) -> None:
        self.way, self._broker, self._socket = way, broker, socket
        self._used: set[str] = set()

    async def take_turn(self, turn: int) -> float:
        session = f"fresh-{turn}"
        pooled = await self._at_rest()
        began = time.perf_counter()
        await self._until_output(session)
        took = time.perf_counter() - began

        made = await self._socket.call("get_session", session=session)
        command = psutil.Process(made["kernel_pid"]).cmdline()
        self._used.add(made["kernel_id"])
        await self._socket.call("close_session", session=session)
        await self._at_rest()
        if turn >= 0:
            assert any(part.endswith(self.way.script) for part in command), f"not {self.way.name}: {command}"
            assert (made["kernel_id"] in pooled) == bool(self.way.pool_size), f"not {self.way.name}"
        return took

    async def _until_output(self, session: str) -> None:
        await self._socket.send("execute", session=session, code=CODE)
        while True:
            message = await self._socket.receive()
            if message.get("method") == "event" and message["params"]["event"]["type"] == "output":
                return

    async def _at_rest(self) -> set[str]:
        """Wait until there are the pool's kernels and no others, and each has said hello; their ids."""
        async with asyncio.timeout(PATIENCE):
            while True:
                outboxes = list((self._broker.root / "run" / "broker").glob("*/kernel-*.outbox"))
                ids = {outbox.stem.removeprefix("kernel-") for outbox in outboxes}
                if len(ids - self._used) == len(ids) == self.way.pool_size and all(map(_has_greeted, outboxes)):
                    break
                await asyncio.sleep(0.02)
        await self._socket.call("list_sessions")  # by its answer, that hello has been read
        return ids


def _has_greeted(outbox: Path) -> bool:
    try:
        return b"hello" in (outbox / f"{1:016}").read_bytes()
    except FileNotFoundError:
        return False
