"""IPython's shell, for several cells at once: what it keeps for the cell at hand is kept with that cell."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from threading import RLock
from types import TracebackType
from typing import Any

from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.payload import PayloadManager
from traitlets import Type

from . import figures
from .cells import cells
from .interrupts import Stepping, current_lane

HERE = os.path.dirname(os.path.abspath(__file__))


def _of_cell(name: str) -> Any:
    """An attribute that each cell has its own of."""

    def get(_: object) -> Any:
        return getattr(cells.current(), name)

    def set(_: object, value: Any) -> None:
        setattr(cells.current(), name, value)

    return property(get, set)


class DisplayHook(ZMQShellDisplayHook):  # type: ignore[misc]
    """Shows results, each under its own cell and with that cell's number."""

    msg = _of_cell("result_message")
    exec_result = _of_cell("result")

    def quiet(self) -> bool:
        code = cells.current().code
        # Cheap, and right for nearly all: only what has a semicolon can end in one.
        return ";" in code and self.semicolon_at_end_of_expression(code)


class Payloads(PayloadManager):
    """What a cell asks of the client that runs it."""

    _payload = _of_cell("payload")


class Shell(ZMQInteractiveShell):  # type: ignore[misc]
    """See the module."""

    displayhook_class = Type(DisplayHook)

    _last_traceback = _of_cell("traceback")
    _last_traceback_during_displayhook = _of_cell("traceback_of_display")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._tracebacks = RLock()
        super().__init__(*args, **kwargs)
        # For good, so that no cell's end undoes it for another that still runs.
        self.builtin_trap.__enter__()
        self.display_trap.__enter__()
        # Before matplotlib registers its own for the same event.
        self.events.register("post_execute", figures.prepare)

    @property
    def execution_count(self) -> int:
        """The number of the next cell; within one, what it would be if that were the only one."""
        count = cells.current().execution_count
        return cells.next_count if count is None else count

    @execution_count.setter
    def execution_count(self, value: int) -> None:
        cell = cells.current()
        if cell.execution_count is None:
            cells.next_count = value
        else:
            cell.execution_count = value

    def init_payload(self) -> None:
        self.payload_manager = Payloads(parent=self)
        self.configurables.append(self.payload_manager)

    def transform_cell(self, raw_cell: str) -> str:
        # ipykernel asks once to see whether the cell awaits anything, and IPython again to run it.
        cell = cells.current()
        if cell.transformed is None or cell.transformed[0] != raw_cell:
            cell.transformed = raw_cell, super().transform_cell(raw_cell)
        return cell.transformed[1]

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        # It would wrap the stream's write for all cells. The broker keeps what was printed.
        yield

    def run_cell_async(self, *args: Any, **kwargs: Any) -> Any:
        cell, coroutine = cells.current(), super().run_cell_async(*args, **kwargs)
        return Stepping(coroutine, cell.lane, cell) if cell.lane is not None else coroutine

    async def run_code(self, code_obj: Any, result: Any = None, *, async_: bool = False) -> bool:
        """Run user code: the only time at which an interrupt is raised."""
        lane = current_lane()
        if lane is None or lane.cell is not cells.current():
            return bool(await super().run_code(code_obj, result, async_=async_))
        outer = lane.in_user_code
        try:
            try:
                lane.in_user_code = True
                if lane.pending:
                    lane.raise_pending()
                return bool(await super().run_code(code_obj, result, async_=async_))
            finally:
                lane.in_user_code = outer
        except KeyboardInterrupt as interrupt:
            # It came in between: before the code began, after it ended, or while its error was shown.
            if result is not None:
                result.error_in_exec = interrupt
            self.showtraceback()
            return True

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(error := sys.exc_info()[1], KeyboardInterrupt | EOFError):
            _trim(error.__traceback__)
        with self._tracebacks:
            super().showtraceback(*args, **kwargs)


def _trim(traceback: TracebackType | None) -> None:
    """Cut off the kernel's own frames at the end: where an interrupt came, or how ``input()`` asks."""
    last: TracebackType | None = None
    while traceback is not None:
        if os.path.dirname(traceback.tb_frame.f_code.co_filename) != HERE:
            last = traceback
        traceback = traceback.tb_next
    if last is not None:
        last.tb_next = None
