"""A detached execution keeps nobody waiting: what comes next runs beside it, in the same kernel, with its variables."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..running import BrokerProcess, Wire, assert_whole, text_of
from .tools import Gate, detached, kernel_pid, printed, started


async def test_after_a_handover_the_next_runs_at_once_with_the_same_variables(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    await wire.execute("shared = [1]", session=session)
    running = await detached(wire, session, f"print('begun')\n{gate.wait}print('ended', shared)")
    for number in (2, 3):
        beside = await wire.execute(f"shared.append({number})\nprint(shared)", session=session)
        assert (beside["state"], beside["hint"]) == ("completed", None)
    assert beside["text"] == "[1, 2, 3]\n"
    assert (await wire.call("get_execution", execution_id=running))["state"] == "running"
    gate.open()
    assert (await wire.done(running))["text"] == "begun\nended [1, 2, 3]\n"


async def test_what_queues_behind_an_attached_execution_runs_when_that_is_handed_over(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    first = wire.begin("execute", code=f"{gate.wait}print('first')", session=session, wait=1)
    await started(wire, session)
    second = await wire.execute("print('second')", session=session)
    assert (second["state"], second["text"]) == ("completed", "second\n")
    handed_over = await first
    assert (handed_over["state"], handed_over["detached"]) == ("running", True)
    assert second["started_at"] > handed_over["started_at"]
    gate.open()
    assert (await wire.done(handed_over["execution_id"]))["text"] == "first\n"


async def test_concurrent_runs_beside_an_attached_one_and_before_what_is_queued(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    attached = wire.begin("execute", code=f"{gate.wait}print('attached')", session=session, wait=None)
    await started(wire, session)
    queued = wire.begin("execute", code="print('queued')", session=session, wait=None)
    beside = await wire.execute("print('beside')", session=session, on_busy="concurrent")
    assert (beside["state"], beside["text"]) == ("completed", "beside\n")
    assert not attached.done()
    assert not queued.done()
    gate.open()
    assert [(await call)["text"] for call in (attached, queued)] == ["attached\n", "queued\n"]


async def test_a_restart_takes_all_of_them_back_and_loses_none_of_their_output(
    start_broker: object, tmp_path: Path
) -> None:
    broker: BrokerProcess = start_broker()  # type: ignore[operator]
    gate = Gate(tmp_path)
    code = (
        "import time\ni = 0\nwhile {shut}:\n    print({me}, i)\n    i += 1\n    time.sleep(0.001)\nprint({me}, 'end')"
    )
    async with broker.connect() as wire:
        ids = {}
        for me in range(4):
            # Each has its own names: the namespace is shared.
            own = code.format(shut=gate.shut, me=me).replace("i ", f"i{me} ").replace("i)", f"i{me})")
            ids[me] = (await wire.execute(own, session="s", wait=0))["execution_id"]
        for me, execution_id in ids.items():
            await printed(wire, execution_id, f"{me} 10\n")
    for number in (9, 9, 15):
        broker.stop(number)
        broker.start()
    async with broker.connect() as wire:
        gate.open()
        for me, execution_id in ids.items():
            execution = await wire.done(execution_id)
            assert (execution["state"], execution["kernel_state"]) == ("completed", "preserved")
            events = await wire.events(execution_id)
            assert_whole(events)
            assert "gap" not in [event["type"] for event in events]
            *lines, end = text_of(events).splitlines()
            assert lines == [f"{me} {i}" for i in range(len(lines))]
            assert end == f"{me} end"


async def test_one_of_many_is_interrupted_or_killed_and_the_others_go_on(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    pid = await kernel_pid(wire, session)
    code = f"print('begun')\n{gate.wait}print('ended')"
    ids = [await detached(wire, session, code) for _ in range(4)]
    for method, execution_id in (("interrupt", ids[1]), ("kill", ids[2])):
        await wire.call(method, execution_id=execution_id)
        stopped = await wire.done(execution_id)
        assert (stopped["state"], stopped["kernel_state"]) == ("interrupted", "preserved")
    states = [(await wire.call("get_execution", execution_id=execution_id))["state"] for execution_id in ids]
    assert states == ["running", "interrupted", "interrupted", "running"]
    gate.open()
    for execution_id in (ids[0], ids[3]):
        assert (await wire.done(execution_id))["text"] == "begun\nended\n"
    assert await kernel_pid(wire, session) == pid


async def test_prompts_of_several_are_answered_each_for_itself(wire: Wire, session: str) -> None:
    asked = [
        await wire.execute(f"print(input('{name}? '))", session=session, wait=None, on_busy="concurrent")
        for name in ("a", "b", "c")
    ]
    assert [execution["input_request"]["prompt"] for execution in asked] == ["a? ", "b? ", "c? "]
    for execution, answer in reversed(list(zip(asked, "ABC", strict=True))):
        await wire.call("send_stdin", execution_id=execution["execution_id"], data=answer)
    done = await asyncio.gather(*(wire.done(execution["execution_id"]) for execution in asked))
    assert [execution["text"] for execution in done] == ["a? A\nA\n", "b? B\nB\n", "c? C\nC\n"] or [
        execution["text"] for execution in done
    ] == ["A\n", "B\n", "C\n"]
