"""What a person has done to a notebook is kept, whatever the session does meanwhile."""

from __future__ import annotations

import copy
import json
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from broker.api.types import Session
from broker.core.records import ExecutionRecord
from broker.core.state import Origin, Run
from broker.notebooks.files import encode
from broker.notebooks.merging import apply, complete, is_ours, merge, wanted
from broker.views.ipynb import code_cell, empty_notebook

SESSION = "s-1"
SAID = {"session_id": SESSION, "name": "work"}
CODES: dict[str, str] = {}


def record(id: str, *, run: Run = Run.COMPLETED, count: int | None = 1, n: int = 5, **more: Any) -> ExecutionRecord:
    return ExecutionRecord(
        execution_id=id, session_id=SESSION, owner="me", run=run, execution_count=count, n=n, created_at=0, **more
    )


def cell(record: ExecutionRecord, text: str = "out\n") -> dict[str, Any]:
    class Summary:
        execution_id, session_id = record.execution_id, record.session_id
        state, label, origin = record.run, record.label, record.origin
        execution_count, started_at, finished_at = record.execution_count, "2026-01-01T00:00:00Z", None

    outputs = [{"output_type": "stream", "name": "stdout", "text": text}]
    made = code_cell(Summary, CODES.get(record.execution_id, f"run({record.execution_id!r})"), outputs)  # type: ignore[arg-type]
    made["metadata"]["broker"]["n"] = record.n
    return made


class Work:
    """A notebook that a broker and a person both change, as it is on disk."""

    def __init__(self) -> None:
        self.disk = encode(
            empty_notebook(
                Session(
                    session_id=SESSION,
                    name="work",
                    kernel="python3",
                    kernel_id=None,
                    working_directory="/",
                    kernel_state="idle",
                    promises={},
                    created_at="",
                    closed_at=None,
                    executions={},
                    kernel_pid=None,
                    connection_file=None,
                    notebook_path=None,
                ),
                "Python 3",
            )
        )

    @property
    def notebook(self) -> dict[str, Any]:
        return json.loads(self.disk)

    @property
    def sources(self) -> list[str]:
        return ["".join(each["source"]) for each in self.notebook["cells"]]

    def broker(self, *records: ExecutionRecord, text: str = "out\n", may_come: bool = True, **more: Any) -> bool:
        """The session goes on. Says whether anything was to be written."""
        notebook = self.notebook
        assert is_ours(notebook, SESSION)
        want = wanted(notebook, records, CODES.get, may_come=lambda _: may_come, **more)  # type: ignore[arg-type]
        changes = merge(notebook, [cell(each, text) for each in want.stale], SAID, want.passed_over)
        apply(changes, notebook)
        self.disk = encode(notebook)
        nbformat.validate(self.notebook)
        return bool(changes)

    def person(self, change: Any) -> None:
        """A person changes it in JupyterLab, and saves it."""
        notebook = nbformat.reads(self.disk, 4)
        change(notebook.cells)
        self.disk = nbformat.writes(notebook).encode()


@pytest.fixture
def work() -> Work:
    CODES.clear()
    return Work()


def test_each_execution_is_one_cell_in_order(work: Work) -> None:
    work.broker(record("a"))
    work.broker(record("a"), record("b", count=2))
    assert work.sources == ["run('a')", "run('b')"]
    assert [each["execution_count"] for each in work.notebook["cells"]] == [1, 2]


def test_what_is_written_already_is_not_written_again(work: Work) -> None:
    assert work.broker(record("a"))
    assert not work.broker(record("a"))


def test_a_running_cell_goes_on(work: Work) -> None:
    work.broker(record("a", run=Run.RUNNING, count=None, n=2), text="1\n")
    work.broker(record("a", run=Run.RUNNING, n=3), text="1\n2\n")
    work.broker(record("a", n=4), text="1\n2\n3\n")
    (made,) = work.notebook["cells"]
    assert made["outputs"][0]["text"] == ["1\n", "2\n", "3\n"]
    assert made["metadata"]["broker"]["state"] == "completed"


def test_a_persons_cells_and_their_order_are_kept(work: Work) -> None:
    work.broker(record("a"))
    work.person(lambda cells: cells.extend([new_markdown_cell("# Notes"), new_code_cell("mine")]))
    work.broker(record("b", count=2))
    work.person(lambda cells: cells.insert(0, cells.pop(1)))
    work.broker(record("c", count=3))
    assert work.sources == ["# Notes", "run('a')", "mine", "run('b')", "run('c')"]


