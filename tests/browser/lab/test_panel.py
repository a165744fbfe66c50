"""The panel in JupyterLab's sidebar, as a person sees it in a browser."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from broker.lab.mirror import ANSWERED_WITHIN

from ...lab.server import listed
from ...running import TOKEN, CallFailed, Wire, connect
from ..conftest import DESKTOP
from .notebook import OpenNotebook
from .server import LabProcess, Line

Picture = Callable[[Any, str], Awaitable[None]]
names = itertools.count(1)


@pytest.fixture(scope="module")
def lab() -> Iterator[LabProcess]:
    """JupyterLab on a server that runs a broker."""
    server = LabProcess()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="module")
async def line(lab: LabProcess) -> AsyncIterator[Line]:
    """What the browser reaches the server by."""
    async with Line(lab.url) as line:
        yield line


@pytest.fixture(scope="module")
async def opened(chromium: Any, line: Line) -> AsyncIterator[tuple[Any, list[str]]]:
    """Lab in a browser, with the panel shown, and what went wrong in it."""
    wrong: list[str] = []
    context = await chromium.new_context(viewport=DESKTOP)
    page = await context.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(error.message))
    await page.goto(f"{line.url}lab?reset&token={TOKEN}")
    await page.locator("li[data-id=jupyter-broker-panel]").wait_for()
    await page.locator(".jp-Launcher").wait_for()  # it takes the focus
    await show(page)
    await page.locator(".jp-Broker-status[data-connection=open]").wait_for()
    yield page, wrong
    await context.close()


@pytest.fixture
async def page(opened: tuple[Any, list[str]]) -> AsyncIterator[Any]:
    page, wrong = opened
    yield page
    # Lab's own requests fail, and say so only there: while its server is away, when a console is left that asks for its
    # past, and when a shut-down is refused.
    expected = re.compile("Failed to fetch|Canceled future|The kernel of session .* was not shut down", re.DOTALL)
    assert [message for message in wrong if not expected.match(message)] == []


@pytest.fixture
async def wire(lab: LabProcess) -> AsyncIterator[Wire]:
    async with connect(lab.url) as connection:
        yield connection


@pytest.fixture
async def session(wire: Wire) -> AsyncIterator[str]:
    name = f"panel-{next(names)}"
    await wire.call("create_session", name=name)
    yield name
    await wire.call("close_session", session=name)


async def show(page: Any) -> None:
    """Show the panel, and give it the focus."""
    await page.evaluate("() => jupyterapp.restored.then(() => jupyterapp.commands.execute('broker:show'))")


def row(page: Any, execution: dict[str, Any], state: str = "") -> Any:
    """The execution's row, once it has a state."""
    wanted = f"[data-state={state}]" if state else ""
    return page.locator(f".jp-Broker-execution[data-execution='{execution['execution_id']}']{wanted}")


async def use_theme(page: Any, theme: str) -> None:
    await page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    await page.locator(f"body[data-jp-theme-name='{theme}']").wait_for(state="attached")
    await page.locator("#jupyterlab-splash").wait_for(state="detached")


async def widen(page: Any, by: int) -> None:
    """Draw the sidebar's edge to the right by so many pixels."""
    handle = page.locator("#jp-main-split-panel > .lm-SplitPanel-handle:not(.lm-mod-hidden)").first
    box = await handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await page.mouse.move(x, y)
    await page.mouse.down()
    await page.mouse.move(x + by, y)
    await page.mouse.up()


async def choose(page: Any, menu: str, item: str) -> None:
    await page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{menu}$")).click()
    await page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{item}$")).click()


async def come_to_rest(notification: Any) -> None:
    """Wait until it has slid in."""
    await notification.evaluate("said => Promise.all(said.getAnimations().map(animation => animation.finished))")


