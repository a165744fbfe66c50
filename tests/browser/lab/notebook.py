"""A session's notebook in JupyterLab, as a reader has it open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ...lab.server import ServerProcess


class OpenNotebook:
    """The notebook in front of a reader. ``page`` is JupyterLab in a browser."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.panel = page.locator(".jp-NotebookPanel:visible")
        self.cells = self.panel.locator(".jp-Notebook-cell")

    def outputs(self, source: str) -> Any:
        """The outputs of the cell that has this in its source."""
        cell = self.cells.filter(has=self.page.locator(".jp-InputArea", has_text=source))
        return cell.locator(".jp-OutputArea-output")

    async def has_prompts(self, *texts: str) -> None:
        """Wait until this is what stands before the cells: a number, or a star."""
        await self._has(".jp-InputPrompt", texts)

    async def has_sources(self, *texts: str) -> None:
        """Wait until this is what is in the cells."""
        await self._has(".jp-InputArea .cm-content", texts)

    async def _has(self, part: str, texts: tuple[str, ...]) -> None:
        expect = pytest.importorskip("playwright.async_api").expect
        await expect(self.cells.locator(part)).to_have_text(list(texts), timeout=60_000, use_inner_text=True)

    async def type_below(self, code: str) -> None:
        """Type into a new cell at the end."""
        before = await self.cells.count()
        await self.panel.locator(".jp-Notebook-footer").click()
        await self.cells.nth(before).locator(".cm-content").click()
        await self.page.keyboard.type(code)


async def open_notebook(page: Any, server: ServerProcess, session: str) -> OpenNotebook:
    """Open a session's notebook from the file browser, which is shown, and wait until it has its kernel."""
    await asyncio.to_thread(server.until, lambda: f"{session}.ipynb" in server.sessions())
    files = page.locator(".jp-FileBrowser:visible")
    await files.locator(".jp-BreadCrumbs-home").click()
    await files.locator(".jp-DirListing-item", has_text="broker-sessions").dblclick()
    await files.locator(".jp-DirListing-item", has_text=f"{session}.ipynb").dblclick()
    notebook = OpenNotebook(page)
    await notebook.panel.locator(
        ".jp-Notebook-ExecutionIndicator:is([data-status=idle], [data-status=busy])"
    ).wait_for()
    return notebook
