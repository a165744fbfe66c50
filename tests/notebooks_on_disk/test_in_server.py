"""Inside Jupyter Server: the notebooks are in its folder, on the kernels that it lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell

from ..lab.server import ServerProcess, listed, opened
from .test_live import ended, save, until


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    process = ServerProcess()
    try:
        yield process.start()
    finally:
        process.destroy()


def folder(server: ServerProcess) -> Path:
    return server.home / "broker-sessions"


async def test_it_opens_on_the_sessions_kernel(server: ServerProcess) -> None:
    async with server.connect() as wire:
        execution = await wire.execute("'here'", session="listed")
        await until(folder(server) / "listed.ipynb", ended(execution))
        session = await wire.call("get_session", session="listed")
        assert session["notebook_path"] == "broker-sessions/listed.ipynb"
        found = await listed(server, "listed.ipynb")
        assert (found["path"], found["type"]) == (session["notebook_path"], "notebook")
        assert found["kernel"]["id"] == session["kernel_id"]
        status, model = server.api("GET", f"contents/{session['notebook_path']}")
        assert (status, model["content"]["cells"][0]["source"]) == (200, "'here'")


async def test_what_a_person_ran_and_ran_again_in_it_is_not_added(server: ServerProcess) -> None:
    path = folder(server) / "shared.ipynb"
    async with server.connect() as wire:
        first = await wire.execute("mine = 40", session="shared")
        await until(path, ended(first))
        await wire.call("subscribe", session="shared")
        kernel_id = (await wire.call("get_session", session="shared"))["kernel_id"]
        async with opened(server, kernel_id) as kernel:
            ids = [await kernel.execute(code) for code in ("mine + 1", "mine + 2")]
            counts = [(await kernel.reply(id))["content"]["execution_count"] for id in ids]
        for id in ids:
            await wire.event(lambda e, id=id: e["execution_id"] == id and e["type"] == "execution_finished")
        save(path, lambda cells: cells.append(new_code_cell("mine + 2", execution_count=counts[1])))
        last = await wire.execute("'last'", session="shared")
        notebook = await until(path, ended(first, last))
        assert [cell.source for cell in notebook.cells] == ["mine = 40", "mine + 2", "'last'"]
