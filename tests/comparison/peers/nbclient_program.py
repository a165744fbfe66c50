"""A program that uses nbclient, run by the interpreter of its environment. Requests and answers are lines of JSON.

It imports nothing of this project. Two clients share the kernel, each with a notebook of its own, and take turns.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError


class Program:
    def __init__(self) -> None:
        self._manager = AsyncKernelManager(kernel_name="python3")
        self._clients: list[NotebookClient] = []
        self._cells: dict[str, Any] = {}

    async def do(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "start":
                await self._start()
                return {}
            case "run":
                return await self._run(str(request["id"]), request["code"], request["timeout"])
            case "outputs":
                return {"text": text_of(self._cells[request["run"]])}
            case "interrupt":
                await self._manager.interrupt_kernel()
                return {}
        raise ValueError(request["do"])

    async def _start(self) -> None:
        await self._manager.start_kernel()
        for _ in range(2):
            client = NotebookClient(nbformat.v4.new_notebook(), km=self._manager)
            # Not those that the manager makes: they would all have one identity, and get each other's replies.
            client.kc = AsyncKernelClient(parent=self._manager)
            client.kc.load_connection_info(self._manager.get_connection_info())
            client.kc.start_channels()
            await client.kc.wait_for_ready()
            client.kc.allow_stdin = False
            self._clients.append(client)

    async def _run(self, name: str, code: str, timeout: int | None) -> dict[str, Any]:
        client = self._clients[len(self._cells) % 2]
        cell = self._cells[name] = nbformat.v4.new_code_cell(code)
        client.nb.cells.append(cell)
        client.timeout = timeout
        error = None
        try:
            await client.async_execute_cell(cell, len(client.nb.cells) - 1)
        except CellExecutionError as raised:
            error = raised.ename
        except (CellTimeoutError, DeadKernelError) as raised:
            error = type(raised).__name__
        return {"text": text_of(cell), "error": error}


def text_of(cell: Any) -> str:
    return "".join(output["text"] for output in cell.outputs if output["output_type"] == "stream")


async def main() -> None:
    program = Program()
    reader = asyncio.StreamReader(limit=2**30)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()

    async def answer(request: dict[str, Any]) -> None:
        try:
            found = await program.do(request)
        except Exception as error:
            found = {"text": "", "error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": request["id"], **found}), flush=True)

    while line := await reader.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
