"""jupyter-server-nbmodel: the extension's own REST API, in a Jupyter Server that has nothing else beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar

from ..installs import Installs, version_of
from ..peer import Peer, Result, Run
from ._process import Answer, short
from ._server import VERSIONS, Server

ENVIRONMENT = ("nbmodel", ["jupyter-server-nbmodel==0.2.9", *VERSIONS])
POLL = 0.5


class ServerNBModel(Peer):
    name = "jupyter-server-nbmodel"
    driven: ClassVar[dict[str, str]] = {
        "call": "`POST api/kernels/ID/execute`, which answers 202 with the address of the request",
        "begin": "the same",
        "read": f"`GET api/kernels/ID/requests/REQUEST` every {POLL} s until it is no longer 202",
        "input": "`POST api/kernels/ID/input`, when a poll has answered 300",
        "interrupt": "`DELETE api/kernels/ID/requests/REQUEST`",
        "client": "no connection is held; the polls cease, and go on",
        "killed": "SIGKILL for Jupyter Server; started again on its directories",
    }

    async def start(self) -> None:
        self._server = Server(self.installs.python(*ENVIRONMENT), self.root)
        await self._server.start()
        await self._server.start_kernel()

    async def stop(self) -> None:
        await self._server.stop()

    async def call(self, code: str) -> Run:
        return await self.begin(code)

    async def begin(self, code: str, *, key: str | None = None, queue: bool = False) -> Run:
        body = (await self._ask("POST", "execute", {"code": code, "metadata": {}})).wanted(202)
        return Run(str(body["request_id"]))

    async def so_far(self, run: Run) -> str:
        return _text((await self._ask("GET", f"requests/{run.name}")).wanted(200, 202)["outputs"])

    async def result(self, run: Run) -> Result:
        answer = await self._until(run, lambda answer: answer.status not in {202, 300})
        body = answer.wanted(200, 500)
        if "outputs" not in body:
            return Result("", short(body.get("error", f"HTTP {answer.status}")))
        outputs = json.loads(body["outputs"])
        errors = [output["ename"] for output in outputs if output["output_type"] == "error"]
        return Result(_text(body["outputs"]), errors[0] if errors else None)

    async def asked(self, run: Run) -> None:
        (await self._until(run, lambda answer: answer.status != 202)).wanted(300)

    async def send(self, run: Run, line: str) -> None:
        (await self._ask("POST", "input", {"input": line})).wanted(201)

    async def interrupt(self, run: Run) -> None:
        (await self._ask("DELETE", f"requests/{run.name}")).wanted(204)

    async def leave(self) -> None:
        pass

    async def come_back(self) -> None:
        pass

    async def kill(self) -> None:
        self._server.process.kill()

    async def revive(self) -> None:
        await self._server.start()

    @classmethod
    def installed(cls, installs: Installs) -> str:
        return version_of(installs.python(*ENVIRONMENT), "jupyter-server-nbmodel")

    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        return await self._server.http(method, f"/api/kernels/{self._server.kernel_id}/{path}", body)

    async def _until(self, run: Run, holds: Callable[[Answer], bool]) -> Answer:
        while not holds(answer := await self._ask("GET", f"requests/{run.name}")):  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        return answer


def _text(outputs: str) -> str:
    return "".join(
        text if isinstance(text := output["text"], str) else "".join(text)
        for output in json.loads(outputs)
        if output["output_type"] == "stream"
    )
