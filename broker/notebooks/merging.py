"""What becomes of a notebook that a person works in when its session goes on. Pure: it reads and writes nothing.

A cell is ours if it has an execution's id and says so in its metadata. Everything else is the person's, and is left as
it is: their cells, the order, the source of every cell, ours too. The notebook's metadata lists the executions that
were ever written into it, so a cell of ours that is gone was deleted by the person, and stays so.

An execution that came from another client (``origin: jupyter``) may be a cell that the person ran in this very
notebook. Then the notebook has that cell, or will have it when it is saved; no second one is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.records import ExecutionRecord
from ..core.state import ENDED, Origin
from ..views.ipynb import cell_id

Notebook = dict[str, Any]
Cell = dict[str, Any]


class Changes(NamedTuple):
    """What is to be done to a notebook."""

    updated: dict[str, Cell]
    """By cell id: the ``outputs``, ``execution_count`` and ``metadata`` that a cell is to have."""
    appended: list[Cell]
    metadata: dict[str, Any]
    """What ``metadata.broker`` is to be."""

    def __bool__(self) -> bool:
        return bool(self.updated or self.appended)


class Wanted(NamedTuple):
    """Which executions a notebook lacks, or has an old state of; and those of which that cannot be said yet."""

    stale: list[ExecutionRecord]
    held: list[ExecutionRecord]
    passed_over: list[str]
    """Cells that the person has run here: they are theirs."""


def is_ours(notebook: object, session_id: str) -> bool:
    """Whether this is the notebook of this session."""
    return (
        isinstance(notebook, dict)
        and notebook.get("nbformat") == 4
        and isinstance(notebook.get("cells"), list)
        and all(isinstance(cell, dict) for cell in notebook["cells"])
        and _broker(notebook).get("session_id") == session_id
    )


def wanted(
    notebook: Notebook,
    executions: Iterable[ExecutionRecord],
    code: Callable[[str], str],
    *,
    may_come: Callable[[ExecutionRecord], bool],
    came_from_here: Callable[[str], bool] = lambda execution_id: False,
) -> Wanted:
    """Compare a notebook with its session's executions, which are in order.

    ``may_come`` says of another client's execution whether the notebook it may be from might just not be saved yet,
    ``came_from_here`` whether it is known to be from this one.
    """
    ours = _ours(notebook)
    written = set(_written(notebook))
    ran = {(_text(cell.get("source", "")), cell.get("execution_count")) for cell in notebook["cells"]}
    found = Wanted([], [], [])
    for record in executions:
        id = record.execution_id
        if cell := ours.get(id):
            if _is_stale(cell, record):
                found.stale.append(record)
        elif id in written:
            continue
        elif record.origin is not Origin.JUPYTER:
            found.stale.append(record)
        elif came_from_here(id) or (record.execution_count is not None and (code(id), record.execution_count) in ran):
            found.passed_over.append(id)
        elif may_come(record):
            found.held.append(record)
        else:
            found.stale.append(record)
    return found


def merge(notebook: Notebook, fresh: Sequence[Cell], session: Mapping[str, Any], passed_over: Sequence[str]) -> Changes:
    """What is to be done so that the notebook has the cells ``fresh`` as they are now.

    ``session`` is what its metadata says of the session. Nothing is done for the sake of metadata alone.
    """
    ours, written = _ours(notebook), _written(notebook)
    changes = Changes({}, [], {})
    for cell in fresh:
        id = cell["metadata"]["broker"]["execution_id"]
        if mine := ours.get(id):
            changes.updated[mine["id"]] = {
                "outputs": cell["outputs"],
                "execution_count": cell["execution_count"],
                "metadata": {**mine["metadata"], **cell["metadata"]},
            }
        elif id not in written:
            changes.appended.append(cell)
            written[id] = None
    written |= dict.fromkeys(passed_over)
    changes.metadata.update(_broker(notebook), **session, written=list(written))
    return changes


def apply(changes: Changes, notebook: Notebook) -> None:
    """Do what is to be done, to a notebook in memory."""
    for cell in notebook["cells"]:
        cell.update(changes.updated.get(cell.get("id"), {}))
    notebook["cells"].extend(_renamed(changes.appended, notebook))
    notebook["metadata"]["broker"] = changes.metadata


def complete(notebook: Notebook, language: dict[str, Any] | None) -> None:
    """Let it say of its kernel's language what JupyterLab would write into it.

    Else opening it changed it, and who only reads were asked which version to keep, when the session goes on.
    """
    known = notebook["metadata"].get("language_info")
    if language and isinstance(known, dict) and known.keys() <= {"name"}:
        notebook["metadata"]["language_info"] = language


def _renamed(cells: list[Cell], notebook: Notebook) -> list[Cell]:
    """The cells, none with an id that a cell of the person's has."""
    taken = {cell.get("id") for cell in notebook["cells"]}
    return [{**cell, "id": _other(cell["id"])} if cell["id"] in taken else cell for cell in cells]


def _other(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()[:32]


def _ours(notebook: Notebook) -> dict[str, Cell]:
    """Our cells, by execution. Of several, which copying makes, it is the one with the id that it was given."""
    found: dict[str, Cell] = {}
    for cell in notebook["cells"]:
        id = _broker(cell).get("execution_id")
        if isinstance(id, str) and "id" in cell and (id not in found or cell["id"] == cell_id(id)):
            found[id] = cell
    return found


def _written(notebook: Notebook) -> dict[str, None]:
    """The executions that were ever in it, in order."""
    said = _broker(notebook).get("written")
    return dict.fromkeys(id for id in said if isinstance(id, str)) if isinstance(said, list) else {}


def _is_stale(cell: Cell, record: ExecutionRecord) -> bool:
    """Whether a cell is to be written again. Not if the person has run or emptied it: so they want it."""
    said = _broker(cell)
    if cell.get("cell_type") != "code" or said.get("n") == record.n:
        return False
    counted = cell.get("execution_count")
    if str(said.get("state")) in ENDED:
        return bool(counted == record.execution_count)
    return counted is None or counted == record.execution_count


def _broker(node: Mapping[str, Any]) -> dict[str, Any]:
    metadata = node.get("metadata")
    said = metadata.get("broker") if isinstance(metadata, dict) else None
    return said if isinstance(said, dict) else {}


def _text(source: Any) -> str:
    return "".join(source) if isinstance(source, list) else str(source)
