"""Code that asks for input: whoever answers, every line goes to the prompt that it was meant for, once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ..running import PATIENCE, BrokerProcess, CallFailed, Wire, assert_whole, text_of
from .tools import Gate, bytes_at_rest, detached, printed, set_marker, started, stop_all

ASK = "print('got', repr(input('name? ')))"


@pytest.fixture
async def session(wire: Wire) -> AsyncIterator[str]:
    """One session for this whole module, with nothing running in it before or after."""
    await set_marker(wire, "stdin")
    yield "stdin"
    await stop_all(wire, "stdin")


async def prompted(
    wire: Wire, execution_id: str, prompt: str = "name? ", *, patience: float = PATIENCE
) -> dict[str, Any]:
    """The execution, once it asks this."""

    def asks(execution: dict[str, Any]) -> bool:
        return (execution["input_request"] or {}).get("prompt") == prompt

    return await wire.until(execution_id, asks, patience=patience)


def of_type(events: list[dict[str, Any]], *types: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] in types]


async def answers(wire: Wire, execution_id: str) -> list[Any]:
    """What an execution's prompts were answered with, as it is on record."""
    return [event.get("value") for event in of_type(await wire.events(execution_id), "input_reply")]


async def said(wire: Wire, execution_id: str) -> str:
    """What an execution printed by its end: without its prompts, and without what they were answered with."""
    assert (await wire.done(execution_id))["state"] == "completed"
    return text_of(await wire.events(execution_id))


# Prompts


async def test_a_prompt_ends_the_wait_at_once_and_an_answer_goes_on(wire: Wire, session: str) -> None:
    asked = await asyncio.wait_for(wire.execute("print('hello')\n" + ASK, session=session, wait=None), PATIENCE)
    assert (asked["state"], asked["detached"]) == ("awaiting_input", True)
    assert asked["text"].startswith("hello\n")
    assert asked["input_request"] == {"prompt": "name? ", "password": False}
    assert "send_stdin" in asked["hint"]
    assert asked["execution_id"] in asked["hint"]
    assert "name? " in asked["hint"]
    taken = await wire.call("send_stdin", execution_id=asked["execution_id"], data="Ada")
    assert taken == {"delivered": 1, "queued": 0}
    assert await said(wire, asked["execution_id"]) == "hello\ngot 'Ada'\n"
    assert (await wire.call("get_execution", execution_id=asked["execution_id"]))["input_request"] is None
    events = await wire.events(asked["execution_id"])
    assert_whole(events)
    assert [event["reason"] for event in of_type(events, "handover")] == ["input"]


async def test_two_prompts_in_one_execution_are_asked_and_answered_one_after_the_other(
    wire: Wire, session: str
) -> None:
    first = await wire.execute("a = input('first? ')\nb = input('second? ')\nprint(a, b)", session=session, wait=None)
    assert first["input_request"]["prompt"] == "first? "
    await wire.call("send_stdin", execution_id=first["execution_id"], data="one")
    second = await prompted(wire, first["execution_id"], "second? ")
    assert second["state"] == "awaiting_input"
    # A wait that begins while a prompt is open ends at once as well.
    waited = await asyncio.wait_for(wire.call("wait", execution_id=first["execution_id"], wait=None), PATIENCE)
    assert waited["input_request"]["prompt"] == "second? "
    await wire.call("send_stdin", execution_id=first["execution_id"], data="two")
    assert await said(wire, first["execution_id"]) == "one two\n"
    assert await answers(wire, first["execution_id"]) == ["one", "two"]


