"""Cells: what the kernel executes, and to which of them whatever happens belongs.

The current cell is a context variable, so a task has the cell that created it, and so has a thread
(:mod:`broker_kernel.threads` sees to that). What comes from nowhere, a thread that C code started for one, belongs to
the cell that began last.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from subprocess import Popen
from threading import Lock
from typing import Any

from . import descriptors
from .children import Interrupt
from .interrupts import Lane


class Cell:
    """One request on the shell channel, most often an ``execute_request``."""

    __slots__ = (
        "__weakref__",
        "allow_stdin",
        "children",
        "code",
        "execution_count",
        "id",
        "interrupted",
        "lane",
        "outputs",
        "parent",
        "passes_breakpoints",
        "payload",
        "result",
        "result_message",
        "task",
        "traceback",
        "traceback_of_display",
        "transformed",
    )

    def __init__(self, parent: dict[str, Any]) -> None:
        header = parent.get("header") or {}
        self.id: str = header.get("msg_id", "")
        self.parent = parent
        self.code: str = ""
        self.allow_stdin = False
        self.execution_count: int | None = None
        """Set while it executes: the shell's counter as this cell sees it."""
        self.outputs: descriptors.Outputs | None = None
        """Where its descriptors 1 and 2 lead, while it executes."""
        self.children: list[weakref.ref[Popen[Any]]] = []
        self.task: Any = None
        """The task it runs in, where it awaits anything."""
        self.lane: Lane | None = None
        """Where it executes."""
        self.interrupted = False
        """Its task was cancelled by an interrupt."""
        self.passes_breakpoints = False
        self.traceback: list[str] | None = None
        self.traceback_of_display = False
        self.transformed: tuple[str, str] | None = None
        """Its code, and what IPython made of it."""
        self.payload: list[dict[str, Any]] = []
        self.result: Any = None
        self.result_message: dict[str, Any] | None = None

    def interrupt_children(self) -> Interrupt:
        """Send SIGINT to the processes that it has started."""
        return Interrupt([child for ref in self.children if (child := ref()) is not None])


_NONE = Cell({})
_current: ContextVar[Cell] = ContextVar("cell")


class Cells:
    """The cells of this kernel: the latest, those that run, and the number of the next."""

    def __init__(self) -> None:
        self.latest = _NONE
        self.next_count = 1
        self._lock = Lock()
        self._running: list[Cell] = []

    def current(self) -> Cell:
        return _current.get(self.latest)

    def enter(self, parent: dict[str, Any]) -> Cell:
        """Begin to handle a request: what happens in this context from now on belongs to it."""
        cell = Cell(parent)
        _current.set(cell)
        self.latest = cell
        return cell

    def adopt(self, parent: dict[str, Any]) -> Token[Cell]:
        """Let the current context belong to another request, until :meth:`reset`."""
        id = (parent.get("header") or parent).get("msg_id", "")
        with self._lock:
            known = [cell for cell in self._running if cell.id == id]
        return _current.set(known[0] if known else Cell(parent))

    def reset(self, token: Token[Cell]) -> None:
        _current.reset(token)

    @property
    def running(self) -> list[str]:
        with self._lock:
            return [cell.id for cell in self._running]

    @contextmanager
    def executing(self, cell: Cell, lane: Lane | None) -> Iterator[None]:
        """While the cell executes it has a number, and the descriptors 1 and 2 for as long as none begins after it."""
        with self._lock:
            number = cell.execution_count = self.next_count
            self.next_count += 1
            cell.outputs = descriptors.open_outputs(cell)
            self._running.append(cell)
            descriptors.lead_to(cell.outputs)
        if lane is not None:
            lane.cell, lane.pending = cell, False
            cell.lane = lane
        try:
            yield
        finally:
            if lane is not None:
                lane.cell, lane.pending = None, False
            with self._lock:
                self._running.remove(cell)
                if cell.execution_count == number and self.next_count == number + 1:
                    # It was silent, or empty: the number is the next one's.
                    self.next_count = number
                if self._running and self._running[-1].outputs is not None:
                    descriptors.lead_to(self._running[-1].outputs)
                if cell.outputs is not None:
                    cell.outputs.end()
            cell.execution_count = None


cells = Cells()

__all__ = ["Cell", "Cells", "cells"]
