"""An answer belongs to one execution: it is never given to another, nor lost because the one who asked is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ..running import BrokerProcess, CallFailed, Wire, assert_whole
from .test_stdin import ASK, answers, of_type, prompted, said
from .tools import Gate, cut, detached, printed, set_marker, started, stop_all


@pytest.fixture
async def session(wire: Wire) -> AsyncIterator[str]:
    """One session for this whole module, with nothing running in it before or after."""
    await set_marker(wire, "stdin-ownership")
    yield "stdin-ownership"
    await stop_all(wire, "stdin-ownership")


# Answers that come too late


@pytest.mark.parametrize("end", ["answered", "interrupted"])
async def test_an_answer_to_an_execution_that_is_over_is_refused_and_given_to_nobody(
    wire: Wire, session: str, end: str
) -> None:
    first = await wire.execute(ASK, session=session)
    if end == "answered":
        await wire.call("send_stdin", execution_id=first["execution_id"], data="in time")
        await wire.done(first["execution_id"])
    else:
        await wire.call("interrupt", execution_id=first["execution_id"])
    second = await wire.execute(ASK, session=session)
    assert second["state"] == "awaiting_input"
    with pytest.raises(CallFailed) as refused:
        await wire.call("send_stdin", execution_id=first["execution_id"], data="too late")
    assert refused.value.type == "not_waiting"
    assert refused.value.code == -32005
    assert (await wire.call("get_execution", execution_id=second["execution_id"]))["state"] == "awaiting_input"
    await wire.call("send_stdin", execution_id=second["execution_id"], data="mine")
    assert await said(wire, second["execution_id"]) == "got 'mine'\n"


async def test_an_answer_after_the_prompt_is_gone_is_queued_for_the_next_one_of_that_execution(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    asked = await wire.execute(f"a = input('name? ')\n{gate.wait}print(a, input('again? '))", session=session)
    taken = [await wire.call("send_stdin", execution_id=asked["execution_id"], data=line) for line in ("one", "two")]
    assert taken == [{"delivered": 1, "queued": 0}, {"delivered": 0, "queued": 1}]
    gate.open()
    assert await said(wire, asked["execution_id"]) == "one two\n"


async def test_a_line_that_an_execution_did_not_read_is_not_read_by_the_next(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    first = await detached(wire, session, f"print('begun')\n{gate.wait}")
    await wire.call("send_stdin", execution_id=first, data="left\nover")
    second = await wire.execute(ASK, session=session, wait=0)
    gate.open()
    await wire.done(first)
    finished = of_type(await wire.events(first), "execution_finished")
    assert finished[0]["stdin_unread"] == 2
    await prompted(wire, second["execution_id"])
    assert await answers(wire, second["execution_id"]) == []
    await wire.call("send_stdin", execution_id=second["execution_id"], data="mine")
    assert await said(wire, second["execution_id"]) == "got 'mine'\n"


async def test_a_line_for_a_queued_execution_does_not_answer_the_one_that_asks(wire: Wire, session: str) -> None:
    first = await wire.execute(ASK, session=session)
    second = await wire.execute(ASK, session=session, wait=0, on_busy="queue")
    taken = await wire.call("send_stdin", execution_id=second["execution_id"], data="for the second")
    assert taken == {"delivered": 0, "queued": 1}
    assert (await wire.call("get_execution", execution_id=first["execution_id"]))["state"] == "awaiting_input"
    await wire.call("send_stdin", execution_id=first["execution_id"], data="for the first")
    assert await said(wire, first["execution_id"]) == "got 'for the first'\n"
    assert await said(wire, second["execution_id"]) == "got 'for the second'\n"


async def test_two_answers_at_once_go_to_two_prompts(broker: BrokerProcess, wire: Wire, session: str) -> None:
    asked = await wire.execute("a = input('name? ')\nprint(sorted([a, input('again? ')]))", session=session)
    async with broker.connect() as other:
        taken = await asyncio.gather(
            *(
                client.call("send_stdin", execution_id=asked["execution_id"], data=line)
                for client, line in ((wire, "one"), (other, "two"))
            )
        )
    # The second may find the second prompt open already.
    assert sum(each["delivered"] + each["queued"] for each in taken) == 2
    assert await said(wire, asked["execution_id"]) == "['one', 'two']\n"


CAUGHT = """
import signal
try:
    input('name? ')
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print('caught', flush=True)
"""


async def test_an_answer_to_a_prompt_that_an_interrupt_has_closed_is_queued(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    asked = await wire.execute(f"{CAUGHT}{gate.wait}print('got', repr(input('again? ')))", session=session)
    interrupting = wire.begin("interrupt", execution_id=asked["execution_id"])
    await printed(wire, asked["execution_id"], "caught\n")
    taken = await wire.call("send_stdin", execution_id=asked["execution_id"], data="kept")
    assert taken == {"delivered": 0, "queued": 1}
    gate.open()
    assert await said(wire, asked["execution_id"]) == "caught\ngot 'kept'\n"
    await interrupting


async def test_getpass_after_an_interrupted_prompt_is_still_getpass(wire: Wire, session: str) -> None:
    asked = await wire.execute(f"{CAUGHT}import getpass\ngetpass.getpass('Password: ')", session=session)
    interrupting = wire.begin("interrupt", execution_id=asked["execution_id"])
    await prompted(wire, asked["execution_id"], "Password: ", patience=5)
    await wire.call("send_stdin", execution_id=asked["execution_id"], data="secret")
    await wire.done(asked["execution_id"])
    replies = of_type(await wire.events(asked["execution_id"]), "input_reply")
    assert not [reply for reply in replies if "value" in reply]
    assert [reply.get("password", False) for reply in replies] == [False, True]
    assert replies[0]["interrupted"]
    await interrupting


# Clients that are away


async def test_a_prompt_whose_client_has_gone_is_answered_by_another(
    broker: BrokerProcess, wire: Wire, session: str
) -> None:
    async with broker.connect() as client:
        asked = await client.execute(ASK, session=session, wait=None)
        cut(client)
    detached = (await wire.call("list_async_executions"))["executions"]
    (listed,) = [execution for execution in detached if execution["execution_id"] == asked["execution_id"]]
    assert listed["input_request"] == {"prompt": "name? ", "password": False}
    await wire.call("send_stdin", execution_id=listed["execution_id"], data="from another")
    assert await said(wire, listed["execution_id"]) == "got 'from another'\n"


async def test_a_prompt_that_opens_while_its_client_is_away_is_answered_by_another(
    broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    async with broker.connect() as client:
        running = client.begin("execute", code=gate.wait + ASK, session=session, wait=None)
        execution_id = await started(wire, session)
        cut(client)
        with pytest.raises(ConnectionError):
            await running
    await wire.until(execution_id, lambda execution: execution["detached"])
    gate.open()
    await prompted(wire, execution_id)
    await wire.call("send_stdin", execution_id=execution_id, data="from another")
    assert await said(wire, execution_id) == "got 'from another'\n"
    assert_whole(await wire.events(execution_id))
