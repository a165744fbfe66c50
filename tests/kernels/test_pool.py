"""The pool: a session's kernel was ready before the session, and is nobody else's, ever."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from ..running import BrokerProcess, Wire
from ..scenarios.tools import gone, true


def waiting(broker: BrokerProcess) -> list[str]:
    """The outboxes of kernels that have said hello. Empty of all else, they are nobody's."""
    return sorted(
        path.stem.removeprefix("kernel-")
        for path in (broker.root / "run" / "broker").glob("*/*.outbox")
        if b"hello" in b"".join(segment.read_bytes() for segment in path.glob("0*"))
    )


async def filled(broker: BrokerProcess, count: int) -> list[str]:
    await true(lambda: asyncio.sleep(0, len(waiting(broker)) == count))
    return waiting(broker)


async def kernel_of(wire: Wire, session: str) -> tuple[str, int]:
    found = await wire.call("get_session", session=session)
    return found["kernel_id"], found["kernel_pid"]


async def test_a_session_gets_a_kernel_that_was_ready_and_nobody_gets_it_again(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker = start_broker("--pool-size=2")
    async with broker.connect() as wire:
        ready = await filled(broker, 2)
        code = "import os, sys\nprint(os.getcwd(), 'kept' in globals())\nkept = 1"
        first = await wire.execute(code, session="first", working_directory=str(tmp_path))
        second = await wire.execute(code, session="second", working_directory="/")
        assert (first["text"], second["text"]) == (f"{tmp_path} False\n", "/ False\n")
        (one, pid), (two, _) = await kernel_of(wire, "first"), await kernel_of(wire, "second")
        assert {one, two} == set(ready)
        # It is filled again with new ones; one that was used ends with its session.
        await filled(broker, 4)
        await wire.call("close_session", session="first")
        assert gone(pid)
        third = await wire.execute(code, session="third")
        assert third["text"].endswith(" False\n")
        assert (await kernel_of(wire, "third"))[0] not in ready


async def test_what_a_fresh_interpreter_must_read_is_started_for_the_session(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker()
    async with broker.connect() as wire:
        (ready,) = await filled(broker, 1)
        await wire.call("create_session", name="s", env={"PYTHONHASHSEED": "0", "MINE": "yes"})
        execution = await wire.execute("import os\nprint(os.environ['MINE'], hash('a'))", session="s")
        assert (await kernel_of(wire, "s"))[0] != ready
        again = await wire.call("create_session", name="t", env={"PYTHONHASHSEED": "0", "MINE": "yes"})
        assert again
        assert (await wire.execute("print(os.environ['MINE'], hash('a'))\nimport os", session="t"))["state"] == "failed"
        other = await wire.execute("import os\nprint(os.environ['MINE'], hash('a'))", session="t")
        assert other["text"] == execution["text"]


async def test_a_kernel_that_died_in_the_pool_is_nobody_s(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker()
    async with broker.connect() as wire:
        (ready,) = await filled(broker, 1)
        (process,) = broker.kernels()
        process.kill()
        await true(lambda: asyncio.sleep(0, gone(process.pid)))
        execution = await wire.execute("print('works')", session="s")
        assert execution["text"] == "works\n"
        assert (await kernel_of(wire, "s"))[0] != ready


async def test_a_broker_that_stops_ends_its_pool_and_one_that_is_killed_leaves_it_to_end_itself(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        broker = start_broker()
        async with broker.connect() as wire:
            await wire.call("create_session", name="kept")
            await filled(broker, 2)
            _, kept = await kernel_of(wire, "kept")
        pids = {process.pid for process in broker.kernels()}
        assert len(pids) == 2
        broker.stop(number)
        (pooled,) = pids - {kept}
        await true(lambda pooled=pooled: asyncio.sleep(0, gone(pooled)))
        assert not gone(kept)
        # Nothing that forks is left, either.
        mine = {"JUPYTER_DATA_DIR": str(broker.root / "data")}
        templates = [
            process.pid
            for process in psutil.process_iter()
            if process.pid != kept and _environment(process).items() >= mine.items()
        ]
        assert templates == []


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except psutil.Error:
        return {}


async def test_modules_are_imported_ahead_as_configured(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--pool-size=0", "--preload=numpy", "--preload=there_is_no_such_module")
    async with broker.connect() as wire:
        execution = await wire.execute(
            "import sys\nprint('numpy' in sys.modules, 'pandas' in sys.modules)", session="s"
        )
        assert execution["text"] == "True False\n"
