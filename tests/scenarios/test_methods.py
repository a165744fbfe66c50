"""The methods that look at an execution, or end it: each on one in every state that it can be in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ..running import BrokerProcess, CallFailed, Wire, assert_whole, text_of
from .tools import Gate, detached, marker_survives, printed, set_marker, started, stop_all

SITUATIONS = ["running", "detached", "prompting", "queued", "finished"]
in_every_situation = pytest.mark.parametrize("situation", SITUATIONS)
ALIVE = {"running": "running", "detached": "running", "prompting": "awaiting_input", "queued": "queued"}
"""The state in which an execution in each situation is."""


@pytest.fixture
async def session(wire: Wire) -> AsyncIterator[str]:
    """One session for this whole module, with nothing running in it before or after."""
    await set_marker(wire, "methods")
    yield "methods"
    await stop_all(wire, "methods")


async def bring(wire: Wire, session: str, situation: str, gate: Gate) -> str:
    """Bring an execution into a situation, in which it stays until the gate is open. Returns its id.

    It prints "begun", and behind the gate "ended". A queued one stands behind one that is detached.
    """
    match situation:
        case "running":
            wire.begin("execute", code=f"print('begun')\n{gate.wait}print('ended')", session=session, wait=None)
            execution_id = await started(wire, session)
            await printed(wire, execution_id, "begun\n")
        case "detached":
            execution_id = await detached(wire, session, f"print('begun')\n{gate.wait}print('ended')")
        case "prompting":
            asked = await wire.execute("print('begun')\ninput('? ')\nprint('ended')", session=session, wait=None)
            execution_id = asked["execution_id"]
        case "queued":
            await detached(wire, session, f"print('begun')\n{gate.wait}")
            code = "print('begun')\nprint('ended')"
            execution_id = (await wire.execute(code, session=session, wait=0, on_busy="queue"))["execution_id"]
        case _:
            done = await wire.execute("print('begun')\nprint('ended')", session=session, wait=None)
            execution_id = done["execution_id"]
    return str(execution_id)


async def let_go(wire: Wire, execution_id: str, situation: str, gate: Gate) -> dict[str, Any]:
    """Let the execution go on to its end."""
    gate.open()
    if situation == "prompting":
        await wire.call("send_stdin", execution_id=execution_id, data="")
    return await wire.done(execution_id)


SO_FAR = {
    "running": "begun\n",
    "detached": "begun\n",
    "prompting": "begun\n",
    "queued": "",
    "finished": "begun\nended\n",
}
"""What an execution in each situation has printed."""


# get_async_log


@in_every_situation
async def test_get_async_log_pages_through_the_whole_history(
    wire: Wire, session: str, tmp_path: Path, situation: str
) -> None:
    gate = Gate(tmp_path)
    execution_id = await bring(wire, session, situation, gate)
    events: list[dict[str, Any]] = []
    page: dict[str, Any] = {"seq": 0, "eof": False}
    while not page["eof"]:
        page = await wire.call("get_async_log", execution_id=execution_id, after=page["seq"], limit=2)
        assert len(page["events"]) <= 2
        events += page["events"]
    assert_whole(events)
    assert {event["execution_id"] for event in events} == {execution_id}
    assert events[0]["type"] == "execution_queued"
    assert "print('ended')" in events[0]["code"]
    assert text_of(events) == SO_FAR[situation]
    assert (events[-1]["type"] == "execution_finished") is (situation == "finished")
    await let_go(wire, execution_id, situation, gate)
    rest = await wire.call("get_async_log", execution_id=execution_id, after=page["seq"])
    assert_whole(events + rest["events"])
    assert text_of(events + rest["events"]) == "begun\nended\n"
    again = await wire.call("get_async_log", execution_id=execution_id, after=rest["seq"])
    assert (again["events"], again["eof"]) == ([], True)


# get_progress


def streams(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == "output"]


@in_every_situation
async def test_get_progress_by_seq_says_what_is_new(wire: Wire, session: str, tmp_path: Path, situation: str) -> None:
    gate = Gate(tmp_path)
    execution_id = await bring(wire, session, situation, gate)
    progress = await wire.call("get_progress", execution_id=execution_id, after=0)
    assert progress["text"].startswith(SO_FAR[situation])
    assert progress["state"] == ALIVE.get(situation, "completed")
    assert progress["detached"] is (situation not in ("running", "finished"))
    assert progress["lines"] == SO_FAR[situation].count("\n")
    nothing = await wire.call("get_progress", execution_id=execution_id, after=progress["seq"])
    assert (nothing["text"], nothing["seq"]) == ("", progress["seq"])
    await let_go(wire, execution_id, situation, gate)
    rest = await wire.call("get_progress", execution_id=execution_id, after=progress["seq"])
    assert "begun\nended\n".endswith(rest["text"].lstrip("\n"))
    assert ("ended" in rest["text"]) is (situation != "finished")
    assert rest["state"] == "completed"


@in_every_situation
async def test_get_progress_by_time_says_what_is_new(wire: Wire, session: str, tmp_path: Path, situation: str) -> None:
    gate = Gate(tmp_path)
    execution_id = await bring(wire, session, situation, gate)
    execution = await wire.call("get_execution", execution_id=execution_id)
    before = datetime.fromisoformat(execution["created_at"]) - timedelta(seconds=1)
    everything = await wire.call("get_progress", execution_id=execution_id, since=before.isoformat())
    assert everything["text"].startswith(SO_FAR[situation])
    now = (await wire.events(execution_id))[-1]["time"]
    nothing = await wire.call("get_progress", execution_id=execution_id, since=now)
    assert (nothing["text"], nothing["state"]) == ("", execution["state"])
    await let_go(wire, execution_id, situation, gate)
    rest = await wire.call("get_progress", execution_id=execution_id, since=now)
    assert ("ended" in rest["text"]) is (situation != "finished")
    assert ("begun" in rest["text"]) is (situation == "queued")


async def test_get_progress_since_the_time_of_an_event_has_neither_that_event_nor_any_before(
    wire: Wire, session: str
) -> None:
    code = "import time\nfor i in range(20):\n    print(i, flush=True)\n    time.sleep(0.02)"
    execution = await wire.execute(code, session=session, wait=None)
    printed = streams(await wire.events(execution["execution_id"]))
    times = {event["time"] for event in printed}
    assert len(times) > 10
    for time in times:
        progress = await wire.call("get_progress", execution_id=execution["execution_id"], since=time)
        assert progress["text"] == text_of([event for event in printed if event["time"] > time])


async def test_a_time_without_a_zone_is_utc_and_what_is_no_time_is_an_error(wire: Wire, session: str) -> None:
    execution = await wire.execute("print('now')", session=session, wait=None)
    past = (datetime.now(UTC) - timedelta(minutes=1)).replace(tzinfo=None)
    future = past + timedelta(hours=1)
    for since, text in ((past, "now\n"), (future, "")):
        progress = await wire.call("get_progress", execution_id=execution["execution_id"], since=since.isoformat())
        assert progress["text"] == text
    with pytest.raises(CallFailed, match="ISO 8601"):
        await wire.call("get_progress", execution_id=execution["execution_id"], since="yesterday")
    with pytest.raises(CallFailed, match="exclude each other"):
        await wire.call("get_progress", execution_id=execution["execution_id"], since=past.isoformat(), after=1)


# list_async_executions


@in_every_situation
async def test_list_async_executions_has_what_nobody_awaits_and_is_not_over(
    wire: Wire, session: str, tmp_path: Path, situation: str
) -> None:
    gate = Gate(tmp_path)
    execution_id = await bring(wire, session, situation, gate)
    executions = (await wire.call("list_async_executions"))["executions"]
    found = {execution["execution_id"]: execution for execution in executions}
    assert (execution_id in found) is (situation not in ("running", "finished"))
    if execution_id in found:
        execution = found[execution_id]
        assert (execution["state"], execution["detached"]) == (ALIVE[situation], True)
        assert execution["lines"] == SO_FAR[situation].count("\n")
        assert execution["bytes"] == len(SO_FAR[situation])
        if situation == "queued":
            assert (execution["duration"], execution["idle_for"]) == (None, None)
        else:
            assert 0 <= execution["idle_for"] <= execution["duration"]
    await let_go(wire, execution_id, situation, gate)
    executions = (await wire.call("list_async_executions"))["executions"]
    assert execution_id not in [execution["execution_id"] for execution in executions]


# clear_history


@in_every_situation
async def test_clear_history_drops_the_output_so_far_and_seq_and_n_go_on(
    wire: Wire, session: str, tmp_path: Path, situation: str
) -> None:
    gate = Gate(tmp_path)
    execution_id = await bring(wire, session, situation, gate)
    before = await wire.events(execution_id)
    kept = await wire.call("clear_history", execution_id=execution_id, clear_history=False)
    assert (kept["cleared"], await wire.events(execution_id)) == (0, before)
    cleared = await wire.call("clear_history", execution_id=execution_id)
    assert cleared["cleared"] == len(streams(before))
    after = await wire.events(execution_id)
    assert after[:-1] == [event for event in before if event["type"] != "output"]
    assert (after[-1]["type"], after[-1]["seq"]) == ("history_cleared", cleared["seq"])
    assert after[-1]["n"] == before[-1]["n"] + 1
    assert "begun" not in (await wire.call("get_execution", execution_id=execution_id))["text"]
    done = await let_go(wire, execution_id, situation, gate)
    later = (await wire.events(execution_id))[len(after) :]
    assert [event["n"] for event in later] == list(range(after[-1]["n"] + 1, after[-1]["n"] + 1 + len(later)))
    assert text_of(later) == "begun\nended\n".removeprefix(SO_FAR[situation])
    assert done["state"] == "completed"
    assert ("ended" in done["text"]) is (situation != "finished")


# interrupt and kill


@in_every_situation
@pytest.mark.parametrize("method", ["interrupt", "kill"])
async def test_interrupt_and_kill_end_what_is_not_over_and_leave_the_kernel(
    wire: Wire, session: str, tmp_path: Path, method: str, situation: str
) -> None:
    gate = Gate(tmp_path)
    execution_id = await bring(wire, session, situation, gate)
    result = await wire.call(method, execution_id=execution_id)
    execution = result if method == "interrupt" else result["killed"][0]
    assert execution["execution_id"] == execution_id
    assert execution["kernel_state"] == "preserved"
    if situation == "finished":
        assert (execution["state"], execution["text"]) == ("completed", "begun\nended\n")
    else:
        assert execution["state"] == "interrupted"
        assert (execution["started_at"] is None) is (situation == "queued")
    events = await wire.events(execution_id)
    assert_whole(events)
    assert events[-1]["type"] == "execution_finished"
    if situation == "queued":
        (blocker,) = (await wire.call("list_executions", session=session, state="running"))["executions"]
        gate.open()
        assert (await wire.done(blocker["execution_id"]))["state"] == "completed"
    assert await marker_survives(wire, session)


async def test_interrupt_says_of_what_is_over_that_it_is_over(wire: Wire, session: str) -> None:
    done = await wire.execute("1 / 0", session=session, wait=None)
    again = await wire.call("interrupt", execution_id=done["execution_id"])
    assert (again["state"], again["hint"]) == ("failed", "It was over already (failed).")


async def test_kill_without_an_id_ends_all_that_is_not_over_in_every_session(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    async with start_broker().connect() as wire:
        assert await wire.call("kill") == {"killed": []}
        ids = {}
        for situation in SITUATIONS:
            await set_marker(wire, situation)
            ids[situation] = await bring(wire, situation, situation, gate)
        (blocker,) = (await wire.call("list_executions", session="queued", state="running"))["executions"]
        killed = {execution["execution_id"]: execution for execution in (await wire.call("kill"))["killed"]}
        assert set(killed) == {*ids.values(), blocker["execution_id"]} - {ids["finished"]}
        assert {execution["state"] for execution in killed.values()} == {"interrupted"}
        assert killed[ids["queued"]]["started_at"] is None
        assert (await wire.call("list_async_executions"))["executions"] == []
        assert await wire.call("kill") == {"killed": []}
        for situation in SITUATIONS:
            assert await marker_survives(wire, situation)


# Wrong ids


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("get_async_log", {}),
        ("get_progress", {}),
        ("get_progress", {"since": "2026-01-31T12:00:00Z"}),
        ("clear_history", {}),
        ("interrupt", {}),
        ("kill", {}),
        ("get_execution", {}),
        ("wait", {"wait": None}),
        ("send_stdin", {"data": "x"}),
        ("subscribe", {}),
    ],
)
@pytest.mark.parametrize("wrong", ["no-such-execution", "of-a-session"])
async def test_a_wrong_id_is_an_unknown_execution(
    wire: Wire, session: str, method: str, params: dict[str, Any], wrong: str
) -> None:
    execution_id = wrong
    if wrong == "of-a-session":
        execution_id = (await wire.call("get_session", session=session))["session_id"]
    with pytest.raises(CallFailed) as refused:
        await wire.call(method, execution_id=execution_id, **params)
    assert (refused.value.type, refused.value.code) == ("unknown_execution", -32000)
    assert execution_id in refused.value.message
    assert "list_executions" in refused.value.message
