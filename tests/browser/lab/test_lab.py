"""JupyterLab, in a real browser, on a server with the broker in it: a person watches and takes part."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from ...lab.server import ServerProcess, listed, opened
from ...notebooks_on_disk.test_live import until
from ...running import TOKEN, Wire
from ..conftest import DESKTOP
from .notebook import open_notebook

Picture = Callable[[Any, str], Awaitable[None]]

FRAME = """
import time, matplotlib.pyplot as plt
from IPython.display import display
plt.figure(figsize=(3, 1.2)); plt.plot([1, 3, 2]); plt.show()
progress = display("not begun", display_id=True)
for step in range(8):
    print("line", step, flush=True)
    progress.update(f"step {step}")
    time.sleep(0.05)
name = input("Your name: ")
print("Hello", name)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """``jupyter lab``, with nothing configured but the base URL and the token."""
    process = ServerProcess(app="jupyterlab")
    # Not a question about news over what is to be seen.
    settings = process.root / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}')
    try:
        yield process.start()
    finally:
        process.destroy()


@pytest.fixture
async def wire(server: ServerProcess) -> AsyncIterator[Wire]:
    async with server.connect() as connection:
        yield connection


@pytest.fixture
async def lab(chromium: Any, server: ServerProcess) -> AsyncIterator[Any]:
    """JupyterLab with its list of kernels open."""
    context = await chromium.new_context(viewport=DESKTOP)
    page = await context.new_page()
    page.set_default_timeout(60_000)
    await page.goto(f"{server.url}lab/workspaces/{time.time_ns()}?token={TOKEN}")
    await page.get_by_role("tab", name=re.compile("^Running")).first.click()
    yield page
    await context.close()


async def open_console(lab: Any, session: str) -> Any:
    """Open a session from the list of what runs, as one does."""
    await lab.get_by_role("button", name="Refresh List").click()  # else it does so every ten seconds
    await lab.locator(f".jp-RunningSessions-itemLabel[title='broker-sessions/{session}']").click()
    console = lab.locator(".jp-ConsolePanel:visible")
    await console.wait_for()
    return console


def cell(console: Any, text: str) -> Any:
    """The cell that has this in it."""
    return console.locator(".jp-CodeConsole-content .jp-CodeCell", has_text=text)


async def test_a_person_opens_what_runs_sees_it_from_its_first_line_and_then_live(
    server: ServerProcess, wire: Wire, lab: Any, picture: Picture
) -> None:
    execution = await wire.execute(FRAME, session="watched")
    assert execution["state"] == "awaiting_input"
    await listed(server, "watched", "busy")
    began = time.monotonic()
    console = await open_console(lab, "watched")
    await console.locator(".jp-CodeConsole-promptCell .cm-content").wait_for()
    assert time.monotonic() - began < 10, "a busy kernel opens, and not after its minute"
    shown = cell(console, "Your name: ")
    await shown.locator(".jp-RenderedText", has_text="step 7").wait_for()
    await shown.locator("img").wait_for()
    text = await shown.locator(".jp-OutputArea").inner_text()
    assert [line for line in text.splitlines() if line.startswith("line")] == [f"line {i}" for i in range(8)]
    assert "step 6" not in text, "a display that changes is shown as it is"
    await shown.locator(".jp-RenderedText", has_text="jupyter broker stdin").wait_for()
    await lab.get_by_text("| Busy").wait_for()
    await picture(lab, "lab-attached")
    await wire.call("send_stdin", execution_id=execution["execution_id"], data="Ada")
    await shown.locator(".jp-RenderedText", has_text="Hello Ada").wait_for()
    # From now on it is all live.
    await wire.execute("print('a new', 'cell'); 6 * 7", session="watched")
    live = cell(console, "a new cell")
    await live.locator(".jp-OutputArea-executeResult", has_text="42").wait_for()
    await picture(lab, "lab-live")


async def test_a_persons_cell_runs_beside_the_agents(
    server: ServerProcess, wire: Wire, lab: Any, picture: Picture
) -> None:
    code = "x = 'from the agent'\nprint('the agent waits', flush=True)\nwhile x == 'from the agent': pass\nprint(x)"
    execution = await wire.execute(code, session="shared", wait=0)
    await listed(server, "shared", "busy")
    console = await open_console(lab, "shared")
    await cell(console, "the agent waits").wait_for()
    await console.locator(".jp-CodeConsole-promptCell .cm-content").click()
    await lab.keyboard.type("print('I read:', x); x = 'from the person'")
    await lab.keyboard.press("Shift+Enter")
    await cell(console, "I read: from the agent").wait_for()
    await console.locator(".jp-OutputArea-output", has_text="from the person").last.wait_for()
    assert (await wire.done(execution["execution_id"]))["text"] == "the agent waits\nfrom the person\n"
    await picture(lab, "lab-beside")


async def test_interrupt_in_lab_interrupts_the_execution(
    server: ServerProcess, wire: Wire, lab: Any, picture: Picture
) -> None:
    execution = await wire.execute("import time\nprint('begun', flush=True)\ntime.sleep(1000)", session="long", wait=0)
    await listed(server, "long", "busy")
    console = await open_console(lab, "long")
    await cell(console, "begun").locator(".jp-OutputArea-output").first.wait_for()
    await lab.get_by_role("menuitem", name="Kernel", exact=True).click()
    await lab.locator(".lm-Menu-itemLabel", has_text="Interrupt Kernel").click()
    await cell(console, "KeyboardInterrupt").first.wait_for()
    over = await wire.done(execution["execution_id"])
    assert (over["state"], over["kernel_state"]) == ("interrupted", "preserved")
    await listed(server, "long", "idle")
    await picture(lab, "lab-interrupted")


