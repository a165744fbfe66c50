"""The ladder: interrupt, see, then kill. It ends whatever runs, and says truly what is left of the kernel's state."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..running import Wire, assert_whole, text_of
from .tools import Gate, detached, gone, kernel_pid, marker_survives, printed, set_marker, stop_all, true

SLEEP = "sleep 86400"
"""A process of the shell that is there until somebody ends it."""


@pytest.fixture
async def session(wire: Wire) -> AsyncIterator[str]:
    """One session for this whole module, with a variable set, and nothing running in it before or after."""
    await set_marker(wire, "stopping")
    yield "stopping"
    await stop_all(wire, "stopping")


async def stop(wire: Wire, method: str, execution_id: str) -> dict[str, Any]:
    """Interrupt or kill, and return the execution that the reply has."""
    result = await wire.call(method, execution_id=execution_id)
    execution: dict[str, Any] = result if method == "interrupt" else result["killed"][0]
    assert execution["execution_id"] == execution_id
    return execution


async def assert_kernel_state_is_true(wire: Wire, session: str, execution: dict[str, Any], claimed: str) -> None:
    """The reply claims this, and the variable that was set before agrees."""
    assert execution["kernel_state"] == claimed
    assert await marker_survives(wire, session) is (claimed == "preserved")
    events = await wire.events(execution["execution_id"])
    assert_whole(events)
    assert (events[-1]["type"], events[-1]["kernel_state"]) == ("execution_finished", claimed)


# What an interrupt ends

INTERRUPTIBLE = {
    "busy loop": "while True: pass",
    "time.sleep": "import time; time.sleep(86400)",
    "subprocess": f"import subprocess; subprocess.run({SLEEP.split()!r})",
    "lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "await": "import asyncio; await asyncio.sleep(86400)",
    "input": "input('? ')",
}


@pytest.mark.parametrize("method", ["interrupt", "kill"])
@pytest.mark.parametrize("code", INTERRUPTIBLE.values(), ids=INTERRUPTIBLE)
async def test_an_interrupt_is_enough_and_preserves_the_state(wire: Wire, session: str, method: str, code: str) -> None:
    pid = await kernel_pid(wire, session)
    execution_id = await detached(wire, session, f"print('begun')\n{code}")
    if code == INTERRUPTIBLE["input"]:
        await wire.until(execution_id, lambda execution: execution["state"] == "awaiting_input")
    stopped = await stop(wire, method, execution_id)
    assert (stopped["state"], stopped["input_request"]) == ("interrupted", None)
    await assert_kernel_state_is_true(wire, session, stopped, "preserved")
    assert await kernel_pid(wire, session) == pid


async def test_an_interrupt_ends_a_subprocess_and_its_children(wire: Wire, session: str) -> None:
    kernel = psutil.Process(await kernel_pid(wire, session))
    code = f"import subprocess\nprint('begun')\nsubprocess.run(['sh', '-c', '{SLEEP}; true'])"
    execution_id = await detached(wire, session, code)
    await true(lambda: len(kernel.children(recursive=True)) == 2)
    children = kernel.children(recursive=True)
    stopped = await stop(wire, "interrupt", execution_id)
    assert stopped["state"] == "interrupted"
    await true(lambda: all(gone(child.pid) for child in children))
    await assert_kernel_state_is_true(wire, session, stopped, "preserved")


async def test_an_interrupt_leaves_those_that_wait_in_the_queue_alone(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    first = await detached(wire, session, "print('begun')\nwhile True: pass")
    code = f"print('begun')\n{gate.wait}print('ended')"
    second = (await wire.execute(code, session=session, wait=0, on_busy="queue"))["execution_id"]
    assert (await stop(wire, "interrupt", first))["state"] == "interrupted"
    await printed(wire, second, "begun\n")
    gate.open()
    done = await wire.done(second)
    assert (done["state"], done["text"]) == ("completed", "begun\nended\n")


async def test_an_execution_is_over_once_it_was_interrupted_whatever_it_was_doing(wire: Wire, session: str) -> None:
    # The stock kernel, hit at an unlucky moment, says idle and never replies.
    pid = await kernel_pid(wire, session)
    for _ in range(10):
        execution_id = await detached(wire, session, "print('begun')\nwhile True: print(end='')")
        stopped = await stop(wire, "interrupt", execution_id)
        assert (stopped["state"], stopped["kernel_state"]) == ("interrupted", "preserved")
        assert_whole(await wire.events(execution_id))
    assert await marker_survives(wire, session)
    assert await kernel_pid(wire, session) == pid


async def test_code_that_takes_an_interrupt_for_an_answer_ends_as_it_says(wire: Wire, session: str) -> None:
    code = "import time\nprint('begun')\ntry:\n    time.sleep(86400)\nexcept KeyboardInterrupt:\n    print('tidied up')"
    execution_id = await detached(wire, session, code)
    stopped = await stop(wire, "interrupt", execution_id)
    assert (stopped["state"], stopped["text"], stopped["error"]) == ("completed", "begun\ntidied up\n", None)
    await assert_kernel_state_is_true(wire, session, stopped, "preserved")


# What an interrupt does not end


def swallows(gate: Gate) -> str:
    return f"""
