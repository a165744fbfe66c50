"""Stock Jupyter Server: a kernel's messages over its WebSocket, as JupyterLab has them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import Any, ClassVar

import websockets

from ..installs import Installs, version_of
from ..peer import Peer, Refused, Result, Run
from ._process import TOKEN
from ._server import VERSIONS, Server

ENVIRONMENT = ("jupyter-server", VERSIONS)
QUIET = 5.0
"""Seconds after a reply in which its ``status: idle`` may still come: it can be lost."""


class JupyterServer(Peer):
    name = "Jupyter Server"
    key = "the `msg_id`"
    driven: ClassVar[dict[str, str]] = {
        "call": "`execute_request` on the kernel's WebSocket",
        "begin": "the same",
        "read": "the messages that the server sends, until `execute_reply` and `status: idle`",
        "input": "`input_reply`",
        "interrupt": "`POST api/kernels/ID/interrupt`, which names the kernel",
        "client": "the WebSocket is reset, and another one opened with the same `session_id`",
        "killed": "SIGKILL for Jupyter Server; started again on its directories",
    }
    _ids = itertools.count(1)

    async def start(self) -> None:
        self._server = Server(self.installs.python(*ENVIRONMENT), self.root)
        self._runs: dict[str, dict[str, Any]] = {}
        await self._server.start()
        await self._server.start_kernel()
        await self.come_back()

    async def stop(self) -> None:
        with contextlib.suppress(Exception):
            self._reader.cancel()
            self._socket.transport.abort()
        await self._server.stop()

    async def call(self, code: str) -> Run:
        return await self.begin(code)

    async def begin(self, code: str, *, key: str | None = None, queue: bool = False) -> Run:
        msg_id = key or f"run-{next(self._ids)}"
        self._runs.setdefault(msg_id, {"text": [], "reply": None, "idle": False, "prompt": False, "gone": ""})
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
        await self._send("shell", "execute_request", content, msg_id)
        return Run(msg_id)

    async def so_far(self, run: Run) -> str:
        return "".join(self._runs[run.name]["text"])

    async def result(self, run: Run) -> Result:
        seen = self._runs[run.name]
        await self._until(lambda: seen["gone"] or seen["reply"] is not None)
        if seen["reply"] is None:
            return Result("".join(seen["text"]), seen["gone"])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(lambda: seen["idle"]), QUIET)
        reply = seen["reply"]
        error = None if reply["status"] == "ok" else reply.get("ename", reply["status"])
        return Result("".join(seen["text"]), error)

    async def again(self, run: Run) -> Result:
        """A new client, with the same ``session_id``, to which the server owes what the first one got."""
        await self.leave()
        self._runs[run.name] = {"text": [], "reply": None, "idle": False, "prompt": False, "gone": ""}
        await self.come_back()
        try:
            return await asyncio.wait_for(self.result(run), 3)
        except TimeoutError:
            raise Refused("no call asks for it, and to a new connection nothing is sent again") from None

    async def asked(self, run: Run) -> None:
        seen = self._runs[run.name]
        await self._until(lambda: seen["prompt"])

    async def send(self, run: Run, line: str) -> None:
        await self._send("stdin", "input_reply", {"value": line}, f"input-{next(self._ids)}")

    async def interrupt(self, run: Run) -> None:
        await self._server.interrupt()

    async def leave(self) -> None:
        self._reader.cancel()
        self._socket.transport.abort()

    async def come_back(self) -> None:
        kernel = f"ws://127.0.0.1:{self._server.port}/api/kernels/{self._server.kernel_id}"
        try:
            self._socket = await websockets.connect(
                f"{kernel}/channels?session_id=comparison",
                additional_headers={"Authorization": f"token {TOKEN}"},
                compression=None,
                max_size=None,
                ping_interval=None,
                open_timeout=70,
            )
        except websockets.InvalidStatus as refused:
            raise Refused(f"the kernel's WebSocket: HTTP {refused.response.status_code}") from None
        self._news = asyncio.Condition()
        self._reader = asyncio.ensure_future(self._read())

    async def kill(self) -> None:
        self._server.process.kill()

    async def revive(self) -> None:
        await self._server.start()
        await self.come_back()

    @classmethod
    def installed(cls, installs: Installs) -> str:
        return version_of(installs.python(*ENVIRONMENT), "jupyter_server")

    async def _send(self, channel: str, kind: str, content: dict[str, Any], msg_id: str) -> None:
        header = {"msg_id": msg_id, "msg_type": kind, "version": "5.3", "username": "", "session": "comparison"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}
        try:
            await self._socket.send(json.dumps(message))
        except websockets.ConnectionClosed:
            raise Refused("the kernel's WebSocket is closed") from None

    async def _read(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for frame in self._socket:
                message = json.loads(frame)
                self._hear(message)
                async with self._news:
                    self._news.notify_all()
        for seen in self._runs.values():
            seen["gone"] = "the WebSocket was closed"
        async with self._news:
            self._news.notify_all()

    def _hear(self, message: dict[str, Any]) -> None:
        content, kind = message["content"], message["header"]["msg_type"]
        if kind == "status" and content["execution_state"] in {"restarting", "dead"}:
            for seen in self._runs.values():
                if seen["reply"] is None:
                    seen["gone"] = f"status: {content['execution_state']}"
        msg_id = message["parent_header"].get("msg_id")
        if msg_id not in self._runs:
            return
        seen = self._runs[msg_id]
        if kind == "stream":
            seen["text"].append(content["text"])
        elif kind == "input_request":
            seen["prompt"] = True
        elif kind == "execute_reply":
            seen["reply"] = content
        elif kind == "status" and content["execution_state"] == "idle":
            seen["idle"] = True

    async def _until(self, holds: Any) -> None:
        async with self._news:
            await self._news.wait_for(holds)