async def test_what_runs_is_followed_live_and_an_interrupt_ends_it(
    page: Any, wire: Wire, session: str, picture: Picture
) -> None:
    await wire.execute("1 / 0", session=session, label="A failure")
    execution = await wire.execute(
        "import itertools, time\nfor n in itertools.count(1): print('step', n, flush=True); time.sleep(0.05)",
        session=session,
        wait=0,
    )
    runs = row(page, execution, "running")
    last = runs.locator(".jp-Broker-line")
    await last.filter(has_text="step").wait_for()
    assert await runs.locator(".jp-Broker-title").inner_text() == "import itertools, time"
    before = int((await last.inner_text()).split()[1])
    await page.wait_for_function(
        "([line, before]) => Number(line.textContent.split(' ')[1]) > before + 20",
        arg=[await last.element_handle(), before],
    )
    facts = await runs.locator(".jp-Broker-facts").inner_text()
    assert int(facts.split()[0].replace(",", "")) > before
    await page.get_by_text("1 running").wait_for()
    beside = await wire.execute("print('beside')", session=session, label="Beside it")
    await row(page, beside, "completed").filter(has_text="beside").wait_for()
    await picture(page, "panel-light")
    await widen(page, 200)
    assert (await runs.locator(".jp-Broker-facts").inner_text()).startswith("detached · ")
    await use_theme(page, "JupyterLab Dark")
    await picture(page, "panel-dark")
    await use_theme(page, "JupyterLab Light")
    await widen(page, -200)
    await runs.get_by_role("button", name="Interrupt").click()
    ended = row(page, execution, "interrupted")
    await ended.filter(has_text="interrupted").wait_for()
    assert await ended.get_by_role("button", name="Interrupt", exact=True).count() == 0
    await page.get_by_text("Nothing runs").wait_for()
    assert (await wire.call("get_execution", execution_id=execution["execution_id"]))["state"] == "interrupted"


async def test_prompts_are_answered_and_a_password_is_not_shown(
    page: Any, wire: Wire, session: str, picture: Picture
) -> None:
    execution = await wire.execute(
        "import getpass\nname = input('Your name: ')\nsecret = getpass.getpass('Password: ')\n"
        "print(name, len(secret))\n"
        "try: input('More? ')\nexcept EOFError: print('no more')",
        session=session,
        label="Asks",
    )
    asks = row(page, execution, "awaiting_input")
    await asks.get_by_label("Your name:").fill("Ada")
    assert "asks for input" in await page.locator(".jp-Broker-status").inner_text()
    await page.locator("li.jp-Broker-tabAsks").wait_for()
    await picture(page, "panel-prompt")
    await page.keyboard.press("Enter")
    password = asks.get_by_label("Password:")
    assert await password.get_attribute("type") == "password"
    assert await password.input_value() == ""
    await password.fill("hunter2")
    await use_theme(page, "JupyterLab Dark")
    await picture(page, "panel-password")
    await use_theme(page, "JupyterLab Light")
    await asks.get_by_role("button", name="Send").click()
    await asks.get_by_label("More?").wait_for()
    assert "hunter2" not in await page.content()
    await asks.get_by_role("button", name="EOF").click()
    await row(page, execution, "completed").filter(has_text="no more").wait_for()
    assert "Ada 7" in (await wire.call("get_execution", execution_id=execution["execution_id"]))["text"]
    await page.locator("li.jp-Broker-tabAsks").wait_for(state="detached")


async def test_a_kill_is_asked_for_twice_and_done_with_the_keyboard(
    page: Any, wire: Wire, session: str, picture: Picture
) -> None:
    execution = await wire.execute(
        "import time\nwhile True:\n    try: time.sleep(0.1)\n    except KeyboardInterrupt: pass",
        session=session,
        wait=0,
        label="Stubborn",
    )
    await row(page, execution, "running").wait_for()
    await show(page)
    focused = page.locator(".jp-Broker-item:focus")
    while "Stubborn" not in await focused.inner_text():
        await page.keyboard.press("ArrowDown")
    await picture(page, "panel-focus")
    while "Kill" not in (await page.locator(":focus").get_attribute("title") or ""):
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.locator(".jp-Dialog").get_by_text("its kernel is ended too").wait_for()
    await picture(page, "panel-kill")
    await page.keyboard.press("Escape")
    await page.locator(".jp-Dialog").wait_for(state="detached")
    assert (await wire.call("get_execution", execution_id=execution["execution_id"]))["state"] == "running"
    await row(page, execution).get_by_role("button", name="Kill").click()
    await page.locator(".jp-Dialog").get_by_role("button", name="Kill").click()
    await row(page, execution, "killed").wait_for()
    await page.get_by_text("its variables are lost").first.wait_for()


async def test_a_console_on_the_sessions_kernel_is_opened_once(
    page: Any, wire: Wire, session: str, picture: Picture
) -> None:
    execution = await wire.execute(
        "import time\nwhile True: print('tick', flush=True); time.sleep(0.2)", session=session, wait=0, label="Ticks"
    )
    await row(page, execution, "running").wait_for()
    opens = page.get_by_label(session, exact=True).get_by_role("button", name="Open Console")
    await opens.click()
    console = page.locator(".jp-ConsolePanel")
    await console.get_by_text("tick").first.wait_for()
    await picture(page, "panel-console")
    await opens.click()
    await row(page, execution).get_by_role("button", name="Interrupt").click()
    await row(page, execution, "interrupted").wait_for()
    assert await console.count() == 1
    await page.evaluate("() => jupyterapp.commands.execute('application:close')")
    await console.wait_for(state="detached")


