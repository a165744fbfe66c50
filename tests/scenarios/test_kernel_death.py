"""A kernel that dies by itself: its executions are over, at once and once, and the session goes on with a new one."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ..running import Wire, assert_whole, text_of
from .tools import Gate, detached, kernel_pid, set_marker, started, true

WITHIN = 2.0
"""Seconds in which a death must be on record."""
DEATHS = {
    "SIGKILL": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "signal 9"),
    "segfault": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, "signal 11"),
    "os._exit(3)": ("import os; os._exit(3)", 3, "exit status 3"),
}


def moment(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


async def finish_of(wire: Wire, execution_id: str) -> dict[str, Any]:
    """The one terminal event of an execution, which must be the last of all."""
    events = await wire.events(execution_id)
    assert_whole(events)
    assert [event["type"] for event in events].count("execution_finished") == 1
    assert events[-1]["type"] == "execution_finished"
    return events[-1]


@pytest.mark.parametrize("death", DEATHS)
async def test_a_dying_kernel_ends_its_execution_as_lost_with_the_exit_status_and_all_it_printed(
    wire: Wire, session: str, death: str, tmp_path: Path
) -> None:
    code, status, words = DEATHS[death]
    gate = Gate(tmp_path)
    died = tmp_path / "died"
    await set_marker(wire, session)
    waiting = wire.begin(
        "execute",
        code="for i in range(1000): print('line', i, flush=True)\n"
        f"{gate.wait}open({str(died)!r}, 'w').write(str(__import__('time').time()))\n{code}",
        session=session,
        wait=None,
    )
    running = await started(wire, session)
    await wire.until(running, lambda execution: execution["lines"] == 1000)
    gate.open()
    execution = await waiting
    assert (execution["state"], execution["exit_status"], execution["kernel_state"]) == ("lost", status, "lost")
    assert execution["text"] == "".join(f"line {i}\n" for i in range(1000))
    assert execution["error"] is None
    assert words in execution["hint"]
    assert "new kernel" in execution["hint"]
    finish = await finish_of(wire, running)
    assert (finish["state"], finish["exit_status"], finish["kernel_state"]) == ("lost", status, "lost")
    assert words in finish["reason"]
    assert moment(finish["time"]) - float(died.read_text()) < WITHIN


@pytest.mark.parametrize("death", DEATHS)
async def test_its_very_last_words_are_there_also_those_that_it_had_not_flushed(
    wire: Wire, session: str, death: str
) -> None:
    code, status, _ = DEATHS[death]
    execution = await wire.execute(
        f"print('flushed', flush=True)\nprint('not flushed')\nprint('no line', end='')\n{code}",
        session=session,
        wait=None,
    )
    assert (execution["state"], execution["exit_status"]) == ("lost", status)
    assert execution["text"] == "flushed\nnot flushed\nno line"
    events = await wire.events(execution["execution_id"])
    assert_whole(events)
    assert "gap" not in [event["type"] for event in events]


@pytest.mark.parametrize("death", DEATHS)
async def test_that_a_stock_kernel_may_not_have_sent_its_very_last_words_is_said(
    wire: Wire, stock_session: str, death: str
) -> None:
    code, status, _ = DEATHS[death]
    execution = await wire.execute(f"print('last words', flush=True)\n{code}", session=stock_session, wait=None)
    assert (execution["state"], execution["exit_status"]) == ("lost", status)
    # ZeroMQ sends in a thread of its own, which dies too: flushed is not sent.
    assert execution["text"] in ("last words\n", "")
    *_, gap, finish = await wire.events(execution["execution_id"])
    assert (gap["type"], finish["type"]) == ("gap", "execution_finished")
    assert "what the kernel had not sent is missing" in gap["reason"]


async def test_a_silent_kernel_that_somebody_kills_is_noticed_within_two_seconds(wire: Wire, session: str) -> None:
    running = await detached(wire, session, "print('begun')\nimport time; time.sleep(86400)")
    pid = await kernel_pid(wire, session)
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    execution = await wire.done(running)
    assert (execution["state"], execution["exit_status"], execution["text"]) == ("lost", -signal.SIGKILL, "begun\n")
    assert moment((await finish_of(wire, running))["time"]) - killed < WITHIN


async def test_the_next_execute_runs_in_a_new_kernel_and_says_once_that_the_state_is_gone(
    wire: Wire, session: str
) -> None:
    await set_marker(wire, session)
    before = await kernel_pid(wire, session)
    await wire.execute("import os; os._exit(3)", session=session, wait=None)
    dead = await wire.call("get_session", session=session)
    assert (dead["kernel_state"], dead["kernel_pid"]) == ("dead", None)
    first = await wire.execute("print('marker' in globals())", session=session, wait=None)
    assert (first["state"], first["text"]) == ("completed", "False\n")
    assert "without the variables of before" in first["hint"]
    assert "exit status 3" in first["hint"]
    (begun,) = [e for e in await wire.events(first["execution_id"]) if e["type"] == "execution_started"]
    assert "exit status 3" in begun["state_was_lost"]
    alive = await wire.call("get_session", session=session)
    assert alive["kernel_state"] == "idle"
    assert alive["kernel_pid"] not in (None, before)
    second = await wire.execute("print('here')", session=session, wait=None)
    assert (second["text"], second["hint"]) == ("here\n", None)


async def test_what_was_queued_for_a_kernel_that_died_is_lost_and_never_runs(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate, ran = Gate(tmp_path), tmp_path / "ran"
    dying = await detached(wire, session, f"print('begun')\n{gate.wait}import os; os._exit(3)")
    code = f"open({str(ran)!r}, 'w')"
    queued = await wire.execute(code, session=session, wait=0, on_busy="queue")
    attached = wire.begin("execute", code=code, session=session, wait=None, on_busy="queue")
    await true(lambda: _queued(wire, session, 2))
    gate.open()
    await wire.done(dying)
    for execution in (await wire.done(queued["execution_id"]), await attached):
        assert (execution["state"], execution["kernel_state"]) == ("lost", "lost")
        assert execution["started_at"] is None
        assert execution["hint"].startswith("It never began: the kernel died")
        finish = await finish_of(wire, execution["execution_id"])
        assert finish["reason"] == "it never began: the kernel died (exit status 3)"
    # A new kernel runs what comes now, and none of the old.
    assert (await wire.execute("print('new')", session=session, wait=None))["text"] == "new\n"
    assert not ran.exists()


async def _queued(wire: Wire, session: str, count: int) -> bool:
    listed = await wire.call("list_executions", session=session, state="queued")
    return len(listed["executions"]) == count


async def test_a_kernel_that_dies_at_its_prompt_closes_it(wire: Wire, session: str) -> None:
    asking = await wire.execute("input('name? ')", session=session, wait=None)
    assert asking["state"] == "awaiting_input"
    os.kill(await kernel_pid(wire, session), signal.SIGKILL)
    execution = await wire.until(asking["execution_id"], lambda execution: execution["finished_at"] is not None)
    assert (execution["state"], execution["input_request"]) == ("lost", None)


async def test_a_kernel_that_dies_idle_is_on_record_and_ends_no_execution(wire: Wire, session: str) -> None:
    await set_marker(wire, session)
    subscription = await wire.call("subscribe", session=session)
    os.kill(await kernel_pid(wire, session), signal.SIGKILL)
    event = await wire.event(lambda e: e["type"] == "kernel_status" and e["state"] == "dead")
    assert (event["exit_status"], event["execution_id"]) == (-signal.SIGKILL, None)
    execution = await wire.execute("print('marker' in globals())", session=session, wait=None)
    assert (execution["text"], execution["state"]) == ("False\n", "completed")
    assert "without the variables of before" in execution["hint"]
    await wire.call("unsubscribe", subscription=subscription["subscription"])


async def test_a_kernel_that_dies_leaves_the_other_sessions_alone(wire: Wire, session: str, tmp_path: Path) -> None:
    other, gate = f"{session}-other", Gate(tmp_path)
    await wire.call("create_session", name=other)
    try:
        running = await detached(wire, other, f"print('begun')\n{gate.wait}print('ended')")
        assert (await wire.execute("import os; os._exit(3)", session=session, wait=None))["state"] == "lost"
        gate.open()
        execution = await wire.done(running)
        assert (execution["state"], text_of(await wire.events(running))) == ("completed", "begun\nended\n")
    finally:
        await wire.call("close_session", session=other)
