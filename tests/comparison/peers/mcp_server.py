"""jupyter-mcp-server over streamable HTTP, beside a Jupyter Server: its tool ``execute_code``, and its tasks."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, ClassVar

from ..installs import Installs, version_of
from ..peer import NoSuchCall, Peer, Refused, Result, Run
from ._process import TOKEN, Http, Process, free_port, short
from ._server import VERSIONS, Server

ENVIRONMENT = ("mcp-server", ["jupyter-mcp-server==2.2.4", *VERSIONS])
PROTOCOL = "2026-07-28"
"""The version of MCP under which the server answers a call that asks for a task."""
TIMEOUT = 3
LONGEST = 3600
POLL = 0.5
META = "io.modelcontextprotocol/"
KEY = "io.datalayer/idempotency-key"


class JupyterMCPServer(Peer):
    name = "jupyter-mcp-server"
    beside = "As a task"
    key = f"`{KEY}`"
    driven: ClassVar[dict[str, str]] = {
        "call": f"`execute_code(code, timeout={TIMEOUT})`",
        "begin": f"`execute_code(code, timeout={LONGEST})`, the longest there is, as a task (its extension of MCP)",
        "read": f"`tasks/get` every {POLL} s, then `tasks/result`",
        "input": "no tool takes it",
        "interrupt": "`tasks/cancel`",
        "client": "no connection is held; the polls cease, and go on",
        "killed": "SIGKILL for the MCP server; Jupyter Server beside it lives on; started again",
    }

    async def start(self) -> None:
        python = self.installs.python(*ENVIRONMENT)
        self._server = Server(python, self.root)
        await self._server.start()
        await self._server.start_kernel()
        self._ids = itertools.count(1)
        port = free_port()
        self._process = Process(
            [
                python.parent / "jupyter-mcp-server",
                "start",
                "--transport=streamable-http",
                f"--port={port}",
                f"--jupyter-url={self._server.url}",
                f"--jupyter-token={TOKEN}",
                f"--code-sandbox-id={self._server.kernel_id}",
                "--insecure-mcp-noauth",
                "--jupyterlab=False",
            ],
            self.root,
        )
        self._http = Http(f"http://127.0.0.1:{port}", {"Accept": "application/json, text/event-stream"})
        await self.revive()

    async def stop(self) -> None:
        self._process.stop()
        await self._server.stop()

    async def call(self, code: str) -> Run:
        result = await self._execute(code, TIMEOUT)
        if result.error:
            raise Refused(result.error)
        return Run("", asyncio.ensure_future(_ready(result)))

    async def begin(self, code: str, *, key: str | None = None, queue: bool = False) -> Run:
        more: dict[str, Any] = {"task": {}}
        if key:
            more["_meta"] = {KEY: key}
        arguments = {"code": code, "timeout": LONGEST}
        answer = await self._ask("tools/call", {"name": "execute_code", "arguments": arguments, **more})
        return Run(str(answer["task"]["taskId"]))

    async def so_far(self, run: Run) -> str:
        return _result(await self._ask("tasks/result", {"taskId": run.name})).text

    async def result(self, run: Run) -> Result:
        if run.answer is not None:
            found: Result = await run.answer
            return found
        while (await self._ask("tasks/get", {"taskId": run.name}))["status"] == "working":  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        return _result(await self._ask("tasks/result", {"taskId": run.name}))

    async def send(self, run: Run, line: str) -> None:
        tools = (await self._ask("tools/list", {}))["tools"]
        raise NoSuchCall(f"none of its {len(tools)} tools sends input")

    async def asked(self, run: Run) -> None:
        await self.send(run, "")

    async def interrupt(self, run: Run) -> None:
        await self._ask("tasks/cancel", {"taskId": run.name})

    async def leave(self) -> None:
        pass

    async def come_back(self) -> None:
        pass

    async def kill(self) -> None:
        self._process.kill()

    async def revive(self) -> None:
        self._process.start()
        await self._http.up("/api/healthz")

    @classmethod
    def installed(cls, installs: Installs) -> str:
        return version_of(installs.python(*ENVIRONMENT), "jupyter-mcp-server")

    async def _execute(self, code: str, timeout: int) -> Result:
        arguments = {"code": code, "timeout": timeout}
        return _result(await self._ask("tools/call", {"name": "execute_code", "arguments": arguments}))

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        meta = {
            **params.get("_meta", {}),
            f"{META}protocolVersion": PROTOCOL,
            f"{META}clientInfo": {"name": "comparison", "version": "1"},
            f"{META}clientCapabilities": {"extensions": {"io.datalayer/tasks": {}}},
        }
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": {**params, "_meta": meta}}
        headers = {"MCP-Protocol-Version": PROTOCOL, "Mcp-Method": method}
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        answer = (await self._http("POST", "/mcp", body, headers, seconds=LONGEST)).body
        if not isinstance(answer, dict) or "result" not in answer:
            words = answer.get("error", {}).get("message") if isinstance(answer, dict) else answer
            raise Refused(f"`{method}`: {short(words)}")
        result: dict[str, Any] = answer["result"]
        return result


async def _ready(result: Result) -> Result:
    return result


def _result(answer: dict[str, Any]) -> Result:
    text = "".join(part.get("text", "") for part in answer.get("content", []))
    errors = [line for line in text.splitlines() if "ERROR" in line or line.endswith("KeyboardInterrupt")]
    return Result(text, short(errors[0]) if errors else None)
