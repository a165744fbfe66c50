"""nbclient: a library in the caller's process. That process is one of its own here, so that it can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any, ClassVar

import psutil

from ..installs import Installs, version_of
from ..peer import NoSuchCall, Peer, Refused, Result, Run
from ._process import Process

ENVIRONMENT = ("nbclient", ["nbclient==0.11.0", "ipykernel==7.4.0", "jupyter_client==8.10.0"])
TIMEOUT = 3


class NBClient(Peer):
    name = "nbclient"
    beside = "Not awaited"
    driven: ClassVar[dict[str, str]] = {
        "call": f"`NotebookClient(notebook, timeout={TIMEOUT}).async_execute_cell`",
        "begin": "`NotebookClient(notebook, timeout=None).async_execute_cell`, not awaited",
        "read": "the cell's outputs in the notebook",
        "input": "no call sends it",
        "interrupt": "`interrupt_kernel` of its kernel manager, which names the kernel",
        "client": "SIGKILL for the process that uses the library; a new one is started",
        "killed": "the same: there is no server",
    }

    async def start(self) -> None:
        self._python = self.installs.python(*ENVIRONMENT)
        self._environment = Process([], self.root).environment
        self._offspring: dict[int, psutil.Process] = {}
        await self.come_back()

    async def stop(self) -> None:
        self._remember()
        for process in self._offspring.values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        await self._process.wait()

    async def call(self, code: str) -> Run:
        run = await self._give(code, TIMEOUT)
        assert run.answer is not None
        answer = await run.answer
        if answer["error"] == "CellTimeoutError":
            raise Refused("CellTimeoutError")
        return run

    async def begin(self, code: str, *, key: str | None = None, queue: bool = False) -> Run:
        return await self._give(code, None)

    async def so_far(self, run: Run) -> str:
        return str((await self._ask("outputs", run=run.name))["text"])

    async def result(self, run: Run) -> Result:
        if run.given_to is not self._process:
            raise NoSuchCall("a new client has no call for what another one ran")
        assert run.answer is not None
        answer = await asyncio.shield(run.answer)
        return Result(answer["text"], answer["error"])

    async def again(self, run: Run) -> Result:
        answer = await self._ask("outputs", run=run.name)
        return Result(answer["text"])

    async def interrupt(self, run: Run) -> None:
        await self._ask("interrupt")

    async def leave(self) -> None:
        await self.kill()

    async def come_back(self) -> None:
        with (self.root / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(self._python),
                "-P",  # or it would find this module in place of the library
                str(Path(__file__).with_name("nbclient_program.py")),
                env=self._environment,
                cwd=self.root,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=2**30,
            )
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = 0
        self._reader = asyncio.ensure_future(self._read(self._process, self._answers))
        if error := (await self._ask("start")).get("error"):
            raise RuntimeError(error)

    async def kill(self) -> None:
        self._remember()
        self._process.kill()
        await self._process.wait()

    async def revive(self) -> None:
        await self.come_back()

    @classmethod
    def installed(cls, installs: Installs) -> str:
        return version_of(installs.python(*ENVIRONMENT), "nbclient")

    def _remember(self) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for one in (process, *process.children(recursive=True)):
                self._offspring[one.pid] = one

    async def _give(self, code: str, timeout: int | None) -> Run:
        name = str(self._numbers + 1)
        answer = asyncio.ensure_future(self._ask("run", code=code, timeout=timeout))
        # A run may end when nobody asks any more.
        answer.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # It begins with the loop's next turn.
        await asyncio.sleep(0)
        return Run(name, answer, self._process)

    async def _ask(self, do: str, **more: Any) -> dict[str, Any]:
        self._numbers += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._numbers] = future
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._numbers, "do": do, **more}).encode() + b"\n")
        return await future

    async def _read(
        self, process: asyncio.subprocess.Process, answers: dict[int, asyncio.Future[dict[str, Any]]]
    ) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            answer = json.loads(line)
            answers.pop(answer["id"]).set_result(answer)
        for future in answers.values():
            future.set_exception(Refused("the process that used the library is gone"))
            future.exception()
