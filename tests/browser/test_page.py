"""The page, as a person sees it in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker.cli.open import way_in
from broker.discovery import BrokerInfo

from ..running import TOKEN, BrokerProcess, Wire
from .conftest import PHONE, Visit

Picture = Callable[[Any, str], Awaitable[None]]
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FABJADveWkH6oAAAAAElFTkSuQmCC"


def here(execution: dict[str, Any]) -> str:
    return f"#/{execution['execution_id']}"


async def seen(page: Any) -> str:
    """All the text of the output, as it stands."""
    return await page.locator(".output").evaluate("element => element.textContent")


async def until_seen(page: Any, wanted: str) -> str:
    await page.wait_for_function("wanted => document.querySelector('.output').textContent.includes(wanted)", arg=wanted)
    return await seen(page)


async def until_state(page: Any, state: str) -> None:
    await page.locator(f"article .badge[data-state={state}]").wait_for()


async def test_the_output_of_what_an_agent_runs_appears_while_it_runs(
    visit: Visit, wire: Wire, session: str, picture: Picture
) -> None:
    page = await visit()
    execution = await wire.execute(
        "import time\nfor step in range(40):\n    print('step', step, flush=True); time.sleep(0.1)",
        session=session,
        wait=0,
        label="Forty steps",
    )
    await page.get_by_role("link", name="Forty steps").last.click()
    await until_seen(page, "step 2\n")
    assert "step 39" not in await seen(page)
    await until_state(page, "running")
    await picture(page, "live")
    await until_state(page, "completed")
    assert await until_seen(page, "step 39\n") == "".join(f"step {step}\n" for step in range(40))
    assert "40 lines" in await page.locator(f".line + .facts >> nth={0}").inner_text()
    assert execution["execution_id"] in page.url


async def test_who_comes_late_sees_all_from_the_first_line(visit: Visit, wire: Wire, session: str) -> None:
    execution = await wire.execute(
        "import time\nfor n in range(5000): print(n, flush=n % 50 == 0)\ntime.sleep(2)\nprint('end')",
        session=session,
        wait=1,
    )
    page = await visit(path=here(execution))
    await until_state(page, "completed")
    assert (await until_seen(page, "end")).split() == [*map(str, range(5000)), "end"]


async def test_a_prompt_is_answered_and_a_password_is_not_shown(
    visit: Visit, wire: Wire, session: str, picture: Picture
) -> None:
    execution = await wire.execute(
        "import getpass\nname = input('Your name: ')\nsecret = getpass.getpass('Password: ')\n"
        "print(name, len(secret))\n"
        "try: input('More? ')\nexcept EOFError: print('no more')",
        session=session,
    )
    page = await visit(path=here(execution))
    answer = page.locator("#answer")
    await page.get_by_text("Your name:").last.wait_for()
    assert await answer.evaluate("element => element === document.activeElement"), "one can type at once"
    await picture(page, "prompt")
    await page.keyboard.type("Ada")
    await page.keyboard.press("Enter")
    await page.locator("#answer[type=password]").wait_for()
    await answer.fill("hunter2")
    await picture(page, "password")
    await answer.press("Enter")
    await page.get_by_role("button", name="EOF").click()
    text = await until_seen(page, "no more")
    assert "Your name: Ada" in text
    assert "Ada 7" in text
    assert "hunter2" not in await page.content()


async def test_interrupt_and_kill_stop_what_they_are_meant_to(visit: Visit, wire: Wire, session: str) -> None:
    endless = "import time\nwhile True: time.sleep(0.1)"
    execution = await wire.execute(endless, session=session, wait=0)
    page = await visit(path=here(execution))
    await until_state(page, "running")
    await page.get_by_role("button", name="Interrupt").click()
    await until_state(page, "interrupted")
    assert "KeyboardInterrupt" in await until_seen(page, "KeyboardInterrupt")
    stubborn = await wire.execute(
        "import time\nwhile True:\n    try: time.sleep(0.1)\n    except KeyboardInterrupt: pass",
        session=session,
        wait=1,
    )
    await page.evaluate("path => { location.hash = path }", here(stubborn))
    await until_state(page, "running")
    await page.get_by_role("button", name="Kill").click()
    await page.get_by_role("button", name="Leave it running").click()
    await asyncio.sleep(0.3)
    assert (await wire.call("get_execution", execution_id=stubborn["execution_id"]))["state"] == "running"
    await page.get_by_role("button", name="Kill").click()
    await page.locator("#ask").get_by_role("button", name="Kill").click()
    await until_state(page, "killed")
    await page.get_by_text("variables lost").wait_for()


async def test_images_progress_bars_colours_and_changing_displays(
    visit: Visit, wire: Wire, session: str, picture: Picture
) -> None:
    page = await visit()
    execution = await wire.execute(
        f"import sys, time\nfrom IPython.display import clear_output, display, Markdown\n"
        "print('gone'); clear_output(wait=True)\n"
        "for n in range(101):\n"
        "    print(f'\\r{n:3d}%|' + '#' * (n // 5), end='', file=sys.stderr, flush=True)\n"
        "print(file=sys.stderr)\n"
        "print('\\x1b[1;31mred\\x1b[0m \\x1b[38;5;208morange\\x1b[0m \\x1b[48;2;0;90;200mblue\\x1b[0m')\n"
        "handle = display({'text/plain': 'before'}, raw=True, display_id=True)\n"
        f"display({{'image/png': '{DOT}', 'text/plain': 'a dot'}}, raw=True)\n"
        "handle.update({'text/plain': 'after'}, raw=True)\n"
        "display(Markdown('# Title\\n\\n| a | b |\\n|---|---|\\n| 1 | **2** |'))\n"
        "1 / 0",
        session=session,
    )
    await page.evaluate("path => { location.hash = path }", here(execution))
    await until_state(page, "failed")
    text = await until_seen(page, "ZeroDivisionError")
    assert "gone" not in text
    assert text.startswith(f"100%|{'#' * 20}\n")
    assert text.count("%|") == 1, "a bar is one line"
    assert await page.locator(".display").first.inner_text() == "after", "it changes in its place"
    image = page.get_by_alt_text("a dot")
    assert await image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 10
    red = page.locator(".output span.fg-1.bold", has_text="red")
    assert await red.count() == 1
    assert await page.locator(".output span", has_text="orange").evaluate("e => e.style.color") == "rgb(255, 135, 0)"
    frame = page.frame_locator(".output iframe")
    await frame.locator("h1", has_text="Title").wait_for()
    assert await frame.locator("td strong").inner_text() == "2"
    await picture(page, "rich")


INTRUDER = """
<p id="said">nothing yet</p>
<img src="https://evil.example/leak.png" onerror="said.dataset.image = 'refused'">
<script>
  const tried = {};
  const attempt = (name, act) => { try { tried[name] = String(act()); } catch (error) { tried[name] = error.name; } };
  attempt("storage", () => sessionStorage.getItem("broker.token"));
  attempt("cookie", () => document.cookie);
  attempt("parent", () => parent.document.body.innerHTML);
  attempt("parentStorage", () => parent.sessionStorage.getItem("broker.token"));
  attempt("address", () => parent.location.href);
  attempt("socket", () => { new WebSocket(`ws://${location.host}/api/broker/v1/ws`, ["broker.v1"]); return "made"; });
  attempt("open", () => open("/"));
  attempt("top", () => { top.location = "about:blank#away"; return "went"; });
  parent.postMessage({ height: 1e9, token: "?", method: "kill" }, "*");
  const steal = document.body.appendChild(document.createElement("input"));
  setInterval(() => steal.focus(), 20);
  fetch("/api/broker/v1/health").then((answer) => answer.status, (error) => error.name).then((result) => {
    tried.fetch = String(result);
    said.textContent = JSON.stringify({ ...tried, typed: steal.value });
  });
  setInterval(() => { steal.value && (said.dataset.typed = steal.value); }, 20);
