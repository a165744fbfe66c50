"""jupyter-broker, over its WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from typing import Any, ClassVar

import broker

from ...running import BrokerProcess, CallFailed, Wire, connect, text_of
from ..installs import Installs
from ..peer import Peer, Refused, Result, Run
from ._process import short

WAIT = 3


class Broker(Peer):
    name = "jupyter-broker"
    key = "request_id"
    driven: ClassVar[dict[str, str]] = {
        "call": f"`execute(code, wait={WAIT})`",
        "begin": "`execute(code, wait=0)`",
        "read": "`wait`, then `get_async_log` from the first event",
        "input": "`send_stdin`",
        "interrupt": "`interrupt(execution_id)`",
        "client": "the WebSocket is reset, and another one opened",
        "killed": "SIGKILL for `jupyter broker serve`; started again on its data",
    }

    async def start(self) -> None:
        self._process = BrokerProcess()
        await asyncio.to_thread(self._process.start)
        await self.come_back()
        await self._call("create_session", name="s")

    async def stop(self) -> None:
        with contextlib.suppress(Exception):
            await self._wire.close()
        await asyncio.to_thread(self._process.destroy)
        shutil.rmtree(self._process.root, ignore_errors=True)

    async def call(self, code: str) -> Run:
        return Run((await self._call("execute", code=code, session="s", wait=WAIT))["execution_id"])

    async def begin(self, code: str, *, key: str | None = None, queue: bool = False) -> Run:
        more: dict[str, Any] = {"request_id": key} if key else {}
        if queue:
            more["on_busy"] = "queue"
        return Run((await self._call("execute", code=code, session="s", wait=0, **more))["execution_id"])

    async def so_far(self, run: Run) -> str:
        return str((await self._call("get_execution", execution_id=run.name))["text"])

    async def result(self, run: Run) -> Result:
        while True:
            execution = await self._call("wait", execution_id=run.name, wait=30)
            if execution["finished_at"] is not None:
                break
        error = execution["error"]["ename"] if execution["error"] else None
        if error is None and execution["state"] != "completed":
            error = execution["state"]
        return Result(text_of(await self._wire.events(run.name)), error)

    async def asked(self, run: Run) -> None:
        while (await self._call("wait", execution_id=run.name, wait=30))["state"] != "awaiting_input":
            pass

    async def send(self, run: Run, line: str) -> None:
        await self._call("send_stdin", execution_id=run.name, data=line)

    async def interrupt(self, run: Run) -> None:
        await self._call("interrupt", execution_id=run.name)

    async def leave(self) -> None:
        self._wire.socket.transport.abort()

    async def come_back(self) -> None:
        self._opened = connect(self._process.url)
        self._wire: Wire = await self._opened.__aenter__()

    async def kill(self) -> None:
        await asyncio.to_thread(self._process.stop, signal.SIGKILL)

    async def revive(self) -> None:
        await asyncio.to_thread(self._process.start)
        await self.come_back()

    @classmethod
    def installed(cls, installs: Installs) -> str:
        return broker.__version__

    async def _call(self, method: str, **params: Any) -> Any:
        try:
            return await self._wire.call(method, **params)
        except CallFailed as failed:
            raise Refused(short(failed.message)) from None
