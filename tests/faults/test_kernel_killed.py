"""A kernel is killed in the middle of printing: all that it has printed is there, and what became of it is said."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ..running import Wire, text_of
from ..scenarios.tools import gone, kernel_pid, true
from . import ROUNDS, seeded
from .load import code
from .reader import check, check_sequence, read
from .workload import SOURCES
from .zygote import CheapBroker

HELD_BY_KERNEL = tuple(source for source in SOURCES if source != "child")
"""What a child process has written dies with the kernel until that has read it: it is in a pipe of the kernel's."""


async def while_the_broker_listens(broker: CheapBroker, rng: random.Random, kill: Callable[[], None]) -> None:
    kill()


async def while_no_broker_is_there(broker: CheapBroker, rng: random.Random, kill: Callable[[], None]) -> None:
    broker.stop(signal.SIGKILL)
    await asyncio.sleep(rng.random() * 0.1)
    kill()
    broker.start()


async def while_the_broker_is_stopped(broker: CheapBroker, rng: random.Random, kill: Callable[[], None]) -> None:
    os.kill(broker.pid, signal.SIGSTOP)
    await asyncio.sleep(rng.random() * 0.1)
    kill()
    await asyncio.sleep(0.05)
    os.kill(broker.pid, signal.SIGCONT)


async def and_then_the_broker(broker: CheapBroker, rng: random.Random, kill: Callable[[], None]) -> None:
    """It dies while it takes in what the kernel has left, at one point of it after the other."""
    kill()
    for _ in range(3):
        await asyncio.sleep(rng.random() * 0.02)
        broker.stop(signal.SIGKILL)
        broker.start()


Moment = Callable[[CheapBroker, random.Random, Callable[[], None]], Awaitable[None]]
MOMENTS: list[Moment] = [
    while_the_broker_listens,
    while_no_broker_is_there,
    while_the_broker_is_stopped,
    and_then_the_broker,
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
async def test_all_that_a_kernel_had_printed_is_there_when_it_is_killed(
    moment: Moment, start_cheap: Callable[..., CheapBroker], tmp_path: Path
) -> None:
    rng = seeded()
    broker = start_cheap()
    for round in range(2 * ROUNDS):
        seeds = [f"{rng.randrange(10**6)}-{round}-{lane}" for lane in range(2)]
        async with broker.connect() as wire:
            ids = [
                (await wire.execute(text, session="s", wait=0, on_busy="concurrent"))["execution_id"]
                for text in (code(seed, tmp_path, HELD_BY_KERNEL, pause=0.005) for seed in seeds)
            ]
            for id in ids:
                await wire.until(id, lambda execution: execution["lines"] > 0)
            pid = await kernel_pid(wire, "s")
        # So far that what it has written fills a segment of its outbox, now and then.
        await asyncio.sleep(rng.random())

        def kill(pid: int = pid) -> None:
            os.kill(pid, signal.SIGKILL)

        await moment(broker, rng, kill)
        await true(lambda pid=pid: gone(pid))
        async with broker.connect() as wire:
            for id, seed in zip(ids, seeds, strict=True):
                execution = await wire.done(id)
                assert (execution["state"], execution["kernel_state"]) == ("lost", "lost")
                assert check(await read(wire, broker.data_dir, id), seed, tmp_path, "lost") > 0


WRITES = {
    "print": "print('last words', end='')",
    "sys.stderr": "import sys; sys.stderr.write('last words')",
    "descriptor 1, flushed": "import os, sys; os.write(1, b'last words'); sys.stdout.flush()",
    "a child, flushed": "import subprocess, sys; subprocess.run(['printf', 'last words']); sys.stdout.flush()",
}


@pytest.mark.parametrize("way", WRITES)
async def test_what_was_written_just_before_a_kernel_killed_itself_is_there(
    way: str, start_cheap: Callable[..., CheapBroker]
) -> None:
    broker = start_cheap()
    async with broker.connect() as wire:
        for _ in range(2 * ROUNDS):
            execution = await wire.execute(f"{WRITES[way]}\nimport os; os.kill(os.getpid(), 9)", wait=None)
            assert execution["state"] == "lost"
            events = await wire.events(execution["execution_id"])
            check_sequence(events, "lost")
            assert text_of(events) == "last words"


async def test_a_kernel_that_is_stopped_for_a_while_goes_on_where_it_was(
    start_cheap: Callable[..., CheapBroker], tmp_path: Path
) -> None:
    broker = start_cheap()
    seed = str(seeded().randrange(10**6))

    async def others(wire: Wire) -> None:
        execution = await wire.execute("print('here')", session="other", wait=None)
        assert execution["text"] == "here\n"

    async with broker.connect() as wire:
        await others(wire)
        id = (await wire.execute(code(seed, tmp_path), session="s", wait=0))["execution_id"]
        await wire.until(id, lambda execution: execution["lines"] > 0)
        pid = await kernel_pid(wire, "s")
        for _ in range(3 * ROUNDS):
            os.kill(pid, signal.SIGSTOP)
            await asyncio.wait_for(others(wire), 10)
            await asyncio.sleep(0.3)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.1)
        (tmp_path / "stop").touch()
        await wire.done(id)
        check(await read(wire, broker.data_dir, id), seed, tmp_path)