async def test_a_kernel_in_which_something_runs_is_not_shut_down_and_the_person_reads_why(
    server: ServerProcess, wire: Wire, lab: Any, picture: Picture
) -> None:
    code = "print('begun', flush=True)\nimport time; time.sleep(1000)"
    execution = await wire.execute(code, session="precious", wait=0)
    await listed(server, "precious", "busy")
    console = await open_console(lab, "precious")
    await cell(console, "begun").locator(".jp-OutputArea-output").first.wait_for()
    kernel = lab.locator(".jp-RunningSessions-itemLabel[title^='precious ']").locator("xpath=..")
    await kernel.hover()
    await kernel.locator(".jp-RunningSessions-itemShutdown").click()
    await console.locator(".jp-OutputArea-output", has_text="was not shut down").wait_for()
    await kernel.wait_for()
    await picture(lab, "lab-refused")
    assert (await wire.call("get_execution", execution_id=execution["execution_id"]))["state"] == "running"
    await wire.call("kill", execution_id=execution["execution_id"])


async def test_a_sessions_notebook_opens_on_its_live_kernel_with_what_was_run_so_far(
    server: ServerProcess, wire: Wire, lab: Any, picture: Picture
) -> None:
    await wire.execute("radius = 3", session="noted")
    await wire.execute("print('a circle')\nradius ** 2", session="noted")
    runs = await wire.execute(
        "import time\nprint('begun', flush=True)\nwhile radius == 3: time.sleep(0.02)", session="noted", wait=0
    )
    file = server.home / "broker-sessions" / "noted.ipynb"
    await until(file, lambda notebook: notebook.cells and "begun" in str(notebook.cells[-1].get("outputs")))
    await lab.get_by_role("tab", name=re.compile("^File Browser")).first.click()
    notebook = await open_notebook(lab, server, "noted")
    await notebook.has_prompts("[1]:", "[2]:", "[ ]:")
    assert await notebook.outputs("a circle").all_inner_texts() == ["a circle\n", "9"]
    assert await notebook.outputs("begun").all_inner_texts() == ["begun\n"]
    await notebook.type_below("print('it was', radius)\nradius = 4")
    await lab.keyboard.press("Shift+Enter")
    await notebook.outputs("it was").filter(has_text="it was 3").wait_for()
    assert (await wire.done(runs["execution_id"]))["state"] == "completed"
    await lab.get_by_text("| Idle").wait_for()
    await picture(lab, "lab-notebook")
    history = (await wire.call("list_executions", session="noted"))["executions"]
    assert [(each["origin"], each["title"]) for each in history if each["origin"] != "api"] == [
        ("jupyter", "print('it was', radius)")
    ]


async def test_who_is_logged_in_to_the_server_answers_on_the_brokers_page_without_a_token(
    server: ServerProcess, wire: Wire, lab: Any, picture: Picture
) -> None:
    execution = await wire.execute("print('Hello', input('Your name: '))", session="asked")
    page = await lab.context.new_page()
    await page.goto(f"{server.url}broker/#/{execution['execution_id']}")
    await page.locator("#answer").fill("Ada")
    await page.keyboard.press("Enter")
    await page.get_by_text("Hello Ada").first.wait_for()
    await picture(page, "page-in-server")
    await lab.context.clear_cookies()
    await page.reload()
    await page.get_by_label("Token").wait_for()


async def test_the_launcher_shows_the_kernels_with_icons_of_their_own(lab: Any, picture: Picture) -> None:
    seen = set()
    for name in ("Python 3 (nothing lost)", "JavaScript (nothing lost)"):
        icon = lab.locator(f".jp-LauncherCard[title^='{name}'] img").first
        await icon.wait_for()
        await icon.evaluate("icon => icon.decode()")
        seen.add(await icon.get_attribute("src"))
    assert len(seen) == 2
    await picture(lab, "lab-launcher")


async def test_an_ordinary_notebook_is_as_ever(server: ServerProcess, lab: Any, picture: Picture) -> None:
    before = {kernel["id"] for kernel in server.api("GET", "kernels")[1]}
    await lab.get_by_role("menuitem", name="File", exact=True).click()
    await lab.locator(".lm-Menu-itemLabel", has_text=re.compile("^New$")).hover()
    await lab.locator(".lm-Menu-itemLabel", has_text=re.compile("^Notebook$")).click()
    dialog = lab.locator(".jp-Dialog")
    await dialog.wait_for()
    await dialog.locator("select").select_option(label="Python 3 (ipykernel)")
    await dialog.locator(".jp-mod-accept").click()
    notebook = lab.locator(".jp-NotebookPanel:visible")
    # What is run before there is a kernel, JupyterLab drops.
    await lab.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    await notebook.locator(".jp-Cell .cm-content").first.click()
    await lab.keyboard.type("print('answered', input('Name? '))")
    await lab.keyboard.press("Shift+Enter")
    await notebook.locator(".jp-Stdin-input").fill("Ada")
    await lab.keyboard.press("Enter")
    await notebook.locator(".jp-OutputArea-output", has_text="answered Ada").wait_for()
    await picture(lab, "lab-ordinary")
    new = {kernel["id"] for kernel in server.api("GET", "kernels")[1]} - before
    assert len(new) == 1
    async with opened(server, new.pop()) as kernel:
        own = await kernel.execute("import os; print(os.environ.get('JUPYTER_BROKER_KERNEL_ID'))")
        await kernel.idle(own)
        assert kernel.text(own) == "None\n", "it is a kernel of the server's"