def test_what_a_person_edited_is_kept_while_the_output_goes_on(work: Work) -> None:
    work.broker(record("a", run=Run.RUNNING, count=None, n=2), text="1\n")

    def edit(cells: Any) -> None:
        cells[0].source = "# what this does:\nrun('a')"
        cells[0].metadata["tags"] = ["important"]

    work.person(edit)
    work.broker(record("a", n=4), text="1\n2\n")
    (made,) = work.notebook["cells"]
    assert work.sources == ["# what this does:\nrun('a')"]
    assert made["metadata"]["tags"] == ["important"]
    assert made["outputs"][0]["text"] == ["1\n", "2\n"]


def test_a_cell_that_a_person_deleted_stays_deleted(work: Work) -> None:
    work.broker(record("a", run=Run.RUNNING, n=2), record("b", run=Run.QUEUED, count=None))
    work.person(lambda cells: cells.pop(0))
    work.broker(record("a", n=4), record("b", count=2, n=9))
    assert work.sources == ["run('b')"]


def test_a_stale_copy_saved_over_the_notebook_gets_what_it_lacks(work: Work) -> None:
    work.broker(record("a"))
    stale = work.disk
    work.broker(record("b", count=2))
    work.disk = stale
    work.person(lambda cells: cells.append(new_markdown_cell("typed meanwhile")))
    work.broker(record("a"), record("b", count=2))
    assert work.sources == ["run('a')", "typed meanwhile", "run('b')"]


def test_a_cell_that_a_person_ran_again_is_theirs(work: Work) -> None:
    work.broker(record("a", n=5))

    def run_again(cells: Any) -> None:
        cells[0].execution_count = 7
        cells[0].outputs = [nbformat.v4.new_output("stream", text="again\n")]

    work.person(run_again)
    assert not work.broker(record("a", n=6), text="late output of the first run\n")
    assert work.notebook["cells"][0]["outputs"][0]["text"] == ["again\n"]


def test_a_cell_that_a_person_emptied_stays_empty(work: Work) -> None:
    work.broker(record("a", n=5))
    work.person(lambda cells: cells[0].update(outputs=[], execution_count=None))
    assert not work.broker(record("a", n=6))


def test_a_copy_of_a_cell_is_the_persons(work: Work) -> None:
    work.broker(record("a", run=Run.RUNNING, n=2), text="1\n")

    def duplicate(cells: Any) -> None:
        cells.insert(0, copy.deepcopy(cells[0]))
        cells[0].id = "copy"

    work.person(duplicate)
    work.broker(record("a", n=4), text="1\n2\n")
    assert [each["outputs"][0]["text"] for each in work.notebook["cells"]] == [["1\n"], ["1\n", "2\n"]]


def test_a_cell_that_was_moved_by_cut_and_paste_still_goes_on(work: Work) -> None:
    work.broker(record("a", run=Run.RUNNING, n=2), text="1\n")
    work.person(lambda cells: cells[0].update(id="pasted"))
    work.broker(record("a", n=4), text="1\n2\n")
    (made,) = work.notebook["cells"]
    assert (made["id"], made["outputs"][0]["text"]) == ("pasted", ["1\n", "2\n"])


def test_a_code_cell_turned_into_text_is_left_alone(work: Work) -> None:
    work.broker(record("a", run=Run.RUNNING, n=2))

    def to_text(cells: Any) -> None:
        old = cells[0]
        cells[0] = new_markdown_cell("words", id=old.id, metadata=old.metadata)

    work.person(to_text)
    assert not work.broker(record("a", n=4))


# Cells that a person has run


def test_a_cell_that_a_person_ran_in_this_notebook_is_not_there_twice(work: Work) -> None:
    CODES["visit"] = "x = 1"
    work.person(lambda cells: cells.append(new_code_cell("x = 1", execution_count=3)))
    assert not work.broker(record("visit", count=3, origin=Origin.JUPYTER), may_come=False)
    assert work.sources == ["x = 1"]


def test_a_cell_that_is_not_saved_yet_is_waited_for(work: Work) -> None:
    CODES["visit"] = "x = 1"
    visit = record("visit", count=3, origin=Origin.JUPYTER)
    assert not work.broker(visit, may_come=True)
    work.person(lambda cells: cells.append(new_code_cell("x = 1", execution_count=3)))
    assert not work.broker(visit, may_come=False)
    assert work.sources == ["x = 1"]


