"""A real broker in a process of its own, and a bare client for its WebSocket: no code of ours between test and wire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import websockets

TOKEN = "a-token-for-tests"
PATIENCE = 60.0
"""Seconds that a condition has to come true. Generous: the machine may be busy."""


class BrokerProcess:
    """``jupyter broker serve`` with directories of its own. Can be stopped, killed and started again on its data."""

    def __init__(self, *arguments: str) -> None:
        # Not pytest's tmp_path: the paths of Unix sockets must be short.
        self.root = Path(tempfile.mkdtemp(prefix="jb-"))
        self.arguments = arguments
        self.environment = {
            **os.environ,
            "JUPYTER_BROKER_TOKEN": TOKEN,
            "JUPYTER_DATA_DIR": str(self.root / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.root / "run"),
            "JUPYTER_CONFIG_DIR": str(self.root / "config"),
            "IPYTHONDIR": str(self.root / "ipython"),
            "PYTHONWARNINGS": "ignore",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.root / "broker.log"
        self.url = ""

    def start(self) -> BrokerProcess:
        """Start it, and return when it listens."""
        ready, says = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "broker", "serve", "--port=0", f"--ready-fd={says}", *self.arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[says],
                cwd=self.root,
            )
        os.close(says)
        with os.fdopen(ready) as pipe:
            if not pipe.readline():
                raise AssertionError(f"the broker did not start:\n{self.log.read_text()}")
        info = next((self.root / "run").glob("jupyter-broker-*.json"))
        self.url = json.loads(info.read_text())["url"]
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def data_dir(self) -> Path:
        return self.root / "data" / "broker"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal, and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def kernels(self) -> list[psutil.Process]:
        """Every kernel that it has started, and what those have started, that still runs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                # A process that kernels are forked from has dashes in place of an id.
                id = environment.get("JUPYTER_BROKER_KERNEL_ID", "-")
                if not id.startswith("-") and environment.get("JUPYTER_DATA_DIR") == str(self.root / "data"):
                    found.append(process)
        return found

    def destroy(self) -> None:
        """End it and all its kernels, and remove its files."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        for process in self.kernels():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def connect(self) -> contextlib.AbstractAsyncContextManager[Wire]:
        return connect(self.url)

    def request(
        self, path: str, *, data: bytes | None = None, headers: dict[str, str] | None = None, token: str | None = TOKEN
    ) -> tuple[int, dict[str, str], bytes]:
        """One HTTP request: status, headers, body."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        request = urllib.request.Request(self.url + path, data=data, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()


class CallFailed(Exception):
    """An error object came back."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error.get("data", {})
        self.type: str | None = self.data.get("type")


class Wire:
    """One WebSocket, JSON-RPC as it is written in the contract."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.notifications: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._news = asyncio.Condition()
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                decoded = json.loads(message)
                if "method" in decoded:
                    async with self._news:
                        self.notifications.append(decoded)
                        self._news.notify_all()
                elif (call := self._calls.pop(decoded["id"], None)) is not None:
                    call.set_result(decoded)
        except websockets.ConnectionClosed:
            pass
        finally:
            for call in self._calls.values():
                if not call.done():
                    call.set_exception(ConnectionError("the connection was closed"))

    def begin(self, method: str, **params: Any) -> asyncio.Task[Any]:
        """Send a call now, and return the task that has its result."""
        return asyncio.ensure_future(self.call(method, **params))

    async def call(self, method: str, **params: Any) -> Any:
        """Call, and return the result.

        Raises:
            CallFailed: the answer is an error.
        """
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        await self.socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        decoded = await answer
        if "error" in decoded:
            raise CallFailed(decoded["error"])
        return decoded["result"]

    async def execute(self, code: str, **params: Any) -> Any:
        return await self.call("execute", code=code, **params)

    async def events(self, execution_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Everything that is on record of an execution."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.call("get_async_log", execution_id=execution_id, after=after)
            found += page["events"]
            after = page["seq"]
            if page["eof"]:
                return found

    async def notified(self, wanted: Callable[[dict[str, Any]], bool], *, patience: float = PATIENCE) -> dict[str, Any]:
        """The first notification, of those that have come or will, that is wanted."""
        async with asyncio.timeout(patience), self._news:
            await self._news.wait_for(lambda: any(map(wanted, self.notifications)))
        return next(filter(wanted, self.notifications))

    async def event(self, wanted: Callable[[dict[str, Any]], bool], *, patience: float = PATIENCE) -> dict[str, Any]:
        """The first event sent to a subscription of this connection that is wanted."""
        found = await self.notified(
            lambda n: n["method"] == "event" and wanted(n["params"]["event"]), patience=patience
        )
        return found["params"]["event"]

    async def until(
        self, execution_id: str, holds: Callable[[dict[str, Any]], bool], *, patience: float = PATIENCE
    ) -> dict[str, Any]:
        """Read the journal along until ``holds`` of an execution."""
        async with asyncio.timeout(patience):
            subscription = await self.call("subscribe", execution_id=execution_id)
            try:
                while True:
                    seen = len(self.notifications)
                    execution = await self.call("get_execution", execution_id=execution_id)
                    if holds(execution):
                        return execution
                    async with self._news:
                        await self._news.wait_for(lambda seen=seen: len(self.notifications) > seen)
            finally:
                await self.call("unsubscribe", subscription=subscription["subscription"])

    async def done(self, execution_id: str) -> dict[str, Any]:
        """The execution, once it is over."""
        while True:
            execution = await self.call("wait", execution_id=execution_id, wait=PATIENCE)
            if execution["finished_at"] is not None:
                return execution
            assert execution["state"] != "awaiting_input", "it asks for input"

    async def close(self) -> None:
        await self.socket.close()
        await self._reader


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncIterator[Wire]:
    socket = await websockets.connect(
        url.replace("http", "ws", 1) + "api/broker/v1/ws",
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
        subprotocols=[websockets.Subprotocol("broker.v1")],
        compression=None,
        max_size=None,
    )
    wire = Wire(socket)
    try:
        yield wire
    finally:
        await wire.close()


def text_of(events: list[dict[str, Any]]) -> str:
    """What was printed, from the events."""
    return "".join(
        event["content"]["text"] for event in events if event["type"] == "output" and event["msg_type"] == "stream"
    )


def assert_whole(events: list[dict[str, Any]]) -> None:
    """One execution's events: counted from 1 with no hole, in order, and its end is said once."""
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    assert sum(event["type"] == "execution_finished" for event in events) <= 1
