"""Debugging of what runs already: a client may attach at any time, and nothing has to be switched on before.

ipykernel starts debugpy through a request on the shell channel, which is answered also while the main shell is busy
(see :mod:`.routing`). What is left to do is here. debugpy traces the functions that are called from then on, where the
interpreter has no ``sys.monitoring``; a frame that runs already, such as a cell with a loop, must be told to be traced.
And an execution that has stopped at a breakpoint must go on before it can be interrupted.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from .cells import Cell
from .interrupts import lanes

TRACED_FROM = frozenset({"attach", "setBreakpoints", "configurationDone"})
"""Requests after which a breakpoint may be where nothing was traced before."""
PATIENCE = 2.0
"""Seconds in which what had stopped must have gone on."""

_numbers = itertools.count(1_000_000)


def trace_frames(threads: Iterable[int]) -> None:
    """Have breakpoints hit in the frames that these threads run."""
    pydevd: Any = sys.modules.get("pydevd")
    debugger = pydevd and pydevd.get_global_debugger()
    if debugger is None:
        return
    frames = sys._current_frames()
    for thread in threads:
        if thread in frames:
            debugger.set_trace_for_frame_and_parents(thread, frames[thread])


async def go_on(debugger: Any, cells: Iterable[Cell]) -> None:
    """Let everything that has stopped at a breakpoint go on, and wait until these cells can be interrupted.

    An exception that is raised in the debugger's own code leaves it broken. So they must be out of it, and they are not
    stopped again: in a loop, the same breakpoint would have them back at once.
    """
    pydevd: Any = sys.modules.get("pydevd")
    tracer = pydevd and pydevd.get_global_debugger()
    if tracer is None:
        return
    if not isinstance(tracer.set_suspend, _Suspend):
        tracer.set_suspend = _Suspend(tracer.set_suspend)
    for cell in cells:
        cell.passes_breakpoints = True
    if debugger.stopped_threads:
        # One for all of them: whoever is let go on a second time is never answered.
        thread = next(iter(debugger.stopped_threads))
        await debugger.process_request(
            {"type": "request", "command": "continue", "seq": next(_numbers), "arguments": {"threadId": thread}}
        )
    until = time.monotonic() + PATIENCE
    # Nothing says when.
    while time.monotonic() < until and any(map(_is_in_debugger, cells)):  # noqa: ASYNC110
        await asyncio.sleep(0.005)


class _Suspend:
    """pydevd's ``set_suspend``, by which it makes a thread stop, but for those whose cell passes breakpoints."""

    def __init__(self, suspend: Callable[..., None]) -> None:
        self._suspend = suspend

    def __call__(self, thread: threading.Thread, *arguments: Any, **options: Any) -> None:
        lane = lanes.get(thread.ident or 0)
        if lane is None or lane.cell is None or not lane.cell.passes_breakpoints:
            self._suspend(thread, *arguments, **options)


def _is_in_debugger(cell: Cell) -> bool:
    frame = sys._current_frames().get(cell.lane.thread_id) if cell.lane else None
    while frame is not None:
        if frame.f_code.co_name == "do_wait_suspend":
            return True
        frame = frame.f_back
    return False
