"""Notebooks that people have open: changed through the document that jupyter-collaboration shares with them."""

from __future__ import annotations

from typing import Any

import pytest
from jupyter_ydoc import YNotebook
from nbformat.v4 import new_code_cell, new_markdown_cell

from broker.core.state import Run
from broker.notebooks.merging import merge, wanted
from broker.notebooks.shared import SharedDocuments, SharedNotebook

from .test_merging import SAID, Work, cell, record


class Together:
    """The server's document and a person's, which hear of each other's changes."""

    def __init__(self) -> None:
        self.server, self.person = YNotebook(), YNotebook()
        self.server.set(Work().notebook)
        self.exchange()
        del self.person.ycells[:]

    def exchange(self) -> int:
        """Let each have the other's changes. Returns how many bytes went to the person."""
        server, person = self.server.ydoc, self.person.ydoc
        server.apply_update(person.get_update(server.get_state()))
        update = server.get_update(person.get_state())
        person.apply_update(update)
        return len(update)

    def broker(self, record: Any, text: str = "", *, outputs: list[dict[str, Any]] | None = None) -> int:
        """The session goes on. Returns how many bytes the person is sent of it."""
        self.exchange()
        shared = SharedNotebook(self.server)
        notebook = shared.read()
        want = wanted(notebook, [record], lambda _: "", may_come=lambda _: False)
        fresh = [cell(each, text) for each in want.stale]
        for each in fresh:
            each["outputs"] = outputs if outputs is not None else each["outputs"]
        shared.apply(merge(notebook, fresh, SAID, want.passed_over))
        return self.exchange()

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The cells as the person sees them."""
        self.exchange()
        return list(self.person.get()["cells"])


@pytest.fixture
def together() -> Together:
    return Together()


def test_a_person_sees_the_output_grow_and_only_what_is_new_is_sent(together: Together) -> None:
    long = "x" * 100_000 + "\n"
    together.broker(record("a", run=Run.RUNNING, count=None, n=2), long)
    set_anew: list[str] = []
    shown = together.person.ycells[0]
    shown.observe(lambda event: set_anew.extend(event.keys))
    sent = together.broker(record("a", run=Run.RUNNING, count=None, n=3), long + "more\n")
    assert set_anew == [], "JupyterLab takes a cell whose number is set for one that is over"
    assert together.seen[0]["outputs"][0]["text"] == long + "more\n"
    assert sent < 2000
    assert together.person.ycells[0]["execution_state"] == "running"
    together.broker(record("a", n=4), long + "more\nlast\n")
    assert together.seen[0]["outputs"][0]["text"] == long + "more\nlast\n"
    assert together.person.ycells[0]["execution_state"] == "idle"


def test_what_a_person_types_meanwhile_is_kept(together: Together) -> None:
    together.broker(record("a", run=Run.RUNNING, n=2), "1\n")
    source = together.person.ycells[0]["source"]
    source += "  # a word of mine"
    together.person.append_cell(new_markdown_cell("# Notes"))
    together.broker(record("a", n=3), "1\n2\n")
    together.person.append_cell(new_code_cell("half a li"))
    together.broker(record("b", count=2), "b\n")
    source = together.person.ycells[2]["source"]
    source += "ne"
    assert [each["source"] for each in together.seen] == [
        "run('a')  # a word of mine",
        "# Notes",
        "half a line",
        "run('b')",
    ]
    assert together.seen[0]["outputs"][0]["text"] == "1\n2\n"
    together.exchange()
    assert together.server.get() == together.person.get()


def test_outputs_that_change_are_replaced_from_where_they_change(together: Together) -> None:
    def stream(text: str) -> dict[str, Any]:
        return {"output_type": "stream", "name": "stdout", "text": text}

    def display(text: str) -> dict[str, Any]:
        return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}

    running = {"run": Run.RUNNING}
    together.broker(record("a", n=1, **running), outputs=[stream("a"), display("10%")])
    together.broker(record("a", n=2, **running), outputs=[stream("a"), display("90%"), stream("b")])
    assert together.seen[0]["outputs"] == [stream("a"), display("90%"), stream("b")]
    together.broker(record("a", n=3, **running), outputs=[stream("c")])
    assert together.seen[0]["outputs"] == [stream("c")]
    together.broker(record("a", n=4), outputs=[])
    assert together.seen[0]["outputs"] == []


def test_numbers_are_numbers_to_a_browser(together: Together) -> None:
    together.broker(record("a", count=3))
    assert isinstance(together.person.ycells[0]["execution_count"], float)
    assert together.seen[0]["execution_count"] == 3
    assert together.seen[0]["metadata"]["broker"]["n"] == 5


def test_a_cell_that_a_person_deletes_stays_deleted(together: Together) -> None:
    together.broker(record("a", run=Run.RUNNING, n=2))
    del together.person.ycells[0]
    together.broker(record("a", n=4))
    assert together.seen == []


async def test_where_nobody_has_it_open_there_is_no_document() -> None:
    class Extension:
        async def get_document(self, *, path: str, create: bool, **_: Any) -> YNotebook | None:
            assert not create, "a document of its own would stay open for ever"
            return YNotebook() if path == "open.ipynb" else None

    documents = SharedDocuments(Extension)
    assert await documents.open("open.ipynb") is not None
    assert await documents.open("closed.ipynb") is None
    assert await SharedDocuments(lambda: None).open("open.ipynb") is None
