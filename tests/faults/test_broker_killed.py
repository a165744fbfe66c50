"""The broker is killed, over and over, while what it runs goes on: everything is there afterwards, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import websockets

from broker.client import Client
from broker.steps import JOURNAL, OUTBOX, RUNNER

from ..running import TOKEN, Wire, text_of
from ..scenarios.tools import true
from . import ROUNDS, seeded
from .load import Load
from .reader import check_sequence
from .zygote import CheapBroker

KILLS = 80
AT_A_STEP = 2
"""How often at each step."""
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
    followed: dict[str, list[int]] = {id: [] for id in load.executions}

    async def follow(execution_id: str) -> None:
        """Read along through all of it, with our own client."""
        async with (
            Client(token=TOKEN, data_dir=broker.data_dir) as client,
            aclosing(client.stream(execution_id, after=0)) as events,
        ):
            async for event in events:
                followed[execution_id].append(event.seq)

    followers = [asyncio.ensure_future(follow(id)) for id in load.executions]
    await true(lambda: all(followed.values()))
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
    await load.begin(pause=0.1)
    steps = (*JOURNAL, *OUTBOX, *RUNNER) * AT_A_STEP * ROUNDS
    broker.stop(signal.SIGKILL)
    for step in steps:
        await die_at(broker, f"{step}:{rng.randrange(1, 15)}")
    broker.start()
    print(f"{len(steps)} kills, {await load.check()} lines")


async def die_at(broker: CheapBroker, step: str) -> None:
    """Start the broker, and wait until it has killed itself at a step."""
    ready = broker.spawn(step)
    assert broker.process is not None
    assert await asyncio.to_thread(broker.process.wait) == -signal.SIGKILL
    os.close(ready)


# What the broker is to do to a kernel is done once


async def insisted(broker: CheapBroker, call: Callable[[Wire], Any]) -> Any:
    """What a call returns; made again, of a broker started again, should that die of it."""
    while True:
        try:
            async with broker.connect() as wire:
                return await call(wire)
        except (OSError, websockets.ConnectionClosed, websockets.InvalidHandshake):
            assert broker.stop(0) == -signal.SIGKILL
            broker.start()


def deaths(rng: random.Random, most: int) -> list[str]:
    """Each step, at random counts up to ``most``."""
    return [f"{step}:{rng.randint(1, most)}" for step in (*JOURNAL, *OUTBOX, *RUNNER) for _ in range(ROUNDS)]


def begin_to_die(broker: CheapBroker, step: str) -> None:
    """Start the broker again, to die at a step."""
    broker.stop(signal.SIGKILL)
    with os.fdopen(broker.spawn(step)) as pipe:
        if pipe.readline():
            broker.find_url()


async def test_killed_at_a_step_while_it_is_sent_code_it_runs_that_once(
    start_cheap: Callable[..., CheapBroker], tmp_path: Path
) -> None:
    rng = seeded()
    broker = start_cheap()
    marks = tmp_path / "marks"
    async with broker.connect() as wire:
        await wire.call("create_session", name="s")
    for round, step in enumerate(deaths(rng, 6)):
        begin_to_die(broker, step)
        code = f"print({round}, file=open({str(marks)!r}, 'a'), flush=True)\nprint({step!r})"

        def execute(wire: Wire, code: str = code, id: str = str(round)) -> Any:
            return wire.execute(code, session="s", wait=None, request_id=id)

        execution = await insisted(broker, execute)
        assert (execution["state"], execution["text"]) == ("completed", f"{step}\n")
        check_sequence(await insisted(broker, lambda wire, id=execution["execution_id"]: wire.events(id)))
    assert marks.read_text() == "".join(f"{number}\n" for number in range(round + 1))
    print(f"{broker.deaths} deaths in {round + 1} rounds")


async def test_killed_at_a_step_while_a_prompt_is_answered_it_is_answered_once(
    start_cheap: Callable[..., CheapBroker], tmp_path: Path
) -> None:
    rng = seeded()
    broker = start_cheap()
    marks = tmp_path / "marks"
    async with broker.connect() as wire:
        await wire.call("create_session", name="s")
    for round, step in enumerate(deaths(rng, 12)):
        begin_to_die(broker, step)
        code = f"print(input('first '), input('second '), file=open({str(marks)!r}, 'a'), flush=True)"

        def execute(wire: Wire, code: str = code, id: str = str(round)) -> Any:
            return wire.execute(code, session="s", wait=0, request_id=id)

        id = (await insisted(broker, execute))["execution_id"]

        async def answer(wire: Wire, id: str = id, round: int = round) -> str:
            """Answer what is asked, if anything is; the state after that."""
            execution = await wire.until(id, lambda e: e["state"] not in ("queued", "running"))
            if execution["state"] == "awaiting_input":
                asked = execution["input_request"]["prompt"]
                await wire.call("send_stdin", execution_id=id, data=f"{asked}{round}")
            return str(execution["state"])

        while await insisted(broker, answer) == "awaiting_input":
            pass
        events = await insisted(broker, lambda wire, id=id: wire.events(id))
        check_sequence(events)
        assert text_of(events) == ""
    assert marks.read_text() == "".join(f"first {number} second {number}\n" for number in range(round + 1))
    print(f"{broker.deaths} deaths in {round + 1} rounds")
