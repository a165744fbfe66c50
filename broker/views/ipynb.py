"""A session as a notebook (nbformat 4.5): one code cell an execution."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from ..api.types import Session, Summary


def notebook(session: Session, display_name: str, cells: Iterable[tuple[Summary, str, list[dict[str, Any]]]]) -> str:
    """The notebook of ``session``, in JSON; each cell is an execution, its code and its outputs."""
    made: NotebookNode = new_notebook(  # type: ignore[no-untyped-call]
        metadata={
            "kernelspec": {"name": session.kernel, "display_name": display_name},
            "broker": {"session_id": session.session_id, "name": session.name},
        },
        cells=[_cell(execution, code, outputs) for execution, code, outputs in cells],
    )
    return str(nbformat.writes(made))  # type: ignore[no-untyped-call]


def _cell(execution: Summary, code: str, outputs: list[dict[str, Any]]) -> NotebookNode:
    # The names are those that JupyterLab writes when it is set to record timing.
    times = {
        "iopub.execute_input": execution.started_at,
        "iopub.status.idle": execution.finished_at,
        "shell.execute_reply": execution.finished_at,
    }
    cell: NotebookNode = new_code_cell(  # type: ignore[no-untyped-call]
        id=execution.execution_id,
        source=code,
        execution_count=execution.execution_count,
        outputs=[nbformat.from_dict(output) for output in outputs],  # type: ignore[no-untyped-call]
        metadata={
            "execution": {name: time for name, time in times.items() if time},
            "broker": {
                "execution_id": execution.execution_id,
                "state": execution.state,
                "label": execution.label,
                "origin": execution.origin,
            },
        },
    )
    return cell
