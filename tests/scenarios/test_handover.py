"""After ``wait`` seconds, or when its client goes away, a caller's wait ends; what it waited for does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..running import TOKEN, BrokerProcess, Wire, assert_whole, text_of
from .tools import Gate, cut, kernel_pid, marker_survives, printed, reset, set_marker, started

WAIT = 2.0
WELL_BEFORE = 20.0
"""Seconds. What the executions here wait for never comes by itself."""


def only(events: list[dict[str, Any]], type: str) -> dict[str, Any]:
    (event,) = [event for event in events if event["type"] == type]
    return event


async def handed_over(wire: Wire, running: asyncio.Task[Any], began: float) -> dict[str, Any]:
    """The reply to an execution that is in the middle: on time, with all that a caller needs to go on."""
    execution: dict[str, Any] = await running
    elapsed = time.monotonic() - began
    assert WAIT <= elapsed < WELL_BEFORE
    assert (execution["state"], execution["detached"]) == ("running", True)
    assert execution["execution_id"] in execution["hint"]
    assert "Do not run the code again" in execution["hint"]
    log = await wire.call("get_async_log", execution_id=execution["execution_id"])
    assert only(log["events"], "handover")["reason"] == "timer"
    assert only(log["events"], "handover")["seq"] == execution["seq"]
    assert execution["text"] == text_of(log["events"])
    return execution


async def ran_on(wire: Wire, execution: dict[str, Any], *, before: str, after: str) -> None:
    """It ends by itself, and what it printed is there once: with the reply, or after the reply's cursor."""
    done = await wire.done(execution["execution_id"])
    events = await wire.events(execution["execution_id"])
    assert done["state"] == "completed"
    assert execution["text"] == before
    assert text_of([event for event in events if event["seq"] > execution["seq"]]) == after
    assert done["text"] == text_of(events) == before + after
    assert_whole(events)
    assert "gap" not in {event["type"] for event in events}


HEAD, TAIL = "print('head', flush=True)\n", "print('tail', flush=True)\n"


@pytest.mark.parametrize("body", ["time.sleep(0.5)", "pass"], ids=["time.sleep", "while True: pass"])
async def test_python_that_runs_on_is_handed_over_on_time(wire: Wire, session: str, tmp_path: Path, body: str) -> None:
    gate = Gate(tmp_path)
    await set_marker(wire, session)
    pid = await kernel_pid(wire, session)
    code = f"import time\n{HEAD}while {gate.shut}: {body}\n{TAIL}"
    began = time.monotonic()
    execution = await handed_over(wire, wire.begin("execute", code=code, session=session, wait=WAIT), began)
    gate.open()
    await ran_on(wire, execution, before="head\n", after="tail\n")
    assert await kernel_pid(wire, session) == pid
    assert await marker_survives(wire, session)


async def test_a_c_call_that_holds_the_gil_is_handed_over_on_time(wire: Wire, session: str, tmp_path: Path) -> None:
    gate, fifo = Gate(tmp_path), tmp_path / "fifo"
    os.mkfifo(fifo)
    # PyDLL keeps the interpreter's lock; opening a FIFO blocks until somebody opens its other end.
    code = f"import ctypes\n{HEAD}{gate.wait}ctypes.PyDLL(None).open({os.fsencode(fifo)!r}, 0)\n{TAIL}"
    began = time.monotonic()
    running = wire.begin("execute", code=code, session=session, wait=WAIT)
    # A flush in the stock kernel returns before its output thread, which needs that lock, has sent anything.
    await printed(wire, await started(wire, session), "head\n")
    gate.open()
    execution = await handed_over(wire, running, began)
    os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    await ran_on(wire, execution, before="head\n", after="tail\n")


