"""The broker is killed, over and over, while what it runs goes on: everything is there afterwards, once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from broker.client import Client
from broker.steps import JOURNAL, OUTBOX, RUNNER, VARIABLE

from ..running import TOKEN, BrokerProcess
from . import ROUNDS, seeded
from .load import Load
from .zygote import CheapBroker

KILLS = 100
AT_A_STEP = 3
LANES = {"one": 1, "side by side": 3}


async def test_killed_at_random_moments_under_load_nothing_is_lost(
    start_cheap: Callable[..., CheapBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = seeded()
    broker = start_cheap()
    # Where our client looks for it.
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(broker.root / "run"))
    load = Load(broker, tmp_path / "load", rng.randrange(10**6), LANES)
    await load.begin()
    followed: dict[str, list[int]] = {}

    async def follow(execution_id: str) -> None:
        """Read along through all of it, with our own client."""
        async with (
            Client(token=TOKEN, data_dir=broker.data_dir) as client,
            aclosing(client.stream(execution_id, after=0)) as events,
        ):
            followed[execution_id] = [event.seq async for event in events]

    followers = [asyncio.ensure_future(follow(id)) for id in load.executions]
    await asyncio.sleep(0.1)
    before_it_listened = 0
    for _ in range(KILLS * ROUNDS):
        broker.stop(signal.SIGKILL)
        ready = broker.spawn()
        # Some of them do not get so far that they listen; those that do have work to catch up on.
        await asyncio.sleep(rng.random() * 0.25)
        os.set_blocking(ready, False)
        with os.fdopen(ready, "rb", buffering=0) as pipe:
            before_it_listened += not pipe.read()
    broker.stop(signal.SIGKILL)
    broker.start()
    printed = await load.check()
    print(f"{KILLS * ROUNDS + 1} kills ({before_it_listened} before it listened), {printed} lines")
    await asyncio.gather(*followers)
    async with broker.connect() as wire:
        for id, seqs in followed.items():
            assert seqs == [event["seq"] for event in await wire.events(id)]


async def test_killed_at_a_step_under_load_nothing_is_lost(
    start_cheap: Callable[..., CheapBroker], tmp_path: Path
) -> None:
    rng = seeded()
    broker = start_cheap()
    load = Load(broker, tmp_path / "load", rng.randrange(10**6), LANES)
    await load.begin()
    steps = (*JOURNAL, *OUTBOX, *RUNNER) * AT_A_STEP * ROUNDS
    broker.stop(signal.SIGKILL)
    for step in steps:
        import time

        t = time.time()
        await die_at(broker, f"{step}:{rng.randrange(1, 25)}")
        print(step, time.time() - t)
    broker.start()
    print(f"{len(steps)} kills, {await load.check()} lines")


async def die_at(broker: CheapBroker, step: str) -> None:
    """Start the broker, and wait until it has killed itself at a step."""
    ready = broker.spawn(step)
    assert broker.process is not None
    assert await asyncio.to_thread(broker.process.wait) == -signal.SIGKILL
    os.close(ready)


# What the broker does to a kernel is done once


async def test_killed_before_it_sent_what_was_to_be_executed_it_is_executed_once(
    start_cheap: Callable[..., CheapBroker], tmp_path: Path
) -> None:
    broker = start_cheap()
    async with broker.connect() as wire:
        await wire.call("create_session", name="s")
        await wire.call("create_session", name="t")
    for round, step in enumerate(("handled", "begun", "inserted", "written", "acted", "committed", "answered") * ROUNDS):
        broker.stop(signal.SIGKILL)
        count = await first_that_is(broker, step)
        marks = tmp_path / f"marks-{round}"
        code = f"with open({str(marks)!r}, 'a') as file: print('ran', file=file)\nprint('ran')"
        os.close(await listening(broker, f"{step}:{count}"))
        async with broker.connect() as wire:
            cut = asyncio.gather(
                *(wire.execute(code, session=name, wait=None, request_id=f"{round}{name}") for name in "st"),
                return_exceptions=True,
            )
            assert broker.process is not None
            assert await asyncio.to_thread(broker.process.wait) == -signal.SIGKILL
            assert all(isinstance(result, Exception) for result in await cut)
        broker.start()
        async with broker.connect() as wire:
            for name in "st":
                # The client's second attempt: the same request.
                execution = await wire.execute(code, session=name, wait=None, request_id=f"{round}{name}")
                assert (execution["state"], execution["text"]) == ("completed", "ran\n")
                check_sequence(await wire.events(execution["execution_id"]))
        assert marks.read_text() == "ran\n" * 2