async def test_a_refused_shut_down_is_said_where_the_person_looks(
    page: Any, lab: LabProcess, wire: Wire, session: str, picture: Picture
) -> None:
    execution = await wire.execute("import time; time.sleep(1000)", session=session, wait=0, label="Precious")
    await row(page, execution, "running").wait_for()
    await listed(lab, session, "busy")
    await page.evaluate("() => jupyterapp.shell.activateById('jp-running-sessions')")
    await page.get_by_role("button", name="Refresh List").click()
    kernel = page.locator(f".jp-RunningSessions-itemLabel[title^='{session} ']").locator("xpath=..")
    await kernel.hover()
    await kernel.locator(".jp-RunningSessions-itemShutdown").click()
    said = page.locator(".Toastify__toast", has_text=f"The kernel of session '{session}' was not shut down")
    await come_to_rest(said)
    await picture(page, "panel-refused")
    await said.get_by_role("button", name="Show Broker").click()
    await page.locator(".jp-Broker-says", has_text="Interrupt it first").filter(has_text="Precious").wait_for()
    await said.wait_for(state="detached")
    await row(page, execution, "running").get_by_role("button", name="Interrupt").click()
    await row(page, execution, "interrupted").wait_for()


async def test_a_notebook_keeps_its_kernel_when_a_shut_down_is_refused_and_a_restart_is_no_death(
    page: Any, lab: LabProcess, wire: Wire, session: str, picture: Picture
) -> None:
    await wire.execute("kept = 1", session=session)
    await asyncio.to_thread(lab.until, lambda: f"{session}.ipynb" in lab.sessions())
    await page.get_by_label(session, exact=True).get_by_role("button", name="Open Notebook").click()
    notebook = OpenNotebook(page)
    await page.get_by_text("| Idle").wait_for()
    await page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.info")
    changed = await page.evaluate("() => jupyterapp.shell.currentWidget.context.model.dirty")
    assert not changed, "who only reads has nothing to save"
    name = "Precious work of a whole long night"
    execution = await wire.execute("import time; time.sleep(1000)", session=session, wait=0, label=name)
    await page.get_by_text("| Busy").wait_for()
    await choose(page, "Kernel", "Shut Down Kernel")
    said = page.locator(".Toastify__toast", has_text=f"The kernel of session '{session}' was not shut down")
    await come_to_rest(said.filter(has_text="is under way. Interrupt it first."))
    await page.get_by_text("| Busy").wait_for()
    await picture(page, "panel-refused-notebook")
    await notebook.type_below("print('kept is', kept)")
    await page.keyboard.press("Shift+Enter")
    await notebook.outputs("kept is").filter(has_text="kept is 1").wait_for()
    await said.get_by_role("button", name="Show Broker").click()
    await page.locator(".jp-Broker-says", has_text=name).wait_for()
    await choose(page, "Kernel", "Restart Kernel…")
    await page.locator(".jp-Dialog .jp-mod-accept").click()
    await row(page, execution, "killed").wait_for()
    await page.get_by_text("| Idle").wait_for()
    await notebook.type_below("print('kept' in globals())")
    await page.keyboard.press("Shift+Enter")
    await notebook.outputs("in globals()").filter(has_text="False").wait_for()
    # Longer than whoever has not asked for the restart is told of it: it says that the kernel "appears to have died".
    await asyncio.sleep(ANSWERED_WITHIN + 0.5)
    assert await page.locator(".jp-Dialog").count() == 0
    await page.evaluate("() => jupyterapp.shell.currentWidget.dispose()")


