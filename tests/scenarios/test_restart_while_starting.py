"""The broker ends while a kernel starts, and starts again: what waited for that kernel runs once, and in one kernel."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ..kernelspecs import install_ipykernel
from ..running import BrokerProcess, assert_whole
from .tools import Gate, true


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_what_waited_for_a_kernel_that_was_starting_runs_once(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path, end: int
) -> None:
    broker, gate, ran = start_broker("--pool-size=0"), Gate(tmp_path), tmp_path / "ran"
    install_ipykernel(broker, "slow", f"exec({gate.wait!r})")
    code = f"open({str(ran)!r}, 'a').write('ran\\n'); print('ran')"
    async with broker.connect() as wire:
        executions = [await wire.execute(code, session=f"s{i}", kernel="slow", wait=0) for i in range(4)]
        await true(lambda: asyncio.sleep(0, len(broker.kernels()) == 4))
        broker.stop(end)
    before = {process.pid for process in broker.kernels()}
    assert len(before) == 4
    broker.start()
    async with broker.connect() as wire:
        again = [await wire.call("get_execution", execution_id=e["execution_id"]) for e in executions]
        assert {execution["state"] for execution in again} == {"queued"}
        gate.open()
        for execution in executions:
            done = await wire.done(execution["execution_id"])
            assert (done["state"], done["text"], done["kernel_state"]) == ("completed", "ran\n", "preserved")
            assert_whole(await wire.events(execution["execution_id"]))
        assert len(broker.kernels()) == 4
    assert ran.read_text() == "ran\n" * 4


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_however_far_its_kernel_was_an_execution_runs_once_and_leaves_no_second_kernel(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path, end: int
) -> None:
    broker, ran = start_broker("--pool-size=0"), tmp_path / "ran"
    taken: list[str] = []
    # Each time the broker ends a little later, in the midst of starting kernels.
    for i in range(4):
        async with broker.connect() as wire:
            for j in range(3):
                name = f"s{i}-{j}"
                code = f"open({str(ran)!r}, 'a').write('{name}\\n')"
                taken.append((await wire.execute(code, session=name, wait=0))["execution_id"])
            await asyncio.sleep(0.06 * i)
            broker.stop(end)
        broker.start()
    async with broker.connect() as wire:
        done = [await wire.done(execution_id) for execution_id in taken]
        sessions = (await wire.call("list_sessions"))["sessions"]
        assert {process.pid for process in broker.kernels()} == {session["kernel_pid"] for session in sessions}
    names = sorted(session["name"] for session in sessions)
    assert len(names) == len(taken)
    assert {execution["state"] for execution in done} == {"completed"}
    assert sorted(ran.read_text().splitlines()) == names, "each ran once"


async def test_a_kernel_that_died_while_no_broker_ran_leaves_no_file_behind(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker("--pool-size=0")
    async with broker.connect() as wire:
        await wire.call("create_session", name="dies")
    broker.stop()
    assert list((broker.root / "run" / "broker").glob("*/*"))
    for process in broker.kernels():
        process.kill()
    await true(lambda: asyncio.sleep(0, not broker.kernels()))
    broker.start()
    async with broker.connect() as wire:
        await wire.call("close_session", session="dies")
    assert list((broker.root / "run" / "broker").glob("*/*")) == []


async def test_a_kernel_whose_kernelspec_is_gone_by_then_is_taken_back_all_the_same(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker, gate = start_broker("--pool-size=0"), Gate(tmp_path)
    install_ipykernel(broker, "fleeting", "pass")
    async with broker.connect() as wire:
        await wire.call("create_session", name="s", kernel="fleeting")
        running = await wire.execute(f"{gate.wait}print('ran')", session="s", wait=0)
        broker.stop()
    shutil.rmtree(broker.root / "data" / "kernels" / "fleeting")
    broker.start()
    async with broker.connect() as wire:
        gate.open()
        execution = await wire.done(running["execution_id"])
        assert (execution["state"], execution["text"]) == ("completed", "ran\n")
        assert (await wire.call("close_session", session="s"))["kernel_state"] == "closed"
    assert broker.kernels() == []
