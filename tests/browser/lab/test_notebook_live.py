"""A session's notebook with jupyter-collaboration: an agent and a person work in it at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat.reader import NotJSONError

from ...notebooks_on_disk.test_live import until
from ...running import TOKEN, Wire, connect, text_of
from ..conftest import DESKTOP
from .notebook import open_notebook
from .server import LabProcess

Picture = Callable[[Any, str], Awaitable[None]]
names = itertools.count(1)

WAIT_FOR = """\
import os, time
def wait_for(gate):
    while not os.path.exists(gate):
        time.sleep(0.02)"""
GROWS = """\
print("high water", flush=True)
wait_for("ebb")
print("low water", flush=True)
wait_for("flood")
6 * 7"""
PERSONS = "margin = depth - 3\nprint('with', margin, 'to spare')"
AGENTS = f"print('I see', margin)\n{GROWS}"


@pytest.fixture(scope="module")
def lab() -> Iterator[LabProcess]:
    server = LabProcess(collaboration=True)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="module")
async def opened(chromium: Any, lab: LabProcess) -> AsyncIterator[tuple[Any, list[str]]]:
    """Lab in a browser, and what went wrong in it."""
    wrong: list[str] = []
    context = await chromium.new_context(viewport=DESKTOP)
    page = await context.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(error.message))
    await page.goto(f"{lab.url}lab?reset&token={TOKEN}")
    await page.locator(".jp-Launcher").wait_for()
    # A page that is loaded anew does not have it.
    await page.evaluate("() => { window.loadedOnce = true }")
    yield page, wrong
    await context.close()


@pytest.fixture
async def page(opened: tuple[Any, list[str]]) -> AsyncIterator[Any]:
    """Lab, in which nothing may go wrong, be asked, or be loaded anew."""
    page, wrong = opened
    yield page
    assert wrong == []
    assert await page.locator(".jp-Dialog").count() == 0
    assert await page.evaluate("() => window.loadedOnce")


@pytest.fixture
async def wire(lab: LabProcess) -> AsyncIterator[Wire]:
    async with connect(lab.url) as connection:
        yield connection


@pytest.fixture
async def session(lab: LabProcess, wire: Wire, tmp_path: Path) -> AsyncIterator[str]:
    """A session that works where the test opens gates, and has a function that waits for one."""
    name = f"tides-{next(names)}"
    await wire.call("create_session", name=name, working_directory=str(tmp_path))
    await wire.execute(WAIT_FOR, session=name)
    # To a notebook without any cell, JupyterLab adds one.
    await saved(lab.home / "broker-sessions" / f"{name}.ipynb", lambda notebook: notebook.cells)
    yield name
    await wire.call("close_session", session=name)


async def saved(file: Path, holds: Callable[[Any], Any]) -> Any:
    """The notebook on the disk, once ``holds`` of it. While the server saves it, it is empty for a moment."""
    while True:
        with contextlib.suppress(NotJSONError):
            return await until(file, holds)
        await asyncio.sleep(0.02)


async def test_a_cell_appears_grows_and_ends_before_the_readers_eyes(
    page: Any, lab: LabProcess, wire: Wire, session: str, tmp_path: Path, picture: Picture
) -> None:
    notebook = await open_notebook(page, lab, session)
    await notebook.has_prompts("[1]:")
    execution = await wire.execute(GROWS, session=session, wait=0)
    output = notebook.outputs("high water")
    await output.filter(has_text="high water").wait_for()
    assert await output.all_inner_texts() == ["high water\n"]
    await notebook.has_prompts("[1]:", "[*]:")
    await page.get_by_text("| Busy").wait_for()
    await picture(page, "notebook-first-line")
    (tmp_path / "ebb").touch()
    await output.filter(has_text="low water").wait_for()
    assert await output.all_inner_texts() == ["high water\nlow water\n"]
    await notebook.has_prompts("[1]:", "[*]:")
    await picture(page, "notebook-second-line")
    (tmp_path / "flood").touch()
    assert (await wire.done(execution["execution_id"]))["state"] == "completed"
    await output.filter(has_text="42").wait_for()
    assert await output.all_inner_texts() == ["high water\nlow water\n", "42"]
    await notebook.has_prompts("[1]:", "[2]:")
    failed = await wire.execute("1 / 0", session=session)
    assert failed["state"] == "failed"
    await notebook.outputs("1 / 0").filter(has_text="ZeroDivisionError").wait_for()
    await notebook.has_prompts("[1]:", "[2]:", "[3]:")
    await page.get_by_text("| Idle").wait_for()
    await picture(page, "notebook-ended")


async def test_a_notebook_that_is_opened_shows_what_runs_though_it_prints_nothing(
    page: Any, lab: LabProcess, wire: Wire, session: str, tmp_path: Path
) -> None:
    execution = await wire.execute("print('low water'); wait_for('flood')", session=session, wait=0)
    file = lab.home / "broker-sessions" / f"{session}.ipynb"
    await saved(file, lambda notebook: len(notebook.cells) == 2 and "low water" in str(notebook.cells[1].outputs))
    notebook = await open_notebook(page, lab, session)
    await notebook.has_prompts("[1]:", "[*]:")
    (tmp_path / "flood").touch()
    assert (await wire.done(execution["execution_id"]))["state"] == "completed"
    await notebook.has_prompts("[1]:", "[2]:")


async def test_a_persons_cell_is_kept_beside_what_the_agent_runs_next(
    page: Any, lab: LabProcess, wire: Wire, session: str, tmp_path: Path, picture: Picture
) -> None:
    await wire.execute("depth = 12", session=session)
    notebook = await open_notebook(page, lab, session)
    await notebook.has_prompts("[1]:", "[2]:")
    await notebook.type_below(PERSONS)
    await page.keyboard.press("Shift+Enter")
    await notebook.outputs("margin").filter(has_text="with 9 to spare").wait_for()
    # Now the person is in the next cell, and types there while the agent's grows.
    await page.keyboard.type("half a th")
    execution = await wire.execute(AGENTS, session=session, wait=0)
    output = notebook.outputs("I see")
    await output.filter(has_text="high water").wait_for()
    await page.keyboard.type("ou")
    await page.get_by_text("| Busy").wait_for()
    await picture(page, "notebook-together")
    (tmp_path / "ebb").touch()
    await output.filter(has_text="low water").wait_for()
    await page.keyboard.type("ght")
    (tmp_path / "flood").touch()
    await output.filter(has_text="42").wait_for()
    await wire.done(execution["execution_id"])
    await notebook.has_sources(WAIT_FOR, "depth = 12", PERSONS, "half a thought", AGENTS)
    await notebook.has_prompts("[1]:", "[2]:", "[3]:", "[ ]:", "[4]:")

    history = (await wire.call("list_executions", session=session))["executions"]
    [mine] = [each for each in history if each["origin"] == "jupyter"]
    assert (mine["state"], mine["title"]) == ("completed", "margin = depth - 3")
    assert text_of(await wire.events(mine["execution_id"])) == "with 9 to spare\n"
    file = lab.home / "broker-sessions" / f"{session}.ipynb"
    # It will not be added later either: the notebook says that it has had it.
    await saved(file, lambda notebook: mine["execution_id"] in notebook.metadata.broker.written)
    notebook = await saved(file, lambda notebook: "42" in str(notebook.cells[-1].get("outputs")))
    assert [cell.source for cell in notebook.cells] == [WAIT_FOR, "depth = 12", PERSONS, "half a thought", AGENTS]