async def test_a_wait_that_is_open_ends_when_the_prompt_comes(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    execution_id = await detached(wire, session, f"print('begun')\n{gate.wait}{ASK}")
    waiting = wire.begin("wait", execution_id=execution_id, wait=None)
    gate.open()
    assert (await waiting)["input_request"]["prompt"] == "name? "


async def test_the_enter_key_alone_is_an_answer(wire: Wire, session: str) -> None:
    asked = await wire.execute(ASK, session=session)
    assert await wire.call("send_stdin", execution_id=asked["execution_id"], data="") == {"delivered": 1, "queued": 0}
    assert await said(wire, asked["execution_id"]) == "got ''\n"


# Lines that come before they are asked for

THREE = "print([input('? ') for _ in range(3)])"


async def test_lines_sent_before_the_prompt_answer_it_and_no_wait_ends(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    running = wire.begin("execute", code=gate.wait + THREE, session=session, wait=None)
    execution_id = await started(wire, session)
    for number, line in enumerate(["a", "b", "c"], 1):
        taken = await wire.call("send_stdin", execution_id=execution_id, data=line)
        assert taken == {"delivered": 0, "queued": number}
    gate.open()
    done = await running
    assert (done["state"], done["detached"]) == ("completed", False)
    assert await said(wire, execution_id) == "['a', 'b', 'c']\n"
    assert await answers(wire, execution_id) == ["a", "b", "c"]


async def test_three_lines_at_once_go_to_three_prompts_in_order(wire: Wire, session: str) -> None:
    asked = await wire.execute(THREE, session=session)
    taken = await wire.call("send_stdin", execution_id=asked["execution_id"], data="a\nb\nc\n")
    assert taken == {"delivered": 1, "queued": 2}
    assert await said(wire, asked["execution_id"]) == "['a', 'b', 'c']\n"
    assert await answers(wire, asked["execution_id"]) == ["a", "b", "c"]


async def test_lines_given_with_the_code_are_given_in_order(wire: Wire, session: str) -> None:
    done = await wire.execute(THREE, session=session, stdin=["a", "b\nc"], wait=None)
    assert (done["state"], done["interactive"], done["detached"]) == ("completed", True, False)
    assert await said(wire, done["execution_id"]) == "['a', 'b', 'c']\n"


async def test_where_the_lines_given_with_the_code_end_the_prompts_wait(wire: Wire, session: str) -> None:
    asked = await wire.execute(THREE, session=session, stdin=["a", "b"], wait=None)
    assert asked["state"] == "awaiting_input"
    await wire.call("send_stdin", execution_id=asked["execution_id"], data="c")
    assert await said(wire, asked["execution_id"]) == "['a', 'b', 'c']\n"


async def test_the_first_write_begins_an_interactive_session_and_no_other_does(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    execution_id = await detached(wire, session, f"print('begun')\n{gate.wait}{THREE}")
    assert not (await wire.call("get_execution", execution_id=execution_id))["interactive"]
    assert not of_type(await wire.events(execution_id), "interactive_session_started")
    await wire.call("send_stdin", execution_id=execution_id, data="a\nb")
    assert (await wire.call("get_execution", execution_id=execution_id))["interactive"]
    gate.open()
    await prompted(wire, execution_id, "? ")
    await wire.call("send_stdin", execution_id=execution_id, data="c")
    await wire.done(execution_id)
    told = of_type(await wire.events(execution_id), "interactive_session_started", "stdin_queued", "input_reply")
    assert [event["type"] for event in told] == [
        "interactive_session_started",
        "stdin_queued",
        *["input_reply"] * 3,
    ]


# Passwords

GETPASS = """
import getpass, hashlib
print(hashlib.sha256(getpass.getpass('Password: ').encode()).hexdigest())
"""


@pytest.mark.parametrize("way", ["at the prompt", "queued early", "with the code"])
async def test_what_answers_getpass_is_stored_nowhere(
    broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path, way: str
) -> None:
    secret, visible = secrets.token_hex(16), secrets.token_hex(16)
    gate = Gate(tmp_path)
    code = f"user = input('User: ')\nprint('begun', flush=True)\n{gate.wait}{GETPASS}"
    given = [visible, secret] if way == "with the code" else [visible]
    execution_id = (await wire.execute(code, session=session, stdin=given, wait=0))["execution_id"]
    await printed(wire, execution_id, "begun\n")
    if way == "queued early":
        assert (await wire.call("send_stdin", execution_id=execution_id, data=secret))["queued"] == 1
    gate.open()
    if way == "at the prompt":
        asked = await prompted(wire, execution_id, "Password: ")
        assert asked["input_request"] == {"prompt": "Password: ", "password": True}
        assert (await wire.call("send_stdin", execution_id=execution_id, data=secret))["delivered"] == 1
    # It did arrive.
    assert await said(wire, execution_id) == f"begun\n{hashlib.sha256(secret.encode()).hexdigest()}\n"
    name, password = of_type(await wire.events(execution_id), "input_reply")
    assert name["value"] == visible
    assert password["password"] is True
    assert "value" not in password
    assert secret not in (await wire.call("get_execution", execution_id=execution_id))["text"]
    stored = bytes_at_rest(broker)
    # The search finds what is there.
    assert visible.encode() in stored
    assert secret.encode() not in stored


async def test_a_password_that_nobody_asks_for_is_stored_nowhere(
    broker: BrokerProcess, wire: Wire, session: str
) -> None:
    secret = secrets.token_hex(16)
    done = await wire.execute("print('no question')", session=session, stdin=[secret])
    events = await wire.events(done["execution_id"])
    assert of_type(events, "execution_finished")[0]["stdin_unread"] == 1
    assert secret.encode() not in bytes_at_rest(broker)


# The end of input


async def test_the_end_of_input_raises_eof_error(wire: Wire, session: str) -> None:
    asked = await wire.execute(ASK, session=session)
    await wire.call("send_stdin", execution_id=asked["execution_id"], eof=True)
    done = await wire.done(asked["execution_id"])
    assert (done["state"], done["error"]["ename"]) == ("failed", "EOFError")


async def test_the_end_of_input_comes_after_the_lines_and_closes_stdin(wire: Wire, session: str) -> None:
    asked = await wire.execute("print(input('? '))\nprint(input('? '))\ninput('? ')", session=session)
    taken = await wire.call("send_stdin", execution_id=asked["execution_id"], data="a\nb", eof=True)
    assert taken == {"delivered": 1, "queued": 1}
    with pytest.raises(CallFailed) as refused:
        await wire.call("send_stdin", execution_id=asked["execution_id"], data="c")
    # The execution may have ended by now, at the end of its input.
    assert refused.value.type in ("stdin_closed", "not_waiting")
    done = await wire.done(asked["execution_id"])
    assert (done["state"], done["error"]["ename"]) == ("failed", "EOFError")
    assert text_of(await wire.events(asked["execution_id"])) == "a\nb\n"


async def test_after_the_end_of_input_a_running_execution_takes_no_more(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    execution_id = await detached(wire, session, f"print('begun')\n{Gate(tmp_path).wait}")
    await wire.call("send_stdin", execution_id=execution_id, eof=True)
    with pytest.raises(CallFailed) as refused:
        await wire.call("send_stdin", execution_id=execution_id, data="more")
    assert refused.value.type == "stdin_closed"


async def test_neither_data_nor_eof_is_an_error(wire: Wire, session: str) -> None:
    asked = await wire.execute(ASK, session=session)
    with pytest.raises(CallFailed, match="Enter key"):
        await wire.call("send_stdin", execution_id=asked["execution_id"])
    assert (await wire.call("get_execution", execution_id=asked["execution_id"]))["state"] == "awaiting_input"
