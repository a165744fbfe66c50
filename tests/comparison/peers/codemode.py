"""The npm package codemode-agent: its MCP server ``code-mode.js --nomcp`` over stdio, and its one tool, ``execute``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, ClassVar

import psutil

from ..installs import Installs
from ..peer import Peer, Refused, Result, Run
from ._process import short

PACKAGE = "codemode-agent"
VERSION = "2.3.24"
MOVED = "Execution moved to async mode"


class CodemodeAgent(Peer):
    name = "codemode-agent"
    language = "javascript"
    patience = 30
    settable = False
    driven: ClassVar[dict[str, str]] = {
        "call": "`execute(code)`, whose handover after 30 s cannot be set",
        "begin": "the same, its answer awaited later",
        "read": "the answer, or after a handover `get_async_log`",
        "input": "`send_stdin`; the code awaits `readStdin(id)`",
        "interrupt": "`kill` with the execution's id",
        "client": "its stdin and stdout are closed; a new one is started",
        "killed": "SIGKILL for `code-mode.js`; a new one is started",
    }

    async def start(self) -> None:
        self._folder = self.installs.npm(PACKAGE, VERSION)
        self._offspring: dict[int, psutil.Process] = {}
        self._wires: list[Answers] = []
        await self.come_back()

    async def stop(self) -> None:
        self._remember()
        for process in self._offspring.values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for wire in self._wires:
            await wire.ended.wait()

    def next_name(self) -> str:
        return str(self._executions)

    async def call(self, code: str) -> Run:
        run = await self.begin(code)
        assert run.answer is not None
        await run.answer
        return run

    async def begin(self, code: str, *, key: str | None = None, queue: bool = False) -> Run:
        # The server counts executions from 0, in the order in which they come.
        name = str(self._executions)
        self._executions += 1
        arguments = {"workingDirectory": str(self.root), "code": code}
        answer = asyncio.ensure_future(self._ask("tools/call", {"name": "execute", "arguments": arguments}))
        # A run may end when nobody asks any more.
        answer.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return Run(name, answer, self._transport)

    async def so_far(self, run: Run) -> str:
        return await self._action("get_progress", run.name)

    async def result(self, run: Run) -> Result:
        if run.given_to is not self._transport:
            return Result(await self._action("get_async_log", run.name))
        assert run.answer is not None
        answer = await asyncio.shield(run.answer)
        text = _text(answer)
        if text.startswith(MOVED):
            return Result(await self._action("get_async_log", run.name))
        lines = text.splitlines()
        errors = [line for line in lines if line.startswith("Error: ")]
        error = short(errors[0].removeprefix("Error: ")) if answer.get("isError") and errors else None
        return Result(text, error or ("an error" if answer.get("isError") else None))

    async def again(self, run: Run) -> Result:
        return Result(await self._action("get_async_log", run.name))

    async def asked(self, run: Run) -> None:
        """Nothing on the protocol tells of a prompt: its log says so, which people may see."""
        while "Execution is waiting for stdin" not in (self.root / "log").read_text():
            assert run.answer is not None
            if run.answer.done():
                raise Refused("nothing tells of a prompt")
            await asyncio.sleep(0.1)

    async def send(self, run: Run, line: str) -> None:
        await self._action("send_stdin", run.name, stdinData=line)

    async def interrupt(self, run: Run) -> None:
        await self._action("kill", run.name)

    async def leave(self) -> None:
        self._remember()
        for pipe in (0, 1):
            self._transport.get_pipe_transport(pipe).close()  # type: ignore[union-attr]

    async def come_back(self) -> None:
        self._executions = 0
        self._requests = 0
        with (self.root / "log").open("ab") as log:
            self._transport, self._wire = await asyncio.get_running_loop().subprocess_exec(
                Answers, "node", str(self._folder / "code-mode.js"), "--nomcp", cwd=self.root, stderr=log
            )
        self._wires.append(self._wire)
        client = {"name": "comparison", "version": "1"}
        await self._ask("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client})
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def kill(self) -> None:
        self._remember()
        self._transport.kill()
        await self._wire.ended.wait()

    async def revive(self) -> None:
        await self.come_back()

    @classmethod
    def installed(cls, installs: Installs) -> str:
        manifest = installs.npm(PACKAGE, VERSION) / "package.json"
        return str(json.loads(manifest.read_text())["version"])

    def _remember(self) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._transport.get_pid())
            for one in (process, *process.children(recursive=True)):
                self._offspring[one.pid] = one

    async def _action(self, action: str, run: str, **more: str) -> str:
        arguments = {"action": action, "executionId": run, **more}
        answer = await self._ask("tools/call", {"name": "execute", "arguments": arguments})
        if answer.get("isError"):
            raise Refused(f"`{action}`: {short(_text(answer))}")
        return _text(answer)

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._requests += 1
        number = self._requests
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._wire.answers[number] = future
        self._write({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answer = await future
        if "error" in answer:
            action = params.get("arguments", {}).get("action")
            raise Refused(f"`{action or method}`: {short(answer['error']['message'])}")
        result: dict[str, Any] = answer["result"]
        return result

    def _write(self, message: dict[str, Any]) -> None:
        self._transport.get_pipe_transport(0).write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]


class Answers(asyncio.SubprocessProtocol):
    """The answers on its stdout. What else is there is no protocol, and is passed over."""

    def __init__(self) -> None:
        self.answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.ended = asyncio.Event()
        self._tail: list[bytes] = []

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, tail = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._tail, lines[0]])
            self._tail = [tail]
        else:
            self._tail.append(tail)
        for line in lines:
            if line.startswith(b'{"'):
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return
        future = self.answers.pop(message.get("id", -1), None)
        if future is not None and not future.done():
            future.set_result(message)

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        for future in self.answers.values():
            if not future.done():
                future.set_exception(Refused("the server's stdout was closed"))
                future.exception()

    def process_exited(self) -> None:
        self.ended.set()


def _text(answer: dict[str, Any]) -> str:
    return "".join(part.get("text") or "" for part in answer["content"])
