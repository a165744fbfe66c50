"""Bad input gets a clear error that says what to do, and everything else goes on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets

from broker.api.websocket import MAX_CALLS

from ..running import PATIENCE, TOKEN, BrokerProcess, CallFailed, Wire

RPC = "api/broker/v1/rpc"


def post(broker: BrokerProcess, message: bytes) -> Any:
    status, _, body = broker.request(RPC, data=message)
    assert status == 200
    return json.loads(body)


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        (b"", -32700, "not JSON"),
        (b"{", -32700, "not JSON"),
        (b"nonsense", -32700, "not JSON"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"\xff"}}', -32700, "not UTF-8"),
        (rb'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"\ud800"}}', -32700, "surrogate"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"1","wait":NaN}}', -32700, "not JSON"),
        (b"[]", -32600, "batch"),
        (b"5", -32600, "not a JSON-RPC 2.0 request"),
        (b'{"id":1,"method":"execute"}', -32600, "jsonrpc"),
        (b'{"jsonrpc":"1.0","id":1,"method":"execute"}', -32600, "2.0"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, "method"),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600, "method"),
        (b'{"jsonrpc":"2.0","id":1,"method":"exec"}', -32601, "execute"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute"}', -32602, "code"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":["1+1"]}', -32602, "by name"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":5}}', -32602, "$.code"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":null}}', -32602, "$.code"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"1","wait":-1}}', -32602, "$.wait"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"1","wait":"30"}}', -32602, "$.wait"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"1","tiemout":1}}', -32602, "tiemout"),
        (b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"1","on_busy":"x"}}', -32602, "$.on_busy"),
        (b'{"jsonrpc":"2.0","id":1,"method":"subscribe"}', -32602, "WebSocket"),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"get_async_log","params":{"execution_id":"x","limit":0}}',
            -32602,
            "$.limit",
        ),
    ],
)
def test_a_request_that_is_none_is_told_why(broker: BrokerProcess, message: bytes, code: int, says: str) -> None:
    error = post(broker, message)["error"]
    assert error["code"] == code
    assert says in error["message"]
    assert error["data"]["type"]


def test_the_id_of_a_bad_request_comes_back_where_there_is_one(broker: BrokerProcess) -> None:
    assert post(broker, b'{"id":7,"method":"execute"}')["id"] == 7
    assert post(broker, b'{"jsonrpc":"2.0","id":"a","method":5}')["id"] == "a"
    assert post(broker, rb'{"jsonrpc":"2.0","id":8,"method":"execute","params":{"code":"\ud800"}}')["id"] == 8
    assert post(broker, rb'{"jsonrpc":"2.0","id":"\ud800","method":"list_sessions"}')["id"] is None
    assert post(broker, b"{")["id"] is None


@pytest.mark.parametrize("value", [b"NaN", b"Infinity"])
def test_a_number_that_json_has_not_is_refused_in_words_to_whoever_waits(broker: BrokerProcess, value: bytes) -> None:
    answer = post(broker, b'{"jsonrpc":"2.0","id":7,"method":"execute","params":{"code":"1","wait":%b}}' % value)
    assert answer["id"] == 7
    assert answer["error"]["code"] == -32700
    assert "NaN" in answer["error"]["message"]


def test_in_a_batch_each_is_answered_by_itself_and_notifications_are_not(broker: BrokerProcess) -> None:
    answers = post(
        broker,
        b'[{"jsonrpc":"2.0","id":1,"method":"list_sessions"},{"jsonrpc":"2.0","method":"list_sessions"},'
        b'{"jsonrpc":"2.0","id":2,"method":"nope"},7]',
    )
    assert [(answer["id"], "error" in answer) for answer in answers] == [(1, False), (2, True), (None, True)]
    status, _, body = broker.request(RPC, data=b'{"jsonrpc":"2.0","method":"list_sessions"}')
    assert (status, body) == (204, b"")


async def test_a_call_beyond_the_limit_of_a_connection_is_refused_by_its_id(
    broker: BrokerProcess, wire: Wire, session: str
) -> None:
    execution = await wire.execute("import time; time.sleep(1000)", session=session, wait=0)
    waiting = [wire.begin("wait", execution_id=execution["execution_id"], wait=None) for _ in range(MAX_CALLS)]
    with pytest.raises(CallFailed, match="calls are open") as refused:
        await wire.begin("list_sessions")
    assert refused.value.type == "limit_reached"
    async with broker.connect() as other:
        await other.call("interrupt", execution_id=execution["execution_id"])
    assert {ended["state"] for ended in await asyncio.gather(*waiting)} == {"interrupted"}
    assert (await wire.call("list_sessions"))["sessions"]


async def test_a_socket_goes_on_after_every_kind_of_nonsense(wire: Wire, session: str) -> None:
    running = wire.begin("execute", session=session, code="input('wait for it')\n'still here'")
    for nonsense in ("{", "", b"\xff\xfe", b"{", '{"jsonrpc":"2.0","id":null,"method":"nope"}', "[[[[", "[]"):
        await wire.socket.send(nonsense)
    execution = await running
    assert execution["state"] == "awaiting_input"
    await wire.call("send_stdin", execution_id=execution["execution_id"], data="")
    assert "still here" in (await wire.done(execution["execution_id"]))["text"]


@pytest.mark.parametrize(
    ("nonsense", "code"),
    [
        ("{", -32700),
        (b"\xff\xfe", -32700),
        ("[" * 100_000, -32700),
        ('{"a":' * 100_000, -32700),
        ('{"jsonrpc":"2.0","method":"execute","params":' + "[" * 100_000 + "]" * 100_000 + "}", -32700),
        ("[]", -32600),
        ("null", -32600),
    ],
    ids=["open", "not UTF-8", "deep list", "deep object", "deep params", "empty batch", "null"],
)
async def test_over_a_socket_nonsense_is_answered_and_so_is_the_next_message(
    broker: BrokerProcess, nonsense: str | bytes, code: int
) -> None:
    url = broker.url.replace("http", "ws", 1) + "api/broker/v1/ws"
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
        await socket.send(nonsense)
        await socket.send('{"jsonrpc":"2.0","id":1,"method":"list_sessions"}')
        async with asyncio.timeout(PATIENCE):
            answers = [json.loads(await socket.recv()) for _ in range(2)]
    refused, answered = sorted(answers, key=lambda answer: answer["id"] is not None)
    assert (refused["id"], refused["error"]["code"]) == (None, code)
    assert (answered["id"], "result" in answered) == (1, True)


async def test_a_text_frame_that_is_not_utf8_ends_its_own_connection_only(broker: BrokerProcess, wire: Wire) -> None:
    async with broker.connect() as other:
        await other.socket.send(b"\xff\xfe", text=True)  # RFC 6455, section 8.1: the connection must fail
        await asyncio.wait_for(other.socket.wait_closed(), PATIENCE)
    assert (await wire.call("list_kernelspecs"))["kernelspecs"]


@pytest.mark.parametrize("after", [2**53 + 1, 2**63, 2**64, 10**400])
@pytest.mark.parametrize("method", ["wait", "get_async_log", "get_progress"])
async def test_a_seq_that_no_event_can_have(wire: Wire, session: str, method: str, after: int) -> None:
    execution = await wire.execute("1", session=session)
    with pytest.raises(CallFailed, match=r"\$.after") as error:
        await wire.call(method, execution_id=execution["execution_id"], after=after)
    assert error.value.code == -32602


async def test_an_environment_that_no_process_can_have(wire: Wire) -> None:
    for env in ({"A": "x\0"}, {"A=B": "x"}):
        with pytest.raises(CallFailed, match="could not be started") as error:
            await wire.call("create_session", name="bad-env", env=env)
        assert error.value.type == "kernel_start_failed"
    sessions = await wire.call("list_sessions")
    assert "bad-env" not in [session["name"] for session in sessions["sessions"]]


async def test_a_message_of_twenty_megabytes_is_refused_in_words_and_all_else_goes_on(wire: Wire, session: str) -> None:
    running = wire.begin("execute", session=session, code="input()")
    with pytest.raises(CallFailed) as refused:
        await wire.execute("#" * 20_000_000, session=session)
    assert refused.value.type == "limit_reached"
    assert "file" in refused.value.message
    execution = await running
    await wire.call("send_stdin", execution_id=execution["execution_id"], data="")
    assert (await wire.done(execution["execution_id"]))["state"] == "completed"


async def test_a_working_directory_that_is_not_there(wire: Wire) -> None:
    for call in (
        wire.execute("1", session="nowhere", working_directory="/no/such/place"),
        wire.call("create_session", name="nowhere", working_directory="/no/such/place"),
    ):
        with pytest.raises(CallFailed) as error:
            await call
        assert error.value.type == "working_directory_missing"
        assert "/no/such/place" in error.value.message
    sessions = await wire.call("list_sessions")
    assert "nowhere" not in [session["name"] for session in sessions["sessions"]]


async def test_another_directory_or_kernel_for_a_session_that_has_one(wire: Wire, session: str, tmp_path: Path) -> None:
    with pytest.raises(CallFailed, match="was started in"):
        await wire.execute("1", session=session, working_directory=str(tmp_path))
    with pytest.raises(CallFailed, match="runs kernel"):
        await wire.execute("1", session=session, kernel="another")


async def test_a_kernelspec_that_is_not_there(wire: Wire) -> None:
    with pytest.raises(CallFailed) as error:
        await wire.execute("1", session="unknown-kernel", kernel="no-such-kernel")
    assert error.value.type == "unknown_kernelspec"
    assert "python3" in error.value.message
    assert error.value.data["installed"]


async def test_a_session_or_execution_that_is_not_there(wire: Wire) -> None:
    for call, type in (
        (wire.execute("1", session="s-0123456789abcdef"), "unknown_session"),
        (wire.call("close_session", session="nope"), "unknown_session"),
        (wire.call("list_executions", session="nope"), "unknown_session"),
        (wire.call("get_execution", execution_id="nope"), "unknown_execution"),
    ):
        with pytest.raises(CallFailed) as error:
            await call
        assert error.value.type == type
        assert "list_" in error.value.message, "it says what to do"


async def test_a_name_that_is_taken_or_looks_like_an_id(wire: Wire, session: str) -> None:
    with pytest.raises(CallFailed, match="exists already"):
        await wire.call("create_session", name=session)
    with pytest.raises(CallFailed, match="look like an id"):
        await wire.call("create_session", name="s-0123456789abcdef")


async def test_a_time_that_is_none(wire: Wire, session: str) -> None:
    execution = await wire.execute("1", session=session)
    with pytest.raises(CallFailed, match="ISO 8601"):
        await wire.call("get_progress", execution_id=execution["execution_id"], since="yesterday")
    with pytest.raises(CallFailed, match="exclude"):
        await wire.call("get_progress", execution_id=execution["execution_id"], since="2026-01-01", after=1)


def install(broker: BrokerProcess, name: str, code: str) -> None:
    """A kernelspec whose kernel is this Python code."""
    folder = broker.root / "data" / "kernels" / name
    folder.mkdir(parents=True)
    spec = {"argv": [sys.executable, "-c", code, "{connection_file}"], "display_name": name, "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))


async def test_a_kernel_that_does_not_start_says_what_it_wrote(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--pool-size=0", "--ServeApp.start_timeout=3")
    install(broker, "fails", "import sys; sys.exit('no module named reason')")
    install(broker, "hangs", "import sys, time; print('thinking', file=sys.stderr, flush=True); time.sleep(1000)")
    install(broker, "absent", "")
    spec = broker.root / "data" / "kernels" / "absent" / "kernel.json"
    spec.write_text(json.dumps({"argv": ["/no/such/program"], "display_name": "absent", "language": "x"}))
    async with broker.connect() as wire:
        wanted = {"fails": "no module named reason", "hangs": "thinking", "absent": "/no/such/program"}
        for kernel, says in wanted.items():
            for call in (
                wire.execute("1", session=f"x-{kernel}", kernel=kernel),
                wire.call("create_session", name=f"c-{kernel}", kernel=kernel),
            ):
                with pytest.raises(CallFailed) as error:
                    await asyncio.wait_for(call, 60)
                assert error.value.type == "kernel_start_failed"
                assert says in error.value.message
        assert (await wire.execute("6 * 7", session="well"))["text"] == "42\n"
        await wire.call("close_session", session="well")
        for kernel in wanted:
            await wire.call("close_session", session=f"x-{kernel}")
    assert broker.kernels() == []


async def test_an_execution_whose_kernel_does_not_start_is_on_record(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker()
    install(broker, "fails", "import sys; sys.exit('nope')")
    async with broker.connect() as wire:
        submitted = await wire.execute("1", session="a", kernel="fails", wait=0)
        execution = await wire.done(submitted["execution_id"])
        assert execution["state"] == "lost"
        assert execution["error"]["ename"] == "KernelStartFailed"
        assert "nope" in execution["error"]["evalue"]
