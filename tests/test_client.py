"""The client against a broker that misbehaves on purpose: cuts connections, skips events, moves, and says no."""

from __future__ import annotations

import asyncio
import http
import inspect
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from broker import client as c
from broker import discovery
from broker.client import Client, Event, SyncClient

TOKEN = "right"
PATIENCE = 30.0
ID = "0123456789abcdef"


class FakeBroker:
    """Speaks the wire API about one execution. ``events`` is its journal; the rest says how to misbehave."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        """What a method returns: a value, an exception, or a function of the parameters (async or not)."""
        self.cut_after: Callable[[], float] = lambda: float("inf")
        """How many events a connection gets before it is cut without a word."""
        self.skip: set[int] = set()
        """Seqs to leave out, once each."""
        self.repeat = False
        """Send each event twice."""
        self.authorizations: list[str] = []
        self.paths: list[str] = []
        self.sent = 0
        self.subprotocols: list[Any] = ["broker.v1"]
        self.connections: set[ServerConnection] = set()
        self._news = asyncio.Condition()
        self._server: Server | None = None

    async def start(self) -> str:
        self._server = await serve(
            self._talk,
            "127.0.0.1",
            0,
            process_request=self._check,
            select_subprotocol=lambda _, offered: next(iter(set(self.subprotocols) & set(offered)), None),
            compression=None,
            max_size=None,
            # What the client does not read must not pile up here: that is what some tests measure.
            write_limit=2**12,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        return self.url

    async def stop(self) -> None:
        if self._server is not None:
            for connection in tuple(self.connections):
                connection.transport.abort()
            self._server.close(close_connections=False)
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        for connection in self.connections:
            connection.transport.abort()

    async def append(self, *types: str, **fields: Any) -> None:
        async with self._news:
            for type in types:
                n = self.events[-1]["n"] + 1 if self.events else 1
                # Seqs have holes, for they are shared with other executions.
                event = {"seq": 3 * n, "n": n, "execution_id": ID, "session_id": "s-1", "time": "2026-01-01T00:00:00Z"}
                self.events.append(event | {"type": type} | fields)
            self._news.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what a call, an event or the end of a connection makes true."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(holds)

    async def notify(self, method: str, params: Any) -> None:
        message = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params})
        for connection in self.connections:
            await connection.send(message, text=True)

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.authorizations[-1] != f"Bearer {TOKEN}":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "the token is wrong")
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for message in connection:
                tasks.add(asyncio.create_task(self._answer(connection, msgspec.json.decode(message))))
        finally:
            self.connections.discard(connection)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _answer(self, connection: ServerConnection, request: dict[str, Any]) -> None:
        method, params = request["method"], request["params"]
        self.calls.append((method, params))
        await self._tell()
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            result = self.answers.get(method) or getattr(self, f"_{method}", {})
            if callable(result):
                result = result(params)
            if inspect.isawaitable(result):
                result = await result
            reply["result"] = result
        except Refusal as refusal:
            reply["error"] = refusal.args[0]
        await connection.send(msgspec.json.encode(reply), text=True)
        if method == "subscribe":
            await self._follow(connection, params.get("after") or 0)

    def _get_execution(self, params: dict[str, Any]) -> dict[str, Any]:
        over = any(event["type"] == "execution_finished" for event in self.events)
        return {"execution_id": params["execution_id"], "state": "completed" if over else "running"}

    def _get_async_log(self, params: dict[str, Any]) -> dict[str, Any]:
        found = [event for event in self.events if event["seq"] > params.get("after", 0)]
        page = found[: min(params.get("limit", 1000), 7)]
        return {"events": page, "seq": page[-1]["seq"] if page else 10**6, "eof": len(page) == len(found)}

    def _subscribe(self, params: dict[str, Any]) -> dict[str, Any]:
        seq = self.events[-1]["seq"] if self.events else 0
        if params["after"] is None:
            params["after"] = seq
        return {"subscription": "sub-1", "seq": params["after"]}

    async def _follow(self, connection: ServerConnection, after: int) -> None:
        left = self.cut_after()
        while True:
            async with self._news:
                await self._news.wait_for(lambda after=after: self.events and self.events[-1]["seq"] > after)
            for event in [event for event in self.events if event["seq"] > after]:
                after = event["seq"]
                if after in self.skip:
                    self.skip.discard(after)
                    continue
                message = {"jsonrpc": "2.0", "method": "event", "params": {"subscription": "sub-1", "event": event}}
                for _ in range(2 if self.repeat else 1):
                    await connection.send(msgspec.json.encode(message), text=True)
                    self.sent += 1
                left -= 1
                if left <= 0:
                    connection.transport.abort()
                    return


class Refusal(Exception):
    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__({"code": code, "message": message, "data": data})


def refuse(*args: Any, **data: Any) -> Callable[[Any], Any]:
    def answer(_: Any) -> Any:
        raise Refusal(*args, **data)

    return answer


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    broker = FakeBroker()
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def client(broker: FakeBroker) -> AsyncIterator[Client]:
    async with Client.connect(broker.url, TOKEN) as client:
        yield client


@pytest.fixture
def known_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "data"


def publish(broker: FakeBroker, data_dir: Path) -> None:
    discovery.write_info(
        discovery.BrokerInfo(
            url=broker.url,
            token=TOKEN,
            pid=os.getpid(),
            data_dir=str(data_dir.resolve()),
            started_at=datetime.now(UTC).isoformat(),
        )
    )


async def collect(events: Any, count: int | None = None) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE), aclosing(events):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


class TestCalls:
    async def test_a_parameter_that_is_not_given_is_not_sent_and_none_is_sent_as_null(
        self, broker: FakeBroker, client: Client
    ) -> None:
        broker.answers["wait"] = {"execution_id": ID, "state": "running"}
        await client.wait(ID)
        await client.wait(ID, wait=None, until="output", after=3)
        assert broker.calls == [
            ("wait", {"execution_id": ID}),
            ("wait", {"execution_id": ID, "wait": None, "until": "output", "after": 3}),
        ]

    async def test_results_keep_what_is_known_of_them_and_pass_over_what_a_later_broker_adds(
        self, broker: FakeBroker, client: Client
    ) -> None:
        broker.answers["execute"] = {
            "execution_id": ID,
            "state": "failed",
            "text": "ab",
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "ab"}],
            "truncated": {"omitted_characters": 5, "from_seq": 1, "to_seq": 2, "new": 1},
            "error": {"ename": "E", "evalue": "v", "traceback": ["t"]},
            "of_a_later_version": {"x": 1},
        }
        execution = await client.execute("1/0")
        assert execution.ended
        assert execution.outputs[0]["text"] == "ab"
        assert execution.truncated is not None
        assert execution.truncated.omitted_characters == 5
        assert execution.error is not None
        assert execution.error.traceback == ["t"]

    async def test_every_method_reaches_the_broker_under_its_name(self, broker: FakeBroker, client: Client) -> None:
        execution = {"execution_id": ID, "state": "running"}
        session = {"session_id": "s-1", "name": "x", "kernel": "python3", "kernel_state": "idle"}
        broker.answers = {
            **dict.fromkeys(("execute", "wait", "get_execution", "interrupt"), execution),
            "list_executions": {"executions": [execution]},
            "list_async_executions": {"executions": [execution]},
            **dict.fromkeys(("create_session", "get_session", "restart_session", "close_session"), session),
            "get_async_log": {"events": [], "seq": 3, "eof": True},
            "get_progress": {"execution_id": ID, "text": "", "seq": 3, "state": "running"},
            "send_stdin": {"delivered": 1, "queued": 0},
            "kill": {"killed": [execution]},
            "clear_history": {"cleared": 3, "seq": 9},
            "list_sessions": {"sessions": [session]},
            "list_kernelspecs": {"kernelspecs": [{"name": "python3", "default": True}]},
        }
        given = {"execute": ["1"], "send_stdin": [ID, "yes"], "kill": [], "create_session": []}
        for name in broker.answers:
            arguments = given.get(name)
            if arguments is None:
                subject = "x" if name.endswith("_session") else ID
                arguments = [] if name.startswith("list_") else [subject]
            assert await getattr(client, name)(*arguments), name
        assert [method for method, _ in broker.calls] == list(broker.answers)

    @pytest.mark.parametrize(
        ("type", "kind"),
        [
            ("unknown_execution", c.UnknownExecution),
            ("unknown_session", c.UnknownSession),
            ("unknown_kernelspec", c.UnknownKernelspec),
            ("kernel_start_failed", c.KernelStartFailed),
            ("session_busy", c.SessionBusy),
            ("not_waiting", c.NotWaiting),
            ("stdin_closed", c.StdinClosed),
            ("working_directory_missing", c.WorkingDirectoryMissing),
            ("idempotency_conflict", c.IdempotencyConflict),
            ("limit_reached", c.LimitReached),
            ("of_a_later_version", c.RequestFailed),
        ],
    )
    async def test_an_error_is_of_the_kind_that_its_type_says(
        self, broker: FakeBroker, client: Client, type: str, kind: type[c.RequestFailed]
    ) -> None:
        broker.answers["interrupt"] = refuse(-32000, "do this instead", type=type, more=1)
        with pytest.raises(kind, match="do this instead") as raised:
            await client.interrupt(ID)
        assert (raised.value.code, raised.value.type, raised.value.data) == (-32000, type, {"more": 1})

    async def test_json_rpcs_own_errors_and_unauthorized_have_kinds_too(
        self, broker: FakeBroker, client: Client
    ) -> None:
        broker.answers["interrupt"] = refuse(-32602, "execution_id: not a string")
        with pytest.raises(c.InvalidRequest):
            await client.interrupt(ID)
        broker.answers["interrupt"] = refuse(-32010, "no", type="unauthorized")
        with pytest.raises(c.Unauthorized):
            await client.interrupt(ID)

    async def test_replies_in_another_order_reach_their_callers(self, broker: FakeBroker, client: Client) -> None:
        first_may_go = asyncio.Event()

        async def answer(params: dict[str, Any]) -> dict[str, Any]:
            if params["execution_id"] == "first":
                await first_may_go.wait()
            return {"execution_id": params["execution_id"], "state": "completed"}

        broker.answers["wait"] = answer
        first = asyncio.create_task(client.wait("first"))
        assert (await client.wait("second")).execution_id == "second"
        first_may_go.set()
        assert (await first).execution_id == "first"

    async def test_a_call_that_is_given_up_leaves_the_connection_usable(
        self, broker: FakeBroker, client: Client
    ) -> None:
        may_go = asyncio.Event()

        async def answer(params: dict[str, Any]) -> dict[str, Any]:
            await may_go.wait()
            return {"execution_id": ID, "state": "completed"}

        broker.answers["wait"] = answer
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.wait(ID), 0.05)
        may_go.set()
        assert (await client.wait(ID)).ended


class TestConnecting:
    async def test_the_token_is_in_a_header_and_in_no_url(self, broker: FakeBroker, client: Client) -> None:
        assert broker.authorizations == [f"Bearer {TOKEN}"]
        assert broker.paths == ["/api/broker/v1/ws"]

    async def test_a_wrong_token_is_unauthorized(self, broker: FakeBroker) -> None:
        with pytest.raises(c.Unauthorized, match=r"401.*the token is wrong"):
            async with Client.connect(broker.url, "wrong"):
                pass

    async def test_a_token_for_a_url_may_be_in_the_environment(
        self, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JUPYTER_BROKER_TOKEN", TOKEN)
        async with Client.connect(broker.url.rstrip("/")):
            pass

    async def test_nobody_there_is_connection_failed(self, broker: FakeBroker) -> None:
        await broker.stop()
        with pytest.raises(c.ConnectionFailed, match="cannot be reached"):
            async with Client.connect(broker.url, TOKEN):
                pass

    async def test_a_websocket_that_is_no_broker_is_connection_failed(self, broker: FakeBroker) -> None:
        broker.subprotocols = []
        with pytest.raises(c.ConnectionFailed):
            async with Client.connect(broker.url, TOKEN):
                pass

    async def test_without_a_broker_the_error_says_how_to_start_one(self, known_directory: Path) -> None:
        with pytest.raises(c.NoBroker, match=f"{known_directory}; start one with `jupyter broker serve`"):
            async with Client.connect(data_dir=known_directory):
                pass

    async def test_a_client_that_was_not_entered_says_so(self) -> None:
        with pytest.raises(c.ConnectionLost, match="async with"):
            await Client("http://127.0.0.1:1/", "t").list_sessions()


class TestCuts:
    async def test_execute_is_sent_again_with_the_same_request_id(self, broker: FakeBroker, client: Client) -> None:
        async def answer(params: dict[str, Any]) -> dict[str, Any]:
            if len(broker.calls) == 1:
                broker.cut()
            return {"execution_id": ID, "state": "completed"}

        broker.answers["execute"] = answer
        assert (await client.execute("1")).execution_id == ID
        (_, first), (_, second) = broker.calls
        assert first == second
        assert first["request_id"]

    async def test_executions_of_ones_own_have_request_ids_of_their_own(
        self, broker: FakeBroker, client: Client
    ) -> None:
        broker.answers["execute"] = {"execution_id": ID, "state": "completed"}
        await client.execute("1")
        await client.execute("1")
        await client.execute("1", request_id="mine")
        ids = [params["request_id"] for _, params in broker.calls]
        assert len(set(ids)) == 3
        assert ids[2] == "mine"

    async def test_what_changes_something_is_not_sent_again_and_the_next_call_reconnects(
        self, broker: FakeBroker, client: Client
    ) -> None:
        broker.answers["interrupt"] = lambda _: broker.cut()
        with pytest.raises(c.ConnectionLost):
            await client.interrupt(ID)
        broker.answers["interrupt"] = {"execution_id": ID, "state": "interrupted"}
        assert (await client.interrupt(ID)).ended
        assert len(broker.calls) == 2

    async def test_a_broker_that_comes_back_elsewhere_is_found_again(
        self, broker: FakeBroker, known_directory: Path
    ) -> None:
        publish(broker, known_directory)
        async with Client.connect(data_dir=known_directory) as client:
            await client.get_execution(ID)
            await broker.stop()
            call = asyncio.create_task(client.get_execution(ID))
            await broker.start()
            publish(broker, known_directory)
            assert (await call).execution_id == ID

    async def test_a_broker_that_does_not_come_back_is_given_up(self, broker: FakeBroker) -> None:
        async with Client.connect(broker.url, TOKEN, reconnect_for=0.2) as client:
            await broker.stop()
            with pytest.raises(c.ConnectionFailed, match="cannot be reached"):
                await client.get_execution(ID)

    async def test_closing_ends_the_calls_under_way(self, broker: FakeBroker) -> None:
        called = asyncio.Event()

        async def never(_: Any) -> None:
            called.set()
            await asyncio.Event().wait()

        broker.answers["kill"] = never
        async with Client.connect(broker.url, TOKEN) as client:
            call = asyncio.create_task(client.kill())
            await called.wait()
        with pytest.raises(c.ConnectionLost, match="closed"):
            await call


class TestStream:
    async def test_it_replays_then_goes_on_live_and_ends_with_the_execution(
        self, broker: FakeBroker, client: Client
    ) -> None:
        await broker.append("execution_queued", code="1")
        stream = client.stream(ID)
        assert (await anext(stream)).data == {"code": "1"}
        await broker.append("output", "execution_finished", "output")
        assert [(event.n, event.type) for event in await collect(stream)] == [(2, "output"), (3, "execution_finished")]

    async def test_an_event_goes_back_to_what_it_was_on_the_wire(self, broker: FakeBroker, client: Client) -> None:
        await broker.append("output", content={"text": "x"})
        (event,) = await collect(client.stream(ID), 1)
        assert event.to_wire() == broker.events[0]

    @pytest.mark.parametrize("seed", range(8))
    async def test_connections_cut_anywhere_leave_no_hole_and_no_repeat(self, broker: FakeBroker, seed: int) -> None:
        chance = random.Random(seed)
        broker.cut_after = lambda: chance.randint(1, 12)
        broker.repeat = chance.random() < 0.5
        broker.skip = {3 * n for n in chance.sample(range(1, 60), 5)}

        async def print_on() -> None:
            for _ in range(60):
                await broker.append("output")
                await asyncio.sleep(chance.random() * 0.005)
            await broker.append("execution_finished")

        async with Client.connect(broker.url, TOKEN) as client:
            printing = asyncio.create_task(print_on())
            events = await collect(client.stream(ID))
            await printing
        assert [event.n for event in events] == list(range(1, 62))
        assert [event.seq for event in events] == [event["seq"] for event in broker.events]

    async def test_it_goes_on_from_its_seq_with_a_broker_that_moved(
        self, broker: FakeBroker, known_directory: Path
    ) -> None:
        publish(broker, known_directory)
        await broker.append("execution_queued", "output")
        async with Client.connect(data_dir=known_directory) as client:
            stream = client.stream(ID)
            assert [(await anext(stream)).n, (await anext(stream)).n] == [1, 2]
            await broker.stop()
            rest = asyncio.create_task(collect(stream))
            await broker.append("output", "execution_finished")
            await broker.start()
            publish(broker, known_directory)
            assert [event.n for event in await rest] == [3, 4]

    async def test_a_hole_that_the_journal_itself_has_is_passed_over(self, broker: FakeBroker, client: Client) -> None:
        await broker.append("execution_queued", *["output"] * 5, "history_cleared", "output")
        del broker.events[1:6]
        stream = client.stream(ID)
        assert [(await anext(stream)).n for _ in range(3)] == [1, 7, 8]
        await broker.append("execution_finished")
        assert [event.n for event in await collect(stream)] == [9]

    @pytest.mark.parametrize("after", [3 * 20, 3 * 21, 3 * 22, 999])
    async def test_of_an_execution_that_is_over_it_gives_what_there_is_and_ends(
        self, broker: FakeBroker, client: Client, after: int
    ) -> None:
        await broker.append(*["output"] * 20, "execution_finished", "output")
        events = await collect(client.stream(ID, after=after))
        assert [event.n for event in events] == {60: [21], 63: [22]}.get(after, [])

    async def test_of_an_execution_that_is_over_all_pages_are_read(self, broker: FakeBroker, client: Client) -> None:
        await broker.append(*["output"] * 20, "execution_finished")
        assert [event.n for event in await collect(client.stream(ID))] == list(range(1, 22))

    async def test_with_follow_it_goes_on_after_the_end(self, broker: FakeBroker, client: Client) -> None:
        await broker.append("execution_queued", "execution_finished")
        stream = client.stream(ID, follow=True)
        assert [(await anext(stream)).n, (await anext(stream)).n] == [1, 2]
        await broker.append("output")
        assert (await anext(stream)).n == 3
        await stream.aclose()

    async def test_from_now_on_means_that_and_stays_so_over_a_cut(self, broker: FakeBroker, client: Client) -> None:
        await broker.append("execution_queued", "output")
        stream = client.stream(session="s-1", after=None)
        first = asyncio.create_task(anext(stream))
        await broker.until(lambda: len(broker.calls) == 1)
        broker.cut()
        await broker.until(lambda: len(broker.calls) == 2)
        await broker.append("output")
        assert (await first).n == 3
        assert broker.calls == [("subscribe", {"session": "s-1", "after": 6})] * 2
        await stream.aclose()

    async def test_of_a_session_what_is_sent_twice_is_given_once(self, broker: FakeBroker, client: Client) -> None:
        broker.repeat = True
        await broker.append("execution_queued", "output", "execution_finished")
        assert [event.n for event in await collect(client.stream(session="s-1"), 3)] == [1, 2, 3]

    async def test_an_unknown_execution_raises(self, broker: FakeBroker, client: Client) -> None:
        broker.answers["get_execution"] = refuse(-32000, "there is none", type="unknown_execution")
        with pytest.raises(c.UnknownExecution):
            await collect(client.stream(ID))

    async def test_a_broker_that_cuts_every_connection_at_once_is_given_up(self, broker: FakeBroker) -> None:
        broker.answers["get_execution"] = lambda _: broker.cut()
        async with Client.connect(broker.url, TOKEN, reconnect_for=0.3) as client:
            with pytest.raises(c.ConnectionLost):
                await collect(client.stream(ID))

    async def test_a_slow_reader_makes_the_broker_wait_and_can_still_call_it(
        self, broker: FakeBroker, client: Client
    ) -> None:
        size = 10_000
        await broker.append(*["output"] * 5000, content={"text": "x" * size})
        stream = client.stream(ID)
        await anext(stream)
        sent = -1
        while sent != broker.sent:
            sent = broker.sent
            await asyncio.sleep(0.2)
            assert (await client.get_execution(ID)).state == "running"
        # The socket buffers of the two ends hold a few megabytes; 50 MB were printed.
        assert sent * size < 20e6
        await broker.append("execution_finished")
        events = await collect(stream)
        assert [event.n for event in events] == list(range(2, 5002))

    async def test_leaving_early_ends_its_connection(self, broker: FakeBroker, client: Client) -> None:
        await broker.append(*["output"] * 1000, content={"text": "x" * 10_000})
        stream = client.stream(ID)
        await anext(stream)
        began = time.monotonic()
        await stream.aclose()
        assert time.monotonic() - began < 5
        await broker.until(lambda: len(broker.connections) == 1)


class TestReports:
    async def test_each_report_goes_to_the_callbacks_until_they_are_taken_back(
        self, broker: FakeBroker, client: Client
    ) -> None:
        reports: asyncio.Queue[c.Report] = asyncio.Queue()
        stop = client.on_report(reports.put_nowait)
        client.on_report(lambda report: 1 / 0)
        running = {"execution_id": ID, "state": "running", "lines": 3, "new": True}
        await broker.notify("execution_report", {"time": "t", "executions": [running]})
        report = await asyncio.wait_for(reports.get(), PATIENCE)
        assert report.executions[0].lines == 3
        stop()
        await broker.notify("execution_report", {"time": "t", "executions": []})
        await client.get_execution(ID)
        assert reports.empty()

    async def test_they_go_on_over_a_cut(self, broker: FakeBroker, client: Client) -> None:
        reports: asyncio.Queue[c.Report] = asyncio.Queue()
        client.on_report(reports.put_nowait)
        await client.get_execution(ID)
        broker.cut()
        async with asyncio.timeout(PATIENCE):
            while reports.empty():
                try:
                    await broker.notify("execution_report", {"time": "t", "executions": []})
                except ConnectionClosed:
                    pass
                await asyncio.sleep(0.01)


class TestSyncClient:
    def test_it_has_every_method_of_the_client_with_its_signature_and_its_words(self) -> None:
        names = [name for name, value in vars(Client).items() if inspect.isfunction(value) and name[0] != "_"]
        for name in names:
            asynchronous, blocking = getattr(Client, name), getattr(SyncClient, name)
            ours, theirs = inspect.signature(blocking).parameters, inspect.signature(asynchronous).parameters
            assert list(ours) == list(theirs), name
            assert [p.default for p in ours.values()] == [p.default for p in theirs.values()], name
            assert blocking.__doc__, name
        assert "execute" in names

    async def test_it_calls_streams_and_fails_as_the_client_does(self, broker: FakeBroker) -> None:
        broker.answers["interrupt"] = refuse(-32000, "there is none", type="unknown_execution")
        broker.cut_after = lambda: 100
        await broker.append(*["output"] * 500)

        def work() -> tuple[list[int], list[int]]:
            with SyncClient.connect(broker.url, TOKEN) as client:
                assert client.get_execution(ID).state == "running"
                with pytest.raises(c.UnknownExecution):
                    client.interrupt(ID)
                left_early = [event.n or 0 for event, _ in zip(client.stream(ID), range(3), strict=False)]
                stream = client.stream(ID)
                first = next(stream).n
                asyncio.run_coroutine_threadsafe(broker.append("execution_finished"), loop).result()
                return left_early, [first or 0, *(event.n or 0 for event in stream)]

        loop = asyncio.get_running_loop()
        left_early, rest = await asyncio.to_thread(work)
        assert left_early == [1, 2, 3]
        assert rest == list(range(1, 502))

    async def test_an_error_ends_a_stream_with_it(self, broker: FakeBroker) -> None:
        broker.answers["get_execution"] = refuse(-32000, "there is none", type="unknown_execution")

        def work() -> None:
            with SyncClient.connect(broker.url, TOKEN) as client:
                with pytest.raises(c.UnknownExecution):
                    next(client.stream(ID))
                open_at_the_end = client.stream(session="s-1")
                assert open_at_the_end

        await asyncio.to_thread(work)

    async def test_a_connection_that_fails_leaves_no_thread(self, broker: FakeBroker) -> None:
        client = SyncClient(broker.url, "wrong")

        def work() -> None:
            with pytest.raises(c.Unauthorized), client:
                pass

        await asyncio.to_thread(work)
        with pytest.raises(RuntimeError, match="not open"):
            client.list_sessions()