</script>
"""


async def test_html_that_an_execution_prints_reads_nothing_and_does_nothing(
    visit: Visit, wire: Wire, session: str, picture: Picture
) -> None:
    await wire.execute(f"intruder = {INTRUDER!r}", session=session)
    execution = await wire.execute(
        "from IPython.display import HTML, display\n"
        "display(HTML(intruder)); print('<script>alert(1)</script>'); input('Your password: ')",
        session=session,
    )
    page = await visit(path=here(execution))
    assert await page.frame_locator(".output iframe").locator("#said").inner_text() == "nothing yet", "no script ran"
    await page.get_by_role("button", name="Run its scripts").click()
    said = page.frame_locator(".output iframe").locator("#said")
    await page.frame_locator(".output iframe").locator("#said:has-text('fetch')").wait_for()
    tried = await said.evaluate("said => JSON.parse(said.textContent)")
    refused = "SecurityError"
    assert tried["storage"] == tried["cookie"] == tried["parent"] == tried["parentStorage"] == refused
    assert tried["address"] == refused
    assert tried["fetch"] == "TypeError", "its policy lets it connect to nothing"
    assert tried["open"] in ("null", refused)
    assert tried["top"] == refused
    await page.frame_locator(".output iframe").locator("#said[data-image=refused]").wait_for()
    height = await page.locator(".output iframe").evaluate("frame => frame.getBoundingClientRect().height")
    assert 20 < height <= 640
    assert "<script>alert(1)</script>" in await seen(page), "text is text"
    # It wants the focus, while somebody types a password.
    await page.locator("#answer").click()
    await page.keyboard.type("hunter2", delay=60)
    assert await page.locator("#answer").input_value() == "hunter2"
    assert await said.get_attribute("data-typed") is None
    assert page.url.endswith(here(execution))
    await picture(page, "intruder")
    assert await page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>' } catch { return 'refused' } }")


@contextlib.asynccontextmanager
async def one_address(broker: Callable[[], str]) -> AsyncIterator[str]:
    """An address that leads to a broker, wherever that listens."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = urlsplit(broker())
        try:
            further = await asyncio.open_connection(there.hostname, there.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, further[1]), copy(further[0], writer))

    server = await asyncio.start_server(come, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


async def test_it_goes_on_after_a_restart_of_the_broker_with_no_hole_and_no_repeat(
    visit: Visit, start_broker: Callable[..., BrokerProcess], picture: Picture
) -> None:
    broker = start_broker()
    async with broker.connect() as wire:
        execution = await wire.execute(
            "import time\nfor n in range(400): print(n, flush=True); time.sleep(0.02)", wait=0.1
        )
    async with one_address(lambda: broker.url) as url:
        page = await visit(url, here(execution))
        await until_seen(page, "20\n")
        broker.stop(signal.SIGKILL)
        await page.locator("#connection[data-state=connecting]").wait_for()
        await picture(page, "connecting")
        broker.start()
        await page.locator("#connection[data-state=open]").wait_for()
        await until_state(page, "completed")
        assert (await until_seen(page, "399\n")).split() == [*map(str, range(400))]


async def test_a_hundred_thousand_lines_leave_it_responsive(visit: Visit, wire: Wire, session: str) -> None:
    execution = await wire.execute("for n in range(100_000): print('line', n)", session=session, wait=60)
    page = await visit()
    await page.evaluate(
        "() => { window.longest = 0; new PerformanceObserver((list) => { for (const task of list.getEntries()) "
        "window.longest = Math.max(window.longest, task.duration) }).observe({ entryTypes: ['longtask'] }) }"
    )
    begun = asyncio.get_running_loop().time()
    await page.evaluate("path => { location.hash = path }", here(execution))
    await until_seen(page, "line 99999\n")
    took = asyncio.get_running_loop().time() - begun
    text = await seen(page)
    assert text.startswith("line 0\n")
    assert text.count("\n") == 100_000
    assert await page.locator(".screen pre.full").last.is_visible(), "it follows the end"
    scroller = page.locator(".scroller")
    await scroller.evaluate("scroller => { scroller.scrollTop = 0 }")
    await page.get_by_text("line 3", exact=False).first.wait_for()
    await page.get_by_role("button", name="Follow").click()
    await page.wait_for_function(
        "() => { const { scrollHeight, scrollTop, clientHeight } = document.querySelector('.scroller');"
        "return scrollHeight - scrollTop - clientHeight < 50 }"
    )
    longest = await page.evaluate("() => window.longest")
    print(f"100,000 lines: shown after {took:.2f} s, longest task {longest:.0f} ms")
    assert took < 20
    assert longest < 2000


async def test_of_a_very_large_output_the_end_is_shown_and_the_rest_can_be_read(
    visit: Visit, wire: Wire, session: str
) -> None:
    execution = await wire.execute("for n in range(12_000): print(f'{n:09d} ' * 100)", session=session, wait=60)
    page = await visit(path=here(execution))
    text = await until_seen(page, "000011999")
    assert "000000000" not in text
    while await page.get_by_role("button", name="Load earlier").is_visible():
        await page.get_by_role("button", name="Load earlier").click()
        await until_seen(page, "000011999")
        await page.locator(".content:not([data-loading])").wait_for()
    text = await until_seen(page, "000000000")
    assert len(text) == 12_000 * (10 * 100 + 1)


async def test_a_cell_of_ones_own_runs_in_the_session(visit: Visit, wire: Wire, session: str, picture: Picture) -> None:
    execution = await wire.execute("x = 6", session=session)
    page = await visit(path=here(execution))
    await until_state(page, "completed")
    assert await page.locator("#cell-session").input_value() == session
    await page.locator("#cell").fill("print('seven')\nx * 7")
    await page.locator("#cell").press("Control+Enter")
    await until_seen(page, "seven\n")
    await until_seen(page, "42")
    await until_state(page, "completed")
    assert here(execution) not in page.url
    executions = (await wire.call("list_executions", session=session))["executions"]
    assert len(executions) == 2


async def test_the_history_is_searched_in_titles_code_and_output(
    visit: Visit, wire: Wire, session: str, picture: Picture
) -> None:
    await wire.execute("print('needle'[::-1])", session=session, label="Backwards")
    await wire.execute("eldeen = 'x' + 'yz'\neldeen", session=session, label="Other")
    await wire.execute("print('nothing')", session=session)
    page = await visit()
    await page.keyboard.press("/")
    await page.keyboard.type("ELDEEN")
    await page.locator("#search-status", has_text="2 of").wait_for()
    rows = page.locator("#sessions a")
    assert await rows.count() == 2
    assert {await row.locator("mark").inner_text() for row in await rows.all()} == {"eldeen"}
    await picture(page, "search")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await until_state(page, "completed")
    await page.locator("#search").fill("")
    await page.locator("#search-status").wait_for(state="hidden")
    assert await rows.count() > 2


async def test_all_can_be_done_with_the_keyboard(visit: Visit, wire: Wire, session: str, picture: Picture) -> None:
    await wire.execute("import time\nwhile True: time.sleep(0.1)", session=session, wait=0, label="Endless")
    page = await visit()
    await page.keyboard.press("?")
    await page.locator("#help[open]").wait_for()
    await picture(page, "keys")
    await page.keyboard.press("Escape")
    for _ in range(30):
        await page.keyboard.press("j")
        if "Endless" in await page.evaluate("() => document.activeElement.textContent"):
            break
    await picture(page, "focus")
    await page.keyboard.press("Enter")
    await until_state(page, "running")
    await page.keyboard.press("x")
    await page.locator("#ask[open]").wait_for()
    await picture(page, "kill")
    await page.keyboard.press("Enter")
    await page.locator("#ask[open]").wait_for(state="hidden")
    await page.keyboard.press("i")
    await until_state(page, "interrupted")
    await page.keyboard.press("c")
    await page.keyboard.type("input('Colour? ')")
    await page.keyboard.press("Control+Enter")
    await page.locator(".prompt label", has_text="Colour?").wait_for()
    await page.keyboard.press("Escape")
    await page.keyboard.press("a")
    await page.keyboard.type("green")
    await page.keyboard.press("Enter")
    await until_state(page, "completed")
    await until_seen(page, "'green'")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await page.wait_for_function("() => document.activeElement.matches('#sessions a')")
    assert await page.locator("#live").inner_text() == "input('Colour? '): completed", "those who do not see it hear it"


async def test_on_a_phone_there_is_the_list_and_then_the_execution(
    visit: Visit, wire: Wire, session: str, picture: Picture
) -> None:
    await wire.execute("print('x' * 300)\ninput('Which of the two? ')", session=session, label="On the phone")
    page = await visit(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2, color_scheme="dark")
    assert not await page.locator("#detail").is_visible()
    await picture(page, "phone-list")
    await page.get_by_role("link", name="On the phone").first.tap()
    await page.locator("#answer").wait_for()
    assert not await page.locator("#list").is_visible()
    await until_seen(page, "Which")
    await picture(page, "phone")
    wide = await page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= PHONE["width"], "nothing sticks out"
    small = await page.evaluate(
        "() => [...document.querySelectorAll('button, a')].filter((e) => e.checkVisibility() "
        "&& e.getBoundingClientRect().height < 40).map((e) => e.outerHTML)"
    )
    assert small == [], "fingers can hit it"
    await page.locator("#answer").fill("the second")
    await page.get_by_role("button", name="Send").tap()
    await until_state(page, "completed")
    await page.get_by_role("link", name="Back").tap()
    await page.locator("#list").wait_for()


async def test_the_token_comes_by_the_fragment_or_the_form_and_is_in_no_address(
    visit: Visit, broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Picture
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    page = await visit(token=None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await picture(page, "token")
    await page.get_by_label("Token").fill("wrong")
    await page.keyboard.press("Enter")
    await page.get_by_text("does not know this token").wait_for()
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.locator("#connection[data-state=open]").wait_for()
    await page.evaluate("() => sessionStorage.clear()")
    info = BrokerInfo(url=broker.url, token=TOKEN, pid=1, data_dir="", started_at="")
    with way_in(info) as file:
        assert file.stat().st_mode & 0o077 == 0
        await page.goto(file.as_uri())
        await page.locator("#connection[data-state=open]").wait_for()
    assert os.listdir(tmp_path) == []
    assert page.url == broker.url
    assert not [url for url in asked if TOKEN in url.partition("#")[0]]
    await page.reload()
    await page.locator("#connection[data-state=open]").wait_for()
    assert TOKEN not in await page.content()
