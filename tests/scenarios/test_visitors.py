"""A person works in an agent's kernel: their cells are in the history as theirs, beside the agent's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from ..running import PATIENCE, BrokerProcess, CallFailed, Wire, assert_whole, text_of
from .tools import Gate, detached


@pytest.fixture(params=["own", "stock"])
def shared(request: pytest.FixtureRequest, session: str, stock_session: str) -> str:
    return session if request.param == "own" else stock_session


@pytest.fixture
async def person(wire: Wire, shared: str) -> AsyncIterator[BlockingKernelClient]:
    """jupyter_client's own client of the session's kernel, as JupyterLab's server has one."""
    await wire.execute("1", session=shared)
    client = BlockingKernelClient(connection_file=(await wire.call("get_session", session=shared))["connection_file"])
    client.load_connection_file()
    client.start_channels()
    # It hears what is published from here on.
    await asyncio.to_thread(client.wait_for_ready, PATIENCE)
    yield client
    client.stop_channels()


async def visitor(wire: Wire, session: str, msg_id: str) -> dict[str, Any]:
    """The execution of a person's cell, once it is over."""
    await wire.event(lambda e: e["execution_id"] == msg_id and e["type"] == "execution_finished")
    found: dict[str, Any] = await wire.call("get_execution", execution_id=msg_id)
    return found


async def test_a_persons_cell_is_in_the_history_as_theirs(
    wire: Wire, shared: str, person: BlockingKernelClient
) -> None:
    await wire.call("subscribe", session=shared)
    ours = await wire.execute("mine = 40", session=shared)
    cell = person.execute("print('hello'); mine + 2")
    theirs = await visitor(wire, shared, cell)
    assert (theirs["origin"], theirs["state"], theirs["title"]) == ("jupyter", "completed", "print('hello'); mine + 2")
    assert theirs["text"] == "hello\n42\n"
    assert theirs["execution_count"] == ours["execution_count"] + 1
    assert_whole(await wire.events(cell))
    listed = (await wire.call("list_executions", session=shared))["executions"]
    assert [(each["execution_id"], each["origin"]) for each in listed][-2:] == [
        (ours["execution_id"], "api"),
        (cell, "jupyter"),
    ]


async def test_its_error_is_theirs_too(wire: Wire, shared: str, person: BlockingKernelClient) -> None:
    await wire.call("subscribe", session=shared)
    theirs = await visitor(wire, shared, person.execute("1 / 0"))
    assert (theirs["state"], theirs["error"]["ename"]) == ("failed", "ZeroDivisionError")
    assert (await wire.execute("'still here'", session=shared))["state"] == "completed"


async def test_a_persons_prompt_is_answered_by_the_person(
    wire: Wire, shared: str, person: BlockingKernelClient
) -> None:
    await wire.call("subscribe", session=shared)
    cell = person.execute("print(input('name? '))", allow_stdin=True)
    asked = await asyncio.to_thread(person.get_stdin_msg, timeout=PATIENCE)
    assert asked["content"]["prompt"] == "name? "
    await wire.event(lambda e: e["execution_id"] == cell and e["type"] == "execution_started")
    with pytest.raises(CallFailed) as failed:
        await wire.call("send_stdin", execution_id=cell, data="not for you")
    assert failed.value.type == "not_waiting"
    assert (await wire.call("get_execution", execution_id=cell))["state"] == "running"
    person.input("Ada")
    assert (await visitor(wire, shared, cell))["text"].endswith("Ada\n")


async def test_killing_all_of_ones_own_leaves_a_persons_cell_alone(wire: Wire, session: str, tmp_path: Path) -> None:
    await wire.execute("1", session=session)
    client = BlockingKernelClient(connection_file=(await wire.call("get_session", session=session))["connection_file"])
    client.load_connection_file()
    client.start_channels()
    try:
        await wire.call("subscribe", session=session)
        gate = Gate(tmp_path)
        ours = await detached(wire, session, "print('begun')\nwhile True: pass")
        cell = client.execute(f"print('beside')\n{gate.wait}")
        await wire.event(lambda e: e["execution_id"] == cell and e["type"] == "output")
        assert cell not in [e["execution_id"] for e in (await wire.call("list_async_executions"))["executions"]]
        killed = {each["execution_id"]: each["kernel_state"] for each in (await wire.call("kill"))["killed"]}
        assert killed[ours] == "preserved"
        assert cell not in killed
        assert (await wire.call("get_execution", execution_id=cell))["state"] == "running"
        gate.open()
        assert (await visitor(wire, session, cell))["state"] == "completed"
    finally:
        client.stop_channels()


async def test_what_a_person_ran_while_no_broker_was_there_is_in_the_history(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker()
    async with broker.connect() as wire:
        await wire.execute("1", session="shared")
        file = (await wire.call("get_session", session="shared"))["connection_file"]
    broker.process.kill()
    broker.process.wait(PATIENCE)
    client = BlockingKernelClient(connection_file=file)
    client.load_connection_file()
    client.start_channels()
    try:
        cell = client.execute("for i in range(1000): print(i)")
        await asyncio.to_thread(client.get_shell_msg, timeout=PATIENCE)
        broker.start()
        async with broker.connect() as wire:
            subscription = await wire.call("subscribe", after=0)
            await wire.event(lambda e: e["execution_id"] == cell and e["type"] == "execution_finished")
            await wire.call("unsubscribe", subscription=subscription["subscription"])
            events = await wire.events(cell)
            assert_whole(events)
            assert text_of(events) == "".join(f"{i}\n" for i in range(1000))
    finally:
        client.stop_channels()
