"""What the standard library must do a little differently in a kernel where several cells run at once.

A thread, and what is submitted to a pool of them, runs in the context of the cell that started it; a child process
writes to the descriptors of that cell; and where a subshell's thread sleeps, or waits for a lock, an interrupt can
wake it.
"""

from __future__ import annotations

import contextvars
import functools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .cells import cells
from .interrupts import Waiter, sleep


def install() -> None:
    """Do all of it, once, before any code of the user's runs."""
    _wrap(threading.Thread, "start", _start)
    _wrap(ThreadPoolExecutor, "submit", _submit)
    _wrap(subprocess.Popen, "_get_handles", _get_handles)
    os.system = _system
    # What a Condition waits on, and so an Event, a Queue, a Future, a Semaphore and a Barrier.
    threading._allocate_lock = Waiter  # type: ignore[attr-defined]
    time.sleep = sleep


def _wrap(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(inner, self, *args, **kwargs)

    setattr(owner, name, wrapped)


def _start(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    context = contextvars.copy_context()

    def run() -> None:
        del thread.run  # type: ignore[method-assign]
        context.run(thread.run)

    thread.run = run  # type: ignore[method-assign]
    try:
        start(thread)
    except BaseException:
        thread.__dict__.pop("run", None)
        raise


def _submit(
    submit: Callable[..., Future[Any]], pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Future[Any]:
    return submit(pool, contextvars.copy_context().run, fn, *args, **kwargs)


def _get_handles(
    get_handles: Callable[..., Any], popen: subprocess.Popen[Any], stdin: Any, stdout: Any, stderr: Any
) -> Any:
    cell = cells.current()
    if cell.outputs is not None:
        cell.children = [child for child in cell.children if child() is not None]
        cell.children.append(weakref.ref(popen))
        stdout = cell.outputs.fileno(0) if stdout is None else stdout
        stderr = cell.outputs.fileno(1) if stderr is None else stderr
    return get_handles(popen, stdin, stdout, stderr)


def _system(command: Any) -> int:
    """``os.system``, whose output goes where that of the cell goes. Returns a wait status, as that does."""
    sys.audit("os.system", command)
    status = subprocess.call(os.fsdecode(command), shell=True)
    return -status if status < 0 else status << 8
