"""A request that is sent again runs once, whatever happened in between."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ..running import BrokerProcess, CallFailed, Wire
from .tools import Gate, cut, started, true


def counting(path: Path, then: str = "") -> str:
    """Code that leaves a mark each time it runs."""
    return f"open({str(path)!r}, 'a').write('ran\\n')\nprint('once')\n{then}"


async def test_a_request_sent_again_gets_the_execution_of_the_first(wire: Wire, session: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    request = {"code": counting(ran), "session": session, "request_id": f"{session}-again"}
    first = await wire.execute(**request)
    again = await wire.execute(**request)
    assert again == first
    assert (first["state"], first["text"]) == ("completed", "once\n")
    assert ran.read_text() == "ran\n"
    (queued,) = [e for e in await wire.events(first["execution_id"]) if e["type"] == "execution_queued"]
    assert queued["request_id"] == request["request_id"]


async def test_without_a_request_id_the_same_code_runs_again(wire: Wire, session: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    first, second = [await wire.execute(counting(ran), session=session) for _ in range(2)]
    assert first["execution_id"] != second["execution_id"]
    assert ran.read_text() == "ran\n" * 2


async def test_a_request_sent_again_while_the_first_runs_waits_along(
    broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path
) -> None:
    ran, gate = tmp_path / "ran", Gate(tmp_path)
    request = {"code": counting(ran, gate.wait), "session": session, "request_id": f"{session}-along"}
    first = wire.begin("execute", wait=None, **request)
    execution_id = await started(wire, session)
    async with broker.connect() as other:
        handed_over = await other.execute(wait=0, **request)
        assert (handed_over["execution_id"], handed_over["state"]) == (execution_id, "running")
        # Nor has the second one's wait ended the first one's.
        assert handed_over["detached"] is False
        second = other.begin("execute", wait=None, **request)
        await true(lambda: asyncio.sleep(0, ran.exists()))
        gate.open()
        assert [(await call)["execution_id"] for call in (first, second)] == [execution_id] * 2
    assert ran.read_text() == "ran\n"


async def test_a_client_that_was_cut_off_sends_its_request_again_and_loses_nothing(
    broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path
) -> None:
    ran, gate = tmp_path / "ran", Gate(tmp_path)
    request = {"code": counting(ran, gate.wait), "session": session, "request_id": f"{session}-cut"}
    async with broker.connect() as doomed:
        call = doomed.begin("execute", wait=None, **request)
        execution_id = await started(wire, session)
        cut(doomed)
        with pytest.raises(ConnectionError):
            await call
    gate.open()
    again = await wire.execute(wait=None, **request)
    assert (again["execution_id"], again["state"], again["text"]) == (execution_id, "completed", "once\n")
    assert ran.read_text() == "ran\n"


async def test_concurrent_duplicates_run_once(broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    request = {"code": counting(ran), "session": session, "request_id": f"{session}-concurrent"}
    async with broker.connect() as other:
        calls = [client.begin("execute", wait=None, **request) for _ in range(10) for client in (wire, other)]
        done = await asyncio.gather(*calls)
    assert len({execution["execution_id"] for execution in done}) == 1
    assert {execution["text"] for execution in done} == {"once\n"}
    assert ran.read_text() == "ran\n"


async def test_duplicates_in_one_batch_over_http_run_once(
    broker: BrokerProcess, wire: Wire, session: str, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    params = {"code": counting(ran), "session": session, "request_id": f"{session}-batch", "wait": None}
    batch = [{"jsonrpc": "2.0", "id": i, "method": "execute", "params": params} for i in range(5)]
    status, _, body = await asyncio.to_thread(broker.request, "api/broker/v1/rpc", data=json.dumps(batch).encode())
    assert status == 200
    assert len({answer["result"]["execution_id"] for answer in json.loads(body)}) == 1
    assert ran.read_text() == "ran\n"


async def test_a_request_id_that_comes_with_other_code_is_refused_and_runs_nothing(
    wire: Wire, session: str, tmp_path: Path
) -> None:
    ran, request_id = tmp_path / "ran", f"{session}-conflict"
    first = await wire.execute("print('first')", session=session, request_id=request_id)
    with pytest.raises(CallFailed) as refused:
        await wire.execute(counting(ran), session=session, request_id=request_id)
    assert (refused.value.type, refused.value.code) == ("idempotency_conflict", -32008)
    assert refused.value.data["execution_id"] == first["execution_id"]
    assert request_id in refused.value.message
    assert "make a new one" in refused.value.message
    # The same code for another session would be another execution as well.
    with pytest.raises(CallFailed, match="other code"):
        await wire.execute("print('first')", session=f"{session}-elsewhere", request_id=request_id)
    assert len((await wire.call("list_executions", session=session))["executions"]) == 1
    sessions = await wire.call("list_sessions")
    assert f"{session}-elsewhere" not in {each["name"] for each in sessions["sessions"]}
    assert not ran.exists()


async def test_a_conflict_with_a_request_that_is_not_on_disk_yet_is_refused_too(wire: Wire, session: str) -> None:
    calls = [wire.begin("execute", code=f"print({i})", session=session, request_id=f"{session}-race") for i in range(2)]
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert first["text"] == "0\n"
    assert isinstance(second, CallFailed)
    assert (second.type, second.data["execution_id"]) == ("idempotency_conflict", first["execution_id"])


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_request_sent_again_to_the_next_broker_runs_once(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path, end: int
) -> None:
    broker = start_broker()
    ran, still, gate = tmp_path / "ran", tmp_path / "still", Gate(tmp_path)
    over = {"code": counting(ran), "request_id": "over"}
    going_on = {"code": counting(still, gate.wait), "request_id": "going on"}
    async with broker.connect() as wire:
        done = await wire.execute(**over)
        running = await wire.execute(wait=0, **going_on)
        await true(lambda: asyncio.sleep(0, still.exists()))
        broker.stop(end)
    broker.start()
    async with broker.connect() as wire:
        assert await wire.execute(**over) == done
        gate.open()
        again = await wire.execute(wait=None, **going_on)
        assert again["execution_id"] == running["execution_id"]
        with pytest.raises(CallFailed) as refused:
            await wire.execute("print('other')", request_id="over")
        assert refused.value.type == "idempotency_conflict"
    assert (ran.read_text(), still.read_text()) == ("ran\n", "ran\n")