async def test_shut_down_all_leaves_what_runs_and_says_so(
    page: Any, lab: LabProcess, wire: Wire, session: str, picture: Picture
) -> None:
    execution = await wire.execute(
        "import itertools, time\nfor n in itertools.count(): print(n, flush=True); time.sleep(0.05)",
        session=session,
        wait=0,
        label="Precious",
    )
    idle = f"{session}-idle"
    await wire.execute("done = True", session=idle)
    _, ordinary = lab.api("POST", "kernels", {"name": "python3"})
    await listed(lab, idle)
    await listed(lab, session, "busy")
    await page.evaluate("() => jupyterapp.shell.activateById('jp-running-sessions')")
    await page.get_by_role("button", name="Refresh List").click()
    kernels = page.locator(".jp-RunningSessions-item.jp-mod-kernel > .jp-RunningSessions-itemLabel")
    await kernels.nth(2).wait_for()
    section = page.locator(".jp-RunningSessions .jp-AccordionPanel-title", has_text="Kernels")
    await section.get_by_role("button", name="Shut Down All").click()
    await page.locator(".jp-Dialog").get_by_role("button", name="Shut Down All").click()
    said = page.locator(".Toastify__toast", has_text=f"The kernel of session '{session}' was not shut down")
    await come_to_rest(said.filter(has_text="Precious"))
    await picture(page, "panel-refused-all")
    kept = (await wire.call("get_session", session=session))["kernel_id"]
    assert ordinary["id"] != kept
    await asyncio.to_thread(lab.until, lambda: [kernel["id"] for kernel in lab.api("GET", "kernels")[1]] == [kept])
    await page.get_by_role("button", name="Refresh List").click()
    await kernels.nth(1).wait_for(state="detached")
    assert (await kernels.inner_text()).startswith(session)
    assert await page.locator(".Toastify__toast").count() == 1, "nothing is said of those that were shut down"
    with pytest.raises(CallFailed, match=idle):
        await wire.call("get_session", session=idle)
    lines = (await wire.call("get_execution", execution_id=execution["execution_id"]))["lines"]
    lives = await wire.until(execution["execution_id"], lambda now: now["lines"] > lines)
    assert (lives["state"], lives["kernel_state"]) == ("running", execution["kernel_state"])
    await said.get_by_role("button", name="Show Broker").click()
    await row(page, execution, "running").get_by_role("button", name="Interrupt").click()
    await row(page, execution, "interrupted").wait_for()


async def test_it_comes_back_by_itself_when_the_line_was_cut(
    page: Any, line: Line, wire: Wire, session: str, picture: Picture
) -> None:
    execution = await wire.execute("for _ in range(3): print(input('Next: '))", session=session)
    await row(page, execution).get_by_label("Next:").fill("half an ans")
    line.cut()
    await page.locator(".jp-Broker-status[data-connection=connecting]", has_text="Reconnecting").wait_for()
    await picture(page, "panel-reconnecting")
    await row(page, execution).get_by_role("button", name="Send").click()
    await page.get_by_text("There is no connection to the broker").first.wait_for()
    elsewhere = await wire.execute("print('while it was away')", session=session)
    line.mend()
    await page.locator(".jp-Broker-status[data-connection=open]").wait_for()
    await row(page, elsewhere, "completed").filter(has_text="while it was away").wait_for()
    answer = row(page, execution).get_by_label("Next:")
    assert await answer.input_value() == "half an ans", "what was begun is kept"
    await answer.press("End")
    await page.keyboard.type("wer")
    await page.keyboard.press("Enter")
    await row(page, execution).locator(".jp-Broker-line", has_text="half an answer").wait_for()


async def test_of_hundreds_the_latest_are_shown_and_what_runs_always(
    page: Any, wire: Wire, session: str, picture: Picture
) -> None:
    hostile = "<img src=x onerror='window.stolen = 1'>\x1b[31mred\x1b[0m"
    first = await wire.execute(
        "import time\nwhile True: time.sleep(0.1)", session=session, wait=0, label="First of all"
    )
    for n in range(150):
        await wire.execute(f"{n}", session=session, label=f"Number {n}")
    latest = await wire.execute(f"print({hostile!r})", session=session, label=hostile[:30])
    shown = page.get_by_label(session, exact=True).locator(".jp-Broker-execution")
    await row(page, first, "running").wait_for()
    await row(page, latest, "completed").wait_for()
    assert await shown.count() == 11
    assert await shown.first.locator(".jp-Broker-title").inner_text() == hostile[:30]
    await shown.first.locator(".jp-Broker-line", has_text="<img src=x onerror='window.stolen = 1'>red").wait_for()
    await page.get_by_role("button", name="141 earlier ones").click()
    await page.get_by_text("Number 120", exact=True).wait_for()
    assert await shown.count() == 41
    await picture(page, "panel-many")
    assert await page.evaluate("() => window.stolen") is None
    wide = await page.locator(".jp-Broker-sessions").evaluate("list => list.scrollWidth - list.clientWidth")
    assert wide == 0, "nothing sticks out"
    await wire.call("interrupt", execution_id=first["execution_id"])
    await row(page, first).wait_for(state="detached")
