"""Two sessions run side by side; in one session executions queue, in order, and say so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..kernelspecs import install_ipykernel
from ..running import PATIENCE, BrokerProcess, CallFailed, Wire, assert_whole
from .tools import Gate, detached, kernel_pid, started, true


async def test_two_sessions_run_side_by_side(wire: Wire, session: str, tmp_path: Path) -> None:
    other = f"{session}-other"
    await wire.call("create_session", name=other)
    try:
        first, second = Gate(tmp_path), Gate(tmp_path)
        # Each waits for what the other does: one after the other, neither would ever end.
        one = wire.begin("execute", code=f"open({str(first.path)!r}, 'w')\n{second.wait}", session=session, wait=None)
        two = wire.begin("execute", code=f"open({str(second.path)!r}, 'w')\n{first.wait}", session=other, wait=None)
        assert [(await one)["state"], (await two)["state"]] == ["completed", "completed"]
        await wire.execute("mine = 1", session=session)
        assert (await wire.execute("print('mine' in globals())", session=other))["text"] == "False\n"
        assert await kernel_pid(wire, session) != await kernel_pid(wire, other)
    finally:
        await wire.call("close_session", session=other)


async def test_a_session_is_there_from_the_moment_it_is_asked_for(wire: Wire, session: str) -> None:
    name = f"{session}-new"
    try:
        begun = wire.begin("execute", code="1", session=name)
        # Asked again and again, so that one of the questions comes before anything of the session is on disk.
        while (found := await _find(wire, name)) is None:
            pass
        assert found["name"] == name
        assert (await wire.call("get_session", session=found["session_id"]))["session_id"] == found["session_id"]
        assert (await begun)["session_id"] == found["session_id"]
    finally:
        await wire.call("close_session", session=name)


async def test_executions_of_one_session_queue_in_order_and_say_their_place(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, session, f"order = [0]\nprint('begun')\n{gate.wait}")
    queued = [await wire.execute(f"order.append({i})", session=session, wait=0, on_busy="queue") for i in (1, 2, 3)]
    ids = [running, *(execution["execution_id"] for execution in queued)]
    assert [execution["state"] for execution in queued] == ["queued"] * 3
    assert [execution["queue"] for execution in queued] == [
        {"position": place, "behind": ids[place - 1]} for place in (1, 2, 3)
    ]
    assert [ids[place - 1] in execution["hint"] for place, execution in enumerate(queued, 1)] == [True] * 3
    assert [execution["started_at"] for execution in queued] == [None] * 3
    gate.open()
    done = [await wire.done(execution_id) for execution_id in ids]
    assert [execution["state"] for execution in done] == ["completed"] * 4
    for before, after in itertools.pairwise(done):
        assert before["finished_at"] <= after["started_at"]
    assert (await wire.execute("print(order)", session=session))["text"] == "[0, 1, 2, 3]\n"
    for execution_id in ids:
        assert_whole(await wire.events(execution_id))


async def test_one_that_leaves_the_queue_moves_up_those_behind_it(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, session, f"print('begun')\n{gate.wait}")
    first, second = [await wire.execute("1", session=session, wait=0, on_busy="queue") for _ in range(2)]
    await wire.call("kill", execution_id=first["execution_id"])
    moved = await wire.call("get_execution", execution_id=second["execution_id"])
    assert moved["queue"] == {"position": 1, "behind": running}
    gate.open()
    assert (await wire.done(second["execution_id"]))["state"] == "completed"
    assert (await wire.call("get_execution", execution_id=first["execution_id"]))["started_at"] is None


async def _count(wire: Wire, session: str, state: str) -> int:
    return len((await wire.call("list_executions", session=session, state=state))["executions"])


async def test_a_queued_execution_whose_caller_waits_replies_with_its_end(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    attached = wire.begin("execute", code=gate.wait + "print('first')", session=session, wait=None)
    await started(wire, session)
    queued = wire.begin("execute", code="print('second')", session=session, wait=None)
    await true(lambda: _count(wire, session, "queued"))
    gate.open()
    assert [(await call)["text"] for call in (attached, queued)] == ["first\n", "second\n"]


async def test_an_error_ends_nobody_else_in_the_queue(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, session, f"print('begun')\n{gate.wait}1 / 0")
    queued = await wire.execute("print('still here')", session=session, wait=0, on_busy="queue")
    gate.open()
    failed = await wire.done(running)
    assert (failed["state"], failed["error"]["ename"]) == ("failed", "ZeroDivisionError")
    done = await wire.done(queued["execution_id"])
    assert (done["state"], done["text"]) == ("completed", "still here\n")


@pytest.mark.parametrize("on_busy", ["auto", "queue", "concurrent"])
async def test_the_stock_kernel_runs_nothing_beside_a_detached_execution(
    wire: Wire, stock_session: str, tmp_path: Path, on_busy: str
) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, stock_session, f"print('begun')\n{gate.wait}")
    queued = await wire.execute("print('after')", session=stock_session, wait=1, on_busy=on_busy)
    assert (queued["state"], queued["detached"]) == ("queued", True)
    assert queued["queue"] == {"position": 1, "behind": running}
    gate.open()
    assert (await wire.done(queued["execution_id"]))["text"] == "after\n"


async def listed(wire: Wire, session: str) -> list[dict[str, Any]]:
    return list((await wire.call("list_executions", session=session))["executions"])


async def test_reject_refuses_while_the_session_is_busy_and_leaves_no_trace(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, session, f"print('begun')\n{gate.wait}")
    waiting = await wire.execute("1", session=session, wait=0, on_busy="queue")
    with pytest.raises(CallFailed, match="busy") as refused:
        await wire.execute("print('never')", session=session, on_busy="reject")
    assert refused.value.type == "session_busy"
    assert refused.value.code == -32004
    assert refused.value.data["running"] == [running]
    assert refused.value.data["queued"] == [waiting["execution_id"]]
    assert running in refused.value.message
    gate.open()
    await wire.done(waiting["execution_id"])
    assert len(await listed(wire, session)) == 2
    taken = await wire.execute("print('now')", session=session, on_busy="reject")
    assert (taken["state"], taken["text"]) == ("completed", "now\n")


async def test_an_execution_in_another_session_is_no_reason_to_reject(wire: Wire, session: str, tmp_path: Path) -> None:
    gate, other = Gate(tmp_path), f"{session}-idle"
    await wire.call("create_session", name=other)
    try:
        await detached(wire, session, f"print('begun')\n{gate.wait}")
        taken = await wire.execute("print('free')", session=other, on_busy="reject")
        assert taken["text"] == "free\n"
    finally:
        gate.open()
        await wire.call("close_session", session=other)


async def test_a_restart_returns_when_there_is_a_new_kernel_and_ends_what_ran_in_the_old_one(
    wire: Wire, session: str
) -> None:
    await wire.execute("kept = 1", session=session)
    before = await wire.call("get_session", session=session)
    running = await detached(wire, session, "print('begun')\nwhile True: pass")
    queued = await wire.execute("1", session=session, wait=0, on_busy="queue")
    after = await wire.call("restart_session", session=session)
    assert after["kernel_state"] == "idle"
    assert (after["kernel_pid"] != before["kernel_pid"], after["kernel_id"]) == (True, before["kernel_id"])
    for execution_id, begins in ((running, "The session"), (queued["execution_id"], "It never began: the session")):
        execution = await wire.done(execution_id)
        assert (execution["state"], execution["kernel_state"]) == ("killed", "lost")
        assert execution["hint"].startswith(f"{begins} was restarted.")
        assert_whole(await wire.events(execution_id))
    new = await wire.execute("print('kept' in globals())", session=session)
    assert (new["state"], new["text"]) == ("completed", "False\n")
    assert "the session was restarted" in new["hint"]


async def test_a_session_that_is_closed_while_its_kernel_starts_says_so_to_who_made_it(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker, gate = start_broker("--pool-size=0"), Gate(tmp_path)
    install_ipykernel(broker, "slow", f"exec({gate.wait!r})")
    async with broker.connect() as wire:
        making = wire.begin("create_session", name="s", kernel="slow")
        await true(broker.kernels)
        assert (await wire.call("close_session", session="s"))["kernel_state"] == "closed"
        with pytest.raises(CallFailed, match="was closed before its kernel was ready") as refused:
            await making
        assert refused.value.type == "unknown_session"
        assert broker.kernels() == []


async def _find(wire: Wire, name: str) -> dict[str, Any] | None:
    try:
        return await wire.call("get_session", session=name)
    except CallFailed as failed:
        if failed.type != "unknown_session":
            raise
        return None


async def test_a_session_is_closed_also_when_who_asked_for_it_is_gone(wire: Wire, broker: BrokerProcess) -> None:
    name = "closed-by-one-who-left"
    await wire.call("create_session", name=name)
    # Its kernel takes a moment to end, so that it is not over when the connection is.
    first = await wire.execute("import atexit, time; atexit.register(time.sleep, 1)", session=name)
    async with broker.connect() as leaving:
        closing = leaving.begin("close_session", session=name)
        await asyncio.sleep(0)
        await leaving.call("get_session", session=name)
    with pytest.raises(ConnectionError):
        await closing
    await true(lambda: _is_closed(wire, first["session_id"]))
    again = await wire.execute("1", session=name)
    assert again["session_id"] != first["session_id"]
    await wire.call("close_session", session=name)


async def test_what_is_asked_of_a_session_together_with_its_end_is_answered(wire: Wire) -> None:
    name = "closed-and-asked"
    await wire.execute("import os; os._exit(1)", session=name)
    closing = wire.begin("close_session", session=name)
    others = [wire.begin(method, session=name) for method in ("restart_session", "close_session")]
    answers = await asyncio.wait_for(asyncio.gather(closing, *others, return_exceptions=True), PATIENCE)
    assert answers[0]["kernel_state"] == "closed"
    # What comes while it ends may still find it.
    restarted, closed = (getattr(answer, "type", None) or answer["kernel_state"] for answer in answers[1:])
    assert restarted == "unknown_session"
    assert closed in ("closed", "unknown_session")


async def _is_closed(wire: Wire, session_id: str) -> bool:
    found = await wire.call("get_session", session=session_id)
    return bool(found["kernel_state"] == "closed")


async def test_a_working_directory_is_the_same_however_it_is_written(wire: Wire, tmp_path: Path) -> None:
    roundabout = f"{tmp_path}/../{tmp_path.name}/"
    for _ in range(2):
        execution = await wire.execute("import os; print(os.getcwd())", session="there", working_directory=roundabout)
        assert execution["text"] == f"{tmp_path}\n"
    with pytest.raises(CallFailed) as refused:
        await wire.execute("1", session="there", working_directory="~nobody-of-this-name/x")
    assert refused.value.type == "working_directory_missing"
    await wire.call("close_session", session="there")