def test_what_a_person_ran_elsewhere_is_a_cell_in_the_end(work: Work) -> None:
    CODES["visit"] = "x = 1"
    work.person(lambda cells: cells.append(new_code_cell("x = 1", execution_count=2)))
    assert work.broker(record("visit", count=3, origin=Origin.JUPYTER), may_come=False)
    assert work.sources == ["x = 1", "x = 1"]
    assert work.notebook["cells"][1]["metadata"]["broker"]["origin"] == "jupyter"


def test_what_a_client_at_home_here_ran_before_is_not_added(work: Work) -> None:
    CODES["earlier"] = "x = 0"
    earlier = record("earlier", count=2, origin=Origin.JUPYTER)
    assert not work.broker(earlier, may_come=False, came_from_here={"earlier"}.__contains__)


def test_ones_own_execution_is_added_even_if_a_person_has_the_same(work: Work) -> None:
    CODES["a"] = "x = 1"
    work.person(lambda cells: cells.append(new_code_cell("x = 1", execution_count=1)))
    work.broker(record("a"))
    assert work.sources == ["x = 1", "x = 1"]


# What others may make of it


def test_a_persons_cell_with_our_id_is_not_ours(work: Work) -> None:
    work.person(lambda cells: cells.append(new_code_cell("mine", id="a")))
    work.broker(record("a"))
    assert work.sources == ["mine", "run('a')"]
    work.broker(record("a", n=9), text="more\n")
    assert [each["outputs"][0]["text"] for each in work.notebook["cells"] if each["outputs"]] == [["more\n"]]


@pytest.mark.parametrize("id", ["../../x", "a b", "é", "x" * 300, '"', "{}", "\N{GRINNING FACE}"])
def test_another_clients_ids_may_be_anything(work: Work, id: str) -> None:
    work.broker(record(id, n=1))
    work.broker(record(id, n=2), text="more\n")
    (made,) = work.notebook["cells"]
    assert made["outputs"][0]["text"] == ["more\n"]


@pytest.mark.parametrize(
    "said",
    [
        {"session_id": SESSION, "written": 5},
        {"session_id": SESSION, "written": [1, None, {}]},
        {"session_id": SESSION, "written": {"a": 1}},
    ],
)
def test_metadata_that_makes_no_sense_is_passed_over(work: Work, said: dict[str, Any]) -> None:
    work.broker(record("a", run=Run.RUNNING))
    notebook = work.notebook
    notebook["metadata"]["broker"] = said
    notebook["cells"][0]["metadata"]["broker"].update(state=[], n="many")
    notebook["cells"].append(new_code_cell("x", metadata={"broker": "mine"}))
    work.disk = encode(notebook)
    work.broker(record("a", n=9), text="more\n")
    assert work.notebook["cells"][0]["outputs"][0]["text"] == ["more\n"]


@pytest.mark.parametrize(
    "other",
    [None, [], {}, {"nbformat": 4, "cells": [], "metadata": {}}, {"nbformat": 4, "cells": [5], "metadata": {}}],
)
def test_what_is_no_notebook_of_ours_is_known(other: Any) -> None:
    assert not is_ours(other, SESSION)
    if isinstance(other, dict) and other:
        assert not is_ours({**other, "metadata": {"broker": {"session_id": "s-2"}}}, SESSION)


def test_it_is_written_as_nbformat_writes_it(work: Work) -> None:
    work.broker(record("a"))
    assert nbformat.writes(nbformat.reads(work.disk, 4)).strip() == work.disk.decode().strip()


@pytest.mark.parametrize("kept", [{"name": "python", "version": "2.7"}, None, []])
def test_what_a_notebook_says_of_its_language_is_completed_and_else_left_alone(kept: Any) -> None:
    said = {"name": "python", "version": "3.13", "file_extension": ".py"}
    notebook: dict[str, Any] = {"metadata": {"language_info": {"name": "python"}}}
    complete(notebook, None)
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    complete(notebook, said)
    assert notebook["metadata"]["language_info"] == said
    other = {"metadata": {"language_info": kept}}
    complete(other, said)
    assert other == {"metadata": {"language_info": kept}}
