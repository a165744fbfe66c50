"""A session as a notebook (nbformat 4.5): one code cell an execution, as JupyterLab would have written it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from .outputs import join
from .text import Output, Outputs

CELL_OUTPUT = 1_000_000
"""Characters of text that a cell has at most."""
_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def notebook(
    session: Mapping[str, Any],
    executions: Iterable[tuple[Mapping[str, Any], Outputs | Iterable[Output]]],
    *,
    max_output: int = CELL_OUTPUT,
) -> NotebookNode:
    """The notebook of a session, with all that was displayed in it, however large.

    ``session`` has ``kernel``, the name of its kernelspec, and may have ``display_name``, ``language_info``,
    ``session_id`` and ``name``. An execution has ``execution_id`` and ``code``, and may have ``state``,
    ``execution_count``, ``label``, ``error``, and the times ``created_at``, ``started_at`` and ``finished_at``, in
    seconds since the epoch or as ISO 8601. With it come its outputs, those that are shown.
    """
    kernel = session["kernel"]
    metadata: dict[str, Any] = {
        "kernelspec": {"name": kernel, "display_name": session.get("display_name") or kernel},
        "broker": {name: session[name] for name in ("session_id", "name") if session.get(name)},
    }
    if language_info := session.get("language_info"):
        metadata["language_info"] = dict(language_info)
    cells = [_cell(execution, outputs, max_output) for execution, outputs in executions]
    made: NotebookNode = new_notebook(metadata=metadata, cells=cells)  # type: ignore[no-untyped-call]
    return made


def _cell(execution: Mapping[str, Any], source: Outputs | Iterable[Output], max_output: int) -> NotebookNode:
    outputs = join(source, max_output, None)
    error = execution.get("error")
    if error and not any(output["output_type"] == "error" for output in outputs):
        # Only its reply said so.
        outputs.append({"output_type": "error", "ename": "", "evalue": "", "traceback": [], **_error(error)})
    times = {name: _iso(execution.get(name)) for name in ("created_at", "started_at", "finished_at")}
    timing = {
        "iopub.execute_input": times["started_at"],
        "iopub.status.idle": times["finished_at"],
        "shell.execute_reply": times["finished_at"],
    }
    metadata = {
        "execution": {name: time for name, time in timing.items() if time},
        "broker": {
            "execution_id": execution["execution_id"],
            "state": execution.get("state"),
            "label": execution.get("label"),
            **times,
        },
    }
    cell: NotebookNode = new_code_cell(  # type: ignore[no-untyped-call]
        id=_cell_id(execution["execution_id"]),
        source=execution["code"],
        execution_count=execution.get("execution_count"),
        outputs=[nbformat.from_dict(output) for output in outputs],  # type: ignore[no-untyped-call]
        metadata=metadata,
    )
    return cell


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    return {name: error[name] for name in ("ename", "evalue", "traceback") if error.get(name)}


def _cell_id(execution_id: str) -> str:
    """The execution's id, if a cell may have it; else one that is always the same for it."""
    return execution_id if _CELL_ID.fullmatch(execution_id) else hashlib.sha256(execution_id.encode()).hexdigest()


def _iso(time: float | str | None) -> str | None:
    """As Jupyter writes times: in UTC, to the microsecond."""
    if time is None or isinstance(time, str):
        return time
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
