"""A real Chromium, Debian's own, without a window."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ..running import TOKEN, BrokerProcess

ARTIFACTS = Path(__file__).parent / "artifacts"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

Visit = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Any]:
    """One for all tests. Each has a context of its own in it."""
    playwright = pytest.importorskip("playwright.async_api", reason="pip install playwright")
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None and "CI" not in os.environ:
        pytest.skip("there is no Chromium: apt-get install chromium-headless-shell")
    assert program, "CI must have Chromium"
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        with contextlib.suppress(TimeoutError):  # of one that has crashed
            async with asyncio.timeout(30):
                await browser.close()


@pytest.fixture
async def visit(chromium: Any, broker: BrokerProcess) -> AsyncIterator[Visit]:
    """Opens the page as ``jupyter broker open`` does. At the end, nothing may have been wrong in it."""
    wrong: list[str] = []

    contexts = []

    async def visit(url: str = broker.url, path: str = "", *, token: str | None = TOKEN, **options: Any) -> Any:
        context = await chromium.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        await page.goto(url + (f"#token={token}" if token else ""))
        if token:
            await page.locator("#connection[data-state=open]").wait_for()
        if path:
            await page.evaluate("path => { location.hash = path }", path)
        return page

    yield visit
    for context in contexts:
        await context.close()
    assert wrong == []


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Any, str], Awaitable[None]]:
    """Takes a picture for people to look at."""

    async def picture(page: Any, name: str) -> None:
        await page.screenshot(path=ARTIFACTS / f"{name}.png")

    return picture
