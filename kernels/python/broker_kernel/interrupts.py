"""Interrupting one execution, and no other, wherever in the kernel it runs.

Each shell thread (the main one, and one for each subshell) has a :class:`Lane`. ``KeyboardInterrupt`` is raised in a
lane only while it runs user code, and never in the middle of a message; a lane that waits in its event loop has its
task cancelled instead, and one that waits for a lock is woken. So an interrupted execution always ends as any other
does, and the next one is not hit by what was meant for the last.

How it is raised: in the main thread by ``SIGINT``, whose handler runs in that thread; elsewhere as an asynchronous
exception (``PyThreadState_SetAsyncExc``). CPython delivers one where it checks its eval breaker: at the start of a
function, after a call, and at the end of a loop's turn. There is no such check between reading ``protected`` and
setting the exception, nor between the start of ``__enter__`` and its counting, so neither can slip between the other
two.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import threading
import time
from collections.abc import Coroutine
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cells import Cell

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_real_sleep = time.sleep
AGAIN = 0.05
"""Seconds between two signals of one interrupt."""
CHILDREN_AGAIN = 4
"""How often child processes are looked at."""


class Lane:
    """A thread that runs cells, one at a time, and what it is doing."""

    def __init__(self, thread_id: int, *, is_main: bool) -> None:
        self.thread_id = thread_id
        self.is_main = is_main
        self.loop: asyncio.AbstractEventLoop | None = None
        self.cell: Cell | None = None
        """What it executes."""
        self.stepping = False
        """Whether that has the thread now, be it a task that waits now and then for its event loop."""
        self.in_user_code = False
        self.unheard = False
        """SIGINT was sent to the main thread, and its handler did not run yet."""
        self.protected = 0
        self.pending = False
        """An interrupt came when it could not be raised."""
        self.waiting: Any = None
        """The lock that it waits for."""
        self.figures: Any = None
        """Its open matplotlib figures, once there are any."""

    def interrupt(self) -> None:
        """Interrupt what it executes. Called in the control thread."""
        cell = self.cell
        if cell is None:
            return
        children = cell.interrupt_children()
        for number in range(1, CHILDREN_AGAIN):
            asyncio.get_running_loop().call_later(number * AGAIN, children.again)
        if cell.task is not None and not self.stepping:
            self._cancel_soon(cell)
        elif self.is_main:
            self.unheard = True
            self._signal()
        else:
            self._raise_there()

    def on_sigint(self) -> None:
        """The signal's handler, in the main thread. It may also be somebody else's."""
        ours, self.unheard = self.unheard, False
        cell = self.cell
        if cell is None:
            return
        if not ours:
            cell.interrupt_children()
        if cell.task is not None and not self.stepping:
            self._cancel_soon(cell)
        elif self.in_user_code and not self.protected:
            raise KeyboardInterrupt
        else:
            self.pending = True

    def _signal(self) -> None:
        """Send SIGINT until its handler has run: one that comes just before a system call does not end that call."""
        kill, thread_id = signal.pthread_kill, self.thread_id
        if self.unheard:
            kill(thread_id, signal.SIGINT)
            asyncio.get_running_loop().call_later(AGAIN, self._signal)

    def _cancel_soon(self, cell: Cell) -> None:
        cell.interrupted = True
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._cancel, cell)

    def _cancel(self, cell: Cell) -> None:
        # Unless its turn came first, and it was raised then.
        if cell.interrupted and cell.task is not None:
            cell.task.cancel()

    def _raise_there(self) -> None:
        thread_id = self.thread_id
        if self.in_user_code and not self.protected:
            _set_async_exc(thread_id, KeyboardInterrupt)
        else:
            self.pending = True
        if (lock := self.waiting) is not None:
            try:
                lock.release()
            except RuntimeError:  # it was woken just now
                pass

    def raise_pending(self) -> None:
        """Raise what could not be raised before, if it can be now."""
        if self.pending and self.in_user_code and not self.protected:
            self.pending = False
            raise KeyboardInterrupt


lanes: dict[int, Lane] = {}
"""By thread."""


def current_lane() -> Lane | None:
    """The lane whose thread this is."""
    return lanes.get(get_ident())


class _Protected:
    """While it is entered, an interrupt of this thread waits."""

    def __enter__(self) -> None:
        lane = lanes.get(get_ident())
        if lane is not None:
            lane.protected += 1

    def __exit__(self, *exc_info: object) -> None:
        lane = lanes.get(get_ident())
        if lane is not None:
            lane.protected -= 1
            if lane.pending:
                lane.raise_pending()


protected = _Protected()


class Stepping(Coroutine[Any, Any, Any]):
    """A cell's coroutine, which says when it has the thread. Where it was interrupted, it is not told "cancelled"."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], lane: Lane, cell: Cell) -> None:
        self._coroutine, self._lane, self._cell = coroutine, lane, cell

    def send(self, value: Any) -> Any:
        lane = self._lane
        outer = lane.stepping
        try:
            lane.stepping = True
            if self._cell.interrupted:
                self._cell.interrupted = False
                return self._coroutine.throw(KeyboardInterrupt())
            return self._coroutine.send(value)
        finally:
            lane.stepping = outer

    def throw(self, exception: Any, *rest: Any) -> Any:
        lane = self._lane
        if self._cell.interrupted and isinstance(exception, asyncio.CancelledError):
            self._cell.interrupted = False
            exception = KeyboardInterrupt()
        outer = lane.stepping
        try:
            lane.stepping = True
            return self._coroutine.throw(exception)
        finally:
            lane.stepping = outer

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()


class Waiter:
    """A lock that an interrupt of a subshell's thread releases: no signal reaches that thread to wake it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        lane = lanes.get(get_ident())
        if lane is None or lane.is_main or not blocking:
            return self._lock.acquire(blocking, timeout)
        try:
            lane.waiting = self._lock
            return self._lock.acquire(blocking, timeout)
        finally:
            lane.waiting = None

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def sleep(seconds: float, /) -> None:
    """``time.sleep``, which in a subshell an interrupt ends as it does in the main thread."""
    lane = lanes.get(get_ident())
    if lane is None or lane.is_main or not 0 < seconds < threading.TIMEOUT_MAX:
        _real_sleep(seconds)
        return
    waiter = Waiter()
    waiter.acquire(False)
    waiter.acquire(True, seconds)


sleep.__name__ = sleep.__qualname__ = "sleep"
sleep.__module__ = "time"