import time
while {gate.shut}:
    try:
        time.sleep(0.1)
    except KeyboardInterrupt:
        print('not me', flush=True)
"""


async def test_an_interrupt_that_does_not_work_says_so_and_kills_nothing(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    execution_id = await detached(wire, session, f"print('begun')\n{swallows(gate)}")
    tried = await stop(wire, "interrupt", execution_id)
    assert (tried["state"], tried["finished_at"]) == ("running", None)
    assert tried["text"].count("not me") > 1
    assert "kill ends it" in tried["hint"]
    gate.open()
    done = await wire.done(execution_id)
    assert done["state"] == "completed"
    await assert_kernel_state_is_true(wire, session, done, "preserved")


async def test_a_kill_ends_a_c_call_that_holds_the_gil(wire: Wire, session: str) -> None:
    execution = await wire.execute("sum(range(10**10))", session=session, wait=1)
    assert (execution["state"], execution["detached"]) == ("running", True)
    killed = await stop(wire, "kill", execution["execution_id"])
    assert (killed["state"], killed["exit_status"]) == ("killed", -signal.SIGKILL)
    await assert_kernel_state_is_true(wire, session, killed, "lost")


async def test_a_kill_ends_what_runs_in_a_stopped_kernel_and_the_next_execution_hears_of_it(
    wire: Wire, session: str
) -> None:
    pid = await kernel_pid(wire, session)
    execution_id = await detached(wire, session, "print('begun')\nwhile True: pass")
    os.kill(pid, signal.SIGSTOP)
    killed = await stop(wire, "kill", execution_id)
    assert (killed["state"], killed["text"]) == ("killed", "begun\n")
    assert "variables of that kernel are gone" in killed["hint"]
    assert gone(pid)
    told = await wire.execute("print('new')", session=session, wait=None)
    assert (told["state"], told["text"]) == ("completed", "new\n")
    assert "new kernel, without the variables of before" in told["hint"]
    assert (await wire.execute("1", session=session, wait=None))["hint"] is None
    await assert_kernel_state_is_true(wire, session, killed, "lost")


FAMILY = f"""
import subprocess, sys
# It prints its number and those of a child in its group, of one that has left it, and of one that has no parent.
parent = '''
import subprocess, os, sys
inside = subprocess.Popen({SLEEP.split()!r})
outside = subprocess.Popen({SLEEP.split()!r}, start_new_session=True)
orphan = subprocess.check_output("setsid {SLEEP} > /dev/null 2>&1 & echo $!", shell=True, text=True).strip()
print(os.getpid(), inside.pid, outside.pid, orphan, flush=True)
inside.wait()
'''
process = subprocess.Popen([sys.executable, '-c', parent], stdout=subprocess.PIPE, text=True)
print(process.stdout.readline(), end='')
print('begun')
"""


async def test_a_kill_leaves_no_process_behind_not_even_one_in_a_session_of_its_own(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    execution_id = await detached(wire, session, FAMILY + swallows(Gate(tmp_path)))
    numbers, _ = text_of(await wire.events(execution_id)).split("begun")
    family = [int(pid) for pid in numbers.split()]
    assert len(family) == 4
    assert not any(map(gone, family))
    try:
        killed = await stop(wire, "kill", execution_id)
        assert killed["state"] == "killed"
        await true(lambda: all(map(gone, family)))
    finally:
        for pid in family:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
    await assert_kernel_state_is_true(wire, session, killed, "lost")


# Who else is there


async def test_a_killed_execution_that_was_queued_leaves_the_running_one_alone(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    # An interrupt, however early it is caught, would show.
    code = f"print('begun')\ntry:\n    {gate.wait}except BaseException:\n    print('hit')\nprint('untouched')"
    running = await detached(wire, session, code)
    queued = await wire.execute("print('never')", session=session, wait=0, on_busy="queue")
    killed = await stop(wire, "kill", queued["execution_id"])
    assert (killed["state"], killed["started_at"], killed["text"]) == ("interrupted", None, "")
    assert (await wire.call("get_execution", execution_id=running))["state"] == "running"
    gate.open()
    done = await wire.done(running)
    assert (done["state"], done["text"]) == ("completed", "begun\nuntouched\n")
    await assert_kernel_state_is_true(wire, session, killed, "preserved")


async def test_a_killed_kernel_is_no_concern_of_another_session(wire: Wire, session: str, tmp_path: Path) -> None:
    gate, other = Gate(tmp_path), "stopping-not"
    await set_marker(wire, other)
    try:
        bystander = await detached(wire, other, f"print('begun')\n{gate.wait}")
        execution_id = await detached(wire, session, "print('begun')\nwhile True: pass")
        os.kill(await kernel_pid(wire, session), signal.SIGSTOP)
        assert (await stop(wire, "kill", execution_id))["kernel_state"] == "lost"
        gate.open()
        assert (await wire.done(bystander))["state"] == "completed"
        assert await marker_survives(wire, other)
    finally:
        await wire.call("close_session", session=other)
