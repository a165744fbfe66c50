"""Which execution runs next, and where in the kernel.

The queue is the broker's. A lane (the main shell, or a subshell beside it) holds one request at a time, so the
kernel has nothing queued that its ``stop_on_error`` could abort (messaging spec, "Execute").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

MAIN = "main"


class Lanes:
    """The lanes of one kernel, and the queue before them. Knows executions by id only."""

    def __init__(self) -> None:
        self._queue: deque[str] = deque()
        self._occupant: dict[str, str | None] = {MAIN: None}

    def enqueue(self, execution_id: str) -> None:
        self._queue.append(execution_id)

    @property
    def queued(self) -> tuple[str, ...]:
        return tuple(self._queue)

    @property
    def head(self) -> str | None:
        return self._queue[0] if self._queue else None

    def occupant(self, lane: str) -> str | None:
        return self._occupant.get(lane)

    @property
    def occupants(self) -> Iterator[str]:
        return (occupant for occupant in self._occupant.values() if occupant is not None)

    @property
    def free(self) -> bool:
        """Whether a new execution would begin at once in the main shell."""
        return not self._queue and self._occupant[MAIN] is None

    def occupy(self, lane: str, execution_id: str) -> None:
        """Put an execution, queued or taken over, into a lane."""
        assert self._occupant.get(lane) is None, "a lane holds one request at a time"
        if execution_id in self._queue:
            self._queue.remove(execution_id)
        self._occupant[lane] = execution_id

    def vacate(self, execution_id: str) -> None:
        """Free the lane that this execution has, or its place in the queue."""
        if execution_id in self._queue:
            self._queue.remove(execution_id)
        for lane, occupant in self._occupant.items():
            if occupant == execution_id:
                self._occupant[lane] = None