async def test_a_stopped_kernel_is_handed_over_on_time(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    pid = await kernel_pid(wire, session)
    began = time.monotonic()
    running = wire.begin("execute", code=f"{HEAD}{gate.wait}{TAIL}", session=session, wait=WAIT)
    await printed(wire, await started(wire, session), "head\n")
    os.kill(pid, signal.SIGSTOP)
    gate.open()
    try:
        execution = await handed_over(wire, running, began)
    finally:
        os.kill(pid, signal.SIGCONT)
    await ran_on(wire, execution, before="head\n", after="tail\n")


async def test_a_kernel_that_was_stopped_before_it_got_the_code_is_handed_over_on_time(
    wire: Wire, session: str
) -> None:
    pid = await kernel_pid(wire, session)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        execution = await handed_over(wire, wire.begin("execute", code=HEAD, session=session, wait=WAIT), began)
    finally:
        os.kill(pid, signal.SIGCONT)
    await ran_on(wire, execution, before="", after="head\n")


async def test_the_time_in_the_queue_and_until_the_kernel_is_ready_counts_as_well(wire: Wire) -> None:
    # A kernel that is started from nothing: one from the pool would be too quick.
    execution = await wire.execute("print('there')", session="handed-over-at-once", kernel="stock", wait=0.05)
    try:
        assert (execution["state"], execution["detached"]) == ("queued", True)
        assert execution["queue"] == {"position": 1, "behind": None}
        assert "until its kernel is ready" in execution["hint"]
        assert (await wire.done(execution["execution_id"]))["text"] == "there\n"
    finally:
        await wire.call("close_session", session="handed-over-at-once")


async def test_handover_after_is_the_wait_of_those_who_name_none(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker, gate = start_broker("--handover-after=1.5"), Gate(tmp_path)
    async with broker.connect() as wire:
        began = time.monotonic()
        execution = await wire.execute(gate.wait)
        assert 1.5 <= time.monotonic() - began < WELL_BEFORE
        assert execution["detached"]
        began = time.monotonic()
        again = await wire.call("wait", execution_id=execution["execution_id"])
        assert 1.5 <= time.monotonic() - began < WELL_BEFORE
        assert (again["state"], again["detached"]) == ("running", True)
        gate.open()
        assert (await wire.done(execution["execution_id"]))["state"] == "completed"


async def test_a_wait_of_null_ends_with_the_execution_only(wire: Wire, session: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    running = wire.begin("execute", code=gate.wait + "print('done')", session=session, wait=None)
    execution_id = await started(wire, session)
    # Longer than any timer that the broker has for an execution.
    waited = await wire.call("wait", execution_id=execution_id, wait=2 * WAIT)
    assert (waited["state"], waited["detached"]) == ("running", False)
    assert not running.done()
    gate.open()
    execution = await running
    assert (execution["state"], execution["detached"], execution["text"]) == ("completed", False, "done\n")


async def test_an_execution_that_ends_in_time_is_not_handed_over(wire: Wire, session: str) -> None:
    execution = await wire.execute("print('quick')", session=session, wait=WAIT)
    after = await wire.call("wait", execution_id=execution["execution_id"], wait=0)
    assert (execution["state"], after["detached"], execution["hint"]) == ("completed", False, None)
    assert "handover" not in {event["type"] for event in await wire.events(execution["execution_id"])}


# Clients that are gone. The second connection is the one that sees what becomes of their executions.


async def assert_ends_by_itself(wire: Wire, execution_id: str, text: str) -> None:
    done = await wire.done(execution_id)
    events = await wire.events(execution_id)
    assert (done["state"], done["text"], done["detached"]) == ("completed", text, True)
    assert only(events, "handover")["reason"] == "client_gone"
    assert_whole(events)


async def handed_over_for(wire: Wire, execution_id: str) -> None:
    await wire.until(execution_id, lambda execution: execution["detached"])


@pytest.mark.parametrize("leave", ["cut", "close"])
async def test_an_execution_whose_socket_is_gone_runs_on(
    broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path, leave: str
) -> None:
    gate = Gate(tmp_path)
    async with broker.connect() as client:
        running = client.begin("execute", code=f"{HEAD}{gate.wait}{TAIL}", session=session, wait=None)
        queued = client.begin("execute", code="print('after')", session=session, wait=None, on_busy="queue")
        execution_id = await started(wire, session)
        await printed(wire, execution_id, "head\n")
        if leave == "cut":
            cut(client)
        else:
            await client.close()
        for call in (running, queued):
            with pytest.raises(ConnectionError):
                await call
    await handed_over_for(wire, execution_id)
    (waiting,) = (await wire.call("list_executions", session=session, state="queued"))["executions"]
    await handed_over_for(wire, waiting["execution_id"])
    assert (await wire.call("get_execution", execution_id=execution_id))["state"] == "running"
    gate.open()
    await assert_ends_by_itself(wire, execution_id, "head\ntail\n")
    await assert_ends_by_itself(wire, waiting["execution_id"], "after\n")


async def test_an_execution_whose_client_goes_while_the_kernel_starts_runs_all_the_same(
    broker: BrokerProcess, wire: Wire
) -> None:
    name = "its-client-went-early"
    async with broker.connect() as client:
        subscription = await wire.call("subscribe")
        running = client.begin("execute", code="print('ran')", session=name, wait=None, label=name)
        queued = await wire.event(lambda e: e["type"] == "execution_queued" and e.get("label") == name)
        cut(client)
        with pytest.raises(ConnectionError):
            await running
    try:
        await assert_ends_by_itself(wire, queued["execution_id"], "ran\n")
    finally:
        await wire.call("unsubscribe", subscription=subscription["subscription"])
        await wire.call("close_session", session=name)


async def test_an_execution_whose_http_caller_is_gone_runs_on(
    broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    params = {"code": f"{HEAD}{gate.wait}{TAIL}", "session": session, "wait": None}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "execute", "params": params}).encode()
    host, port = broker.url.removeprefix("http://").strip("/").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /api/broker/v1/rpc HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    execution_id = await started(wire, session)
    await printed(wire, execution_id, "head\n")
    assert not (await wire.call("get_execution", execution_id=execution_id))["detached"]
    reset(writer.get_extra_info("socket"))
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await handed_over_for(wire, execution_id)
    gate.open()
    await assert_ends_by_itself(wire, execution_id, "head\ntail\n")


async def test_an_execution_that_is_silent_for_long_and_whose_client_is_gone_ends_by_itself(
    broker: BrokerProcess, wire: Wire, session: str
) -> None:
    # Six seconds: more than any grace or patience that the broker has with a kernel.
    async with broker.connect() as client:
        running = client.begin("execute", code="import time; time.sleep(6); print('at last')", session=session)
        execution_id = await started(wire, session)
        cut(client)
        with pytest.raises(ConnectionError):
            await running
    await assert_ends_by_itself(wire, execution_id, "at last\n")
    events = await wire.events(execution_id)
    assert [event["type"] for event in events if event["type"] != "handover"] == [
        "execution_queued",
        "execution_started",
        "execution_count",
        "output",
        "execution_finished",
    ]
