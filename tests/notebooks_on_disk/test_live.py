"""Notebooks of a real broker's sessions, on a real disk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from nbformat.v4 import new_code_cell, new_markdown_cell

from ..running import PATIENCE, BrokerProcess, Wire
from ..scenarios.tools import Gate, printed

_names = itertools.count(1)


@pytest.fixture(scope="module")
def kept() -> Iterator[BrokerProcess]:
    """A broker that keeps notebooks."""
    process = BrokerProcess("--notebooks=notebooks")
    try:
        yield process.start()
    finally:
        process.destroy()


@pytest.fixture
async def wire(kept: BrokerProcess) -> AsyncIterator[Wire]:
    async with kept.connect() as connection:
        yield connection


@pytest.fixture
async def name(wire: Wire) -> AsyncIterator[str]:
    """A session's name."""
    chosen = f"kept-{next(_names)}"
    await wire.call("create_session", name=chosen)
    yield chosen
    await wire.call("close_session", session=chosen)


def folder(broker: BrokerProcess) -> Path:
    return broker.root / "notebooks"


def read(path: Path) -> Any:
    """A notebook as whoever opens it at this moment finds it: valid, and whole."""
    notebook = nbformat.reads(path.read_text(), as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def text(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def save(path: Path, change: Callable[[Any], object]) -> None:
    """A person changes a notebook in JupyterLab and saves it, as Jupyter Server does: in place."""
    notebook = read(path)
    change(notebook.cells)
    path.write_text(nbformat.writes(notebook))


async def until(path: Path, holds: Callable[[Any], Any]) -> Any:
    """The notebook, once ``holds`` of it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(FileNotFoundError):
                if holds(found := read(path)):
                    return found
            await asyncio.sleep(0.02)


def ended(*executions: dict[str, Any]) -> Callable[[Any], bool]:
    """Whether the notebook says of these that they are over."""
    ids = {execution["execution_id"] for execution in executions}

    def holds(notebook: Any) -> bool:
        said = [cell.metadata.get("broker", {}) for cell in notebook.cells]
        return ids <= {each.get("execution_id") for each in said if each.get("finished_at")}

    return holds


async def test_it_is_written_as_the_execution_goes(kept: BrokerProcess, wire: Wire, name: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    execution = await wire.execute(f"print('begun')\n{gate.wait}print('ended')\n6 * 7", session=name, wait=0, label="x")
    path = folder(kept) / f"{name}.ipynb"
    running = await until(path, lambda n: n.cells and text(n.cells[0]) == "begun\n")
    assert running.cells[0].metadata.broker.state == "running"
    assert running.cells[0].metadata.broker.finished_at is None
    gate.open()
    (cell,) = (await until(path, ended(execution))).cells
    assert (text(cell), cell.outputs[-1].data["text/plain"]) == ("begun\nended\n", "42")
    record = await wire.call("get_execution", execution_id=execution["execution_id"])
    said = cell.metadata.broker
    assert (said.state, said.label, said.origin) == ("completed", "x", "api")
    assert cell.execution_count == record["execution_count"]
    assert cell.metadata.execution["iopub.execute_input"] == record["started_at"]
    assert cell.metadata.execution["shell.execute_reply"] == record["finished_at"]
    session = await wire.call("get_session", session=name)
    assert session["notebook_path"] == path.name
    metadata = read(path).metadata
    assert (metadata.broker.kernel_id, metadata.kernelspec.name) == (session["kernel_id"], session["kernel"])


async def test_how_it_ended_is_there(kept: BrokerProcess, wire: Wire, name: str) -> None:
    failed = await wire.execute("1 / 0", session=name)
    asked = await wire.execute("print('hello', input('name? '))", session=name)
    path = folder(kept) / f"{name}.ipynb"
    notebook = await until(path, lambda n: n.cells and n.cells[-1].metadata.broker.state == "awaiting_input")
    assert (notebook.cells[0].metadata.broker.state, notebook.cells[0].outputs[0].ename) == (
        "failed",
        "ZeroDivisionError",
    )
    assert text(notebook.cells[1]) == "name? "
    await wire.call("send_stdin", execution_id=asked["execution_id"], data="Ada")
    assert text((await until(path, ended(failed, asked))).cells[1]) == "name? Ada\nhello Ada\n"
    died = await wire.execute("import os; os._exit(3)", session=name)
    notebook = await until(path, ended(died))
    assert notebook.cells[2].metadata.broker.state == "lost"
    assert "lost" in text(notebook.cells[2])


async def test_images_are_in_it_whole(kept: BrokerProcess, wire: Wire, name: str) -> None:
    execution = await wire.execute(
        "from IPython.display import display\n"
        "for size in (100_000, 1_000_000, 9_000_000):\n"
        "    display({'image/png': 'A' * size, 'text/plain': str(size)}, raw=True)",
        session=name,
    )
    (cell,) = (await until(folder(kept) / f"{name}.ipynb", ended(execution))).cells
    sizes = [len(output.data.get("image/png", "")) for output in cell.outputs]
    assert sizes == [100_000, 1_000_000, 0]
    assert cell.outputs[2].metadata.broker.references["image/png"].bytes == 9_000_002


async def test_whatever_a_kernel_displays_the_notebook_is_valid(kept: BrokerProcess, wire: Wire, name: str) -> None:
    code = (
        "from IPython.display import display\n"
        "display({'text/plain': 5, 'application/json': {'a': [1]}, 'x': None, 'image/svg+xml': ['<svg>', '</svg>'],"
        " 'a/b+json': {'c': 1}}, raw=True)\nprint('\\ud800 \\x00 \\x0b \\u2028')"
    )
    execution = await wire.execute(code, session=name)
    (cell,) = (await until(folder(kept) / f"{name}.ipynb", ended(execution))).cells
    assert cell.outputs[0].data["application/json"] == {"a": [1]}


async def test_of_100_mb_it_has_the_ends_and_says_where_the_rest_is(kept: BrokerProcess, wire: Wire, name: str) -> None:
    before = psutil.Process(kept.pid).memory_info().rss
    execution = await wire.execute(
        "line = 'x' * 992\nfor i in range(100_000): print(f'{i:07}', line, sep='')", session=name, wait=0
    )
    path = folder(kept) / f"{name}.ipynb"
    largest = 0

    def done(notebook: Any) -> bool:
        nonlocal largest
        largest = max(largest, path.stat().st_size)
        return ended(execution)(notebook)

    (cell,) = (await until(path, done)).cells
    assert largest < 1_000_000
    said = text(cell)
    assert said.startswith("0000000xx")
    assert "0099999xx" in said[-1001:]
    assert f"jupyter broker logs {execution['execution_id']}" in said
    assert psutil.Process(kept.pid).memory_info().rss - before < 150 * 2**20


async def test_what_a_person_does_to_it_is_kept(kept: BrokerProcess, wire: Wire, name: str, tmp_path: Path) -> None:
    first = await wire.execute("'first'", session=name)
    unwanted = await wire.execute("'unwanted'", session=name)
    path = folder(kept) / f"{name}.ipynb"
    await until(path, ended(first, unwanted))
    gate = Gate(tmp_path)
    running = await wire.execute(f"print('begun')\n{gate.wait}", session=name, wait=0)
    await until(path, lambda n: len(n.cells) == 3 and text(n.cells[2]) == "begun\n")

    def work(cells: Any) -> None:
        del cells[1]
        cells.insert(0, new_markdown_cell("# What the agent did"))
        cells.append(new_code_cell("a cell of my own"))
        cells[1].source = "'first, with a word of mine'"

    save(path, work)
    gate.open()
    last = await wire.execute("'last'", session=name)
    notebook = await until(path, ended(running, last))
    assert [cell.source for cell in notebook.cells][:2] == ["# What the agent did", "'first, with a word of mine'"]
    assert [cell.source for cell in notebook.cells][3:] == ["a cell of my own", "'last'"]
    assert text(notebook.cells[2]) == "begun\n"


async def test_saves_in_the_middle_of_a_flood_are_kept(kept: BrokerProcess, wire: Wire, name: str) -> None:
    path = folder(kept) / f"{name}.ipynb"
    flood = await wire.execute(
        "import time\nfor i in range(60): print(i, flush=True); time.sleep(0.05)", session=name, wait=0
    )
    await until(path, lambda n: n.cells)
    for number in range(20):
        # What is read and what is saved is not one step: as in JupyterLab, the file may be newer than what is saved.
        save(path, lambda cells, number=number: cells.append(new_markdown_cell(f"note {number}")))
        await asyncio.sleep(0.1)
    notebook = await until(path, ended(flood))
    notes = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert notes == [f"note {number}" for number in range(20)]
    assert text(notebook.cells[0]) == "".join(f"{i}\n" for i in range(60))


async def test_a_stale_copy_saved_over_it_gets_what_it_lacks(kept: BrokerProcess, wire: Wire, name: str) -> None:
    path = folder(kept) / f"{name}.ipynb"
    await until(path, lambda n: True)
    stale = read(path)
    stale.cells.append(new_markdown_cell("typed meanwhile"))
    execution = await wire.execute("'unseen'", session=name)
    await until(path, ended(execution))
    path.write_text(nbformat.writes(stale))
    notebook = await until(path, ended(execution))
    assert [cell.source for cell in notebook.cells] == ["typed meanwhile", "'unseen'"]


async def test_a_renamed_notebook_is_followed(kept: BrokerProcess, wire: Wire, name: str) -> None:
    first = await wire.execute("'first'", session=name)
    path = folder(kept) / f"{name}.ipynb"
    await until(path, ended(first))
    copy, renamed = path.with_name(f"a copy of {name}.ipynb"), path.with_name(f"renamed {name}.ipynb")
    copy.write_bytes(path.read_bytes())
    path.rename(renamed)
    second = await wire.execute("'second'", session=name)
    await until(renamed, ended(first, second))
    assert not path.exists()
    assert (await wire.call("get_session", session=name))["notebook_path"] == renamed.name


async def test_a_deleted_notebook_is_made_again_when_there_is_more(kept: BrokerProcess, wire: Wire, name: str) -> None:
    first = await wire.execute("'first'", session=name)
    path = folder(kept) / f"{name}.ipynb"
    await until(path, ended(first))
    path.unlink()
    second = await wire.execute("'second'", session=name)
    await until(path, ended(first, second))


async def test_a_closed_session_keeps_its_file_and_its_successor_has_another(kept: BrokerProcess, wire: Wire) -> None:
    name = f"closing-{next(_names)}"
    running = await wire.execute("import time; time.sleep(1000)", session=name, wait=0)
    await wire.call("close_session", session=name)
    path = folder(kept) / f"{name}.ipynb"
    notebook = await until(path, ended(running))
    assert notebook.cells[0].metadata.broker.state in ("interrupted", "killed")
    before = path.read_bytes()
    again = await wire.execute("'another'", session=name)
    session = await wire.call("get_session", session=name)
    other = folder(kept) / f"{name} ({session['session_id']}).ipynb"
    await until(other, ended(again))
    assert path.read_bytes() == before
    await wire.call("close_session", session=name)


@pytest.mark.parametrize("name", ["../../escaped", "x" * 200, "\N{GRINNING FACE}" * 190, ".", "a\nb", "con/../%2e"])
async def test_no_name_leads_out_of_the_folder(kept: BrokerProcess, wire: Wire, name: str) -> None:
    execution = await wire.execute("1", session=name)
    session_id = execution["session_id"]

    async def path() -> Path:
        async with asyncio.timeout(PATIENCE):
            while True:
                session = await wire.call("get_session", session=session_id)
                if session["notebook_path"]:
                    return folder(kept) / session["notebook_path"]
                await asyncio.sleep(0.02)

    found = await path()
    await until(found, ended(execution))
    assert found.resolve().parent == folder(kept).resolve()
    await wire.call("close_session", session=session_id)


async def test_a_file_that_is_no_notebook_of_ours_is_left_alone(kept: BrokerProcess, wire: Wire) -> None:
    name = f"taken-{next(_names)}"
    theirs = folder(kept) / f"{name}.ipynb"
    theirs.write_text("precious")
    execution = await wire.execute("1", session=name)
    session_id = execution["session_id"]
    await until(folder(kept) / f"{name} ({session_id}).ipynb", ended(execution))
    assert theirs.read_text() == "precious"
    await wire.call("close_session", session=name)


async def settled(broker: BrokerProcess, seq: int) -> None:
    """Wait until nothing is left to do of what had happened by then."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(FileNotFoundError):
                if json.loads((folder(broker) / ".broker-cursor.json").read_text())["seq"] >= seq:
                    return
            await asyncio.sleep(0.02)


async def run_elsewhere(wire: Wire, session: str, code: str) -> tuple[dict[str, Any], int]:
    """Run a cell as a person's client does. Returns the event of its end, and its number."""
    client = BlockingKernelClient(connection_file=(await wire.call("get_session", session=session))["connection_file"])
    client.load_connection_file()
    client.start_channels()
    try:
        await wire.call("subscribe", session=session)
        reply = await asyncio.to_thread(client.execute_interactive, code, timeout=PATIENCE)
    finally:
        client.stop_channels()
    cell = reply["parent_header"]["msg_id"]
    end = await wire.event(lambda e: e["execution_id"] == cell and e["type"] == "execution_finished")
    return end, reply["content"]["execution_count"]


async def test_a_cell_that_a_person_ran_in_it_is_not_there_twice(kept: BrokerProcess, wire: Wire, name: str) -> None:
    first = await wire.execute("mine = 40", session=name)
    path = folder(kept) / f"{name}.ipynb"
    await until(path, ended(first))
    _, count = await run_elsewhere(wire, name, "mine + 2")
    save(path, lambda cells: cells.append(new_code_cell("mine + 2", execution_count=count)))
    last = await wire.execute("'last'", session=name)
    notebook = await until(path, ended(first, last))
    assert [each.source for each in notebook.cells] == ["mine = 40", "mine + 2", "'last'"]


async def test_a_cell_that_was_once_a_persons_stays_so_when_they_change_it(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker("--notebooks=notebooks")
    path = folder(broker) / "work.ipynb"
    async with broker.connect() as wire:
        first = await wire.execute("mine = 40", session="work")
        await until(path, ended(first))
        end, count = await run_elsewhere(wire, "work", "mine + 2")
        save(path, lambda cells: cells.append(new_code_cell("mine + 2", execution_count=count)))
        # It is looked at, and there is nothing to write.
        await settled(broker, end["seq"])
        save(path, lambda cells: cells[1].update(source="mine + 3", execution_count=None))
        last = await wire.execute("'last'", session="work")
        notebook = await until(path, ended(first, last))
        assert [each.source for each in notebook.cells] == ["mine = 40", "mine + 3", "'last'"]
        assert end["execution_id"] in notebook.metadata.broker.written, "else it would be added later"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_broker_that_comes_back_goes_on_in_the_same_notebook(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path, number: signal.Signals
) -> None:
    broker = start_broker("--notebooks=notebooks")
    path = folder(broker) / "work.ipynb"
    gate = Gate(tmp_path)
    async with broker.connect() as wire:
        first = await wire.execute("'first'", session="work")
        running = await wire.execute(f"print('begun')\n{gate.wait}print('ended')", session="work", wait=0)
        await printed(wire, running["execution_id"], "begun\n")
        assert (await until(path, lambda n: len(n.cells) == 2)).cells[1].execution_count is None
        closed = await wire.execute("'closed'", session="closed")
        await until(folder(broker) / "closed.ipynb", ended(closed))
        await wire.call("close_session", session="closed")
    broker.stop(number)
    if number == signal.SIGTERM:
        assert text(read(path).cells[1]) == "begun\n", "what it knew when it stopped is there"
    save(path, lambda cells: cells.append(new_markdown_cell("while nobody was there")))
    (folder(broker) / "closed.ipynb").unlink()
    gate.open()
    broker.start()
    async with broker.connect() as wire:
        last = await wire.execute("'last'", session="work", on_busy="concurrent")
        notebook = await until(path, ended(first, running, last))
    assert [cell.source for cell in notebook.cells][2:] == ["while nobody was there", "'last'"]
    assert len(notebook.cells) == 4
    assert text(notebook.cells[1]) == "begun\nended\n"
    if number == signal.SIGTERM:
        assert not (folder(broker) / "closed.ipynb").exists(), "what a person threw away stays away"


async def test_a_folder_that_is_new_gets_every_session_there_ever_was(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker()
    async with broker.connect() as wire:
        closed = await wire.execute("'closed'", session="closed")
        await wire.call("close_session", session="closed")
        opened = await wire.execute("'open'", session="open")
        assert (await wire.call("get_session", session="open"))["notebook_path"] is None
    broker.stop()
    broker.arguments = ("--notebooks=notebooks",)
    broker.start()
    await until(folder(broker) / "closed.ipynb", ended(closed))
    await until(folder(broker) / "open.ipynb", ended(opened))
    assert json.loads((folder(broker) / "open.ipynb").read_text())["nbformat"] == 4
