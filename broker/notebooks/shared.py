"""Notebooks that people have open together (jupyter-collaboration): written through the shared document.

A file that is written behind an open document's back is loaded again, over whatever people have typed since it was
saved. So while there is a document, changes are made to that, and it is the document that saves them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..core.state import IN_KERNEL
from .merging import Changes, Notebook


class YDocExtension(Protocol):
    """What is needed of jupyter_server_ydoc's extension: ``web_app.settings["jupyter_server_ydoc"]``."""

    async def get_document(
        self, *, path: str, content_type: str, file_format: str, copy: bool, create: bool
    ) -> Any: ...


class SharedDocuments:
    """The documents that are open in a Jupyter Server, whose extension ``find`` returns once it is loaded."""

    def __init__(self, find: Callable[[], YDocExtension | None]) -> None:
        self._find = find

    async def open(self, path: str) -> SharedNotebook | None:
        """The document of a notebook, by its path below the server's root; None if nobody has it open."""
        extension = self._find()
        if extension is None:
            return None
        document = await extension.get_document(
            path=path, content_type="notebook", file_format="json", copy=False, create=False
        )
        return SharedNotebook(document) if document is not None else None


class SharedNotebook:
    """An open document, a ``jupyter_ydoc.YNotebook``."""

    def __init__(self, document: Any) -> None:
        self._document = document

    def read(self) -> Notebook:
        """The notebook as it is at this moment."""
        notebook: Notebook = self._document.get()
        return notebook

    def apply(self, changes: Changes) -> None:
        """Do what is to be done, beside what people are typing."""
        document = self._document
        with document.ydoc.transaction():
            for cell in document.ycells:
                if update := changes.updated.get(cell.get("id")):
                    self._update(cell, update)
            for appended in changes.appended:
                made = document.create_ycell(_for_javascript(appended))
                made_state = _state(appended["metadata"])
                document.ycells.append(made)
                document.ycells[-1]["execution_state"] = made_state
            document.ydoc.get("meta", type=_kinds().Map)["metadata"]["broker"] = _for_javascript(changes.metadata)

    def show_running(self, executions: set[str]) -> None:
        """Mark the cells of what runs: no file has such a mark, and so no document that was just opened."""
        for cell in self._document.ycells:
            broker = cell["metadata"].get("broker") or {}
            if broker.get("execution_id") in executions:
                _set(cell, "execution_state", _state({"broker": broker}))

    def _update(self, cell: Any, update: dict[str, Any]) -> None:
        self._show(cell["outputs"], update["outputs"])
        for key in ("broker", "execution"):
            _set(cell["metadata"], key, update["metadata"][key])
        # JupyterLab takes a cell whose number is set for one that is over, though it be the same number.
        _set(cell, "execution_count", update["execution_count"])
        _set(cell, "execution_state", _state(update["metadata"]))

    def _show(self, shown: Any, outputs: list[dict[str, Any]]) -> None:
        """Change what is shown into ``outputs``, and of that no more than has changed: all of it is sent, and kept."""
        before = shown.to_py()
        same = _same(before, outputs)
        if same < min(len(before), len(outputs)):
            old, new, text = before[same], outputs[same], shown[same].get("text")
            if isinstance(text, _kinds().Text) and _continues(old, new):
                # By this operator on a name of its own: `shown[same]["text"] += ...` would put another text in place.
                text += new["text"][len(old["text"]) :]
                same += 1
        del shown[same:]
        shown.extend(_youtputs(outputs[same:]))


def _set(node: Any, key: str, value: Any) -> None:
    """Set a key if it has another value: everybody hears of what is set."""
    value = _for_javascript(value)
    if node.get(key) != value:
        node[key] = value


def _same(before: list[Any], after: list[Any]) -> int:
    """How many outputs at the beginning have not changed."""
    count = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        count += 1
    return count


def _continues(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return bool(
        new["output_type"] == "stream"
        and old.get("output_type") == "stream"
        and old.get("name") == new["name"]
        and new["text"].startswith(old["text"])
    )


def _youtputs(outputs: Iterable[dict[str, Any]]) -> list[Any]:
    kinds = _kinds()
    made = []
    for output in outputs:
        fields = _for_javascript(output)
        if output["output_type"] == "stream":
            fields["text"] = kinds.Text(output["text"])
        made.append(kinds.Map(fields))
    return made


def _state(metadata: dict[str, Any]) -> str:
    """What JupyterLab shows beside a cell."""
    return "running" if metadata["broker"]["state"] in IN_KERNEL else "idle"


def _for_javascript(value: Any) -> Any:
    """The same with numbers as browsers have them; an integer would arrive as a ``BigInt``."""
    if isinstance(value, dict):
        return {key: _for_javascript(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_for_javascript(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return copy.copy(value)


def _kinds() -> Any:
    import pycrdt  # noqa: PLC0415 - it is there if there is a document

    return pycrdt
