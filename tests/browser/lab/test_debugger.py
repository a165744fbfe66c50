"""JupyterLab's debugger, attached to an agent's execution that runs already."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ...running import TOKEN, Wire, assert_whole, text_of
from ..conftest import DESKTOP
from .server import LabProcess

Picture = Callable[[Any, str], Awaitable[None]]

CODE = """\
import time
def work(step):
    double = step * 2
    time.sleep(0.02)
    return double
print("begun", flush=True)
step = 0
while not open({gate!r}).read():
    step += 1
    assert work(step) == 2 * step
print("ended")
"""
LINE = 4
VARIABLES = """after => {
    const items = [...document.querySelectorAll('.jp-debuggerVariables-local .jp-TreeItem')];
    const found = Object.fromEntries(
        items.map(item => [...item.querySelectorAll('span')].map(part => part.textContent))
             .map(([name, value]) => [name, Number(value)])
    );
    return found.step > after && found.double === 2 * found.step && found;
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[LabProcess]:
    process = LabProcess()
    try:
        process.start()
        yield process
    finally:
        process.destroy()


@pytest.fixture
async def wire(server: LabProcess) -> AsyncIterator[Wire]:
    async with server.connect() as connection:
        yield connection


@pytest.fixture
async def lab(chromium: Any, server: LabProcess) -> AsyncIterator[Any]:
    wrong: list[str] = []
    context = await chromium.new_context(viewport=DESKTOP)
    page = await context.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(error.message))
    await page.goto(f"{server.url}lab?reset&token={TOKEN}")
    await page.locator("li[data-id=jupyter-broker-panel]").wait_for()
    await page.locator(".jp-Launcher").wait_for()
    yield page
    await context.close()
    assert wrong == []


class Debugger:
    """Lab's debugger, as a person has it beside a console in which an agent's cell is shown."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.console = lab.locator(".jp-ConsolePanel")
        self.cell = self.console.locator(".jp-CodeConsole-content .jp-CodeCell", has_text="begun")
        self.bug = self.console.locator(".jp-DebuggerBugButton")
        self.panel = lab.locator("#jp-debugger-sidebar")
        self.frames = self.panel.locator(".jp-DebuggerCallstackFrame")

    async def press(self, name: str) -> None:
        await self.panel.get_by_role("button", name=re.compile(f"^{name}")).click()

    async def toggle_breakpoint(self) -> None:
        # The first in the gutter only holds it open.
        await self.cell.locator(".cm-breakpoint-gutter .cm-gutterElement").nth(LINE).click()

    async def variables(self, after: int) -> dict[str, int]:
        """The local variables, once the step is one after this."""
        found = await self.lab.wait_for_function(VARIABLES, arg=after)
        return dict(await found.json_value())


async def test_a_breakpoint_is_hit_in_an_execution_that_runs(
    server: LabProcess, wire: Wire, lab: Any, tmp_path: Path, picture: Picture
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    execution = await wire.execute(CODE.format(gate=str(gate)), session="debugged", wait=0)
    await lab.get_by_role("tab", name=re.compile("^Running")).first.click()
    await lab.locator(".jp-RunningSessions-itemLabel[title='broker-sessions/debugged']").click()
    debugger = Debugger(lab)
    await debugger.cell.locator(".jp-OutputArea-output", has_text="begun").wait_for()

    await debugger.bug.click()
    await lab.evaluate("() => jupyterapp.shell.activateById('jp-debugger-sidebar')")
    await debugger.console.locator(".jp-DebuggerBugButton[aria-pressed=true]").wait_for()
    await debugger.toggle_breakpoint()
    await debugger.frames.filter(has_text="work").filter(has_text=f"In [1]:{LINE}").wait_for()
    await debugger.cell.locator(".cm-line.jp-DebuggerEditor-highlight", has_text="time.sleep").wait_for()
    first = await debugger.variables(after=0)
    await picture(lab, "lab-debugger")

    await debugger.press("Continue")
    step = first["step"] + 1
    assert await debugger.variables(after=first["step"]) == {"step": step, "double": 2 * step}
    await debugger.press("Next")
    await debugger.cell.locator(".cm-line.jp-DebuggerEditor-highlight", has_text="return double").wait_for()

    # It stays stopped when the browser goes, and whoever comes finds it so.
    await lab.reload()
    await debugger.frames.filter(has_text="work").wait_for()
    assert await debugger.variables(after=first["step"]) == {"step": step, "double": 2 * step}
    assert (await wire.call("get_execution", execution_id=execution["execution_id"]))["state"] == "running"
    await debugger.press("Remove All Breakpoints")
    await lab.locator(".jp-Dialog .jp-mod-accept").click()
    await debugger.panel.locator(".jp-DebuggerBreakpoint").wait_for(state="detached")
    gate.write_text("open")
    await debugger.press("Continue")
    await lab.locator(".lm-DockPanel-tabBar .lm-TabBar-tabLabel", has_text="debugged").click()
    await debugger.cell.locator(".jp-OutputArea-output", has_text="ended").wait_for()
    done = await wire.done(execution["execution_id"])
    assert (done["state"], done["text"]) == ("completed", "begun\nended\n")
    events = await wire.events(execution["execution_id"])
    assert_whole(events)
    assert text_of(events) == "begun\nended\n"
    await debugger.bug.click()
    await debugger.console.locator(".jp-DebuggerBugButton[aria-pressed=false]").wait_for()
    after = await wire.execute("step", session="debugged")
    assert (after["state"], after["text"]) == ("completed", f"{step}\n")
