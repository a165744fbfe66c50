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
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any

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


async def go_on(debugger: Any) -> None:
    """Let everything that has stopped at a breakpoint go on, and wait until it does."""
    stopped = list(getattr(debugger, "stopped_threads", ()))
    for thread in stopped:
        await debugger.process_request(
            {"type": "request", "command": "continue", "seq": next(_numbers), "arguments": {"threadId": thread}}
        )
    until = time.monotonic() + PATIENCE
    # Nothing says when: an exception that is raised in the debugger's own code leaves it broken.
    while stopped and time.monotonic() < until and any(map(_is_in_debugger, sys._current_frames().values())):  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def _is_in_debugger(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "do_wait_suspend":
            return True
        frame = frame.f_back
    return False
