"""A session as a notebook (nbformat 4.5): one code cell an execution."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ..api.types import Session, Summary

_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_JSON = re.compile(r"application/(.*\+)?json")


def notebook(session: Session, display_name: str, cells: Iterable[tuple[Summary, str, list[dict[str, Any]]]]) -> str:
    """The notebook of ``session``, in JSON; each cell is an execution, its code and its outputs."""
    made = empty_notebook(session, display_name)
    made["cells"] = [code_cell(*each) for each in cells]
    return msgspec.json.format(msgspec.json.encode(made), indent=1).decode()


def empty_notebook(session: Session, display_name: str) -> dict[str, Any]:
    """The notebook of ``session`` before there is anything in it."""
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": session.kernel, "display_name": display_name},
            "broker": {"session_id": session.session_id, "name": session.name, "kernel_id": session.kernel_id},
        },
        "cells": [],
    }


def code_cell(execution: Summary, code: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The cell of an execution, whatever its kernel sent: it is always valid."""
    # The names are those that JupyterLab writes when it is set to record timing.
    times = {
        "iopub.execute_input": execution.started_at,
        "iopub.status.idle": execution.finished_at,
        "shell.execute_reply": execution.finished_at,
    }
    return {
        "cell_type": "code",
        "id": cell_id(execution.execution_id),
        "source": code,
        "execution_count": _count(execution.execution_count),
        "outputs": [_valid(output) for output in outputs],
        "metadata": {
            "execution": {name: time for name, time in times.items() if time},
            "broker": {
                "session_id": execution.session_id,
                "execution_id": execution.execution_id,
                "state": execution.state,
                "label": execution.label,
                "origin": execution.origin,
                "started_at": execution.started_at,
                "finished_at": execution.finished_at,
            },
        },
    }


def cell_id(execution_id: str) -> str:
    """An execution's cell. Another client's may have any id at all, which need not be one that a cell may have."""
    if _CELL_ID.fullmatch(execution_id):
        return execution_id
    return hashlib.sha256(execution_id.encode(errors="replace")).hexdigest()[:32]


def _count(value: int | None) -> int | None:
    return value if value is None or value >= 0 else None


def _valid(output: dict[str, Any]) -> dict[str, Any]:
    """The output with nothing that nbformat does not allow."""
    if "execution_count" in output:
        output = {**output, "execution_count": _count(output["execution_count"])}
    if "data" in output:
        output = {**output, "data": {mime: _text(mime, value) for mime, value in output["data"].items()}}
    return output


def _text(mime: str, value: Any) -> Any:
    """What is no JSON must be text, or lines of it."""
    is_lines = isinstance(value, list) and all(isinstance(line, str) for line in value)
    if isinstance(value, str) or is_lines or _JSON.fullmatch(mime):
        return value
    return msgspec.json.encode(value).decode()
