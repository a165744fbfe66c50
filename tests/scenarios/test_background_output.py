"""Output from a background thread or task, after its cell is done, belongs to that cell's execution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.core.acting import REMEMBERED

from ..running import Wire, assert_whole, text_of
from .tools import Gate, printed

BACKGROUNDS = {
    "a thread": """
import threading
def later():
    {wait}
    print('from behind', flush=True)
threading.Thread(target=later).start()
print('done')
""",
    "a task": """
import asyncio
async def later():
    while {shut}:
        await asyncio.sleep(0.02)
    print('from behind', flush=True)
task = asyncio.create_task(later())
print('done')
""",
}


async def leave_behind(wire: Wire, session: str, background: str, gate: Gate) -> dict[str, Any]:
    """An execution that is done, and prints once more when the gate opens."""
    code = BACKGROUNDS[background].format(wait=gate.wait.strip(), shut=gate.shut)
    execution: dict[str, Any] = await wire.execute(code, session=session, wait=None)
    assert (execution["state"], execution["text"]) == ("completed", "done\n")
    return execution


@pytest.mark.parametrize("background", BACKGROUNDS)
async def test_output_after_the_end_is_journalled_under_the_execution_that_began_it(
    wire: Wire, session: str, tmp_path: Path, background: str
) -> None:
    gate = Gate(tmp_path)
    execution = await leave_behind(wire, session, background, gate)
    execution_id = execution["execution_id"]
    gate.open()
    await printed(wire, execution_id, "from behind")
    events = await wire.events(execution_id)
    assert_whole(events)
    assert text_of(events) == "done\nfrom behind\n"
    late = events[-1]
    assert (late["type"], late["execution_id"]) == ("output", execution_id)
    assert late["seq"] > next(e["seq"] for e in events if e["type"] == "execution_finished")


async def test_every_way_to_read_has_the_output_after_the_end(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    execution = await leave_behind(wire, session, "a thread", gate)
    execution_id, seq = execution["execution_id"], execution["seq"]
    of_execution = await wire.call("subscribe", execution_id=execution_id, after=seq)
    of_session = await wire.call("subscribe", session=session, after=seq)
    gate.open()
    for subscription in (of_execution, of_session):
        name = subscription["subscription"]
        found = await wire.notified(lambda n, name=name: n["method"] == "event" and n["params"]["subscription"] == name)
        event = found["params"]["event"]
        assert (event["type"], event["content"]["text"]) == ("output", "from behind\n")
        await wire.call("unsubscribe", subscription=name)
    assert text_of(await wire.events(execution_id, after=seq)) == "from behind\n"
    progress = await wire.call("get_progress", execution_id=execution_id, after=seq)
    assert (progress["text"], progress["state"]) == ("from behind\n", "completed")
    again = await wire.call("get_execution", execution_id=execution_id)
    assert (again["text"], again["lines"], again["state"]) == ("done\nfrom behind\n", 2, "completed")
    assert again["finished_at"] == execution["finished_at"]


@pytest.mark.parametrize("background", BACKGROUNDS)
async def test_output_from_behind_is_not_taken_for_that_of_the_execution_that_runs(
    wire: Wire, session: str, tmp_path: Path, background: str
) -> None:
    gate, last = Gate(tmp_path), Gate(tmp_path)
    before = await leave_behind(wire, session, background, gate)
    waits = f"import asyncio\nwhile {last.shut}: await asyncio.sleep(0.02)\n"
    running = await wire.execute(f"print('mine', flush=True)\n{waits}print('mine too')", session=session, wait=0)
    await printed(wire, running["execution_id"], "mine\n")
    gate.open()
    await printed(wire, before["execution_id"], "from behind")
    last.open()
    done = await wire.done(running["execution_id"])
    assert (done["text"], done["lines"]) == ("mine\nmine too\n", 2)


async def test_an_execution_that_many_others_have_followed_still_gets_its_output(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    execution = await leave_behind(wire, session, "a thread", gate)
    for _ in range(REMEMBERED + 10):
        await wire.execute("pass", session=session, wait=None)
    gate.open()
    await printed(wire, execution["execution_id"], "from behind")
    assert_whole(await wire.events(execution["execution_id"]))


async def test_a_thread_that_never_stops_printing_can_be_read_along(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    execution = await wire.execute(
        f"""
import threading, time
def tick():
    i = 0
    while {gate.shut}:
        print('tick', i := i + 1, flush=True)
        time.sleep(0.005)
    print('stopped', flush=True)
threading.Thread(target=tick).start()
""",
        session=session,
        wait=None,
    )
    assert execution["state"] == "completed"
    await wire.until(execution["execution_id"], lambda e: e["lines"] > 100)
    gate.open()
    await printed(wire, execution["execution_id"], "stopped")
    events = await wire.events(execution["execution_id"])
    assert_whole(events)
    lines = text_of(events).splitlines()
    assert lines == [*(f"tick {i}" for i in range(1, len(lines))), "stopped"]
